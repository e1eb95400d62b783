//! Who may know why a patient comes, and whose visits are whose.

use hospital_types::Role;
use serde_json::{Value, json};

use crate::desk::{Desk, Reply, Request, at};

/// What a reply says of the reasons of the appointment and of its cancellation.
fn reasons(reply: &Reply, at: &str) -> (Value, Value) {
    assert_eq!(reply.status, 200, "{}", reply.body);
    let of = |pointer: &str| reply.body.pointer(&format!("{at}{pointer}")).cloned();
    assert!(of("/id").is_some() && of("/cancelled/by").is_some(), "{}", reply.body);
    (of("/reason").unwrap_or_default(), of("/cancelled/reason").unwrap_or_default())
}

#[tokio::test]
async fn why_a_patient_comes_is_for_the_desk_practitioners_and_the_patient() {
    let desk = Desk::open().await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let mut body = desk.booking(patient, practitioner, at("10:00"), 30);
    body["reason"] = json!("cannot sleep");
    let booked = desk.post("/appointments").patient(patient).body(&body).send().await;
    assert_eq!(booked.body["reason"], "cannot sleep");
    let id = booked.id();
    let body = json!({"reason": "sleeps again", "by": "patient"});
    let cancelled = desk.step(&id, "cancel").patient(patient).body(&body).send().await;
    assert_eq!(cancelled.body["cancelled"]["reason"], "sleeps again");

    let (one, list) = (format!("/appointments/{id}"), format!("/appointments?patientId={patient}"));
    let history = format!("/appointments/{id}/history");
    let known = (json!("cannot sleep"), json!("sleeps again"));
    let unknown = (Value::Null, Value::Null);
    type Ask = fn(Request<'_>, hospital_types::PatientId) -> Request<'_>;
    let readers: [(&str, Ask, bool); 6] = [
        ("front-desk", |request, _| request.role(Role::FrontDesk), true),
        ("practitioner", |request, _| request.role(Role::Practitioner), true),
        ("admin", |request, _| request.role(Role::Admin), true),
        ("patient", |request, patient| request.patient(patient), true),
        ("cashier", |request, _| request.role(Role::Cashier), false),
        ("billing-manager", |request, _| request.role(Role::BillingManager), false),
    ];
    for (role, ask, may) in readers {
        let expected = if may { &known } else { &unknown };
        let reply = ask(desk.get(&one), patient).send().await;
        assert_eq!(&reasons(&reply, ""), expected, "{role}");
        let reply = ask(desk.get(&list), patient).send().await;
        assert_eq!(&reasons(&reply, "/items/0"), expected, "{role}");
        let reply = ask(desk.get(&history), patient).send().await;
        assert_eq!(reply.body["items"][1]["to"], "cancelled");
        assert_eq!(reply.body["items"][1]["reason"], expected.1, "{role}");
        assert_eq!(reply.body.to_string().contains("sleep"), may, "{role}");
    }
}

#[tokio::test]
async fn a_practitioner_who_says_who_they_are_steps_their_own_visits_only() {
    let desk = Desk::open().await;
    let (mine, other) = (desk.practitioner().await, desk.practitioner().await);
    let mut body = desk.booking(desk.patients.active(), mine, at("10:00"), 30);
    body["reason"] = json!("cannot sleep");
    let id = desk.post("/appointments").body(&body).send().await.id();
    let (one, history) = (format!("/appointments/{id}"), format!("/appointments/{id}/history"));

    let before = desk.rows().await;
    for verb in ["arrive", "check-in", "complete", "no-show"] {
        let reply = desk.step(&id, verb).practitioner(other).key("k").send().await;
        assert_eq!((reply.status, reply.code()), (403, "forbidden"), "{verb}");
    }
    assert_eq!(desk.rows().await, before);
    for path in [&one, "/appointments?date=2035-05-17", &history] {
        let reply = desk.get(path).practitioner(other).send().await;
        assert_eq!(reply.status, 200, "colleagues see when and with whom: {}", reply.body);
        assert!(!reply.body.to_string().contains("sleep"), "{path}: {}", reply.body);
    }
    assert_eq!(desk.get(&one).practitioner(mine).send().await.body["reason"], "cannot sleep");
    let arrived = desk.step(&id, "arrive").practitioner(mine).key("k").send().await;
    assert_eq!(arrived.status, 200, "{}", arrived.body);
    assert_eq!(arrived.body["reason"], "cannot sleep");
    let reply = desk.step(&id, "check-in").role(Role::Practitioner).send().await;
    assert_eq!(reply.status, 200, "whose token does not say who they are: {}", reply.body);
}
