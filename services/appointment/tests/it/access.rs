use hospital_types::Role;
use serde_json::json;

use crate::desk::{Desk, at};

#[tokio::test]
async fn every_request_needs_a_token_and_a_role_that_may() {
    let desk = Desk::open().await;
    let (patient, practitioner) = (desk.patients.active(), desk.practitioner().await);
    let id = desk.booked(patient, practitioner, at("10:00"), 30).await;
    let before = desk.rows().await;
    let booking = desk.booking(patient, practitioner, at("12:00"), 30);
    let readers = [
        Role::FrontDesk,
        Role::Practitioner,
        Role::Cashier,
        Role::BillingManager,
        Role::Patient,
        Role::Admin,
    ];
    let askers = [&readers[..], &[Role::Service]].concat();
    let bookers = [Role::FrontDesk, Role::Patient, Role::Admin];
    let visits = [Role::FrontDesk, Role::Practitioner, Role::Admin];
    let cases: [(&str, &str, &[Role]); 12] = [
        ("GET", "/practitioners", &readers),
        ("GET", "/practitioners/{practitioner}", &askers),
        ("POST", "/practitioners", &[Role::Admin]),
        ("GET", "/appointments", &readers),
        ("GET", "/appointments/{id}", &readers),
        ("GET", "/appointments/{id}/history", &readers),
        ("POST", "/appointments", &bookers),
        ("POST", "/appointments/{id}/cancel", &bookers),
        ("POST", "/appointments/{id}/reschedule", &bookers),
        ("POST", "/appointments/{id}/arrive", &visits),
        ("POST", "/appointments/{id}/check-in", &visits),
        ("POST", "/appointments/{id}/no-show", &visits),
    ];
    for (method, path, allowed) in cases {
        let path = path.replace("{id}", &id).replace("{practitioner}", &practitioner.to_string());
        let request = || {
            let request = if method == "GET" { desk.get(&path) } else { desk.post(&path) };
            if method == "GET" { request } else { request.body(&booking) }
        };
        let reply = request().anonymous().send().await;
        assert_eq!(reply.status, 401, "{method} {path}");
        assert!(!reply.header("www-authenticate").is_empty());
        for role in Role::ALL {
            let request = request();
            let reply = if role == Role::Patient {
                request.patient(patient).send().await
            } else {
                request.role(role).send().await
            };
            let may = allowed.contains(&role);
            let passed = !matches!(reply.status, 401 | 403);
            assert_eq!(passed, may, "{method} {path} as {role:?}: {}", reply.body);
            if method == "POST" && path == "/appointments" && reply.status == 201 {
                desk.cancel(&reply.id()).await;
            }
        }
    }
    assert!(desk.rows().await > before, "the bookings of those who may went through");
    let reply =
        desk.post("/practitioners").role(Role::FrontDesk).body(&json!({"name": "x"})).send();
    assert_eq!(reply.await.code(), "forbidden");
}
