//! Payments of which the gateway charged another amount, and the person who settles them.

use hospital_kit::idempotency::forget_old;
use hospital_testkit::{Response, eventually, read};
use hospital_types::Role;
use reqwest::Method;
use serde_json::{Value, json};

use crate::till::{Till, card, cash, cents, id};

async fn open() -> Till {
    // The reconciler asks when it is told to.
    Till::with(|config| config.billing.reconcile_after_s = [3600; 3]).await
}

/// A payment of 100.00 of which the gateway says something else, in cents.
async fn conflicted(till: &Till, bill: &Value, key: &str, charged: i64, currency: &str) -> Value {
    let unknown = till.pay(key, &card(bill, "100.00", "tok_timeout_charged")).await;
    assert_eq!(unknown.status, 202, "{}", unknown.text);
    let payment = id(&unknown.body);
    let other = format!(
        "UPDATE billing.sandbox_charge SET amount = {charged}, currency = '{currency}' WHERE payment_id = '{payment}';
         UPDATE billing.job SET held_until = now() WHERE key = '{payment}'"
    );
    till.app.db.execute(&other).await.unwrap();
    till.settled(payment, "conflicted").await;
    till.assert_bill(bill, "issued", 0, 10_000).await;
    till.app.get(&format!("/payments/{payment}"), &till.cashier).await.body
}

async fn settle(till: &Till, payment: &Value, headers: &[(&str, &str)], body: Value) -> Response {
    let path = format!("/payments/{}/settle", id(payment));
    let mut request = till.app.request(Method::POST, &path).bearer_auth(&till.cashier);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    read(request.json(&body)).await
}

fn succeeded() -> Value {
    json!({"outcome": "succeeded", "reason": "The bank's statement says so."})
}

fn failed() -> Value {
    json!({"outcome": "failed", "reason": "Given back at the gateway."})
}

#[tokio::test]
async fn a_conflicted_payment_is_settled_either_way_once_with_one_event() {
    let till = open().await;
    let ways = [
        (9000, succeeded(), "succeeded", 9000, "partially-paid", "payment.completed"),
        (11_000, succeeded(), "succeeded", 11_000, "partially-paid", "payment.completed"),
        (9000, failed(), "failed", 0, "issued", "payment.failed"),
    ];
    for (round, (charged, body, becomes, paid, status, topic)) in ways.into_iter().enumerate() {
        let bill = till.booked("consultation").await;
        let payment = conflicted(&till, &bill, &format!("p{round}"), charged, "USD").await;
        assert_eq!(cents(&payment["charged"]), charged, "{payment}");
        let key = format!("s{round}");
        let etag = format!("\"{}\"", payment["version"]);
        let stale = settle(&till, &payment, &[("if-match", "\"1\"")], body.clone()).await;
        assert_eq!((stale.status, stale.code()), (412, "version-stale"));
        let headers = [("idempotency-key", key.as_str()), ("if-match", etag.as_str())];
        let first = settle(&till, &payment, &headers, body.clone()).await;
        assert_eq!((first.status, &first.body["status"]), (200, &becomes.into()), "{}", first.text);
        let again = settle(&till, &payment, &headers, body.clone()).await;
        assert_eq!((again.status, &again.text), (200, &first.text));
        assert_eq!(again.headers["idempotent-replayed"], "true");
        till.assert_bill(&bill, status, paid, 0).await;
        for other in [succeeded(), failed()] {
            let late = settle(&till, &payment, &[], other).await;
            assert_eq!((late.status, late.code()), (409, "payment-not-conflicted"));
        }
        let told = till.app.topic_of(topic, 1).await;
        let told: Vec<Value> =
            told.iter().map(|event| serde_json::from_slice(&event.value).unwrap()).collect();
        let told: Vec<&Value> =
            told.iter().filter(|event| event["paymentId"] == payment["id"]).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(cents(&told[0]["amount"]), if paid > 0 { paid } else { 10_000 });
        let kept: String = till
            .app
            .db
            .value(&format!(
                "SELECT concat_ws('|', outcome, asked, actor, reason) FROM billing.payment_settlement
                 WHERE payment_id = '{}'",
                id(&payment)
            ))
            .await
            .unwrap();
        let reason = body["reason"].as_str().unwrap();
        assert_eq!(kept, format!("{becomes}|10000|cashier|{reason}"));
    }
}

#[tokio::test]
async fn what_a_bill_cannot_take_is_settled_as_failed() {
    let till = open().await;
    let cases = [
        (12_001, "USD", "overpayment"),
        (9000, "EUR", "charge-unusable"),
        (0, "USD", "charge-unusable"),
        (i64::MAX, "USD", "charge-unusable"),
    ];
    for (round, (charged, currency, code)) in cases.into_iter().enumerate() {
        let bill = till.booked("consultation").await;
        let payment = conflicted(&till, &bill, &format!("p{round}"), charged, currency).await;
        let refused = settle(&till, &payment, &[], succeeded()).await;
        assert_eq!((refused.status, refused.code()), (409, code), "{}", refused.text);
        till.assert_bill(&bill, "issued", 0, 10_000).await;
        assert_eq!(settle(&till, &payment, &[], failed()).await.status, 200);
        till.assert_bill(&bill, "issued", 0, 0).await;
    }
    let bill = till.booked("consultation").await;
    let payment = conflicted(&till, &bill, "cancelled", 11_000, "USD").await;
    till.cancelled(&bill).await;
    let refused = settle(&till, &payment, &[], succeeded()).await;
    assert_eq!((refused.status, refused.code()), (409, "bill-not-payable"), "{}", refused.text);
    assert_eq!(settle(&till, &payment, &[], failed()).await.status, 200);
    assert_eq!(till.bill(&bill).await["status"], "cancelled");
}

#[tokio::test]
async fn only_a_billing_manager_settles_and_only_what_makes_sense() {
    let till = open().await;
    let bill = till.booked("consultation").await;
    let payment = conflicted(&till, &bill, "p", 9000, "USD").await;
    let path = format!("/payments/{}/settle", id(&payment));
    for role in [Role::Cashier, Role::FrontDesk, Role::Practitioner, Role::Admin] {
        let reply = till.app.post(&path, &till.app.token(&[role]), &failed()).await;
        assert_eq!(reply.status, 403, "{role:?}");
    }
    for (body, status) in [
        (json!({"outcome": "failed"}), 400),
        (json!({"outcome": "failed", "reason": ""}), 422),
        (json!({"outcome": "maybe", "reason": "x"}), 422),
        (json!({"outcome": "failed", "reason": "x".repeat(501)}), 422),
        (json!({"outcome": "failed", "reason": "x", "amount": "1.00"}), 400),
    ] {
        assert_eq!(settle(&till, &payment, &[], body.clone()).await.status, status, "{body}");
    }
    let unknown = json!({"id": "018f0000-0000-7000-8000-000000000000"});
    assert_eq!(settle(&till, &unknown, &[], failed()).await.status, 404);
    let paid = till.pay("cash", &cash(&bill, "1.00")).await;
    let reply = settle(&till, &paid.body, &[], failed()).await;
    assert_eq!((reply.status, reply.code()), (409, "payment-not-conflicted"));
    assert_eq!(till.app.rows("payment_settlement").await, 0);
}

#[tokio::test]
async fn a_key_is_remembered_for_as_long_as_its_payment_is_open() {
    let till = open().await;
    let bill = till.booked("consultation").await;
    let payment = conflicted(&till, &bill, "open", 9000, "USD").await;
    assert_eq!(till.pay("settled", &cash(&bill, "1.00")).await.status, 201);
    let age = "UPDATE billing.idempotency SET created_at = now() - interval '73 hours'";
    till.app.db.execute(age).await.unwrap();
    let db = &till.app.context.db;
    forget_old(db).await.unwrap();
    assert_eq!(till.app.rows("idempotency").await, 1, "the settled one's went");
    let again = till.pay("open", &card(&bill, "100.00", "tok_timeout_charged")).await;
    assert_eq!((again.status, id(&again.body)), (202, id(&payment)));
    assert_eq!(till.charges().await, 1);
    assert_eq!(settle(&till, &payment, &[], failed()).await.status, 200);
    forget_old(db).await.unwrap();
    assert_eq!(till.app.rows("idempotency").await, 0);
    eventually("its event", async || {
        (!till.app.topic("payment.failed").await.is_empty()).then_some(())
    })
    .await;
}
