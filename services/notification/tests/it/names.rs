use std::time::Duration;

use hospital_contracts::appointment::{AppointmentBooked, AppointmentCancelled, CancelledBy};
use hospital_testkit::eventually_within;
use hospital_types::PractitionerId;

use crate::post::Post;

impl Post {
    async fn booked_with(&self, practitioner: PractitionerId) -> String {
        let patient = self.patient(Some("zoe@example.org")).await;
        let mut facts = self.appointment(patient);
        facts.practitioner_id = practitioner;
        self.app.publish(&AppointmentBooked(facts)).await;
        self.told(patient, &["sent"]).await[0]["body"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_message_says_when_with_whom_where_and_how_to_cancel() {
    let post = Post::open().await;
    let practitioner = post.practitioners.register("Grace Hopper");
    let body = post.booked_with(practitioner).await;
    for line in [
        "When: Thursday 17 May 2035 at 09:30 (EDT)\n",
        "With: Grace Hopper\n",
        "Where: Sturdy Memorial, 211 Park Street, Attleboro\n",
        "at the latest before it begins: call +1 508-555-0100, or cancel it yourself",
        "\nSturdy Memorial\nPhone: +1 508-555-0100\n",
    ] {
        assert!(body.contains(line), "{line}: {body}");
    }
    assert!(!body.contains("oncology"), "{body}");
}

#[tokio::test]
async fn a_name_is_asked_for_once_and_outlives_the_process_and_the_appointment_service() {
    let post = Post::open().await;
    let practitioner = post.practitioners.register("Grace Hopper");
    for _ in 0..3 {
        assert!(post.booked_with(practitioner).await.contains("With: Grace Hopper\n"));
    }
    assert_eq!(post.practitioners.asked(), 1);
    post.practitioners.fall_silent(true);
    let replica = post.app.replica(hospital_notification::service).await;
    for _ in 0..6 {
        assert!(post.booked_with(practitioner).await.contains("With: Grace Hopper\n"));
    }
    assert_eq!(post.practitioners.asked(), 1);
    let kept = "SELECT name FROM notification.practitioner";
    assert_eq!(post.app.db.value::<String>(kept).await.unwrap(), "Grace Hopper");
    replica.stop().await;
}

#[tokio::test]
async fn a_message_does_not_wait_long_for_a_name() {
    let post = Post::open().await;
    let practitioner = post.practitioners.register("Grace Hopper");
    post.practitioners.fall_silent(true);
    let started = std::time::Instant::now();
    let body = post.booked_with(practitioner).await;
    assert!(!body.contains("With:") && body.contains("Where: Sturdy Memorial"), "{body}");
    // The next ones do not even ask.
    post.booked_with(practitioner).await;
    assert_eq!(post.practitioners.asked(), 1);
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    post.practitioners.fall_silent(false);
    eventually_within(Duration::from_secs(30), "a message with the name", async || {
        post.booked_with(practitioner).await.contains("With: Grace Hopper\n").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_practitioner_whom_nobody_knows_stops_no_message() {
    let post = Post::open().await;
    assert!(!post.booked_with(PractitionerId::new()).await.contains("With:"));
}

#[tokio::test]
async fn a_cancellation_says_with_whom_and_whom_to_call() {
    let post = Post::open().await;
    let patient = post.patient(Some("zoe@example.org")).await;
    let mut facts = post.appointment(patient);
    facts.practitioner_id = post.practitioners.register("Grace Hopper");
    post.app.publish(&AppointmentCancelled { facts, by: CancelledBy::Hospital }).await;
    let messages = post.told(patient, &["sent"]).await;
    let body = messages[0]["body"].as_str().unwrap();
    assert!(body.contains("at 09:30 (EDT) with Grace Hopper. Please call us"), "{body}");
    assert!(body.contains("for another one: +1 508-555-0100."), "{body}");
}
