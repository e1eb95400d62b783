use hospital_contracts::{
    DomainEvent,
    appointment::{AppointmentBooked, AppointmentCancelled, AppointmentRescheduled, CancelledBy},
    billing::{BillGenerated, PaymentCompleted, PaymentFailed},
};
use hospital_types::EventId;

use crate::post::Post;

#[tokio::test]
async fn each_of_the_six_kinds_says_what_happened_and_nothing_clinical() {
    let post = Post::open().await;
    let patient = post.patient(Some("zoe@example.org")).await;
    let facts = post.booked(patient).await;
    let moved = AppointmentRescheduled {
        facts: hospital_contracts::appointment::AppointmentFacts {
            start: "2035-05-18T15:00:00Z".parse().unwrap(),
            version: 2,
            ..facts.clone()
        },
        previous_start: facts.start,
        previous_end: facts.end,
    };
    post.consumed(&moved).await;
    post.consumed(&AppointmentCancelled { facts: facts.clone(), by: CancelledBy::Hospital }).await;
    post.consumed(&BillGenerated(post.bill(patient))).await;
    post.consumed(&PaymentCompleted(post.payment(patient, 7000))).await;
    let failed = PaymentFailed { facts: post.payment(patient, 7000), code: "card-declined".into() };
    post.consumed(&failed).await;

    let messages = post.told(patient, &["sent"; 6]).await;
    for (kind, words) in [
        ("appointment-booked", &["Thursday 17 May 2035 at 09:30 (EDT)"] as &[&str]),
        ("appointment-rescheduled", &["17 May 2035 at 09:30", "Friday 18 May 2035 at 11:00 (EDT)"]),
        ("appointment-cancelled", &["We are sorry", "17 May 2035"]),
        ("bill-issued", &["2035-000007", "120.00 USD"]),
        ("payment-completed", &["50.00 USD", "70.00 USD remains"]),
        ("payment-failed", &["50.00 USD did not go through"]),
    ] {
        let message =
            messages.iter().find(|m| m["kind"] == kind).unwrap_or_else(|| panic!("{kind}"));
        let body = message["body"].as_str().unwrap();
        assert!(words.iter().all(|word| body.contains(word)), "{kind}: {body}");
        assert!(message["subject"].as_str().unwrap().ends_with("Sturdy Memorial"));
        assert!(!format!("{message}").contains("oncology"), "{message}");
        assert_eq!(message["recipient"], "z***@e***.org");
    }
    assert_eq!(post.mailbox().len(), 6);
}

#[tokio::test]
async fn an_event_told_ten_times_is_one_message() {
    let post = Post::open().await;
    let patient = post.patient(Some("zoe@example.org")).await;
    let (facts, id) = (post.appointment(patient), EventId::new());
    for _ in 0..10 {
        post.app.publish_as(&AppointmentBooked(facts.clone()), id).await;
    }
    post.app.consumed(AppointmentBooked::TOPIC).await;
    let messages = post.told(patient, &["sent"]).await;
    assert_eq!(messages[0]["eventId"], id.to_string());
    assert_eq!(post.mailbox().len(), 1);
}

#[tokio::test]
async fn records_moved_in_from_elsewhere_notify_nobody() {
    let post = Post::open().await;
    let patient = post.patient(Some("zoe@example.org")).await;
    let mut facts = post.appointment(patient);
    facts.back_dated = true;
    post.consumed(&AppointmentBooked(facts.clone())).await;
    post.consumed(&AppointmentCancelled { facts, by: CancelledBy::Patient }).await;
    let (mut bill, mut payment) = (post.bill(patient), post.payment(patient, 0));
    (bill.back_dated, payment.back_dated) = (true, true);
    post.consumed(&BillGenerated(bill)).await;
    post.consumed(&PaymentCompleted(payment.clone())).await;
    post.consumed(&PaymentFailed { facts: payment, code: "card-declined".into() }).await;
    assert_eq!(post.app.rows("delivery").await, 0);
}

#[tokio::test]
async fn what_cannot_be_read_is_put_aside_and_the_next_is_told() {
    let post = Post::open().await;
    let patient = post.patient(Some("zoe@example.org")).await;
    let headers = |kind: String| {
        let all = [
            ("ce_specversion", "1.0".to_owned()),
            ("ce_id", EventId::new().to_string()),
            ("ce_type", kind),
            ("ce_source", "urn:hospital:appointment".to_owned()),
        ];
        all.map(|(name, value)| (name.to_owned(), value)).to_vec()
    };
    let good = AppointmentBooked::cloud_type();
    let facts = post.appointment(patient);
    let mut next_year = serde_json::to_value(AppointmentBooked(facts)).unwrap();
    next_year["aFieldOfNextYear"] = true.into();
    let next_year = serde_json::to_vec(&next_year).unwrap();
    for (kind, value) in [
        (good.clone(), b"{".to_vec()),
        (good.clone(), b"{}".to_vec()),
        ("appointment.booked.v9".to_owned(), next_year.clone()),
        (good, next_year),
    ] {
        // One key, and so one partition: each of these is in the way of the next.
        post.app.publish_raw(AppointmentBooked::TOPIC, "same", headers(kind), value).await;
    }
    post.told(patient, &["sent"]).await;
    let dead = post.app.topic_of("appointment.booked.notification.dlq", 3).await;
    assert_eq!(dead.len(), 3);
}
