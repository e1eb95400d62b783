use hospital_testkit::read;
use hospital_types::{PatientId, Role};
use reqwest::Method;
use serde_json::{Value, json};

use crate::desk::{Desk, person, zoe};

const DESK: &[Role] = &[Role::FrontDesk, Role::Admin];
const STAFF: &[Role] =
    &[Role::FrontDesk, Role::Practitioner, Role::Cashier, Role::BillingManager, Role::Admin];

/// Every request of the service, with a good body, and the roles that may make it.
fn requests(id: PatientId) -> Vec<(Method, String, Value, Vec<Role>)> {
    let readers = [STAFF, &[Role::Service]].concat();
    let one = format!("/patients/{id}");
    let reason = json!({"reason": "x"});
    vec![
        (Method::POST, "/patients".to_owned(), json!({}), DESK.to_vec()),
        (Method::GET, "/patients".to_owned(), Value::Null, STAFF.to_vec()),
        (Method::GET, one.clone(), Value::Null, readers),
        (Method::GET, format!("/patients/standing?ids={id}"), Value::Null, vec![Role::Service]),
        (Method::PATCH, one.clone(), json!({}), DESK.to_vec()),
        (Method::POST, format!("{one}/deactivate"), reason.clone(), DESK.to_vec()),
        (Method::POST, format!("{one}/reactivate"), reason, DESK.to_vec()),
    ]
}

#[tokio::test]
async fn each_request_is_for_its_roles() {
    let desk = Desk::open().await;
    let id = desk.registered(&zoe()).await;
    for (method, path, body, allowed) in requests(id) {
        for role in Role::ALL {
            let request = desk.request(method.clone(), &path).bearer_auth(desk.token(&[role]));
            let request = if body.is_null() { request } else { request.json(&body) };
            let reply = read(request).await;
            let case = format!("{method} {path} as {}: {}", role.as_str(), reply.text);
            if allowed.contains(&role) {
                assert!(![401, 403, 404].contains(&reply.status), "{case}");
            } else if role == Role::Patient
                && method == Method::GET
                && path == format!("/patients/{id}")
            {
                // A patient's token that names no patient has nothing to see.
                assert_eq!(reply.status, 404, "{case}");
            } else {
                assert_eq!((reply.status, reply.code()), (403, "forbidden"), "{case}");
            }
        }
    }
}

#[tokio::test]
async fn nothing_is_answered_without_a_token() {
    let desk = Desk::open().await;
    let id = desk.registered(&zoe()).await;
    for (method, path, body, _) in requests(id) {
        for token in [None, Some("nonsense")] {
            let request = desk.request(method.clone(), &path);
            let request = if body.is_null() { request } else { request.json(&body) };
            let request = match token {
                None => request,
                Some(token) => request.bearer_auth(token),
            };
            let reply = read(request).await;
            assert_eq!(reply.status, 401, "{method} {path}: {}", reply.text);
            assert!(reply.headers.contains_key("www-authenticate"));
        }
    }
}

#[tokio::test]
async fn a_patient_sees_themselves_and_nobody_else() {
    let desk = Desk::open().await;
    let id = desk.registered(&zoe()).await;
    let other = desk.registered(&person("Bob", "Ray", "1960-01-01")).await;
    let token = desk.patient_token(id);
    let reply = desk.get(&format!("/patients/{id}"), &token).await;
    assert_eq!((reply.status, &reply.body["givenName"]), (200, &json!("Zoë")));
    let unknown = desk.get(&format!("/patients/{}", PatientId::new()), &token).await;
    let others = desk.get(&format!("/patients/{other}"), &token).await;
    assert_eq!((others.status, unknown.status), (404, 404));
    assert_eq!(others.body["detail"], unknown.body["detail"], "they look the same");

    let beside_another_role = desk.sign("p", &[Role::Patient, Role::OnCall], Some(id));
    assert_eq!(desk.get(&format!("/patients/{other}"), &beside_another_role).await.status, 404);
    assert_eq!(desk.get(&format!("/patients/{id}"), &beside_another_role).await.status, 200);
    let who_also_works_here = desk.sign("p", &[Role::Patient, Role::Cashier], Some(id));
    assert_eq!(desk.get(&format!("/patients/{other}"), &who_also_works_here).await.status, 200);
}

/// The members of a patient that each role is told, as the README has them.
fn told(role: Role) -> Vec<&'static str> {
    let who = [
        "birthDate",
        "birthDateEstimated",
        "createdAt",
        "displayName",
        "familyName",
        "givenName",
        "id",
        "identifiers",
        "status",
        "temporaryName",
        "unidentified",
        "updatedAt",
        "version",
    ];
    let more: &[&str] = match role {
        Role::Service => return vec!["email", "id", "language", "phone", "status", "version"],
        Role::Cashier => &[],
        Role::Practitioner => &["gender", "language", "phone"],
        Role::BillingManager => &["address", "email", "language", "phone"],
        _ => &["address", "email", "gender", "language", "phone"],
    };
    let mut all = [&who, more].concat();
    all.sort_unstable();
    all
}

fn members(body: &Value) -> Vec<&str> {
    let mut members: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    members
}

#[tokio::test]
async fn each_role_is_told_what_it_needs() {
    let desk = Desk::open().await;
    let id = desk.registered(&zoe()).await;
    for role in [STAFF, &[Role::Service]].concat() {
        let token = desk.token(&[role]);
        let one = desk.get(&format!("/patients/{id}"), &token).await;
        assert_eq!(members(&one.body), told(role), "{}", role.as_str());
        if role == Role::Service {
            continue;
        }
        let page = desk.get("/patients?name=zoe", &token).await;
        assert_eq!(page.body["items"], json!([one.body]), "{}", role.as_str());
    }
    let mine = desk.get(&format!("/patients/{id}"), &desk.patient_token(id)).await;
    assert_eq!(members(&mine.body), told(Role::Patient));
    let both = desk.token(&[Role::Cashier, Role::Practitioner]);
    let reply = desk.get(&format!("/patients/{id}"), &both).await;
    assert_eq!(members(&reply.body), told(Role::Practitioner), "what either needs");

    let other = desk.registered(&person("Bob", "Ray", "1960-01-01")).await;
    let works_here = desk.sign("p", &[Role::Patient, Role::Cashier], Some(id));
    let reply = desk.get(&format!("/patients/{other}"), &works_here).await;
    assert_eq!(members(&reply.body), told(Role::Cashier), "a colleague, not herself");
    let reply = desk.get(&format!("/patients/{id}"), &works_here).await;
    assert_eq!(members(&reply.body), told(Role::Patient));
}

#[tokio::test]
async fn only_the_desk_pages_through_everybody() {
    let desk = Desk::open().await;
    let id = desk.registered(&zoe()).await;
    for role in STAFF {
        let token = desk.token(&[*role]);
        for query in ["", "?limit=200", "?status=active"] {
            let reply = desk.get(&format!("/patients{query}"), &token).await;
            if DESK.contains(role) {
                assert_eq!(reply.status, 200, "{} {query}", role.as_str());
            } else {
                let case = format!("{} {query}", role.as_str());
                assert_eq!((reply.status, reply.code()), (400, "filter-missing"), "{case}");
            }
        }
        for query in [
            "name=zoe",
            "phone=%2B16175550100",
            "birthDate=1990",
            "identifier=urn:example:mrn|12345",
        ] {
            let reply = desk.get(&format!("/patients?{query}"), &token).await;
            assert_eq!(reply.body["items"][0]["id"], json!(id), "{} {query}", role.as_str());
        }
    }
}
