use std::collections::BTreeMap;

use futures_util::future::join_all;

use crate::desk::{Desk, at};

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_clients_that_want_one_slot_one_gets_it() {
    let desk = Desk::open().await;
    let practitioner = desk.practitioner().await;
    let patients: Vec<_> = (0..100).map(|_| desk.patients.active()).collect();
    let replies =
        join_all(patients.iter().map(|patient| desk.book(*patient, practitioner, at("10:00"), 30)))
            .await;
    let mut statuses: BTreeMap<(u16, &str), u32> = BTreeMap::new();
    for reply in &replies {
        *statuses.entry((reply.status, reply.code())).or_default() += 1;
    }
    assert_eq!(statuses, BTreeMap::from([((201, ""), 1), ((409, "slot-unavailable"), 99)]));
    assert_eq!(desk.rows().await, 5, "one appointment, two reservations, one step, one event");
}

/// Bookings share transactions: a refused one must not fail the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_at_one_slot_is_in_nobodys_way_elsewhere() {
    // A slow machine is not what this is about.
    let desk = Desk::open_with(|config| config.http.handler_timeout_ms = 30_000).await;
    let (wanted, quiet) = (desk.practitioner().await, desk.practitioner().await);
    let patients: Vec<_> = (0..200).map(|_| desk.patients.active()).collect();
    let replies = join_all(patients.iter().enumerate().map(async |(n, patient)| {
        if n % 2 == 0 {
            desk.book(*patient, wanted, at("10:00"), 30).await
        } else {
            // One after the other, each a slot of its own.
            let start =
                at("00:00") + jiff::SignedDuration::from_mins(i64::try_from(n).unwrap() * 5);
            desk.book(*patient, quiet, start, 10).await
        }
    }))
    .await;
    let answers = |parity: usize| {
        let mut answers: BTreeMap<(u16, &str), u32> = BTreeMap::new();
        for reply in replies.iter().skip(parity).step_by(2) {
            *answers.entry((reply.status, reply.code())).or_default() += 1;
        }
        answers
    };
    assert_eq!(answers(1), BTreeMap::from([((201, ""), 100)]));
    assert_eq!(answers(0), BTreeMap::from([((201, ""), 1), ((409, "slot-unavailable"), 99)]));
    assert_eq!(desk.count("reservation").await, 202, "a patient's and a practitioner's each");
}

#[tokio::test(flavor = "multi_thread")]
async fn bookings_that_cross_patients_and_practitioners_never_deadlock() {
    let desk = Desk::open().await;
    let mut practitioners = Vec::new();
    for _ in 0..4 {
        practitioners.push(desk.practitioner().await);
    }
    let patients: Vec<_> = (0..4).map(|_| desk.patients.active()).collect();
    let crossing: Vec<_> = (0..8)
        .flat_map(|round| {
            let (patients, practitioners) = (&patients, &practitioners);
            (0..16_usize).map(move |n| (patients[n % 4], practitioners[(n / 4 + round) % 4]))
        })
        .collect();
    let replies = join_all(
        crossing
            .iter()
            .map(|(patient, practitioner)| desk.book(*patient, *practitioner, at("10:00"), 30)),
    )
    .await;
    for reply in &replies {
        assert!(matches!(reply.status, 201 | 409), "{}: {}", reply.status, reply.body);
    }
    let booked = replies.iter().filter(|reply| reply.status == 201).count();
    assert_eq!(booked, 4, "each patient sees one practitioner, each practitioner one patient");
    assert_eq!(desk.count("reservation").await, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn moving_cancelling_and_booking_at_once_never_deadlock() {
    let desk = Desk::open().await;
    let practitioner = desk.practitioner().await;
    let patients: Vec<_> = (0..3).map(|_| desk.patients.active()).collect();
    let mut booked = Vec::new();
    for (place, patient) in patients.iter().enumerate() {
        let start = at(&format!("{:02}:00", 10 + place));
        booked.push(desk.booked(*patient, practitioner, start, 60).await);
    }
    let storm = (0..30_usize).map(async |n| {
        let start = at(&format!("{:02}:00", 10 + n % 4));
        match n % 3 {
            0 => desk.book(patients[n / 3 % 3], practitioner, start, 60).await,
            1 => desk.reschedule(&booked[n / 3 % 3], start, 60).await,
            _ if n > 15 => desk.cancel(&booked[n / 3 % 3]).await,
            _ => desk.get(&format!("/appointments/{}", booked[n % 3])).send().await,
        }
    });
    for reply in join_all(storm).await {
        assert!(matches!(reply.status, 200 | 201 | 409), "{}: {}", reply.status, reply.body);
    }
    let misplaced = "appointment a LEFT JOIN reservation r ON r.appointment_id = a.id
        WHERE (r.appointment_id IS NULL) <> (a.status = 'cancelled')
           OR r.during <> tstzrange(a.starts_at, a.ends_at)";
    assert_eq!(desk.count(misplaced).await, 0, "reservations follow their appointments");
    let unrecorded = "appointment a WHERE a.version <> (SELECT count(*) FROM history h WHERE h.appointment_id = a.id)
        OR a.version <> (SELECT count(*) FROM outbox o WHERE o.aggregate = a.id)";
    assert_eq!(desk.count(unrecorded).await, 0, "every step has its row of history and its event");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_a_hundred_times_at_once_books_once() {
    let desk = Desk::open().await;
    let body = desk.booking(desk.patients.active(), desk.practitioner().await, at("10:00"), 30);
    let replies =
        join_all((0..100).map(|_| desk.post("/appointments").key("storm").body(&body).send()))
            .await;
    let first = &replies[0].body;
    for reply in &replies {
        assert_eq!((reply.status, &reply.body), (201, first));
    }
    assert_eq!(desk.count("appointment").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_taken_twice_at_once_is_taken_once() {
    let desk = Desk::open().await;
    let booked =
        desk.booked(desk.patients.active(), desk.practitioner().await, at("10:00"), 30).await;
    let replies = join_all((0..20).map(|_| desk.cancel(&booked))).await;
    let done = replies.iter().filter(|reply| reply.status == 200).count();
    let refused = replies.iter().filter(|reply| reply.code() == "invalid-transition").count();
    assert_eq!((done, refused), (1, 19));
    assert_eq!(desk.events(&booked).await.len(), 2);
}
