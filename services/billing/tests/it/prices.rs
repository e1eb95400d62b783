//! The price list: what is in force when, and who changed it.

use hospital_contracts::{DomainEvent, appointment::AppointmentBooked};
use hospital_kit::bus::Record;
use hospital_testkit::{Response, read};
use hospital_types::{AppointmentId, EventId};
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    seen_elsewhere::headers,
    till::{Till, cents},
};

/// Books at a time, as the appointment service would have told then.
async fn booked_at(till: &Till, service_type: &str, at: Timestamp) -> Value {
    let facts = till.facts(service_type);
    let id: AppointmentId = facts.appointment_id;
    let mut headers = headers(&EventId::new().to_string(), &AppointmentBooked::cloud_type());
    headers.push(("ce_time".to_owned(), at.to_string()));
    let value = serde_json::to_vec(&AppointmentBooked(facts)).unwrap();
    let record =
        Record { topic: AppointmentBooked::TOPIC.to_owned(), key: id.to_string(), headers, value };
    till.app.bus().publish(vec![record]).await.unwrap();
    till.bill_of(id).await
}

async fn put(till: &Till, code: &str, etag: &str, amount: &str) -> Response {
    let body = json!({"name": code, "price": {"amount": amount, "currency": "USD"}});
    let request = till.app.request(Method::PUT, &format!("/service-types/{code}"));
    read(request.bearer_auth(&till.cashier).header("if-match", etag).json(&body)).await
}

#[tokio::test]
async fn a_bill_has_the_price_that_was_in_force_when_it_was_booked() {
    let till = Till::open().await;
    let now = || till.app.clock().now();
    let first = now();
    till.price("consultation", "150.00").await;
    let second = now();
    let at_visit = json!({"name": "consultation", "pricedAtVisit": true});
    let path = "/service-types/consultation";
    assert_eq!(till.app.put(path, &till.cashier, &at_visit).await.status, 200);
    let third = now();
    till.price("consultation", "180.00").await;
    for (at, status, total) in [
        (first, "issued", 12_000),
        (second, "issued", 15_000),
        (third, "draft", 0),
        (now(), "issued", 18_000),
        // Before it was listed: what it was listed with first.
        (first - SignedDuration::from_hours(24), "issued", 12_000),
    ] {
        let bill = booked_at(&till, "consultation", at).await;
        assert_eq!((&bill["status"], cents(&bill["total"])), (&status.into(), total), "{bill}");
    }
}

#[tokio::test]
async fn a_change_of_another_version_than_was_seen_is_refused() {
    let till = Till::open().await;
    for (etag, status) in [("\"2\"", 412), ("\"1\"", 200), ("\"1\"", 412), ("*", 200), ("x", 400)] {
        let reply = put(&till, "consultation", etag, &format!("{status}.00")).await;
        assert_eq!(reply.status, status, "{etag}: {}", reply.text);
    }
    let new = put(&till, "nothing-yet", "\"1\"", "1.00").await;
    assert_eq!((new.status, new.code()), (412, "version-stale"));
    assert_eq!(till.app.rows("service_type").await, 1);
}

#[tokio::test]
async fn each_change_of_a_price_is_kept_with_who_made_it() {
    let till = Till::open().await;
    till.price("consultation", "150.00").await;
    till.price("consultation", "150.00").await;
    let kept: String = till
        .app
        .db
        .value(
            "SELECT string_agg(concat_ws(' ', version, price, actor), ', ' ORDER BY version)
             FROM billing.price_history WHERE code = 'consultation'",
        )
        .await
        .unwrap();
    assert_eq!(kept, "1 12000 cashier, 2 15000 cashier", "setting what is there changes nothing");
    let as_service = till.app.context.db.write_alone(
        "test",
        hospital_kit::sql!("UPDATE price_history SET price = 1 RETURNING code"),
    );
    assert!(as_service.await.is_err(), "it is only added to");
}
