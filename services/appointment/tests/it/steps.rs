use hospital_types::Role;
use jiff::ToSpan;
use serde_json::{Value, json};

use crate::desk::{Desk, at};

#[tokio::test]
async fn a_visit_goes_from_booked_to_completed_with_an_event_each() {
    let desk = Desk::open().await;
    let id = desk.booked(desk.patients.active(), desk.practitioner().await, at("10:00"), 30).await;
    for (verb, status, version) in
        [("arrive", "arrived", 2), ("check-in", "checked-in", 3), ("complete", "completed", 4)]
    {
        let reply = desk.step(&id, verb).role(Role::Practitioner).send().await;
        assert_eq!(reply.status, 200, "{verb}: {}", reply.body);
        assert_eq!(reply.body["status"], status);
        assert_eq!(reply.body["version"], version);
        assert_eq!(reply.header("etag"), format!("\"{version}\""));
    }
    let topics: Vec<_> =
        desk.events(&id).await.into_iter().map(|(topic, version, _)| (topic, version)).collect();
    let expected = [
        ("appointment.booked", 1),
        ("appointment.arrived", 2),
        ("appointment.checked-in", 3),
        ("appointment.completed", 4),
    ];
    assert_eq!(topics, expected.map(|(topic, version)| (topic.to_owned(), version)));
    let history = desk.get(&format!("/appointments/{id}/history?limit=3")).send().await;
    assert_eq!(history.body["items"][1]["from"], "booked");
    assert_eq!(history.body["items"][1]["to"], "arrived");
    let rest = format!(
        "/appointments/{id}/history?cursor={}",
        history.body["nextCursor"].as_str().unwrap()
    );
    let rest = desk.get(&rest).send().await;
    assert_eq!(rest.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(rest.body["items"][0]["to"], "completed");
    assert_eq!(desk.count("reservation").await, 2, "the time was used and stays taken");
}

#[tokio::test]
async fn an_illegal_step_is_refused_with_what_is_allowed() {
    let desk = Desk::open().await;
    let id = desk.booked(desk.patients.active(), desk.practitioner().await, at("10:00"), 30).await;
    let reply = desk.step(&id, "complete").send().await;
    assert_eq!((reply.status, reply.code()), (409, "invalid-transition"));
    assert_eq!(reply.body["from"], "booked");
    assert_eq!(reply.body["to"], "completed");
    assert_eq!(
        reply.body["allowed"],
        json!(["arrived", "checked-in", "cancelled", "noshow", "entered-in-error"])
    );
    desk.cancel(&id).await;
    let twice = desk.cancel(&id).await;
    assert_eq!((twice.status, twice.code()), (409, "invalid-transition"));
    assert_eq!(twice.body["allowed"], json!([]));
    let moved = desk.reschedule(&id, at("12:00"), 30).await;
    assert_eq!((moved.status, moved.code()), (409, "invalid-transition"));
    assert_eq!(desk.events(&id).await.len(), 2);
}

#[tokio::test]
async fn a_cancellation_says_who_and_why_but_not_in_its_event() {
    let desk = Desk::open().await;
    let patient = desk.patients.active();
    let id = desk.booked(patient, desk.practitioner().await, at("10:00"), 30).await;
    let path = format!("/appointments/{id}/cancel");
    let body = json!({"reason": "feels better", "by": "patient"});
    let reply = desk.post(&path).patient(patient).key("k").body(&body).send().await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.body["status"], "cancelled");
    assert_eq!(reply.body["cancelled"], json!({"by": "patient", "reason": "feels better"}));
    let (topic, version, payload) = desk.events(&id).await.pop().unwrap();
    assert_eq!((topic.as_str(), version), ("appointment.cancelled", 2));
    assert_eq!(payload["by"], "patient");
    assert!(!payload.to_string().contains("feels better"));
    let history = desk.get(&format!("/appointments/{id}/history")).send().await;
    assert_eq!(history.body["items"][1]["reason"], "feels better");
    assert_eq!(desk.get(&format!("/appointments/{id}")).send().await.body, reply.body);

    let again = desk.post(&path).patient(patient).key("k").body(&body).send().await;
    assert_eq!((again.status, &again.body), (200, &reply.body));
    assert_eq!(again.header("idempotent-replayed"), "true");
}

#[tokio::test]
async fn a_patient_cancels_for_themselves_and_not_for_the_hospital() {
    let desk = Desk::open().await;
    let patient = desk.patients.active();
    let id = desk.booked(patient, desk.practitioner().await, at("10:00"), 30).await;
    let path = format!("/appointments/{id}/cancel");
    let body = json!({"reason": "moved", "by": "hospital"});
    let reply = desk.post(&path).patient(patient).body(&body).send().await;
    assert_eq!((reply.status, reply.code()), (403, "forbidden"));
    let reply = desk.post(&path).patient(desk.patients.active()).body(&body).send().await;
    assert_eq!(reply.status, 404);
    assert_eq!(desk.events(&id).await.len(), 1);
}

#[tokio::test]
async fn a_moved_appointment_keeps_its_id_and_tells_both_times() {
    let desk = Desk::open().await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let id = desk.booked(patient, practitioner, at("10:00"), 30).await;

    // Its own old time does not stand in its way.
    let reply = desk.reschedule(&id, at("10:15"), 30).await;

    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!((&reply.body["id"], &reply.body["version"]), (&json!(id), &json!(2)));
    assert_eq!(reply.body["status"], "booked");
    let (topic, version, payload) = desk.events(&id).await.pop().unwrap();
    assert_eq!((topic.as_str(), version), ("appointment.rescheduled", 2));
    for (member, expected) in [
        ("previousStart", "2035-05-17T10:00:00Z"),
        ("previousEnd", "2035-05-17T10:30:00Z"),
        ("start", "2035-05-17T10:15:00Z"),
        ("end", "2035-05-17T10:45:00Z"),
    ] {
        assert_eq!(payload[member], expected, "{member}");
    }
    let history = desk.get(&format!("/appointments/{id}/history")).send().await;
    assert_eq!(history.body["items"][0]["start"], "2035-05-17T10:00:00Z");
    assert_eq!(history.body["items"][1]["start"], "2035-05-17T10:15:00Z");
    desk.booked(desk.patients.active(), practitioner, at("09:45"), 30).await;
}

#[tokio::test]
async fn an_appointment_does_not_move_onto_another() {
    let desk = Desk::open().await;
    let practitioner = desk.practitioner().await;
    let id = desk.booked(desk.patients.active(), practitioner, at("10:00"), 30).await;
    desk.booked(desk.patients.active(), practitioner, at("11:00"), 30).await;
    let before = desk.get(&format!("/appointments/{id}")).send().await.body;
    let reply = desk.reschedule(&id, at("10:45"), 30).await;
    assert_eq!((reply.status, reply.code()), (409, "slot-unavailable"));
    assert_eq!(
        reply.body["alternatives"][0],
        json!({"start": "2035-05-17T11:30:00Z", "end": "2035-05-17T12:00:00Z"})
    );
    assert_eq!(desk.get(&format!("/appointments/{id}")).send().await.body, before);
    assert_eq!(desk.events(&id).await.len(), 1);
}

#[tokio::test]
async fn a_version_that_was_not_seen_is_not_changed() {
    let desk = Desk::open().await;
    let id = desk.booked(desk.patients.active(), desk.practitioner().await, at("10:00"), 30).await;
    desk.reschedule(&id, at("11:00"), 30).await;
    for (verb, body) in [
        ("cancel", json!({"reason": "x", "by": "hospital"})),
        ("reschedule", json!({"start": "2035-05-17T12:00:00Z", "end": "2035-05-17T13:00:00Z"})),
        ("arrive", json!({})),
        ("complete", json!({})),
    ] {
        let path = format!("/appointments/{id}/{verb}");
        let reply = desk.post(&path).key("k").if_match("\"1\"").body(&body).send().await;
        assert_eq!((reply.status, reply.code()), (412, "version-stale"), "{verb}");
        let reply = desk.post(&path).if_match("one").body(&body).send().await;
        assert_eq!(reply.status, 400, "{verb}");
    }
    let arrive = || desk.step(&id, "arrive").key("k").if_match("\"2\"").send();
    let reply = arrive().await;
    assert_eq!(
        reply.status, 200,
        "who has read it again goes on under the same key: {}",
        reply.body
    );
    let again = arrive().await;
    assert_eq!((again.status, &again.body), (200, &reply.body));
    assert_eq!(again.header("idempotent-replayed"), "true");
}

#[tokio::test]
async fn a_no_show_comes_after_the_start_and_an_administrator_can_take_it_back() {
    let desk = Desk::open().await;
    let start = desk.now() + 2.hours();
    let id = desk.booked(desk.patients.active(), desk.practitioner().await, start, 30).await;
    assert_eq!(desk.step(&id, "no-show").send().await.code(), "not-yet-started");

    let record = desk.back_dated(desk.now()).await;
    let reply = desk.step(&record, "no-show").send().await;
    assert_eq!((reply.status, &reply.body["status"]), (200, &json!("noshow")), "{}", reply.body);
    let reply = desk.step(&record, "arrive").key("k").send().await;
    assert_eq!((reply.status, reply.code()), (403, "forbidden"));
    assert_eq!(desk.count("idempotency").await, 0, "who may not now may later");
    let reply = desk.step(&record, "arrive").role(Role::Admin).send().await;
    assert_eq!(reply.status, 200, "{}", reply.body);

    let old = desk.back_dated(desk.now() - 72.hours()).await;
    assert_eq!(desk.step(&old, "no-show").send().await.status, 200);
    let reply = desk.step(&old, "arrive").role(Role::Admin).send().await;
    assert_eq!((reply.status, reply.code()), (409, "invalid-transition"));
    assert_eq!(reply.body["allowed"], json!([]));
}

#[tokio::test]
async fn a_back_dated_record_moves_within_the_past_by_an_administrator_only() {
    let desk = Desk::open().await;
    let id = desk.back_dated(desk.now() - 72.hours()).await;
    let path = format!("/appointments/{id}/reschedule");
    let body = json!({"start": "2001-01-01T00:00:00Z", "end": "2001-01-03T00:00:00Z"});
    let reply = desk.post(&path).body(&body).send().await;
    assert_eq!(reply.status, 422, "{}", reply.body);
    let reply = desk.post(&path).role(Role::Admin).body(&body).send().await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let events: Vec<(String, i32, Value)> = desk.events(&id).await;
    assert!(events.iter().all(|(_, _, payload)| payload["backDated"] == true));
}
