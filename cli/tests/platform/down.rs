//! The table "When something is down" of ARCHITECTURE.md, row by row, while people work: what goes
//! on, what is answered, and how long it takes until everything is as before. The processes are
//! real; nobody restarts what a test ended.

use std::time::{Duration, Instant};

use hospital_testkit::{
    Signal, eventually, eventually_within,
    mail_server::{MailServer, Mood, header},
};
use serde_json::{Value, json};

use crate::{
    apart::{Apart, SERVICES, Wishes},
    running::cents,
    traffic::{Desk, Traffic, WRITES, What, payment},
};

pub(crate) async fn desk(apart: &Apart) -> Desk {
    let roles = ["admin", "front-desk", "cashier", "billing-manager", "on-call"];
    let args = roles.iter().flat_map(|role| ["--role", role]);
    let args: Vec<&str> = std::iter::once("token").chain(args).collect();
    let token = tokio::task::block_in_place(|| apart.must(&args));
    Desk::new(apart.base_port, &token)
}

/// Asserts that it took no longer than it may, and tells.
fn recovered(what: &str, took: Duration, limit_s: u64) {
    println!("{what}: as before after {took:.1?}");
    assert!(took < Duration::from_secs(limit_s), "{what}: {took:?}");
}

async fn row_bus(
    mut apart: Apart,
    limit_s: u64,
    away: impl Fn(&mut Apart),
    back: impl Fn(&mut Apart),
) {
    let desk = desk(&apart).await;
    let traffic = Traffic::begin(desk.clone()).await;
    let patient = desk.patient("bus").await.id();
    let practitioner = desk.practitioner("bus").await.id();
    away(&mut apart);
    let since = Instant::now();
    let booked = desk.book("bus", &desk.booking(&patient, &practitioner, 0)).await;
    assert_eq!(booked.status, 201, "{}", booked.body);
    traffic.unharmed(&WRITES, since).await;
    for service in SERVICES {
        let (status, told) = apart.readiness(service).await;
        assert_eq!(status, 200, "{service} stays ready: {told}");
        assert!(told.contains("degraded"), "{service}: {told}");
    }
    // The same request again has the same answer, at once.
    let again = desk.book("bus", &desk.booking(&patient, &practitioner, 0)).await;
    assert_eq!((again.status, again.id()), (201, booked.id()));
    traffic.unharmed(&[What::Register, What::Book, What::Pay, What::Read], since).await;
    for entry in traffic.log().iter().filter(|e| e.sent >= since) {
        assert!(entry.took < Duration::from_secs(6), "nothing waits for the bus: {entry:?}");
    }
    let bills = desk.get("billing", &format!("/bills?appointmentId={}", booked.id())).await;
    assert_eq!(bills.body["items"], json!([]), "its event waits in the outbox");
    back(&mut apart);
    let back = Instant::now();
    desk.bill_of(&booked.id()).await;
    recovered("the bus", back.elapsed(), limit_s);
    apart.ready().await;
    traffic.end().await;
    apart.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_bus_is_away_everything_is_written_and_flows_when_it_is_back() {
    let apart = Apart::start(Wishes::default()).await;
    let back = |apart: &mut Apart| apart.restart_database("bus");
    row_bus(apart, 10, |apart| apart.kill_database("bus"), back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_kafka_is_away_everything_is_written_and_flows_when_it_is_back() {
    let Some(kafka) = crate::kafka::one_broker() else { return };
    let apart = Apart::start(Wishes { kafka: Some(kafka), ..Wishes::default() }).await;
    let back = |apart: &mut Apart| {
        let kafka = apart.kafka.as_mut().unwrap();
        tokio::task::block_in_place(|| kafka.restart().unwrap());
    };
    let away = |apart: &mut Apart| drop(apart.kafka.as_ref().unwrap().kill(1).unwrap());
    // Ten seconds on a machine of its own; the broker is still loading its groups when its port is open.
    row_bus(apart, 30, away, back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_patient_service_is_away_everything_but_booking_goes_on() {
    let wishes = Wishes { patient_check_ms: Some(500), ..Wishes::default() };
    let mut apart = Apart::start(wishes).await;
    let desk = desk(&apart).await;
    let traffic = Traffic::begin(desk.clone()).await;
    let (patient, practitioner) =
        (desk.patient("own").await.id(), desk.practitioner("own").await.id());
    let booked = desk.book("own", &desk.booking(&patient, &practitioner, 0)).await.id();
    // Gone, and then there and silent, which is worse.
    for silent in [false, true] {
        if silent {
            apart.signal("patient", Signal::STOP);
        } else {
            apart.kill("patient");
        }
        let since = Instant::now();
        let entries = traffic.answered(What::Book, since, 15).await;
        // What was on its way when it went may still have been answered.
        let refused: Vec<_> = entries.iter().filter(|e| !e.is_good()).collect();
        assert!(refused.len() >= 10, "{entries:?}");
        for entry in refused {
            let what = (entry.status, entry.code.as_str(), entry.retry_after);
            assert_eq!(what, (503, "patient-service-unavailable", true), "{entry:?}");
            assert!(entry.took < Duration::from_secs(2), "{entry:?}");
        }
        traffic.unharmed(&[What::Pay, What::Read], since).await;
        let step = format!("/appointments/{booked}/reschedule");
        let slot = desk.booking(&patient, &practitioner, if silent { 4 } else { 2 });
        let slot = json!({"start": slot["start"], "end": slot["end"]});
        let moved = desk.post("appointment", &step, &format!("move {silent}"), &slot).await;
        assert_eq!(moved.status, 200, "{}", moved.body);
        assert!(calls(&desk, "broken-off").await > 0.0, "the breaker is open");
        if silent {
            apart.signal("patient", Signal::CONT);
        } else {
            apart.start_again("patient").await;
        }
        let took = traffic.normal(&[What::Book, What::Register]).await;
        recovered("the patient service", took, 6);
    }
    traffic.end().await;
    apart.verify();
}

/// How many calls of the patient service ended so, as the appointment service's figures tell.
async fn calls(desk: &Desk, end: &str) -> f64 {
    let text = desk.text("appointment", "/metrics").await;
    let line = text.lines().find(|line| {
        line.starts_with("client_calls_total") && line.contains(&format!("end=\"{end}\""))
    });
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_billing_is_away_bookings_go_on_and_their_bills_appear_when_it_is_back() {
    let mut apart = Apart::start(Wishes::default()).await;
    let desk = desk(&apart).await;
    let traffic = Traffic::begin(desk.clone()).await;
    let (patient, practitioner) =
        (desk.patient("own").await.id(), desk.practitioner("own").await.id());
    apart.kill("billing");
    let since = Instant::now();
    let booked = desk.book("own", &desk.booking(&patient, &practitioner, 0)).await.id();
    traffic.unharmed(&[What::Register, What::Book, What::Read], since).await;
    assert!(traffic.since(What::Pay, since).iter().all(|entry| entry.status == 0));
    apart.start_again("billing").await;
    let back = Instant::now();
    let took = traffic.normal(&[What::Pay]).await;
    desk.bill_of(&booked).await;
    recovered("billing", took.max(back.elapsed()), 6);
    traffic.end().await;
    apart.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_mail_server_or_the_notification_service_is_away_messages_wait_and_are_sent_once()
{
    // A port that was free a moment ago, at which nobody answers yet.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let again = vec![1; 60];
    let settings = format!(
        "notification.smtp = {{ host = \"127.0.0.1\", port = {port}, tls = \"none\" }}\nnotification.retry_after_s = {again:?}\n"
    );
    let mut apart = Apart::start(Wishes { settings, ..Wishes::default() }).await;
    let desk = desk(&apart).await;
    let traffic = Traffic::begin(desk.clone()).await;
    let since = Instant::now();
    traffic.unharmed(&[What::Register, What::Book, What::Pay, What::Read], since).await;
    eventually("a message that was tried in vain", async || {
        let page = desk.get("notification", "/notifications?limit=200").await;
        let items = page.body["items"].as_array()?.clone();
        assert!(items.iter().all(|m| m["status"] != "sent" && m["status"] != "dead"), "{items:?}");
        items.into_iter().find(|m| m["attempts"].as_i64() > Some(0))
    })
    .await;
    // Politely: what a sender that is killed has claimed is its own for a minute.
    apart.stop("notification");
    let since = Instant::now();
    traffic.unharmed(&[What::Register, What::Book, What::Pay, What::Read], since).await;
    traffic.end().await;

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let server = MailServer::on(listener, &[Mood::Accepts]);
    apart.start_again("notification").await;
    let back = Instant::now();
    apart.verify();
    let sent = sent(&desk).await;
    recovered("the messages", back.elapsed(), 30);
    let letters = server.taken();
    let mut ids: Vec<&str> = letters.iter().map(|letter| header(letter, "Message-ID")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), letters.len()), (sent, sent), "each was sent once");
}

/// Waits until every message is sent; gives how many there are.
async fn sent(desk: &Desk) -> usize {
    eventually_within(Duration::from_secs(30), "every message to be sent", async || {
        let messages = desk.all("notification", "/notifications").await;
        let all = messages.iter().all(|message| message["status"] == "sent");
        (all && !messages.is_empty()).then_some(messages.len())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_postgresql_of_billing_is_away_the_other_services_go_on() {
    let mut apart = Apart::start(Wishes { billing_apart: true, ..Wishes::default() }).await;
    let desk = desk(&apart).await;
    let traffic = Traffic::begin(desk.clone()).await;
    let (patient, practitioner) =
        (desk.patient("own").await.id(), desk.practitioner("own").await.id());
    apart.kill_database("billing");
    let since = Instant::now();
    let booked = desk.book("own", &desk.booking(&patient, &practitioner, 0)).await.id();
    traffic.unharmed(&[What::Register, What::Book, What::Read], since).await;
    for entry in traffic.answered(What::Pay, since, 5).await {
        assert_eq!((entry.status, entry.retry_after), (503, true), "{entry:?}");
        assert!(entry.took < Duration::from_secs(8), "{entry:?}");
    }
    for service in SERVICES {
        let (status, told) = apart.readiness(service).await;
        assert_eq!(status, if service == "billing" { 503 } else { 200 }, "{service}: {told}");
    }
    assert!(apart.readiness("billing").await.1.contains("database"));
    apart.restart_database("billing");
    let back = Instant::now();
    let took = traffic.normal(&[What::Pay]).await;
    desk.bill_of(&booked).await;
    recovered("PostgreSQL", took.max(back.elapsed()), 6);
    apart.ready().await;
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_payment_gateway_gives_no_answer_the_amount_is_reserved_and_everything_goes_on() {
    let settings = "billing.gateway_timeout_ms = 300\nbilling.reconcile_after_s = [2, 2, 2]\n";
    let apart = Apart::start(Wishes { settings: settings.to_owned(), ..Wishes::default() }).await;
    let desk = desk(&apart).await;
    let traffic = Traffic::begin(desk.clone()).await;
    let (patient, practitioner) =
        (desk.patient("own").await.id(), desk.practitioner("own").await.id());
    let since = Instant::now();
    for (place, (token, becomes)) in
        (0..).zip([("tok_timeout_charged", "succeeded"), ("tok_timeout", "failed")])
    {
        let booked = desk.book(token, &desk.booking(&patient, &practitioner, place)).await.id();
        let bill = desk.bill_of(&booked).await["id"].as_str().unwrap().to_owned();
        let mut card = payment(&bill, "100.00");
        (card["method"], card["cardToken"]) = ("card".into(), token.into());
        let unknown = desk.pay(token, &card).await;
        assert_eq!((unknown.status, &unknown.body["status"]), (202, &"unknown".into()), "{token}");
        let amount = async |member: &str| {
            let bill: Value = desk.get("billing", &format!("/bills/{bill}")).await.body;
            cents(&bill[member])
        };
        assert_eq!(amount("reserved").await, 10_000, "{token}");
        let key = format!("{token} cash");
        assert_eq!(desk.pay(&key, &payment(&bill, "1.00")).await.status, 201, "{token}");
        traffic.unharmed(&[What::Register, What::Book, What::Pay, What::Read], since).await;
        let path = format!("/payments/{}", unknown.id());
        eventually("the reconciler", async || {
            (desk.get("billing", &path).await.body["status"] == becomes).then_some(())
        })
        .await;
        let paid = if becomes == "succeeded" { 10_100 } else { 100 };
        assert_eq!((amount("reserved").await, amount("paid").await), (0, paid), "{token}");
    }
    traffic.end().await;
    apart.verify();
}
