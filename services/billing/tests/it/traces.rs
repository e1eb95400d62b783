//! Whose trace a bill's events carry.

use hospital_contracts::{
    DomainEvent,
    appointment::{AppointmentBooked, AppointmentCancelled, CancelledBy},
};
use hospital_kit::bus::Record;
use hospital_types::EventId;

use crate::{
    seen_elsewhere::headers,
    till::{Till, card, id},
};

fn record<E: DomainEvent>(event: &E, trace: &str) -> Record {
    let mut headers = headers(&EventId::new().to_string(), &E::cloud_type());
    headers.push(("traceparent".to_owned(), format!("00-{trace}-00f067aa0ba902b7-01")));
    Record {
        topic: E::TOPIC.to_owned(),
        key: event.aggregate().to_string(),
        headers,
        value: serde_json::to_vec(event).unwrap(),
    }
}

#[tokio::test]
async fn what_a_batch_causes_carries_the_trace_of_what_caused_it() {
    let till = Till::open().await;
    let booked: Vec<_> = (0..40).map(|_| till.facts("consultation")).collect();
    let trace = |kind: u32, n: usize| format!("{kind:016x}{n:016x}");
    let records = booked.iter().enumerate();
    let bookings =
        records.map(|(n, facts)| record(&AppointmentBooked(facts.clone()), &trace(1, n)));
    till.app.bus().publish(bookings.collect()).await.unwrap();
    till.app.topic_of("bill.generated", 40).await;
    let cancellations = booked.iter().enumerate().map(|(n, facts)| {
        let event = AppointmentCancelled { facts: facts.clone(), by: CancelledBy::Patient };
        record(&event, &trace(2, n))
    });
    till.app.bus().publish(cancellations.collect()).await.unwrap();
    for (kind, topic) in [(1, "bill.generated"), (2, "bill.cancelled")] {
        let told = till.app.topic_of(topic, 40).await;
        for (n, facts) in booked.iter().enumerate() {
            let of = |record: &&hospital_kit::bus::Received| {
                let event: serde_json::Value = serde_json::from_slice(&record.value).unwrap();
                event["appointmentId"] == facts.appointment_id.to_string()
            };
            let carried = told.iter().find(of).unwrap().header("traceparent").unwrap();
            assert_eq!(carried[3..35], trace(kind, n), "{topic}");
        }
    }
}

#[tokio::test]
async fn what_the_gateway_says_later_carries_the_trace_of_the_payment() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = till.app.request(reqwest::Method::POST, "/payments").bearer_auth(&till.cashier);
    let request = request.header("idempotency-key", "k");
    let request = request.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let body = card(&bill, "100.00", "tok_timeout_charged");
    let unknown = hospital_testkit::read(request.json(&body)).await;
    assert_eq!(unknown.status, 202, "{}", unknown.text);
    till.settled(id(&unknown.body), "succeeded").await;
    let told = till.app.topic_of("payment.completed", 1).await;
    assert_eq!(told[0].header("traceparent").unwrap()[3..35], *trace);
}
