use hospital_types::{PatientId, Role};
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::desk::{Desk, at};

#[tokio::test]
async fn a_booking_is_answered_whole_and_told_once() {
    let desk = Desk::open().await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let mut body = desk.booking(patient, practitioner, at("09:00"), 30);
    body["reason"] = json!("cannot sleep");

    let reply = desk.post("/appointments").body(&body).send().await;

    assert_eq!(reply.status, 201, "{}", reply.body);
    let id = reply.id();
    assert_eq!(reply.header("location"), format!("/appointments/{id}"));
    assert_eq!(reply.header("etag"), "\"1\"");
    for (member, expected) in [
        ("version", json!(1)),
        ("patientId", json!(patient)),
        ("practitionerId", json!(practitioner)),
        ("start", json!("2035-05-17T09:00:00Z")),
        ("end", json!("2035-05-17T09:30:00Z")),
        ("status", json!("booked")),
        ("serviceType", json!("visit")),
        ("reason", json!("cannot sleep")),
        ("backDated", json!(false)),
        ("identifiers", json!([])),
    ] {
        assert_eq!(reply.body[member], expected, "{member}");
    }
    assert_eq!(desk.get(&format!("/appointments/{id}")).send().await.body, reply.body);

    let events = desk.events(&id).await;
    assert_eq!(events.len(), 1);
    let (topic, version, payload) = &events[0];
    assert_eq!((topic.as_str(), *version), ("appointment.booked", 1));
    assert_eq!(
        *payload,
        json!({
            "appointmentId": id, "version": 1, "patientId": patient, "practitionerId": practitioner,
            "start": "2035-05-17T09:00:00Z", "end": "2035-05-17T09:30:00Z", "serviceType": "visit", "backDated": false,
        }),
        "ids and times only"
    );
    let steps = desk.get(&format!("/appointments/{id}/history")).send().await;
    assert_eq!(steps.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(steps.body["items"][0]["to"], "booked");
    assert_eq!(steps.body["items"][0]["from"], Value::Null);
    assert_eq!(steps.body["nextCursor"], Value::Null);
}

#[tokio::test]
async fn neighbours_touch_and_one_second_of_overlap_is_refused() {
    let desk = Desk::open().await;
    let practitioner = desk.practitioner().await;
    desk.booked(desk.patients.active(), practitioner, at("10:00"), 30).await;

    for (start, minutes, status) in [
        ("10:29:59", 30, 409),
        ("09:30:01", 30, 409),
        ("10:05", 5, 409),
        ("09:00", 120, 409),
        ("10:30", 30, 201),
        ("09:30", 30, 201),
    ] {
        let patient = desk.patients.active();
        let reply = desk.book(patient, practitioner, at(start), minutes).await;
        assert_eq!(reply.status, status, "{start}: {}", reply.body);
        if status == 409 {
            assert_eq!(reply.code(), "slot-unavailable");
            assert_eq!(desk.count(&format!("appointment WHERE patient_id = '{patient}'")).await, 0);
        }
    }
}

#[tokio::test]
async fn a_patient_cannot_be_in_two_places() {
    let desk = Desk::open().await;
    let patient = desk.patients.active();
    desk.booked(patient, desk.practitioner().await, at("10:00"), 30).await;
    let reply = desk.book(patient, desk.practitioner().await, at("10:15"), 30).await;
    assert_eq!((reply.status, reply.code()), (409, "slot-unavailable"));
}

#[tokio::test]
async fn a_taken_slot_is_refused_with_times_that_are_free_for_both() {
    let desk = Desk::open().await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let other = desk.practitioner().await;
    // The practitioner has 10:00-10:30 and 11:30-12:30, the patient 11:00-11:20 elsewhere.
    desk.booked(desk.patients.active(), practitioner, at("10:00"), 30).await;
    desk.booked(desk.patients.active(), practitioner, at("11:30"), 60).await;
    desk.booked(patient, other, at("11:00"), 20).await;

    let reply = desk.book(patient, practitioner, at("10:00"), 30).await;

    assert_eq!((reply.status, reply.code()), (409, "slot-unavailable"));
    let expected = json!([
        {"start": "2035-05-17T10:30:00Z", "end": "2035-05-17T11:00:00Z"},
        {"start": "2035-05-17T12:30:00Z", "end": "2035-05-17T13:00:00Z"},
        {"start": "2035-05-17T13:00:00Z", "end": "2035-05-17T13:30:00Z"},
    ]);
    assert_eq!(reply.body["alternatives"], expected);
    for alternative in reply.body["alternatives"].as_array().unwrap() {
        let mut body = desk.booking(patient, practitioner, at("10:00"), 30);
        body["start"] = alternative["start"].clone();
        body["end"] = alternative["end"].clone();
        assert_eq!(desk.post("/appointments").body(&body).send().await.status, 201);
    }
}

#[tokio::test]
async fn the_patients_own_appointment_counts_when_free_times_are_looked_for() {
    let desk = Desk::open().await;
    let patient = desk.patients.active();
    desk.booked(patient, desk.practitioner().await, at("10:00"), 60).await;
    let reply = desk.book(patient, desk.practitioner().await, at("10:00"), 20).await;
    assert_eq!(reply.body["alternatives"][0]["start"], "2035-05-17T11:00:00Z");
}

#[tokio::test]
async fn a_cancelled_time_can_be_booked_again() {
    let desk = Desk::open().await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let first = desk.booked(patient, practitioner, at("10:00"), 30).await;
    let reply = desk.cancel(&first).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(desk.count("reservation").await, 0);
    desk.booked(patient, practitioner, at("10:00"), 30).await;
}

#[tokio::test]
async fn a_repeated_key_books_once_whatever_happened_meanwhile() {
    let desk = Desk::open().await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let body = desk.booking(patient, practitioner, at("10:00"), 30);
    let first = desk.post("/appointments").key("once").body(&body).send().await;
    assert_eq!(first.status, 201);

    let again = desk.post("/appointments").key("once").body(&body).send().await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    assert_eq!(again.header("idempotent-replayed"), "true");

    desk.patients.deactivate(patient);
    let after_deactivation = desk.post("/appointments").key("once").body(&body).send().await;
    assert_eq!((after_deactivation.status, &after_deactivation.body), (201, &first.body));

    desk.patients.behave(crate::fake_patients::Mood::Failing);
    let while_down = desk.post("/appointments").key("once").body(&body).send().await;
    assert_eq!((while_down.status, &while_down.body), (201, &first.body));
    assert_eq!(desk.count("appointment").await, 1);

    let other = desk.booking(patient, practitioner, at("12:00"), 30);
    let reused = desk.post("/appointments").key("once").body(&other).send().await;
    assert_eq!((reused.status, reused.code()), (422, "idempotency-key-reused"));
}

#[tokio::test]
async fn a_refusal_is_remembered_under_its_key() {
    let desk = Desk::open().await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let first = desk.booked(desk.patients.active(), practitioner, at("10:00"), 30).await;
    let body = desk.booking(patient, practitioner, at("10:00"), 30);
    let refused = desk.post("/appointments").key("k").body(&body).send().await;
    assert_eq!(refused.status, 409);
    desk.cancel(&first).await;
    let again = desk.post("/appointments").key("k").body(&body).send().await;
    assert_eq!((again.status, &again.body), (409, &refused.body));
    assert_eq!(desk.post("/appointments").key("new").body(&body).send().await.status, 201);
}

#[tokio::test]
async fn an_administrator_books_in_the_past_and_for_longer_than_a_day() {
    let desk = Desk::open().await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let mut body =
        desk.booking(patient, practitioner, "1999-01-01T00:00:00Z".parse().unwrap(), 60 * 24 * 30);
    body["backDated"] = json!(true);
    let reply = desk.post("/appointments").role(Role::FrontDesk).body(&body).send().await;
    assert_eq!((reply.status, reply.code()), (403, "forbidden"));
    assert_eq!(desk.count("appointment").await, 0);

    let reply = desk.post("/appointments").role(Role::Admin).body(&body).send().await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    assert_eq!(reply.body["backDated"], true);
    assert_eq!(desk.events(&reply.id()).await[0].2["backDated"], true);

    let overlapping = desk.post("/appointments").role(Role::Admin).body(&body).send().await;
    assert_eq!((overlapping.status, overlapping.code()), (409, "slot-unavailable"));
    assert_eq!(overlapping.body["alternatives"], json!([]));
}

#[tokio::test]
async fn an_identifier_names_one_appointment() {
    let desk = Desk::open().await;
    let practitioner = desk.practitioner().await;
    let identifier = |value: &str| json!({"system": "urn:legacy", "value": value});
    let mut body = desk.booking(desk.patients.active(), practitioner, at("10:00"), 30);
    body["identifiers"] = json!([identifier("A-2"), identifier("A-1")]);
    let first = desk.post("/appointments").body(&body).send().await;
    assert_eq!(first.status, 201, "{}", first.body);

    let found = desk.get("/appointments?identifier=urn:legacy%7CA-1").send().await;
    assert_eq!(found.ids(), [first.id()]);
    assert_eq!(
        found.body["items"][0]["identifiers"],
        json!([identifier("A-1"), identifier("A-2")])
    );

    let mut second = desk.booking(desk.patients.active(), practitioner, at("12:00"), 30);
    second["identifiers"] = json!([identifier("A-3"), identifier("A-1")]);
    let taken = desk.post("/appointments").body(&second).send().await;
    assert_eq!((taken.status, taken.code()), (409, "identifier-taken"));
    assert_eq!(taken.body["appointmentId"], json!(first.id()));
    assert_eq!(desk.count("appointment").await, 1);
    assert_eq!(desk.count("appointment_identifier").await, 2);
}

#[tokio::test]
async fn a_patient_gives_no_identifiers_and_learns_of_nobody_elses() {
    let desk = Desk::open().await;
    let (own, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let identifier = json!([{"system": "urn:his", "value": "42"}]);
    let mut body = desk.booking(desk.patients.active(), practitioner, at("10:00"), 30);
    body["identifiers"] = identifier.clone();
    let theirs = desk.post("/appointments").body(&body).send().await;
    assert_eq!(theirs.status, 201, "{}", theirs.body);

    let mut body = desk.booking(own, practitioner, at("12:00"), 30);
    for value in ["42", "43"] {
        body["identifiers"] = json!([{"system": "urn:his", "value": value}]);
        let reply = desk.post("/appointments").patient(own).key("k").body(&body).send().await;
        assert_eq!((reply.status, reply.code()), (403, "forbidden"), "{}", reply.body);
        assert_eq!(reply.body["errors"][0]["pointer"], "/identifiers");
        assert!(!reply.body.to_string().contains(&theirs.id()));
    }
    assert_eq!(desk.count("appointment_identifier").await, 1, "43 is not taken");
    let found = desk.get("/appointments?identifier=urn:his%7C42").patient(own).send().await;
    assert_eq!(found.ids(), [""; 0]);
    body["identifiers"] = json!([]);
    let reply = desk.post("/appointments").patient(own).key("k").body(&body).send().await;
    assert_eq!(reply.status, 201, "{}", reply.body);
}

#[tokio::test]
async fn a_patient_books_for_themselves_only() {
    let desk = Desk::open().await;
    let (own, other) = (desk.patients.active(), desk.patients.active());
    let practitioner = desk.practitioner().await;
    let book = async |patient: PatientId| {
        let body = desk.booking(patient, practitioner, at("10:00"), 30);
        desk.post("/appointments").patient(own).body(&body).send().await
    };
    let reply = book(other).await;
    assert_eq!((reply.status, reply.code()), (422, "patient-unknown"), "others look like nobody");
    assert_eq!(book(own).await.status, 201);
}

#[tokio::test]
async fn a_booking_that_starts_now_is_not_in_the_past() {
    let desk = Desk::open().await;
    let soon: Timestamp = desk.now() + 3.seconds();
    let reply = desk.book(desk.patients.active(), desk.practitioner().await, soon, 30).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    let past = desk.now() - 1.second();
    let reply = desk.book(desk.patients.active(), desk.practitioner().await, past, 30).await;
    assert_eq!((reply.status, reply.code()), (422, "start-in-the-past"));
    assert_eq!(reply.body["errors"][0]["pointer"], "/start");
}
