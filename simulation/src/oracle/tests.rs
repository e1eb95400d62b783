//! Each way in which a platform could lie, and what the oracle says of it.

use serde_json::json;

use super::*;
use crate::facts::{Patient, Step};

const T: &str = "2030-01-01T08:00:00Z";
const LATER: &str = "2030-01-01T08:30:00Z";

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn request(kind: Kind, key: &str, body: Value, answers: &[(u16, Value)]) -> Request {
    let answers = answers.iter().map(|(status, body)| {
        // 0 stands for an answer that was lost.
        (*status > 0).then(|| Answer { status: *status, text: body.to_string() })
    });
    Request {
        kind,
        caller: "sim".to_owned(),
        key: key.to_owned(),
        path: String::new(),
        body,
        subject: None,
        keyed: true,
        bad: false,
        answers: answers.collect(),
    }
}

fn booking(answers: &[(u16, Value)]) -> Request {
    let body = json!({
        "patientId": id(1), "practitionerId": id(2), "serviceType": "x-ray", "start": T, "end": LATER
    });
    request(Kind::Book, "k1", body, answers)
}

fn booked() -> (u16, Value) {
    (201, json!({ "id": id(7), "version": 1, "start": T, "end": LATER }))
}

fn step(version: i32, status: &str, reason: Option<&str>) -> Step {
    Step {
        version,
        status: status.to_owned(),
        start: T.parse().unwrap(),
        end: LATER.parse().unwrap(),
        actor: "sim".to_owned(),
        reason: reason.map(ToOwned::to_owned),
    }
}

fn with_appointment(steps: Vec<Step>) -> Facts {
    let row = Appointment {
        id: id(7),
        patient: id(1),
        practitioner: id(2),
        service_type: "x-ray".to_owned(),
        steps,
    };
    Facts { appointments: [("k1".to_owned(), vec![row])].into(), ..Facts::default() }
}

fn cancelled(answers: &[(u16, Value)]) -> Request {
    let body = json!({ "reason": "k2", "by": "patient" });
    Request { subject: Some(id(7)), ..request(Kind::Cancel, "k2", body, answers) }
}

fn found(log: &[Request], facts: &Facts) -> Vec<String> {
    judge(log, facts).into_iter().map(|violation| violation.invariant).collect()
}

#[test]
fn what_was_acknowledged_and_is_there_is_good() {
    let log = [
        booking(&[(0, json!(null)), booked(), booked()]),
        cancelled(&[(200, json!({ "id": id(7), "version": 2, "start": T, "end": LATER }))]),
    ];
    let facts = with_appointment(vec![step(1, "booked", None), step(2, "cancelled", Some("k2"))]);
    assert_eq!(judge(&log, &facts), []);
}

#[test]
fn a_lost_booking_is_seen() {
    assert_eq!(found(&[booking(&[booked()])], &Facts::default()), ["I2"]);
}

#[test]
fn a_booking_for_another_time_is_seen() {
    let mut facts = with_appointment(vec![step(1, "booked", None)]);
    facts.appointments.get_mut("k1").unwrap()[0].steps[0].start = LATER.parse().unwrap();
    assert!(found(&[booking(&[booked()])], &facts).contains(&"I2".to_owned()));
}

#[test]
fn a_refused_booking_that_is_there_is_a_ghost() {
    let refused = booking(&[(409, json!({ "code": "slot-unavailable" }))]);
    let facts = with_appointment(vec![step(1, "booked", None)]);
    assert!(found(&[refused], &facts).contains(&"I3".to_owned()));
}

#[test]
fn a_booking_without_a_key_that_is_refused_because_of_itself_is_seen() {
    let keyless = |answers: &[(u16, Value)]| Request { keyed: false, ..booking(answers) };
    let there = with_appointment(vec![step(1, "booked", None)]);
    let taken = keyless(&[(409, json!({ "code": "slot-unavailable" }))]);
    assert!(found(std::slice::from_ref(&taken), &there).contains(&"I3".to_owned()));
    assert_eq!(judge(&[taken], &Facts::default()), [], "somebody else has the time");
    for lost in [(0, json!(null)), (503, json!({ "code": "outcome-unknown" }))] {
        let open = keyless(&[lost]);
        assert_eq!(judge(std::slice::from_ref(&open), &there), [], "it may be there");
        assert_eq!(judge(&[open], &Facts::default()), [], "or not");
    }
    let twice = with_appointment(vec![]).appointments.remove("k1").unwrap();
    let mut facts = there;
    facts.appointments.get_mut("k1").unwrap().extend(twice);
    assert!(found(&[keyless(&[booked()])], &facts).contains(&"I9".to_owned()), "done twice");
}

#[test]
fn a_booking_that_nobody_asked_for_is_a_ghost() {
    let facts = with_appointment(vec![]);
    assert_eq!(found(&[], &facts), ["I3"]);
}

#[test]
fn a_step_that_nobody_asked_for_is_a_ghost_unless_an_answer_is_missing() {
    let facts = with_appointment(vec![step(1, "booked", None), step(2, "cancelled", Some("k2"))]);
    assert_eq!(found(&[booking(&[booked()])], &facts), ["I3"]);
    let open = cancelled(&[(0, json!(null)), (503, json!({}))]);
    assert_eq!(judge(&[booking(&[booked()]), open], &facts), []);
}

#[test]
fn a_lost_step_is_seen() {
    let answer = (200, json!({ "id": id(7), "version": 2, "start": T, "end": LATER }));
    let log = [booking(&[booked()]), cancelled(&[answer])];
    let facts = with_appointment(vec![step(1, "booked", None)]);
    assert_eq!(found(&log, &facts), ["I2", "I2"], "too few steps, and not this one");
}

#[test]
fn two_different_successes_of_one_key_are_seen() {
    let other = (201, json!({ "id": id(8), "version": 1 }));
    let log = [booking(&[booked(), other])];
    let facts = with_appointment(vec![step(1, "booked", None)]);
    assert_eq!(found(&log, &facts), ["I9"]);
}

#[test]
fn a_registration_that_happened_twice_is_seen() {
    let log =
        [request(Kind::Register, "k", json!({}), &[(201, json!({ "id": id(1), "version": 1 }))])];
    let row = |n| Patient { id: id(n), version: 1, steps: 1 };
    let facts = |rows| Facts { patients: [("k".to_owned(), rows)].into(), ..Facts::default() };
    assert_eq!(judge(&log, &facts(vec![row(1)])), []);
    assert_eq!(found(&log, &facts(vec![row(1), row(2)])), ["I9", "I3"]);
}

fn payment(answers: &[(u16, Value)]) -> Request {
    let body = json!({ "amount": { "amount": "12.50" } });
    Request { subject: Some(id(5)), ..request(Kind::PayCard, "p", body, answers) }
}

fn with_payments(rows: &[(i64, &str)]) -> Facts {
    let row = |(amount, status): &(i64, &str)| Payment {
        id: id(6),
        bill: id(5),
        amount: *amount,
        status: (*status).to_owned(),
        age_s: 0.0,
    };
    let key = ("sim".to_owned(), "p".to_owned());
    Facts { payments: [(key, rows.iter().map(row).collect())].into(), ..Facts::default() }
}

#[test]
fn payments_are_judged_by_what_was_said_of_them() {
    let paid = || (201, json!({ "id": id(6) }));
    let unknown = (202, json!({ "id": id(6) }));
    let declined = [(402, json!({ "code": "payment-declined" }))];
    let over = [(409, json!({ "code": "overpayment" }))];
    let say = |answers: &[(u16, Value)], rows: &[(i64, &str)]| {
        found(&[payment(answers)], &with_payments(rows)).join(" ")
    };
    assert_eq!(say(&[paid()], &[(1250, "succeeded")]), "");
    assert_eq!(say(&[unknown], &[(1250, "failed")]), "", "it became known later");
    assert_eq!(say(&declined, &[(1250, "failed")]), "");
    assert_eq!(say(&[paid()], &[]), "I2", "lost");
    assert_eq!(say(&[paid()], &[(1251, "succeeded")]), "I2", "another amount");
    assert_eq!(say(&[paid()], &[(1250, "failed")]), "I20");
    assert_eq!(say(&declined, &[(1250, "succeeded")]), "I20");
    assert_eq!(say(&over, &[(1250, "succeeded")]), "I3", "a ghost");
    assert_eq!(say(&over, &[]), "");
    assert_eq!(say(&[paid()], &[(1250, "succeeded"), (1250, "succeeded")]), "I9", "twice");
}

#[test]
fn bad_input_that_is_accepted_is_seen() {
    let mut log = booking(&[booked()]);
    log.bad = true;
    let facts = with_appointment(vec![step(1, "booked", None)]);
    assert_eq!(found(&[log], &facts), ["I3"]);
}
