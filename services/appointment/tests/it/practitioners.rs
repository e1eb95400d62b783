use hospital_types::{PractitionerId, Role};
use serde_json::json;

use crate::desk::{Desk, Request};

#[tokio::test]
async fn a_practitioner_is_registered_and_found() {
    let desk = Desk::open().await;
    let body = json!({
        "name": "Dr. Grace Hopper", "specialty": "cardiology",
        "identifiers": [{"system": "urn:licence", "value": "L-1"}],
    });
    let created = desk.post("/practitioners").role(Role::Admin).key("k").body(&body).send().await;
    assert_eq!(created.status, 201, "{}", created.body);
    assert_eq!(created.header("location"), format!("/practitioners/{}", created.id()));
    assert_eq!(created.header("etag"), "\"1\"");
    let again = desk.post("/practitioners").role(Role::Admin).key("k").body(&body).send().await;
    assert_eq!((again.status, &again.body), (201, &created.body));

    let odd = json!({"name": "100% <b>_sure_</b> \u{202e}"});
    let odd = desk.post("/practitioners").role(Role::Admin).body(&odd).send().await;
    assert_eq!(odd.body["name"], "100% <b>_sure_</b> \u{202e}");

    for (query, expected) in [
        ("", vec![created.id(), odd.id()]),
        ("?limit=1", vec![created.id()]),
        ("?name=hop", vec![created.id()]),
        ("?name=DR.%20grace", vec![created.id()]),
        ("?name=opper", vec![]),
        ("?name=%25", vec![]),
        ("?name=_", vec![]),
        ("?name=100%25", vec![odd.id()]),
        ("?specialty=cardiology", vec![created.id()]),
        ("?specialty=cardio", vec![]),
        ("?identifier=urn:licence%7CL-1", vec![created.id()]),
        ("?identifier=urn:licence%7CL-2", vec![]),
    ] {
        let reply = desk.get(&format!("/practitioners{query}")).send().await;
        assert_eq!(reply.ids(), expected, "{query}");
    }
    let first = desk.get("/practitioners?limit=1").send().await;
    let next = first.body["nextCursor"].as_str().unwrap();
    let second = desk.get(&format!("/practitioners?limit=1&cursor={next}")).send().await;
    assert_eq!(second.ids(), [odd.id()]);
    assert_eq!(second.body["nextCursor"], serde_json::Value::Null);

    let shown = desk.get(&format!("/practitioners/{}", created.id())).send().await;
    assert_eq!(shown.body, created.body);
    for id in [PractitionerId::new().to_string(), "x".to_owned()] {
        assert_eq!(desk.get(&format!("/practitioners/{id}")).send().await.status, 404);
    }
}

#[tokio::test]
async fn an_identifier_names_one_practitioner() {
    let desk = Desk::open().await;
    let body = |values: &[&str]| {
        let identifiers: Vec<_> =
            values.iter().map(|value| json!({"system": "urn:licence", "value": value})).collect();
        json!({"name": "Grace Hopper", "identifiers": identifiers})
    };
    let register = async |values: &[&str]| {
        desk.post("/practitioners").role(Role::Admin).body(&body(values)).send().await
    };
    let first = register(&["L-1"]).await;
    let taken = register(&["L-0", "L-1"]).await;
    assert_eq!((taken.status, taken.code()), (409, "identifier-taken"));
    assert_eq!(taken.body["practitionerId"], json!(first.id()));
    assert_eq!(desk.count("practitioner").await, 1);
    assert_eq!(register(&["L-0"]).await.status, 201);
}

#[tokio::test]
async fn identifiers_of_practitioners_are_for_staff() {
    let desk = Desk::open().await;
    let patient = desk.patients.active();
    let body = json!({
        "name": "Grace Hopper", "identifiers": [{"system": "urn:staff", "value": "S-1"}],
    });
    let id = desk.post("/practitioners").role(Role::Admin).body(&body).send().await.id();
    let (one, list) = (format!("/practitioners/{id}"), "/practitioners?name=grace");
    for (path, at) in [(one.as_str(), "/identifiers"), (list, "/items/0/identifiers")] {
        let given = async |request: Request<'_>| {
            let reply = request.send().await;
            reply.body.pointer(at).unwrap_or_else(|| panic!("{path}: {}", reply.body)).clone()
        };
        let cashiers = given(desk.get(path).role(Role::Cashier)).await;
        assert_eq!(cashiers, body["identifiers"], "{path}");
        assert_eq!(given(desk.get(path).patient(patient)).await, json!([]), "{path}");
    }
    let by_identifier = desk.get("/practitioners?identifier=urn:staff%7CS-1");
    let reply = by_identifier.patient(patient).send().await;
    assert_eq!((reply.status, reply.code()), (403, "forbidden"));
}
