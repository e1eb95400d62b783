//! Records that no service of ours would publish, and orders in which none would.

use hospital_contracts::{
    DomainEvent,
    appointment::{AppointmentBooked, AppointmentCancelled, CancelledBy},
};
use hospital_kit::bus::Record;
use hospital_types::EventId;
use serde_json::{Value, json};

use crate::{seen_elsewhere::headers, till::Till};

const TOPIC: &str = AppointmentBooked::TOPIC;
const DEAD: &str = "appointment.booked.billing.dlq";

fn record(headers: Vec<(String, String)>, value: Vec<u8>) -> Record {
    // One key, and so one partition: each is in the way of the next.
    Record { topic: TOPIC.to_owned(), key: "same".to_owned(), headers, value }
}

fn fresh() -> String {
    EventId::new().to_string()
}

/// A good booking, changed.
fn changed(till: &Till, change: fn(&mut Value)) -> Vec<u8> {
    let mut value = serde_json::to_value(AppointmentBooked(till.facts("consultation"))).unwrap();
    change(&mut value);
    serde_json::to_vec(&value).unwrap()
}

fn without(name: &str) -> Vec<(String, String)> {
    let mut all = headers(&fresh(), &AppointmentBooked::cloud_type());
    all.retain(|(header, _)| header != name);
    all
}

fn from(source: &str) -> Vec<(String, String)> {
    let mut all = without("ce_source");
    all.push(("ce_source".to_owned(), format!("urn:hospital:{source}")));
    all
}

#[tokio::test]
async fn each_kind_of_bad_event_is_put_aside_whole_and_the_good_one_behind_it_is_billed() {
    let till = Till::open().await;
    let good = AppointmentBooked::cloud_type();
    let all = |id: &str, kind: &str| headers(id, kind);
    let whole = changed(&till, |_| {});
    for (what, headers, value) in [
        ("not JSON", all(&fresh(), &good), b"not json".to_vec()),
        ("half of it", all(&fresh(), &good), whole[..whole.len() / 2].to_vec()),
        ("not UTF-8", all(&fresh(), &good), b"{\"appointmentId\": \"\xff\"}".to_vec()),
        ("empty", all(&fresh(), &good), Vec::new()),
        ("null", all(&fresh(), &good), b"null".to_vec()),
        ("a list", all(&fresh(), &good), b"[]".to_vec()),
        ("nesting without end", all(&fresh(), &good), vec![b'['; 100_000]),
        (
            "no appointment",
            all(&fresh(), &good),
            changed(&till, |e| drop(e.as_object_mut().unwrap().remove("appointmentId"))),
        ),
        (
            "an id that is none",
            all(&fresh(), &good),
            changed(&till, |e| e["patientId"] = "x".into()),
        ),
        (
            "a version that is text",
            all(&fresh(), &good),
            changed(&till, |e| e["version"] = "1".into()),
        ),
        (
            "a time without a zone",
            all(&fresh(), &good),
            changed(&till, |e| e["start"] = "2035-05-17T09:00:00".into()),
        ),
        (
            "a service type that is no code",
            all(&fresh(), &good),
            changed(&till, |e| e["serviceType"] = "DROP TABLE".into()),
        ),
        (
            "NUL in a text",
            all(&fresh(), &good),
            changed(&till, |e| e["serviceType"] = "a\u{0}".into()),
        ),
        ("a version of next year", all(&fresh(), "appointment.booked.v2"), whole.clone()),
        ("another type", all(&fresh(), "bill.generated.v1"), whole.clone()),
        ("no id", without("ce_id"), whole.clone()),
        ("an id that is no id", all("1", &good), whole.clone()),
        ("no type", without("ce_type"), whole.clone()),
        ("no source", without("ce_source"), whole.clone()),
        ("of another service", from("notification"), whole.clone()),
        ("of ourselves", from("billing"), whole.clone()),
        ("as large as a record may be", all(&fresh(), &good), vec![b' '; 990_000]),
    ] {
        let buried = till.app.topic(DEAD).await.len();
        let bills = till.app.rows("bill").await;
        let facts = till.facts("consultation");
        let behind = serde_json::to_vec(&AppointmentBooked(facts.clone())).unwrap();
        let both = vec![record(headers, value.clone()), record(all(&fresh(), &good), behind)];
        till.app.bus().publish(both).await.unwrap();
        till.bill_of(facts.appointment_id).await;
        let dead = till.app.topic_of(DEAD, buried + 1).await;
        assert_eq!((dead.len(), till.app.rows("bill").await), (buried + 1, bills + 1), "{what}");
        let last = dead.iter().max_by_key(|record| record.offset).unwrap();
        assert_eq!(last.value, value, "{what}: what was put aside is whole");
        assert!(last.header("dlq_reason").is_some_and(|why| !why.is_empty()), "{what}");
    }
}

#[tokio::test]
async fn a_record_of_a_mebibyte_is_refused_by_the_bus_itself() {
    let till = Till::open().await;
    let value = vec![b' '; 1 << 20];
    let large = record(headers(&fresh(), &AppointmentBooked::cloud_type()), value);
    assert!(till.app.bus().publish(vec![large]).await.is_err());
    till.booked("consultation").await;
}

#[tokio::test]
async fn fields_and_headers_that_nobody_knows_are_accepted() {
    let till = Till::open().await;
    let facts = till.facts("consultation");
    let mut value = serde_json::to_value(AppointmentBooked(facts.clone())).unwrap();
    value["aFieldOfNextYear"] = json!({"deep": [1, {"er": null}]});
    let mut headers = headers(&fresh(), &AppointmentBooked::cloud_type());
    headers.push(("ce_dataschema".to_owned(), "x".repeat(1000)));
    let record = record(headers, serde_json::to_vec(&value).unwrap());
    till.app.bus().publish(vec![record]).await.unwrap();
    till.bill_of(facts.appointment_id).await;
}

#[tokio::test]
async fn one_event_a_thousand_times_is_one_bill() {
    let till = Till::open().await;
    let facts = till.facts("consultation");
    let value = serde_json::to_vec(&AppointmentBooked(facts.clone())).unwrap();
    let one = record(headers(&fresh(), &AppointmentBooked::cloud_type()), value);
    till.app.bus().publish(vec![one; 1000]).await.unwrap();
    till.bill_of(facts.appointment_id).await;
    till.app.consumed(TOPIC).await;
    assert_eq!((till.app.rows("bill").await, till.app.rows("bill_line").await), (1, 1));
    assert_eq!(till.app.topic_of("bill.generated", 1).await.len(), 1);
}

#[tokio::test]
async fn of_events_of_which_every_tenth_is_poison_all_others_are_billed() {
    let till = Till::open().await;
    let records = (0..200).map(|n| {
        let value = match n % 10 {
            9 => b"{\"poison\": true}".to_vec(),
            _ => changed(&till, |_| {}),
        };
        let mut one = record(headers(&fresh(), &AppointmentBooked::cloud_type()), value);
        one.key = format!("{}", n % 7);
        one
    });
    till.app.bus().publish(records.collect()).await.unwrap();
    assert_eq!(till.app.topic_of(DEAD, 20).await.len(), 20);
    till.app.consumed(TOPIC).await;
    assert_eq!(till.app.rows("bill").await, 180);
    assert_eq!(till.app.topic_of("bill.generated", 180).await.len(), 180);
}

#[tokio::test]
async fn cancellations_before_and_behind_their_bookings_leave_nothing_to_pay() {
    let till = Till::open().await;
    for early in [true, false] {
        let facts = till.facts("consultation");
        let cancelled = AppointmentCancelled { facts: facts.clone(), by: CancelledBy::Hospital };
        if early {
            till.app.publish(&cancelled).await;
            till.app.consumed(AppointmentCancelled::TOPIC).await;
        }
        till.app.publish(&AppointmentBooked(facts.clone())).await;
        till.bill_of(facts.appointment_id).await;
        if !early {
            till.app.publish(&cancelled).await;
            till.app.consumed(AppointmentCancelled::TOPIC).await;
        }
        assert_eq!(till.bill_of(facts.appointment_id).await["status"], "cancelled", "{early}");
    }
}
