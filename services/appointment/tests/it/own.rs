//! What patients may do without the desk: until when they call off and move, and how much they book.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use hospital_types::{PatientId, PractitionerId, Role};
use jiff::{Timestamp, ToSpan};
use serde_json::json;

use crate::desk::{Desk, Reply, at};

impl Desk {
    /// Books as the patient does.
    async fn book_own(
        &self,
        patient: PatientId,
        practitioner: PractitionerId,
        start: Timestamp,
        minutes: i64,
    ) -> Reply {
        let body = self.booking(patient, practitioner, start, minutes);
        self.post("/appointments").patient(patient).body(&body).send().await
    }

    async fn move_own(
        &self,
        patient: PatientId,
        id: &str,
        start: Timestamp,
        minutes: i64,
    ) -> Reply {
        let body = json!({"start": start, "end": start + minutes.minutes()});
        self.step(id, "reschedule").patient(patient).body(&body).send().await
    }

    async fn cancel_own(&self, patient: PatientId, id: &str) -> Reply {
        let body = json!({"reason": "changed plans", "by": "patient"});
        self.step(id, "cancel").patient(patient).body(&body).send().await
    }
}

/// How many got which answer.
fn counted(replies: &[Reply]) -> BTreeMap<(u16, &str), usize> {
    let mut counted = BTreeMap::new();
    for reply in replies {
        *counted.entry((reply.status, reply.code())).or_default() += 1;
    }
    counted
}

fn refused(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.code())
}

#[tokio::test]
async fn a_patient_calls_off_and_moves_until_the_start() {
    let desk = Desk::open().await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let start = desk.now() + 10.minutes();
    let id = desk.booked(patient, practitioner, start, 30).await;
    desk.pass(8);
    let moved = desk.move_own(patient, &id, start + 1.minute(), 30).await;
    assert_eq!(moved.status, 200, "{}", moved.body);
    desk.pass(3);

    let before = desk.rows().await;
    let late = desk.cancel_own(patient, &id).await;
    assert_eq!(refused(&late), (409, "too-late-to-cancel"), "a no-show is none of theirs");
    let late = desk.move_own(patient, &id, at("10:00"), 30).await;
    assert_eq!(refused(&late), (409, "too-late-to-reschedule"));
    assert_eq!(desk.rows().await, before);
    assert_eq!(desk.reschedule(&id, at("10:00"), 30).await.status, 200, "the desk may");
    let cancelled = desk.cancel_own(patient, &id).await;
    assert_eq!(cancelled.status, 200, "it is ahead again: {}", cancelled.body);
}

#[tokio::test]
async fn a_patient_who_is_here_calls_nothing_off() {
    let desk = Desk::open().await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let id = desk.booked(patient, practitioner, at("10:00"), 30).await;
    for verb in ["arrive", "check-in"] {
        assert_eq!(desk.step(&id, verb).send().await.status, 200, "{verb}");
        let reply = desk.cancel_own(patient, &id).await;
        assert_eq!(refused(&reply), (409, "too-late-to-cancel"), "{verb}");
        let reply = desk.move_own(patient, &id, at("12:00"), 30).await;
        assert_eq!(refused(&reply), (409, "invalid-transition"), "{verb}");
    }
    assert_eq!(desk.events(&id).await.len(), 3);
    assert_eq!(desk.cancel(&id).await.status, 200, "left without being seen, says the desk");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_bookings_of_a_patient_at_once_as_many_succeed_as_may() {
    // Enough time for all of them on a busy machine.
    let desk = Desk::open_with(|config| config.http.handler_timeout_ms = 60_000).await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let others: Vec<_> = (0..10).map(|_| desk.patients.active()).collect();
    let greedy = join_all(
        (0..50).map(|n| desk.book_own(patient, practitioner, at("00:00") + (n * 15).minutes(), 15)),
    );
    let elsewhere = desk.practitioner().await;
    let honest =
        join_all(others.iter().zip(0..).map(|(other, n)| {
            desk.book_own(*other, elsewhere, at("00:00") + (n * 15).minutes(), 15)
        }));
    let at_the_desk = join_all((0..30).map(|n| {
        let start = at("00:00") + 24.hours() + (n * 15).minutes();
        desk.book(patient, practitioner, start, 15)
    }));
    let (greedy, honest, at_the_desk) = tokio::join!(greedy, honest, at_the_desk);
    let expected = BTreeMap::from([((201, ""), 20), ((409, "too-many-bookings"), 30)]);
    assert_eq!(counted(&greedy), expected);
    assert!(greedy.iter().all(|reply| reply.status == 201 || reply.body["max"] == 20));
    assert_eq!(counted(&honest), BTreeMap::from([((201, ""), 10)]), "nobody else is hindered");
    assert_eq!(counted(&at_the_desk), BTreeMap::from([((201, ""), 30)]));
    assert_eq!(desk.count("own_booking").await, 30, "what the desk books is not counted");
    assert_eq!(desk.count("reservation").await, 2 * 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_days_that_a_patient_books_at_once_one_is_booked() {
    let desk = Desk::open().await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let days =
        join_all((0..10).map(|n| {
            desk.book_own(patient, practitioner, at("00:00") + (n * 24).hours(), 24 * 60)
        }))
        .await;
    let expected = BTreeMap::from([((201, ""), 1), ((409, "too-many-hours"), 9)]);
    assert_eq!(counted(&days), expected);
    let minute = desk.book_own(patient, practitioner, at("00:00") - 10.minutes(), 1).await;
    assert_eq!(refused(&minute), (409, "too-many-hours"));
    assert_eq!(minute.body["max"], 24);
}

#[tokio::test]
async fn only_what_a_patient_booked_and_has_ahead_is_counted() {
    let desk = Desk::open_with(|config| config.appointment.patient_bookings_max = 2).await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    for n in 0..3 {
        desk.booked(patient, practitioner, at("06:00") + (n * 30).minutes(), 30).await;
    }
    let soon = desk.now() + 5.minutes();
    let first = desk.book_own(patient, practitioner, soon, 10).await.id();
    let second = desk.book_own(patient, practitioner, at("11:00"), 30).await.id();
    let book = async |time: &str| desk.book_own(patient, practitioner, at(time), 30).await;
    let third = book("12:00").await;
    assert_eq!(refused(&third), (409, "too-many-bookings"));
    let body = desk.booking(patient, practitioner, at("12:00"), 30);
    for role in [Role::FrontDesk, Role::Admin] {
        let reply = desk.post("/appointments").role(role).body(&body).send().await;
        assert_eq!(reply.status, 201, "the desk books on: {}", reply.body);
        assert_eq!(desk.cancel(&reply.id()).await.status, 200);
    }

    assert_eq!(desk.cancel_own(patient, &second).await.status, 200);
    assert_eq!(book("12:00").await.status, 201, "one is called off");
    assert_eq!(refused(&book("13:00").await), (409, "too-many-bookings"));
    assert_eq!(desk.step(&first, "check-in").send().await.status, 200);
    assert_eq!(refused(&book("13:00").await), (409, "too-many-bookings"), "not over yet");
    desk.pass(16);
    assert_eq!(book("13:00").await.status, 201, "one is over");
}

#[tokio::test]
async fn a_patient_makes_appointments_longer_within_the_hours() {
    let desk = Desk::open_with(|config| config.appointment.patient_hours_max = 3).await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let own = desk.book_own(patient, practitioner, at("10:00"), 60).await.id();
    let desks = desk.booked(patient, practitioner, at("14:00"), 5 * 60).await;

    let moved = desk.move_own(patient, &desks, at("15:00"), 5 * 60).await;
    assert_eq!(moved.status, 200, "it takes no more than before: {}", moved.body);
    let longer = desk.move_own(patient, &own, at("10:00"), 3 * 60 + 1).await;
    assert_eq!(refused(&longer), (409, "too-many-hours"));
    assert_eq!(longer.body["max"], 3);
    assert_eq!(desk.events(&own).await.len(), 1);
    assert_eq!(desk.move_own(patient, &own, at("10:00"), 3 * 60).await.status, 200);
    let longer = desk.move_own(patient, &desks, at("15:00"), 6 * 60).await;
    assert_eq!(refused(&longer), (409, "too-many-hours"), "now it is the patient's");
    assert_eq!(desk.reschedule(&desks, at("15:00"), 6 * 60).await.status, 200, "the desk may");
    assert_eq!(desk.move_own(patient, &own, at("08:00"), 2 * 60).await.status, 200);
    assert_eq!(desk.book_own(patient, practitioner, at("12:00"), 60).await.status, 201);
    assert_eq!(desk.count("own_booking").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn appointments_made_longer_at_once_stay_within_the_hours() {
    let desk = Desk::open().await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let start = |n: i64| at("00:00") + (n * 24).hours();
    let mut ids = Vec::new();
    for n in 0..10 {
        let reply = desk.book_own(patient, practitioner, start(n), 60).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        ids.push(reply.id());
    }
    let moves = ids.iter().zip(0..).map(|(id, n)| desk.move_own(patient, id, start(n), 8 * 60));
    let expected = BTreeMap::from([((200, ""), 2), ((409, "too-many-hours"), 8)]);
    assert_eq!(counted(&join_all(moves).await), expected, "10 hours and twice 7 more");
}
