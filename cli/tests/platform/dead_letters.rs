//! What the engineer on call does: dead letters, replays, the loss of the bus, one appointment's journey.

use std::time::Duration;

use hospital_testkit::{eventually, eventually_within, output};
use serde_json::{Value, json};

use crate::running::{Platform, client};

/// A patient, a practitioner and a price, to book with.
struct Desk<'a> {
    platform: &'a Platform,
    token: String,
    patient: String,
    practitioner: String,
}

impl<'a> Desk<'a> {
    async fn open(platform: &'a Platform) -> Self {
        let roles = ["front-desk", "billing-manager", "admin"].map(|role| ["--role", role]);
        let token = platform.must(&[&["token"], roles.as_flattened()].concat()).trim().to_owned();
        let mut desk =
            Self { platform, token, patient: String::new(), practitioner: String::new() };
        let person = json!({
            "givenName": "Canary", "familyName": "Zaunkönig", "birthDate": "1990-05-17", "gender": "other",
            "email": "zaunkoenig@example.org",
        });
        desk.patient = id(&desk.post(1, "/patients", &person).await);
        desk.practitioner = id(&desk.post(2, "/practitioners", &json!({ "name": "Dr. A" })).await);
        let price = json!({ "name": "Visit", "price": { "amount": "80.00", "currency": "USD" } });
        let url = format!("http://127.0.0.1:{}/service-types/visit", platform.base_port + 3);
        let put = client().put(url).bearer_auth(&desk.token).json(&price).send().await.unwrap();
        assert!(put.status().is_success(), "{}", put.text().await.unwrap());
        desk
    }

    async fn post(&self, port: u16, path: &str, body: &Value) -> Value {
        self.post_if(port, path, body, None).await
    }

    async fn post_if(&self, port: u16, path: &str, body: &Value, version: Option<&str>) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.platform.base_port + port);
        let key = hospital_types::EventId::new().to_string();
        let mut request = client().post(url).bearer_auth(&self.token).json(body);
        request = request.header("idempotency-key", key);
        if let Some(version) = version {
            request = request.header("if-match", version);
        }
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Books the visit of a day of March and gives its id.
    async fn book(&self, day: u32) -> String {
        let at = |time: &str| format!("2031-03-{day:02}T{time}:00Z");
        let body = json!({
            "patientId": self.patient, "practitionerId": self.practitioner, "start": at("10:00"), "end": at("10:30"),
            "serviceType": "visit",
        });
        id(&self.post(2, "/appointments", &body).await)
    }

    /// Books the visit of a day of April in a trace, and gives its id.
    async fn book_in(&self, trace: &str, day: u32) -> String {
        let at = |time: &str| format!("2031-04-{day:02}T{time}:00Z");
        let body = json!({
            "patientId": self.patient, "practitionerId": self.practitioner, "start": at("10:00"),
            "end": at("10:30"), "serviceType": "visit",
        });
        let url = format!("http://127.0.0.1:{}/appointments", self.platform.base_port + 2);
        let request = client().post(url).bearer_auth(&self.token).json(&body);
        let traceparent = format!("00-{trace}-00f067aa0ba902b7-01");
        let answer = request.header("traceparent", traceparent).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        id(&answer.json().await.unwrap())
    }

    async fn cancel(&self, appointment: &str) {
        let path = format!("/appointments/{appointment}/cancel");
        let body = json!({ "by": "patient", "reason": "Zaunkönig is ill" });
        self.post_if(2, &path, &body, Some("\"1\"")).await;
    }

    async fn bills(&self, appointment: &str) -> Vec<Value> {
        self.platform.all(3, &format!("/bills?appointmentId={appointment}")).await
    }
}

fn id(answer: &Value) -> String {
    answer["id"].as_str().unwrap().to_owned()
}

/// A defect of the billing service: no bill can be made.
const BREAK: &str = "ALTER TABLE billing.bill ADD CONSTRAINT broken CHECK (false) NOT VALID";
const MEND: &str = "ALTER TABLE billing.bill DROP CONSTRAINT broken";

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

async fn letters(platform: &Platform, count: usize) -> Vec<Value> {
    eventually_within(Duration::from_secs(90), &format!("{count} letters"), async || {
        let listed = parsed(&platform.must(&["dlq", "list", "--json"]));
        listed.as_array().filter(|letters| letters.len() == count).cloned()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_seen_redriven_and_audited_and_what_waited_follows_in_order() {
    let platform = Platform::start();
    let desk = Desk::open(&platform).await;
    let database = platform.database().await;
    database.batch_execute(BREAK).await.unwrap();
    let broken = desk.book(1).await;
    let letter = letters(&platform, 1).await.remove(0);
    desk.cancel(&broken).await;
    eventually("the cancellation to wait", async || {
        let listed = letters(&platform, 1).await;
        (listed[0]["waiting"] == 1).then_some(())
    })
    .await;
    assert_eq!(letter["group"], "billing");
    assert_eq!(letter["topic"], "appointment.booked");
    assert!(letter["reason"].as_str().unwrap().contains("broken"));
    let letter_id = letter["id"].as_str().unwrap();
    let text =
        [platform.must(&["dlq", "list"]), platform.must(&["dlq", "show", letter_id])].concat();
    assert!(text.contains(letter_id) && text.contains("appointment.cancelled"), "{text}");
    let verified = platform.run(&["verify", "--json", "--wait", "1"]);
    assert_eq!(verified.status.code(), Some(1));
    let told = String::from_utf8(verified.stdout).unwrap();
    assert!(told.contains("billing has our own appointment.booked"), "{told}");
    // The other group is not held up.
    eventually("the other group's messages", async || {
        let sent = platform.all(4, &format!("/notifications?appointmentId={broken}")).await;
        (sent.len() == 2).then_some(())
    })
    .await;

    // A filter that means none, a rehearsal, and a redrive without mending, as often as is let.
    let redrive = |args: &[&str]| {
        platform.run(&[&["dlq", "redrive", "--reason", "a test", "--by", "anna"], args].concat())
    };
    assert!(!platform.run(&["dlq", "redrive", "--all"]).status.success(), "without a reason");
    assert_eq!(redrive(&[]).status.code(), Some(2), "without saying which");
    assert!(redrive(&["--topic", "bill.generated"]).status.success());
    let rehearsed = redrive(&["--because", "BROKEN", "--dry-run"]);
    assert!(String::from_utf8_lossy(&rehearsed.stdout).contains("1 would be redriven"));
    for _ in 0..3 {
        assert_eq!(redrive(&[letter_id]).status.code(), Some(1));
    }
    let left = redrive(&[letter_id, "--json"]);
    assert!(left.status.success());
    assert_eq!(parsed(&String::from_utf8(left.stdout).unwrap())["chosen"], json!([]));
    database.batch_execute(MEND).await.unwrap();
    let done = redrive(&["--aggregate", &broken, "--force", "--json"]);
    let done = parsed(&String::from_utf8(done.stdout).unwrap());
    assert_eq!((&done["redriven"], &done["applied"]), (&json!(1), &json!(1)));
    eventually("the bill, made and then cancelled", async || {
        let bills = desk.bills(&broken).await;
        (bills.len() == 1 && bills[0]["status"] == "cancelled").then_some(())
    })
    .await;
    assert!(platform.must(&["dlq", "list"]).contains("No open dead letters"));
    let audit = parsed(&platform.must(&["dlq", "audit", "--json"]));
    let audit = audit.as_array().unwrap();
    assert_eq!(audit.len(), 4, "{audit:?}");
    for act in audit {
        assert_eq!((&act["by"], &act["act"]), (&json!("anna"), &json!("redrive")));
        assert_eq!((&act["reason"], &act["letter"]), (&json!("a test"), &json!(letter_id)));
        // Whoever it was said to be, this is who it was.
        let uid = format!("{}", rustix::process::getuid().as_raw());
        assert!(act["os_user"].as_str().unwrap().contains(&uid), "{act}");
        assert_eq!(act["database_user"], hospital_cluster::OWNER);
    }
    platform.must(&["verify"]);
    the_journey_is_told(&platform, &desk, &broken, letter_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_leads_to_its_own_booking_however_many_are_made_at_once() {
    let platform = Platform::start();
    let desk = Desk::open(&platform).await;
    // Bookings wait for each other's bills, so that billing gets them in one batch.
    let mut database = platform.database().await;
    let hold = database.transaction().await.unwrap();
    hold.batch_execute("LOCK TABLE billing.bill IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let bookings = (1..=12_u32).map(|day| {
        let (desk, trace) = (&desk, format!("{day:032x}"));
        async move { (desk.book_in(&trace, day).await, trace) }
    });
    let booked = futures_util::future::join_all(bookings).await;
    hold.commit().await.unwrap();
    for (appointment, trace) in booked {
        eventually("its bill", async || (desk.bills(&appointment).await.len() == 1).then_some(()))
            .await;
        let journeys = parsed(&platform.must(&["journey", &trace, "--json"]));
        let journeys = journeys.as_array().unwrap();
        assert_eq!(journeys.len(), 1, "{trace} is of one booking");
        assert_eq!(journeys[0]["appointment"]["id"], *appointment);
        assert_eq!(journeys[0]["traces"], json!([trace]), "its events are of no other trace");
    }
}

async fn the_journey_is_told(
    platform: &Platform,
    desk: &Desk<'_>,
    appointment: &str,
    letter: &str,
) {
    let bill = id(&desk.bills(appointment).await[0]);
    let by_bill = parsed(&platform.must(&["journey", &bill, "--json"]));
    let by_appointment = parsed(&platform.must(&["journey", appointment, "--json"]));
    assert_eq!(by_bill, by_appointment);
    let journey = &by_bill[0];
    let trace = journey["traces"][0].as_str().unwrap();
    assert_eq!(parsed(&platform.must(&["journey", trace, "--json"])), by_bill);
    assert_eq!(parsed(&platform.must(&["journey", letter, "--json"])), by_bill);
    let timeline = journey["timeline"].as_array().unwrap();
    let place = |kind: &str, what: &str| {
        let found = timeline.iter().position(|entry| {
            entry["kind"] == kind && entry["what"].as_str().unwrap().starts_with(what)
        });
        found.unwrap_or_else(|| panic!("no {kind} {what}: {timeline:#?}"))
    };
    let order = [
        place("step", "booked"),
        place("event", "appointment.booked"),
        place("dead-letter", "appointment.booked"),
        place("waiting", "appointment.cancelled"),
        place("intervention", "redrive"),
        place("bill", "bill 20"),
        place("event", "bill.cancelled"),
    ];
    assert!(order.is_sorted(), "{order:?}: {timeline:#?}");
    place("published", "appointment.booked-");
    place("received", "bill.generated");
    place("request", "POST /appointments");
    place("message", "message appointment-cancelled");
    let told = platform.must(&["journey", appointment]);
    for name in ["Zaunk", "Canary", "zaunkoenig"] {
        assert!(!told.contains(name) && !by_bill.to_string().contains(name), "{name}: {told}");
    }
    let unknown = platform.run(&["journey", "00000000-0000-7000-8000-000000000000"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("give the id of an appointment"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_dropped_is_never_applied_and_verify_says_what_is_missing() {
    let platform = Platform::start();
    let desk = Desk::open(&platform).await;
    let database = platform.database().await;
    database.batch_execute(BREAK).await.unwrap();
    let given_up = desk.book(1).await;
    letters(&platform, 1).await;
    database.batch_execute(MEND).await.unwrap();
    let drop = ["dlq", "drop", "--all", "--reason", "billed by hand"];
    assert!(platform.must(&drop).contains("1 dropped"));
    letters(&platform, 0).await;
    platform.must(&["replay", "--topic", "appointment.booked", "--reason", "to be sure"]);
    platform.must(&["replay", "--aggregate", &given_up, "--group", "billing"]);
    assert_eq!(desk.bills(&given_up).await, Vec::<Value>::new());
    let verified = platform.verify();
    let told = parsed(&String::from_utf8(verified.stdout).unwrap());
    let broken: Vec<&Value> = told["invariants"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|verdict| verdict["violations"] != json!([]))
        .collect();
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert_eq!(broken[0]["violations"], json!([format!("appointment {given_up} has no bill")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_gives_a_group_what_it_has_not_acted_on_and_nobody_anything_twice() {
    let platform = Platform::start();
    assert!(output(&mut platform.import(8)).status.success());
    platform.must(&["demo", "--pause-ms", "0"]);
    platform.must(&["verify"]);
    let before = (platform.totals().await, platform.all(4, "/notifications").await.len());
    // What a group had done is lost, as with a backup that was put back.
    let database = platform.database().await;
    database
        .batch_execute(
            "DELETE FROM notification.delivery WHERE event_id IN (SELECT event_id FROM billing.outbox WHERE topic = 'payment.completed');
             DELETE FROM notification.inbox WHERE event_id IN (SELECT event_id FROM billing.outbox WHERE topic = 'payment.completed')",
        )
        .await
        .unwrap();
    let lost = platform.run(&["verify", "--wait", "0", "--json"]);
    assert!(String::from_utf8_lossy(&lost.stdout).contains("never received payment.completed"));
    let replay = ["replay", "--topic", "payment.completed", "--group", "notification"];
    let rehearsed = platform.must(&[replay.as_slice(), &["--dry-run"]].concat());
    assert!(rehearsed.contains("notification has acted on 0 of"), "{rehearsed}");
    let done = parsed(&platform.must(&[replay.as_slice(), &["--json"]].concat()));
    let group = &done["groups"][0];
    assert_eq!((&group["known"], &group["left"]), (&json!(0), &json!(0)), "{done}");
    assert_eq!(group["fresh"], done["published"]);
    for topic in ["appointment.booked", "bill.generated", "payment.completed"] {
        for from in [&[] as &[&str], &["--from-offset", "1"], &["--from-time", "1h"]] {
            let args = [&["replay", "--json", "--topic", topic], from].concat();
            let done = parsed(&platform.must(&args));
            for group in done["groups"].as_array().unwrap() {
                assert_eq!(group["fresh"], 0, "{args:?}: {done}");
            }
        }
    }
    let after = (platform.totals().await, platform.all(4, "/notifications").await.len());
    assert_eq!(after, before);
    platform.must(&["verify"]);
    let wrong = platform.run(&["replay", "--topic", "bill.payed"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("payment.completed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_the_whole_bus_loses_nothing_and_doubles_nothing() {
    let mut platform = Platform::start();
    assert!(output(&mut platform.import(8)).status.success());
    platform.must(&["demo", "--pause-ms", "0"]);
    platform.must(&["verify"]);
    let database = platform.database().await;
    let desk = Desk::open(&platform).await;
    let (totals, messages) =
        (platform.totals().await, platform.all(4, "/notifications").await.len());
    let token = desk.token.clone();
    let (patient, practitioner) = (desk.patient.clone(), desk.practitioner.clone());
    platform.lose_the_bus(&database).await;
    // Work goes on meanwhile.
    let desk = Desk { platform: &platform, token, patient, practitioner };
    let booked = desk.book(1).await;
    let rehearsed = platform.must(&["replay", "--from-outbox", "--dry-run"]);
    assert!(rehearsed.contains("missing"), "{rehearsed}");
    let refilled = platform.must(&["replay", "--from-outbox", "--reason", "lost", "--json"]);
    let refilled = parsed(&refilled);
    assert_eq!((&refilled["missingNow"], &refilled["notReceived"]), (&json!(0), &json!(0)));
    eventually("the bill of what was booked meanwhile", async || {
        (desk.bills(&booked).await.len() == 1).then_some(())
    })
    .await;
    platform.must(&["verify"]);
    let mut expected = totals;
    for (name, more) in
        [("appointments_booked", 1), ("bills", 1), ("bills_issued", 1), ("bill_lines", 1)]
    {
        expected[name] = json!(expected[name].as_i64().unwrap() + more);
    }
    let now = platform.totals().await;
    for name in [
        "patients",
        "appointments_booked",
        "bills",
        "bill_lines",
        "bills_paid",
        "payments_succeeded",
        "amount_paid",
    ] {
        assert_eq!(now[name], expected[name], "{name}");
    }
    eventually("the two new messages", async || {
        let all = platform.all(4, "/notifications").await.len();
        assert!(all <= messages + 2);
        (all == messages + 2).then_some(())
    })
    .await;
}
