//! What was seen in a public system of this very shape, and cannot happen here; `docs/reliability-seen.md` has the whole list.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::{
    desk::{Desk, at},
    fake_patients::Mood,
};

#[tokio::test]
async fn ten_o_clock_and_five_past_ten_of_one_practitioner_are_not_both_booked() {
    let desk = Desk::open().await;
    let practitioner = desk.practitioner().await;
    desk.booked(desk.patients.active(), practitioner, at("10:00"), 30).await;
    let before = desk.rows().await;
    let reply = desk.book(desk.patients.active(), practitioner, at("10:05"), 30).await;
    assert_eq!((reply.status, reply.code()), (409, "slot-unavailable"));
    assert_eq!(desk.rows().await, before, "no row and no event");
}

#[tokio::test]
async fn past_dates_and_times_without_a_zone_are_refused_and_leave_nothing() {
    let desk = Desk::open().await;
    let good = desk.booking(desk.patients.active(), desk.practitioner().await, at("10:00"), 30);
    let second_ago = desk.now() - jiff::SignedDuration::from_secs(1);
    for (start, end, code) in [
        (
            second_ago.to_string(),
            (second_ago + jiff::SignedDuration::from_mins(30)).to_string(),
            "start-in-the-past",
        ),
        ("2015-05-17T10:00:00Z".to_owned(), "2015-05-17T10:30:00Z".to_owned(), "start-in-the-past"),
        ("2035-05-17T10:00:00".to_owned(), "2035-05-17T10:30:00".to_owned(), "invalid"),
        ("2035-05-17 10:00".to_owned(), "2035-05-17 10:30".to_owned(), "invalid"),
        ("2035-05-17".to_owned(), "2035-05-18".to_owned(), "invalid"),
    ] {
        let mut body = good.clone();
        (body["start"], body["end"]) = (json!(start), json!(end));
        let reply = desk.post("/appointments").body(&body).send().await;
        assert_eq!((reply.status, reply.code()), (422, code), "{start}: {}", reply.body);
    }
    assert_eq!(desk.rows().await, 0);
}

#[tokio::test]
async fn a_booking_without_a_time_leaves_no_row() {
    let desk = Desk::open().await;
    let good = desk.booking(desk.patients.active(), desk.practitioner().await, at("10:00"), 30);
    for member in ["start", "end"] {
        for absent in [true, false] {
            let mut body = good.clone();
            if absent {
                body.as_object_mut().unwrap().remove(member);
            } else {
                body[member] = json!(null);
            }
            let reply = desk.post("/appointments").key(member).body(&body).send().await;
            assert_eq!((reply.status, reply.code()), (400, "invalid-body"), "{member}");
        }
    }
    assert_eq!(desk.rows().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_service_that_never_answers_holds_up_nothing_but_bookings() {
    let desk = Desk::open_in_a_hurry().await;
    let practitioner = desk.practitioner().await;
    let booked = desk.booked(desk.patients.active(), practitioner, at("09:00"), 30).await;
    let patients: Vec<_> = (0..100).map(|_| desk.patients.active()).collect();
    desk.patients.behave(Mood::Silent);
    let bookings = join_all(patients.iter().map(|patient| async {
        let started = Instant::now();
        let reply = desk.book(*patient, practitioner, at("10:00"), 30).await;
        (reply, started.elapsed())
    }));
    let others = async {
        for _ in 0..20 {
            let started = Instant::now();
            assert_eq!(desk.get(&format!("/appointments/{booked}")).send().await.status, 200);
            assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        }
        assert_eq!(desk.reschedule(&booked, at("09:30"), 30).await.status, 200);
        assert_eq!(desk.cancel(&booked).await.status, 200);
    };
    let (replies, ()) = tokio::join!(bookings, others);
    for (reply, took) in replies {
        assert_eq!((reply.status, reply.code()), (503, "patient-service-unavailable"));
        assert!(!reply.header("retry-after").is_empty());
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
    assert!(desk.patients.asked() < 60, "the breaker spared it: {}", desk.patients.asked());
}
