//! What was seen in a public system of this very shape, and cannot happen here; `docs/reliability-seen.md` has the whole list.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hospital_contracts::{DomainEvent, appointment::AppointmentBooked};
use hospital_kit::bus::Record;
use hospital_testkit::{bus_apart, eventually};
use hospital_types::EventId;
use serde_json::Value;

use crate::till::{Till, cash, cents, id};

#[tokio::test(flavor = "multi_thread")]
async fn parallel_payments_reach_the_bill_to_the_cent() {
    let till = Till::open().await;
    till.price("surgery", "400.00").await;
    let bill = till.booked("surgery").await;
    let (mut acked, mut place) = (0, 0);
    for _ in 0..4 {
        let requests = (0..75).map(|n| {
            let (key, body) = (format!("{}", place + n), cash(&bill, "1.00"));
            let till = &till;
            async move { till.pay(&key, &body).await.status }
        });
        let statuses = join_all(requests).await;
        place += 75;
        assert!(statuses.iter().all(|status| matches!(status, 201 | 503)), "{statuses:?}");
        acked += statuses.iter().filter(|status| **status == 201).count();
    }
    assert!(acked > 200, "{acked} were taken");
    let paid = i64::try_from(acked).unwrap() * 100;
    till.assert_bill(&bill, "partially-paid", paid, 0).await;
    let events = till.app.topic_of("payment.completed", acked).await;
    assert_eq!(events.len(), acked);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_bus_is_away_payments_hold_no_connection_of_the_pool() {
    let (bus, url) = bus_apart(&hospital_billing::schema()).await;
    let till = Till::with(|config| {
        config.billing.pool_size = 2;
        config.bus.url = Some(url);
    })
    .await;
    let bill = till.booked("consultation").await;
    bus.shut().await.unwrap();
    let started = Instant::now();
    for round in 0..5 {
        let requests = (0..10).map(|n| {
            let (key, body) = (format!("{round}-{n}"), cash(&bill, "1.00"));
            let till = &till;
            async move { till.pay(&key, &body).await }
        });
        for reply in join_all(requests).await {
            assert_eq!(reply.status, 201, "{}", reply.text);
        }
    }
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    bus.open().await.unwrap();
    assert_eq!(till.app.topic_of("payment.completed", 50).await.len(), 50);
    till.assert_bill(&bill, "partially-paid", 5000, 0).await;
}

#[tokio::test]
async fn a_payment_that_is_rolled_back_leaves_no_payment_completed() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    // The commit itself fails: everything before it, the event among it, was written without an error.
    till.app
        .db
        .execute(
            "CREATE FUNCTION billing.fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the commit fails'; END $$;
             CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON billing.payment DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION billing.fails()",
        )
        .await
        .unwrap();
    let reply = till.pay("k", &cash(&bill, "10.00")).await;
    assert_eq!((reply.status, reply.code()), (500, "internal"), "{}", reply.text);
    till.assert_bill(&bill, "issued", 0, 0).await;
    assert_eq!(till.app.rows("payment").await, 0);
    till.app.db.execute("DROP TRIGGER fails ON billing.payment").await.unwrap();
    // The key was not used up, and the one event is that of the payment that is there.
    let reply = till.pay("k", &cash(&bill, "10.00")).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    let events = till.app.topic_of("payment.completed", 1).await;
    let told: Value = serde_json::from_slice(&events[0].value).unwrap();
    assert_eq!((events.len(), told["paymentId"].as_str()), (1, Some(id(&reply.body))));
}

#[tokio::test]
async fn a_negative_amount_lowers_nothing_and_a_third_decimal_is_not_rounded() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    assert_eq!(till.pay("good", &cash(&bill, "10.00")).await.status, 201);
    for amount in ["-5.00", "-0.01", "199.999", "0.001", "9.995"] {
        let reply = till.pay(amount, &cash(&bill, amount)).await;
        assert_eq!((reply.status, reply.code()), (422, "amount-invalid"), "{amount}");
        till.assert_bill(&bill, "partially-paid", 1000, 0).await;
    }
    assert_eq!(till.pay("rest", &cash(&bill, "110.00")).await.status, 201);
    till.assert_bill(&bill, "paid", 12_000, 0).await;
}

#[tokio::test]
async fn a_bill_that_nobody_knows_is_never_a_500() {
    let till = Till::open().await;
    let bill = serde_json::json!({"id": "018f0000-0000-7000-8000-000000000000"});
    let reply = till.pay("k", &cash(&bill, "1.00")).await;
    assert_eq!((reply.status, reply.code()), (422, "bill-unknown"));
    let path = format!("/bills/{}", id(&bill));
    let reply = till.app.get(&path, &till.cashier).await;
    assert_eq!((reply.status, reply.code()), (404, "not-found"));
    assert_eq!(till.step(&format!("{path}/issue"), None).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_booking_told_to_two_replicas_in_parallel_is_one_bill_and_one_bill_generated() {
    let till = Till::open().await;
    let replica = till.app.replica(hospital_billing::service).await;
    for _ in 0..10 {
        let facts = till.facts("consultation");
        let value = serde_json::to_vec(&AppointmentBooked(facts.clone())).unwrap();
        // Two events of one appointment, eight times each, under sixteen keys: in every partition, and so at both replicas at once.
        let events = [EventId::new(), EventId::new()];
        let copies = (0..16).map(|n| Record {
            topic: AppointmentBooked::TOPIC.to_owned(),
            key: format!("key {n}"),
            headers: headers(&events[n % 2].to_string(), &AppointmentBooked::cloud_type()),
            value: value.clone(),
        });
        till.app.bus().publish(copies.collect()).await.unwrap();
        till.bill_of(facts.appointment_id).await;
    }
    till.app.consumed(AppointmentBooked::TOPIC).await;
    assert_eq!(till.app.rows("bill").await, 10);
    assert_eq!(till.app.topic_of("bill.generated", 10).await.len(), 10);
    assert_eq!(till.app.topic("appointment.booked.billing.dlq").await.len(), 0);
    replica.stop().await;
}

/// The headers of an event from the appointment service.
pub(crate) fn headers(id: &str, kind: &str) -> Vec<(String, String)> {
    let all = [
        ("ce_specversion", "1.0"),
        ("ce_id", id),
        ("ce_type", kind),
        ("ce_source", "urn:hospital:appointment"),
    ];
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

#[tokio::test]
async fn a_booking_that_cannot_be_billed_for_a_while_is_neither_skipped_nor_put_aside() {
    let till = Till::open().await;
    // A sequence counts tries that are rolled back too. A serialization failure is trouble that passes; a defect would get five tries.
    till.app
        .db
        .execute(
            "CREATE SEQUENCE billing.tries;
             GRANT USAGE ON SEQUENCE billing.tries TO hospital_billing;
             CREATE FUNCTION billing.fails() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF nextval('billing.tries') <= 6 THEN RAISE 'not now' USING ERRCODE = '40001'; END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER fails BEFORE INSERT ON billing.bill FOR EACH ROW EXECUTE FUNCTION billing.fails()",
        )
        .await
        .unwrap();
    let bill = till.booked("consultation").await;
    assert_eq!(cents(&bill["total"]), 12_000);
    let tries: i64 = till.app.db.value("SELECT last_value FROM billing.tries").await.unwrap();
    assert_eq!(tries, 7);
    eventually("the one event", async || {
        (till.app.topic("bill.generated").await.len() == 1).then_some(())
    })
    .await;
    assert_eq!(till.app.topic("appointment.booked.billing.dlq").await.len(), 0);
}
