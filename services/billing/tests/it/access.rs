use hospital_types::{PatientId, Role};
use serde_json::json;

use crate::till::{Till, card, cash, id};

#[tokio::test]
async fn each_request_is_for_its_roles() {
    let till = Till::open().await;
    let bill = till.booked("surgery").await;
    let (bill_path, lines, issue) = (
        format!("/bills/{}", id(&bill)),
        format!("/bills/{}/lines", id(&bill)),
        format!("/bills/{}/issue", id(&bill)),
    );
    let readers: &[Role] = &[Role::Cashier, Role::BillingManager, Role::FrontDesk, Role::Admin];
    let manager: &[Role] = &[Role::BillingManager];
    let gets: [(&str, &[Role]); 4] = [
        (&bill_path, readers),
        ("/bills", readers),
        ("/payments", readers),
        (
            "/service-types",
            &[
                Role::Cashier,
                Role::BillingManager,
                Role::FrontDesk,
                Role::Admin,
                Role::Practitioner,
            ],
        ),
    ];
    for role in [
        Role::FrontDesk,
        Role::Practitioner,
        Role::Cashier,
        Role::BillingManager,
        Role::OnCall,
        Role::Admin,
    ] {
        let token = till.app.token(&[role]);
        for (path, allowed) in gets {
            let expected = if allowed.contains(&role) { 200 } else { 403 };
            assert_eq!(till.app.get(path, &token).await.status, expected, "GET {path} {role:?}");
        }
        for path in [&lines, &issue] {
            let reply = till.app.post(path, &token, &json!(null)).await;
            assert_eq!(
                reply.status == 403,
                !manager.contains(&role),
                "{path} {role:?}: {}",
                reply.text
            );
        }
        let put = till
            .app
            .put("/service-types/x", &token, &json!({"name": "x", "pricedAtVisit": true}))
            .await;
        assert_eq!(put.status == 403, !manager.contains(&role), "{role:?}");
        let pay = till.app.post_keyed("/payments", &token, "k", &cash(&bill, "1.00")).await;
        assert_eq!(pay.status == 403, role != Role::Cashier, "{role:?}: {}", pay.text);
    }
    assert_eq!(till.app.rows("payment").await, 0);
}

#[tokio::test]
async fn nobody_gets_in_without_a_good_token() {
    let till = Till::open().await;
    let tampered = format!("{}x", till.cashier);
    for token in ["", "x", "a.b.c", &tampered, &"x".repeat(16_384)] {
        for path in ["/bills", "/payments", "/service-types", "/bills/nonsense"] {
            let reply = till.app.get(path, token).await;
            assert_eq!(reply.status, 401, "{path}");
            assert!(reply.headers.contains_key("www-authenticate"));
        }
        assert_eq!(till.app.post_keyed("/payments", token, "k", &json!({})).await.status, 401);
    }
}

#[tokio::test]
async fn patients_see_and_pay_what_is_theirs() {
    let till = Till::open().await;
    let (own, other) = (till.booked("consultation").await, till.booked("consultation").await);
    let patient: PatientId = own["patientId"].as_str().unwrap().parse().unwrap();
    let token = till.app.patient_token(patient);
    assert_eq!(till.app.get(&format!("/bills/{}", id(&own)), &token).await.status, 200);
    assert_eq!(till.app.get(&format!("/bills/{}", id(&other)), &token).await.status, 404);
    let bills = till.app.get("/bills", &token).await.body;
    assert_eq!(
        (bills["items"].as_array().unwrap().len(), &bills["items"][0]["id"]),
        (1, &own["id"])
    );
    let foreign = format!("/bills?patientId={}", other["patientId"].as_str().unwrap());
    assert_eq!(till.app.get(&foreign, &token).await.body["items"], json!([]));

    let paid = till.app.post_keyed("/payments", &token, "k", &card(&own, "20.00", "tok_ok")).await;
    assert_eq!(paid.status, 201, "{}", paid.text);
    let at_desk = till.app.post_keyed("/payments", &token, "c", &cash(&own, "20.00")).await;
    assert_eq!(at_desk.status, 403);
    let foreign =
        till.app.post_keyed("/payments", &token, "f", &card(&other, "20.00", "tok_ok")).await;
    assert_eq!((foreign.status, foreign.code()), (422, "bill-unknown"));
    till.pay("theirs", &cash(&other, "5.00")).await;
    let payments = till.app.get("/payments", &token).await.body;
    assert_eq!(payments["items"].as_array().unwrap().len(), 1);
    let theirs = till.app.get("/payments", &till.cashier).await.body;
    let theirs = theirs["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|p| p["billId"] == other["id"])
        .unwrap()
        .clone();
    assert_eq!(till.app.get(&format!("/payments/{}", id(&theirs)), &token).await.status, 404);
}
