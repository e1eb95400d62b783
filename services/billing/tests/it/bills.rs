use hospital_contracts::{
    DomainEvent,
    appointment::{AppointmentBooked, AppointmentCancelled, CancelledBy},
};
use hospital_types::{AppointmentId, EventId};
use serde_json::{Value, json};

use crate::till::{Till, cash, cents, id};

fn lines() -> Value {
    json!([
        {"code": "x-ray", "description": "X-ray of the chest", "quantity": 1, "unitPrice": {"amount": "80.50", "currency": "USD"}},
        {"code": "film", "description": "Film", "quantity": 3, "unitPrice": {"amount": "2.25", "currency": "USD"}},
    ])
}

#[tokio::test]
async fn a_priced_service_is_billed_and_issued_at_once() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    assert_eq!(bill["status"], "issued");
    assert_eq!((cents(&bill["total"]), cents(&bill["outstanding"])), (12_000, 12_000));
    assert_eq!(bill["lines"][0]["code"], "consultation");
    assert!(bill["number"].as_str().unwrap().ends_with("-000001"), "{bill}");
    let published = till.app.topic_of("bill.generated", 1).await;
    let event: Value = serde_json::from_slice(&published[0].value).unwrap();
    assert_eq!(event["billId"], bill["id"]);
    assert_eq!(event["total"], json!({"amount": "120.00", "currency": "USD"}));
    assert_eq!(event["version"], bill["version"]);
    assert_eq!(published[0].key.as_deref(), Some(id(&bill)));
}

#[tokio::test]
async fn one_event_a_hundred_times_and_two_events_of_one_appointment_make_one_bill() {
    let till = Till::open().await;
    let facts = till.facts("consultation");
    let event = EventId::new();
    for _ in 0..100 {
        till.app.publish_as(&AppointmentBooked(facts.clone()), event).await;
    }
    till.app.publish(&AppointmentBooked(facts.clone())).await;
    till.app.consumed("appointment.booked").await;
    till.bill_of(facts.appointment_id).await;
    assert_eq!(till.app.rows("bill").await, 1);
    till.booked("consultation").await;
    assert_eq!(till.app.topic_of("bill.generated", 2).await.len(), 2);
}

#[tokio::test]
async fn numbers_have_no_gaps() {
    let till = Till::open().await;
    for _ in 0..3 {
        till.booked("consultation").await;
        till.booked("priced-at-visit").await;
    }
    let numbers: String = till
        .app
        .db
        .value("SELECT string_agg(right(number, 6), ' ' ORDER BY number) FROM billing.bill WHERE number IS NOT NULL")
        .await
        .unwrap();
    assert_eq!(numbers, "000001 000002 000003");
}

#[tokio::test]
async fn a_service_without_a_price_is_a_draft_until_it_is_issued() {
    let till = Till::open().await;
    let bill = till.booked("surgery").await;
    assert_eq!((&bill["status"], &bill["number"]), (&"draft".into(), &Value::Null));
    let path = format!("/bills/{}", id(&bill));
    let empty = till.step(&format!("{path}/issue"), None).await;
    assert_eq!((empty.status, empty.code()), (409, "bill-empty"));
    let early = till.pay("early", &cash(&bill, "1.00")).await;
    assert_eq!((early.status, early.code()), (409, "bill-not-payable"));

    let added = till.app.post(&format!("{path}/lines"), &till.cashier, &lines()).await;
    assert_eq!((added.status, cents(&added.body["total"])), (200, 8725), "{}", added.text);
    assert_eq!(till.app.topic("bill.generated").await.len(), 0);
    let stale = till.step(&format!("{path}/issue"), Some("\"1\"")).await;
    assert_eq!((stale.status, stale.code()), (412, "version-stale"));
    let issued = till.step(&format!("{path}/issue"), Some("\"2\"")).await;
    assert_eq!((issued.status, &issued.body["status"]), (200, &"issued".into()), "{}", issued.text);
    for _ in 0..2 {
        let again = till.step(&format!("{path}/issue"), None).await;
        assert_eq!((again.status, again.code()), (409, "bill-not-draft"));
    }
    let late = till.app.post(&format!("{path}/lines"), &till.cashier, &lines()).await;
    assert_eq!((late.status, late.code()), (409, "bill-not-draft"));
    assert_eq!(till.app.topic_of("bill.generated", 1).await.len(), 1);
    till.assert_bill(&bill, "issued", 0, 0).await;
}

#[tokio::test]
async fn a_bill_of_nothing_is_paid_once_it_is_issued() {
    let till = Till::open().await;
    till.price("courtesy", "0.00").await;
    let bill = till.booked("courtesy").await;
    assert_eq!(bill["status"], "paid");
    let reply = till.pay("k", &cash(&bill, "0.01")).await;
    assert_eq!((reply.status, reply.code()), (409, "overpayment"));
}

#[tokio::test]
async fn a_changed_price_is_for_later_bills() {
    let till = Till::open().await;
    let before = till.booked("consultation").await;
    till.price("consultation", "150.00").await;
    let after = till.booked("consultation").await;
    assert_eq!(
        (cents(&after["total"]), cents(&till.bill(&before).await["total"])),
        (15_000, 12_000)
    );
    let path = "/service-types/consultation";
    let at_visit = json!({"name": "Consultation", "pricedAtVisit": true});
    assert_eq!(till.app.put(path, &till.cashier, &at_visit).await.status, 200);
    assert_eq!(till.booked("consultation").await["status"], "draft");
}

#[tokio::test]
async fn a_cancelled_appointment_cancels_a_bill_that_nobody_paid() {
    let till = Till::open().await;
    for service_type in ["consultation", "surgery"] {
        let bill = till.booked(service_type).await;
        till.cancelled(&bill).await;
        assert_eq!(till.bill(&bill).await["status"], "cancelled", "{service_type}");
        let reply = till.pay(service_type, &cash(&bill, "1.00")).await;
        assert_eq!((reply.status, reply.code()), (409, "bill-not-payable"));
    }
    assert_eq!(till.app.topic_of("bill.cancelled", 2).await.len(), 2);
}

#[tokio::test]
async fn a_cancelled_appointment_leaves_a_paid_bill_with_what_is_due_back() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    assert_eq!(till.pay("part", &cash(&bill, "20.00")).await.status, 201);
    till.cancelled(&bill).await;
    let now = till.bill(&bill).await;
    assert_eq!(
        (&now["status"], cents(&now["refundDue"])),
        (&"partially-paid".into(), 2000),
        "{now}"
    );
}

#[tokio::test]
async fn a_cancellation_that_overtakes_its_booking_still_cancels_the_bill() {
    let till = Till::open().await;
    let facts = till.facts("consultation");
    let cancelled = AppointmentCancelled { facts: facts.clone(), by: CancelledBy::Hospital };
    till.app.publish(&cancelled).await;
    till.app.consumed("appointment.cancelled").await;
    till.app.publish(&AppointmentBooked(facts.clone())).await;
    assert_eq!(till.bill_of(facts.appointment_id).await["status"], "cancelled");
    assert_eq!(till.app.topic("bill.generated").await.len(), 0);
}

#[tokio::test]
async fn what_cannot_be_read_is_put_aside_and_the_next_is_billed() {
    let till = Till::open().await;
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let good = till.facts("consultation");
    let mut unknown_field =
        serde_json::to_value(AppointmentBooked(till.facts("consultation"))).unwrap();
    unknown_field["aFieldOfNextYear"] = json!({"deep": [1, 2, 3]});
    let tolerated: AppointmentId =
        unknown_field["appointmentId"].as_str().unwrap().parse().unwrap();
    let headers = |id: &str| {
        vec![
            header("ce_specversion", "1.0"),
            header("ce_id", id),
            header("ce_type", &AppointmentBooked::cloud_type()),
            header("ce_source", "urn:hospital:appointment"),
        ]
    };
    let fresh = || EventId::new().to_string();
    // One key, and so one partition: each of these is in the way of the next.
    let key = "same-partition";
    let poison = [
        (headers(&fresh()), b"not json".to_vec()),
        (headers(&fresh()), Vec::new()),
        (headers(&fresh()), br#"{"appointmentId": 7}"#.to_vec()),
        (Vec::new(), serde_json::to_vec(&AppointmentBooked(till.facts("consultation"))).unwrap()),
        (headers(&fresh()), vec![b'x'; 900_000]),
    ];
    let count = poison.len();
    for (headers, value) in poison {
        till.app.publish_raw("appointment.booked", key, headers, value).await;
    }
    till.app
        .publish_raw(
            "appointment.booked",
            key,
            headers(&fresh()),
            serde_json::to_vec(&unknown_field).unwrap(),
        )
        .await;
    till.app.publish(&AppointmentBooked(good.clone())).await;
    till.bill_of(good.appointment_id).await;
    till.bill_of(tolerated).await;
    let dead = till.app.topic_of("appointment.booked.billing.dlq", count).await;
    assert_eq!(dead.len(), count);
    assert!(
        dead.iter().all(|record| record.header("dlq_reason").is_some_and(|why| !why.is_empty()))
    );
    assert_eq!(till.app.rows("bill").await, 2);
}
