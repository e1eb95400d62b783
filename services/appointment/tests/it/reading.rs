use jiff::ToSpan;
use serde_json::json;

use crate::desk::{Desk, at};

#[tokio::test]
async fn lists_are_filtered_and_ordered_by_start() {
    let desk = Desk::open().await;
    let (ada, bob) = (desk.patients.active(), desk.patients.active());
    let (lee, kim) = (desk.practitioner().await, desk.practitioner().await);
    let late = desk.booked(ada, lee, at("15:00"), 30).await;
    let early = desk.booked(ada, kim, at("08:00"), 30).await;
    let other = desk.booked(bob, lee, at("10:00"), 30).await;
    let next_day = desk.booked(bob, kim, at("10:00") + 24.hours(), 30).await;
    desk.cancel(&other).await;

    for (query, expected) in [
        (String::new(), vec![&early, &other, &late, &next_day]),
        (format!("patientId={ada}"), vec![&early, &late]),
        (format!("practitionerId={lee}"), vec![&other, &late]),
        (format!("practitionerId={lee}&patientId={bob}"), vec![&other]),
        (format!("practitionerId={lee}&status=booked"), vec![&late]),
        ("status=cancelled".to_owned(), vec![&other]),
        ("status=checked-in".to_owned(), vec![]),
        ("date=2035-05-17".to_owned(), vec![&early, &other, &late]),
        (format!("date=2035-05-18&patientId={bob}"), vec![&next_day]),
        (format!("date=2035-05-18&practitionerId={kim}"), vec![&next_day]),
        ("identifier=urn:x%7C1".to_owned(), vec![]),
    ] {
        let reply = desk.get(&format!("/appointments?{query}")).send().await;
        assert_eq!(reply.status, 200, "{query}: {}", reply.body);
        assert_eq!(reply.ids().iter().collect::<Vec<_>>(), expected, "{query}");
    }
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repetition() {
    let desk = Desk::open().await;
    let mut expected = Vec::new();
    for place in 0..3 {
        // Two at each time, so that a page ends between equals.
        let start = at("10:00") + (place * 30).minutes();
        let mut pair = [
            desk.booked(desk.patients.active(), desk.practitioner().await, start, 30).await,
            desk.booked(desk.patients.active(), desk.practitioner().await, start, 30).await,
        ];
        pair.sort();
        expected.extend(pair);
    }
    for size in [1, 2, 3, 5, 6, 7] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let reply = desk.get(&format!("/appointments?limit={size}{cursor}")).send().await;
            seen.extend(reply.ids());
            match reply.body["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, expected, "{size} at a time");
    }
}

#[tokio::test]
async fn a_patient_sees_their_own_and_nothing_else() {
    let desk = Desk::open().await;
    let (own, other) = (desk.patients.active(), desk.patients.active());
    let practitioner = desk.practitioner().await;
    let mine = desk.booked(own, practitioner, at("10:00"), 30).await;
    let theirs = desk.booked(other, practitioner, at("11:00"), 30).await;

    assert_eq!(desk.get(&format!("/appointments/{mine}")).patient(own).send().await.status, 200);
    for path in [
        format!("/appointments/{theirs}"),
        format!("/appointments/{theirs}/history"),
        format!("/appointments/{theirs}/history?limit=0"),
    ] {
        let reply = desk.get(&path).patient(own).send().await;
        assert_eq!((reply.status, reply.code()), (404, "not-found"), "{path}");
    }
    let body = json!({"start": "2035-05-17T12:00:00Z", "end": "2035-05-17T12:30:00Z"});
    let path = format!("/appointments/{theirs}/reschedule");
    assert_eq!(desk.post(&path).patient(own).body(&body).send().await.status, 404);

    for (query, expected) in [
        ("", vec![&mine]),
        ("?date=2035-05-17", vec![&mine]),
        (&format!("?practitionerId={practitioner}"), vec![&mine]),
        (&format!("?patientId={own}"), vec![&mine]),
        (&format!("?patientId={other}"), vec![]),
    ] {
        let reply = desk.get(&format!("/appointments{query}")).patient(own).send().await;
        assert_eq!(reply.ids().iter().collect::<Vec<_>>(), expected, "{query}");
    }
}
