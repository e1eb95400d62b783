use hospital_types::{PatientId, PractitionerId, Role};
use serde_json::{Value, json};

use crate::desk::{Desk, at};

/// What is changed in a good booking, and what is answered: status, code, pointer of a fault.
struct Case(&'static str, Value, u16, &'static str, &'static str);

fn cases() -> Vec<Case> {
    vec![
        Case("patientId", json!(PatientId::new()), 422, "patient-unknown", "/patientId"),
        Case("patientId", json!("nobody"), 422, "invalid", "/patientId"),
        Case("patientId", json!("' OR 1=1 --"), 422, "invalid", "/patientId"),
        Case("patientId", json!("../../etc/passwd"), 422, "invalid", "/patientId"),
        Case("patientId", json!("a".repeat(200)), 422, "invalid", "/patientId"),
        Case("patientId", json!(7), 400, "invalid-body", "/patientId"),
        Case("patientId", Value::Null, 400, "invalid-body", "/patientId"),
        Case(
            "practitionerId",
            json!(PractitionerId::new()),
            422,
            "practitioner-unknown",
            "/practitionerId",
        ),
        Case("practitionerId", json!("x"), 422, "invalid", "/practitionerId"),
        Case("start", json!("2035-05-17T09:00:00"), 422, "invalid", "/start"),
        Case("start", json!("2035-02-30T09:00:00Z"), 422, "invalid", "/start"),
        Case("start", json!("2035-05-17T09:00:60Z"), 422, "invalid", "/start"),
        Case("start", json!("9999-05-17T09:00:00Z"), 422, "invalid", "/start"),
        Case("start", json!("2015-05-17T09:00:00Z"), 422, "invalid-duration", "/end"),
        Case("start", json!("soon"), 422, "invalid", "/start"),
        Case("start", json!(1_900_000_000), 400, "invalid-body", "/start"),
        Case("end", json!("2035-05-17T08:00:00Z"), 422, "invalid-duration", "/end"),
        Case("end", json!("2035-05-17T09:00:00Z"), 422, "invalid-duration", "/end"),
        Case("end", json!("2035-05-17T09:00:59Z"), 422, "invalid-duration", "/end"),
        Case("end", json!("2035-05-18T09:00:01Z"), 422, "invalid-duration", "/end"),
        Case("end", json!("2036-06-20T09:00:00Z"), 422, "invalid-duration", "/end"),
        Case("serviceType", json!("Visit"), 422, "service-type-invalid", "/serviceType"),
        Case("serviceType", json!(""), 422, "service-type-invalid", "/serviceType"),
        Case("serviceType", json!("a".repeat(65)), 422, "service-type-invalid", "/serviceType"),
        Case("serviceType", json!("a\u{0}"), 422, "service-type-invalid", "/serviceType"),
        Case("reason", json!("a".repeat(501)), 422, "invalid", "/reason"),
        Case("reason", json!("a\u{0}b"), 422, "invalid", "/reason"),
        Case("reason", Value::Null, 400, "invalid-body", "/reason"),
        Case("id", json!(PatientId::new()), 400, "invalid-body", "/id"),
        Case("status", json!("completed"), 400, "invalid-body", "/status"),
        Case("version", json!(7), 400, "invalid-body", "/version"),
        Case("backDated", json!("yes"), 400, "invalid-body", "/backDated"),
        Case(
            "identifiers",
            json!([{"system": "", "value": "1"}]),
            422,
            "invalid",
            "/identifiers/0/system",
        ),
        Case(
            "identifiers",
            json!([{"system": "a", "value": "\u{0}"}]),
            422,
            "invalid",
            "/identifiers/0/value",
        ),
        Case("identifiers", json!([{"system": "a"}]), 400, "invalid-body", "/identifiers/0"),
        Case("identifiers", json!("a"), 400, "invalid-body", "/identifiers"),
    ]
}

#[tokio::test]
async fn bad_bookings_are_refused_and_leave_nothing() {
    let desk = Desk::open().await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let good = desk.booking(patient, practitioner, at("09:00"), 30);
    for Case(member, value, status, code, pointer) in cases() {
        let mut body = good.clone();
        body[member] = value.clone();
        let reply = desk.post("/appointments").body(&body).send().await;
        let case = format!("{member} = {value}: {}", reply.body);
        assert_eq!((reply.status, reply.code()), (status, code), "{case}");
        assert_eq!(reply.body["errors"][0]["pointer"], pointer, "{case}");
        assert_eq!(reply.header("content-type"), "application/problem+json");
    }
    assert_eq!(desk.rows().await, 0, "no row and no event");
    assert_eq!(desk.post("/appointments").body(&good).send().await.status, 201);
}

#[tokio::test]
async fn bodies_that_are_no_booking_are_refused() {
    let desk = Desk::open().await;
    let good = desk
        .booking(desk.patients.active(), desk.practitioner().await, at("09:00"), 30)
        .to_string();
    let twice = good.replacen('{', r#"{"serviceType":"a","#, 1);
    let truncated = good[..good.len() - 1].to_owned();
    let trailing = format!("{good} x");
    let deep = "[".repeat(60_000);
    let large = format!("{}{}", " ".repeat(65_537 - good.len()), good);
    let largest = format!("{}{}", " ".repeat(65_536 - good.len()), good);
    for (body, status) in [
        ("", 400),
        ("null", 400),
        ("[]", 400),
        ("\"x\"", 400),
        ("{}", 400),
        (truncated.as_str(), 400),
        (trailing.as_str(), 400),
        (twice.as_str(), 400),
        (deep.as_str(), 400),
        (large.as_str(), 413),
    ] {
        let reply = desk.post("/appointments").raw("application/json", body).send().await;
        assert_eq!(reply.status, status, "{}", &body[..body.len().min(80)]);
    }
    let reply = desk.post("/appointments").raw("text/plain", &good).send().await;
    assert_eq!(reply.status, 415);
    assert_eq!(desk.rows().await, 0);
    let reply = desk.post("/appointments").raw("application/json", &largest).send().await;
    assert_eq!(reply.status, 201, "{}", reply.body);
}

#[tokio::test]
async fn every_member_that_is_missing_is_named() {
    let desk = Desk::open().await;
    let good = desk.booking(desk.patients.active(), desk.practitioner().await, at("09:00"), 30);
    for member in ["patientId", "practitionerId", "start", "end", "serviceType"] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(member);
        let reply = desk.post("/appointments").body(&body).send().await;
        assert_eq!((reply.status, reply.code()), (400, "invalid-body"), "{member}");
        assert!(reply.body["errors"][0]["detail"].as_str().unwrap().contains(member));
    }
    assert_eq!(desk.rows().await, 0);
}

#[tokio::test]
async fn all_faults_are_told_at_once() {
    let desk = Desk::open().await;
    let body = json!({
        "patientId": "x", "practitionerId": "y", "start": "z", "end": "z", "serviceType": "Ä", "reason": " ",
    });
    let reply = desk.post("/appointments").body(&body).send().await;
    assert_eq!((reply.status, reply.code()), (422, "service-type-invalid"));
    let pointers: Vec<_> = reply.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| fault["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(
        pointers,
        ["/patientId", "/practitionerId", "/start", "/end", "/serviceType", "/reason"]
    );
}

#[tokio::test]
async fn an_inactive_patient_is_not_booked() {
    let desk = Desk::open().await;
    let reply =
        desk.book(desk.patients.inactive(), desk.practitioner().await, at("09:00"), 30).await;
    assert_eq!((reply.status, reply.code()), (422, "patient-inactive"));
    assert_eq!(desk.rows().await, 0);
}

#[tokio::test]
async fn what_the_path_names_comes_before_what_the_body_says() {
    let desk = Desk::open().await;
    let (own, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let booked = desk.booked(own, practitioner, at("09:00"), 30).await;
    let before = desk.rows().await;
    let unknown = PatientId::new().to_string();
    for id in
        [unknown.as_str(), &practitioner.to_string(), "x", "%27%3B--", "..%2F..", &"a".repeat(200)]
    {
        for (verb, body) in
            [("cancel", "{"), ("reschedule", "{}"), ("arrive", "[1]"), ("no-show", "{")]
        {
            let path = format!("/appointments/{id}/{verb}");
            let reply = desk.post(&path).raw("application/json", body).send().await;
            assert_eq!((reply.status, reply.code()), (404, "not-found"), "{path}");
        }
        for path in [format!("/appointments/{id}"), format!("/appointments/{id}/history?limit=0")] {
            assert_eq!(desk.get(&path).send().await.status, 404, "{path}");
        }
    }
    let other = desk.patients.active();
    for body in ["{", r#"{"reason":"x","by":"hospital"}"#, r#"{"reason":"","by":"patient"}"#] {
        let path = format!("/appointments/{booked}/cancel");
        let reply = desk.post(&path).patient(other).raw("application/json", body).send().await;
        assert_eq!(reply.status, 404, "{body}");
    }
    assert_eq!(desk.rows().await, before);
}

#[tokio::test]
async fn bad_steps_are_refused_and_change_nothing() {
    let desk = Desk::open().await;
    let (own, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let booked = desk.booked(own, practitioner, at("09:00"), 30).await;
    let before = desk.rows().await;
    let past = desk.now().to_string();
    for (verb, body, status, code) in [
        ("cancel", json!({}), 400, "invalid-body"),
        ("cancel", json!({"reason": "x"}), 400, "invalid-body"),
        (
            "cancel",
            json!({"reason": "x", "by": "patient", "status": "booked"}),
            400,
            "invalid-body",
        ),
        ("cancel", json!({"reason": "x", "by": "nobody"}), 422, "invalid"),
        ("cancel", json!({"reason": "", "by": "patient"}), 422, "invalid"),
        ("cancel", json!({"reason": "a\u{0}", "by": "patient"}), 422, "invalid"),
        ("cancel", json!({"reason": "a".repeat(501), "by": "patient"}), 422, "invalid"),
        ("reschedule", json!({"start": "2035-05-17T09:00:00Z"}), 400, "invalid-body"),
        (
            "reschedule",
            json!({"start": "2035-05-17T09:00:00", "end": "2035-05-17T10:00:00Z"}),
            422,
            "invalid",
        ),
        (
            "reschedule",
            json!({"start": "2035-05-17T09:00:00Z", "end": "2035-05-17T09:00:30Z"}),
            422,
            "invalid-duration",
        ),
        (
            "reschedule",
            json!({"start": "2035-05-17T09:00:00Z", "end": "2035-05-18T09:00:01Z"}),
            422,
            "invalid-duration",
        ),
        (
            "reschedule",
            json!({"start": "2015-05-17T09:00:00Z", "end": "2015-05-17T10:00:00Z"}),
            422,
            "start-in-the-past",
        ),
        (
            "reschedule",
            json!({"start": past, "end": "2035-05-17T10:00:00Z"}),
            422,
            "invalid-duration",
        ),
        ("arrive", json!({"status": "arrived"}), 400, "invalid-body"),
        ("no-show", json!({}), 409, "not-yet-started"),
        ("complete", json!({}), 409, "invalid-transition"),
    ] {
        let path = format!("/appointments/{booked}/{verb}");
        let reply = desk.post(&path).body(&body).send().await;
        assert_eq!((reply.status, reply.code()), (status, code), "{verb} {body}: {}", reply.body);
    }
    assert_eq!(desk.rows().await, before, "no row and no event");
    assert_eq!(desk.cancel(&booked).await.status, 200);
}

#[tokio::test]
async fn bad_queries_are_refused() {
    let desk = Desk::open().await;
    for query in [
        "limit=0",
        "limit=-1",
        "limit=201",
        "limit=1e9",
        "limit=x",
        "cursor=",
        "cursor=abc",
        "page=2",
        "date=2030-02-30",
        "date=17.05.2030",
        "date=",
        "status=open",
        "status=",
        "patientId=x",
        "practitionerId=",
        "identifier=x",
        "identifier=%7C",
        "identifier=a%7C%00",
        "date=2030-01-01&date=2030-01-02",
    ] {
        let reply = desk.get(&format!("/appointments?{query}")).send().await;
        assert_eq!((reply.status, reply.code()), (400, "invalid-query"), "{query}: {}", reply.body);
    }
    for query in ["limit=0", "cursor=abc", "name=", "name=%00", "email=x", "identifier=x"] {
        let reply = desk.get(&format!("/practitioners?{query}")).send().await;
        assert_eq!((reply.status, reply.code()), (400, "invalid-query"), "{query}");
    }
}

#[tokio::test]
async fn bad_practitioners_are_refused_and_leave_nothing() {
    let desk = Desk::open().await;
    for (body, status) in [
        (json!({}), 400),
        (json!({"name": 1}), 400),
        (json!({"name": "Grace", "id": PractitionerId::new()}), 400),
        (json!({"name": "Grace", "specialty": null}), 400),
        (json!({"name": ""}), 422),
        (json!({"name": "a\u{0}"}), 422),
        (json!({"name": "a".repeat(10_000)}), 422),
        (json!({"name": "Grace", "specialty": "a".repeat(101)}), 422),
        (json!({"name": "Grace", "identifiers": [{"system": "a|b", "value": "1"}]}), 422),
        (
            json!({"name": "Grace", "identifiers": [{"system": "a", "value": "1"}, {"system": "a", "value": "1"}]}),
            422,
        ),
    ] {
        let reply = desk.post("/practitioners").role(Role::Admin).body(&body).send().await;
        assert_eq!(
            reply.status,
            status,
            "{}: {}",
            &body.to_string()[..40.min(body.to_string().len())],
            reply.body
        );
    }
    assert_eq!(desk.count("practitioner").await, 0);
}
