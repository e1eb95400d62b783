use std::time::{Duration, Instant};

use crate::{
    desk::{Desk, at},
    fake_patients::Mood,
};

#[tokio::test]
async fn no_answer_from_the_patient_service_is_a_503_in_time_that_leaves_nothing() {
    let desk = Desk::open_in_a_hurry().await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    for mood in [
        Mood::Silent,
        Mood::Html,
        Mood::Puzzling,
        Mood::Redirecting,
        Mood::Failing,
        Mood::Shedding,
        Mood::Distrustful,
        Mood::Lost,
        Mood::Misdirected,
    ] {
        desk.patients.behave(mood);
        let started = Instant::now();
        let reply = desk.book(patient, practitioner, at("10:00"), 30).await;
        assert_eq!((reply.status, reply.code()), (503, "patient-service-unavailable"), "{mood:?}");
        assert!(!reply.header("retry-after").is_empty(), "{mood:?}");
        assert!(started.elapsed() < Duration::from_secs(2), "{mood:?}: {:?}", started.elapsed());
        // An answer in between keeps the breaker closed, so that each of these is met on the wire.
        desk.patients.behave(Mood::Well);
        let asked = desk.patients.asked();
        let reply = desk.book(desk.patients.inactive(), practitioner, at("10:00"), 30).await;
        assert_eq!((reply.status, reply.code()), (422, "patient-inactive"), "{mood:?}");
        assert_eq!(desk.patients.asked(), asked + 1, "{mood:?}");
    }
    assert_eq!(desk.rows().await, 0);
    assert_eq!(desk.count("idempotency").await, 0, "a 503 is not remembered");
}

#[tokio::test]
async fn nobody_listening_is_a_503() {
    let desk = Desk::open_without_patient_service().await;
    let reply = desk.book(desk.patients.active(), desk.practitioner().await, at("10:00"), 30).await;
    assert_eq!((reply.status, reply.code()), (503, "patient-service-unavailable"));
    assert_eq!(desk.get("/appointments").send().await.status, 200, "everything else works");
}

#[tokio::test]
async fn a_patient_service_that_keeps_failing_is_left_alone_for_a_while() {
    let desk = Desk::open_in_a_hurry().await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    desk.patients.behave(Mood::Silent);
    for _ in 0..10 {
        assert_eq!(desk.book(patient, practitioner, at("10:00"), 30).await.status, 503);
    }
    let asked = desk.patients.asked();
    assert!(asked < 10, "the breaker spared it: asked {asked} times");
    desk.patients.behave(Mood::Well);
    hospital_testkit::eventually("the probe that closes the breaker", async || {
        let reply = desk.book(patient, practitioner, at("10:00"), 30).await;
        assert!(matches!(reply.status, 201 | 503), "{}", reply.body);
        (reply.status == 201).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_key_that_got_a_503_books_once_the_service_is_back() {
    let desk = Desk::open().await;
    let body = desk.booking(desk.patients.active(), desk.practitioner().await, at("10:00"), 30);
    desk.patients.behave(Mood::Failing);
    let reply = desk.post("/appointments").key("k").body(&body).send().await;
    assert_eq!(reply.status, 503);
    desk.patients.behave(Mood::Well);
    let reply = desk.post("/appointments").key("k").body(&body).send().await;
    assert_eq!(reply.status, 201, "{}", reply.body);
}

#[tokio::test]
async fn only_a_booking_asks_the_patient_service() {
    let desk = Desk::open().await;
    let patient = desk.patients.active();
    let id = desk.booked(patient, desk.practitioner().await, at("10:00"), 30).await;
    assert_eq!(desk.patients.asked(), 1);
    desk.patients.behave(Mood::Silent);
    assert_eq!(desk.reschedule(&id, at("11:00"), 30).await.status, 200);
    assert_eq!(desk.cancel(&id).await.status, 200);
    assert_eq!(desk.patients.asked(), 1);
}
