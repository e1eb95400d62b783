//! What was seen in a public system of this very shape, and cannot happen here; `docs/reliability-seen.md` has the whole list.

use hospital_contracts::{
    DomainEvent,
    appointment::{AppointmentBooked, AppointmentCancelled, AppointmentRescheduled, CancelledBy},
    billing::{BillGenerated, PaymentCompleted, PaymentFailed},
};
use hospital_types::EventId;
use serde_json::{Value, json};

use crate::post::Post;

/// Publishes an event as a later version of its service might: with a field that nobody here knows.
async fn publish_with_more<E: DomainEvent>(post: &Post, event: &E) {
    let mut value: Value = serde_json::to_value(event).unwrap();
    value["aFieldOfNextYear"] = json!({"deep": [1, 2, 3]});
    let headers = [
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", EventId::new().to_string()),
        ("ce_type", E::cloud_type()),
        ("ce_source", format!("urn:hospital:{}", E::SOURCE)),
        ("ce_anattributeofnextyear", "x".to_owned()),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let value = serde_json::to_vec(&value).unwrap();
    post.app.publish_raw(E::TOPIC, &event.aggregate().to_string(), headers, value).await;
    post.app.consumed(E::TOPIC).await;
}

#[tokio::test]
async fn a_field_added_to_an_event_stops_no_message() {
    let post = Post::open().await;
    let patient = post.patient(Some("zoe@example.org")).await;
    let facts = post.appointment(patient);
    let moved = AppointmentRescheduled {
        facts: hospital_contracts::appointment::AppointmentFacts { version: 2, ..facts.clone() },
        previous_start: facts.start,
        previous_end: facts.end,
    };
    publish_with_more(&post, &AppointmentBooked(facts.clone())).await;
    publish_with_more(&post, &moved).await;
    let cancelled = AppointmentCancelled { facts, by: CancelledBy::Patient };
    publish_with_more(&post, &cancelled).await;
    publish_with_more(&post, &BillGenerated(post.bill(patient))).await;
    publish_with_more(&post, &PaymentCompleted(post.payment(patient, 0))).await;
    let failed = PaymentFailed { facts: post.payment(patient, 0), code: "card-declined".into() };
    publish_with_more(&post, &failed).await;
    post.told(patient, &["sent"; 6]).await;
}
