use serde_json::{Value, json};

use crate::till::{Till, card, cash, id};

/// A change of a good payment, and how it is answered.
type Case = (&'static str, fn(&mut Value), u16, &'static str);

const PAYMENTS: [Case; 30] = [
    ("no bill", |b| drop(b.as_object_mut().unwrap().remove("billId")), 400, "invalid-body"),
    ("a bill that is null", |b| b["billId"] = Value::Null, 400, "invalid-body"),
    ("a bill that is a number", |b| b["billId"] = 7.into(), 400, "invalid-body"),
    ("a bill that is no id", |b| b["billId"] = "x".into(), 422, "bill-unknown"),
    ("a bill by SQL", |b| b["billId"] = "' OR 1=1 --".into(), 422, "bill-unknown"),
    (
        "a bill that does not exist",
        |b| b["billId"] = "018f0000-0000-7000-8000-000000000000".into(),
        422,
        "bill-unknown",
    ),
    ("no amount", |b| drop(b.as_object_mut().unwrap().remove("amount")), 400, "invalid-body"),
    ("an amount without money", |b| b["amount"] = "10.00".into(), 400, "invalid-body"),
    ("an amount of true", |b| b["amount"]["amount"] = true.into(), 400, "invalid-body"),
    ("nothing", |b| b["amount"]["amount"] = "0".into(), 422, "amount-invalid"),
    ("nothing, exactly", |b| b["amount"]["amount"] = "0.00".into(), 422, "amount-invalid"),
    ("a cent back", |b| b["amount"]["amount"] = "-0.01".into(), 422, "amount-invalid"),
    ("minus one, as a number", |b| b["amount"]["amount"] = json!(-1), 422, "amount-invalid"),
    ("a third decimal", |b| b["amount"]["amount"] = "199.999".into(), 422, "amount-invalid"),
    ("a third decimal of zero", |b| b["amount"]["amount"] = "5.000".into(), 422, "amount-invalid"),
    ("an exponent", |b| b["amount"]["amount"] = "1e2".into(), 422, "amount-invalid"),
    ("NaN", |b| b["amount"]["amount"] = "NaN".into(), 422, "amount-invalid"),
    ("infinity", |b| b["amount"]["amount"] = "Infinity".into(), 422, "amount-invalid"),
    ("an empty amount", |b| b["amount"]["amount"] = "".into(), 422, "amount-invalid"),
    ("a space", |b| b["amount"]["amount"] = " 1.00".into(), 422, "amount-invalid"),
    ("a thousands separator", |b| b["amount"]["amount"] = "1,000.00".into(), 422, "amount-invalid"),
    (
        "more than can be counted",
        |b| b["amount"]["amount"] = "92233720368547758.08".into(),
        422,
        "amount-invalid",
    ),
    ("another currency", |b| b["amount"]["currency"] = "EUR".into(), 422, "currency-mismatch"),
    ("no currency at all", |b| b["amount"]["currency"] = "DOLLARS".into(), 422, ""),
    ("barter", |b| b["method"] = "barter".into(), 422, ""),
    ("a card without a token", |b| b["method"] = "card".into(), 422, ""),
    ("cash with a token", |b| b["cardToken"] = "tok_ok".into(), 422, ""),
    ("a status of one's own", |b| b["status"] = "succeeded".into(), 400, "invalid-body"),
    (
        "an id of one's own",
        |b| b["id"] = "018f0000-0000-7000-8000-000000000000".into(),
        400,
        "invalid-body",
    ),
    ("NUL in the reference", |b| b["reference"] = "a\0b".into(), 422, ""),
];

#[tokio::test]
async fn a_payment_that_makes_no_sense_is_refused_and_leaves_nothing() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    for (place, (what, change, status, code)) in PAYMENTS.into_iter().enumerate() {
        let mut body = cash(&bill, "10.00");
        change(&mut body);
        let reply = till.pay(&format!("k{place}"), &body).await;
        assert_eq!(reply.status, status, "{what}: {}", reply.text);
        assert_eq!(reply.headers["content-type"], "application/problem+json", "{what}");
        let codes: Vec<&str> = reply.body["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|e| e["code"].as_str())
            .collect();
        assert!(
            reply.code() == code || codes.contains(&code) || code.is_empty(),
            "{what}: {}",
            reply.text
        );
    }
    for raw in [
        r#"{"amount": {"amount": 1e400, "currency": "USD"}"#,
        r#"{"billId": "a", "billId": "b"}"#,
        "",
        "null",
        "[]",
        "\"x\"",
        "{} trailing",
    ] {
        let reply = till.app.post_raw("/payments", &till.cashier, "application/json", raw).await;
        assert_eq!(reply.status, 400, "{raw}: {}", reply.text);
    }
    let huge = format!(
        r#"{{"billId": {}, "amount": {{"amount": 1e400, "currency": "USD"}}, "method": "cash"}}"#,
        bill["id"]
    );
    let reply = till.app.post_raw("/payments", &till.cashier, "application/json", huge).await;
    assert_eq!(reply.status, 422, "{}", reply.text);
    assert_eq!(till.app.rows("payment").await, 0);
    assert_eq!(till.app.topic("payment.failed").await.len(), 0);
    till.assert_bill(&bill, "issued", 0, 0).await;
    assert_eq!(till.pay("good", &cash(&bill, "10.00")).await.status, 201);
}

#[tokio::test]
async fn a_card_number_is_refused_wherever_it_is_and_kept_nowhere() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    let number = "4111111111111111";
    let mut in_reference = cash(&bill, "10.00");
    in_reference["reference"] = "4111 1111 1111 1111".into();
    for (key, body) in [("token", card(&bill, "10.00", number)), ("reference", in_reference)] {
        let reply = till.pay(key, &body).await;
        assert_eq!((reply.status, reply.code()), (422, "card-number"), "{}", reply.text);
        assert!(!reply.text.contains("4111"), "{}", reply.text);
    }
    assert_eq!((till.app.rows("payment").await, till.app.rows("idempotency").await), (0, 0));
}

#[tokio::test]
async fn a_payment_needs_a_key_that_can_be_one() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    let without = till.app.post("/payments", &till.cashier, &cash(&bill, "1.00")).await;
    assert_eq!((without.status, without.code()), (400, "idempotency-key-missing"));
    let long = "k".repeat(256);
    for key in ["", &long, "a\tb", "schlüssel"] {
        let request =
            till.app.request(reqwest::Method::POST, "/payments").bearer_auth(&till.cashier);
        let key = reqwest::header::HeaderValue::from_bytes(key.as_bytes()).unwrap();
        let reply = hospital_testkit::read(
            request.header("idempotency-key", key).json(&cash(&bill, "1.00")),
        )
        .await;
        assert_eq!((reply.status, reply.code()), (400, "idempotency-key-invalid"));
    }
    assert_eq!(till.pay(&"k".repeat(255), &cash(&bill, "1.00")).await.status, 201);
}

#[tokio::test]
async fn lines_that_make_no_sense_are_refused_and_leave_nothing() {
    let till = Till::open().await;
    let bill = till.booked("surgery").await;
    let path = format!("/bills/{}/lines", id(&bill));
    let line = |change: fn(&mut Value)| {
        let mut line = json!({"code": "a", "description": "b", "quantity": 1, "unitPrice": {"amount": "5.00", "currency": "USD"}});
        change(&mut line);
        json!([line])
    };
    let many: Vec<Value> = (0..201).map(|_| line(|_| {})[0].clone()).collect();
    for (what, body, status) in [
        ("no list", line(|_| {})[0].clone(), 400),
        ("no lines", json!([]), 422),
        ("201 lines", Value::from(many), 422),
        ("quantity 0", line(|l| l["quantity"] = 0.into()), 422),
        ("quantity 1.5", line(|l| l["quantity"] = json!(1.5)), 422),
        ("quantity 10,001", line(|l| l["quantity"] = 10_001.into()), 422),
        ("a negative price", line(|l| l["unitPrice"]["amount"] = "-0.01".into()), 422),
        ("another currency", line(|l| l["unitPrice"]["currency"] = "EUR".into()), 422),
        (
            "a total beyond counting",
            line(|l| {
                l["quantity"] = 10_000.into();
                l["unitPrice"]["amount"] = "92233720368547758.07".into();
            }),
            422,
        ),
        ("an empty code", line(|l| l["code"] = "".into()), 422),
        ("an amount of one's own", line(|l| l["amount"] = "1".into()), 400),
    ] {
        let reply = till.app.post(&path, &till.cashier, &body).await;
        assert_eq!(reply.status, status, "{what}: {}", reply.text);
    }
    assert_eq!(till.app.rows("bill_line").await, 0);
    for (id, status) in [("x", 404), ("018f0000-0000-7000-8000-000000000000", 404)] {
        let reply =
            till.app.post(&format!("/bills/{id}/lines"), &till.cashier, &json!("nonsense")).await;
        assert_eq!(reply.status, status);
    }
}

#[tokio::test]
async fn a_price_is_a_price_or_made_at_the_visit() {
    let till = Till::open().await;
    for (what, code, body, status) in [
        ("neither", "x", json!({"name": "x"}), 422),
        (
            "both",
            "x",
            json!({"name": "x", "pricedAtVisit": true, "price": {"amount": "1.00", "currency": "USD"}}),
            422,
        ),
        (
            "negative",
            "x",
            json!({"name": "x", "price": {"amount": "-1.00", "currency": "USD"}}),
            422,
        ),
        ("no name", "x", json!({"pricedAtVisit": true}), 400),
        ("a code in capitals", "X", json!({"name": "x", "pricedAtVisit": true}), 404),
        ("a long code", &"x".repeat(65), json!({"name": "x", "pricedAtVisit": true}), 404),
    ] {
        let reply = till.app.put(&format!("/service-types/{code}"), &till.cashier, &body).await;
        assert_eq!(reply.status, status, "{what}: {}", reply.text);
    }
    assert_eq!(till.app.rows("service_type").await, 1);
}

#[tokio::test]
async fn a_query_that_makes_no_sense_is_refused() {
    let till = Till::open().await;
    for path in [
        "/bills?limit=0",
        "/bills?limit=-1",
        "/bills?limit=201",
        "/bills?limit=1e9",
        "/bills?cursor=x",
        "/bills?status=lost",
        "/bills?patientId=x",
        "/bills?unknown=1",
        "/payments?billId=x",
        "/payments?status=x",
        "/payments?reference=%00",
        "/service-types?limit=x",
    ] {
        let reply = till.app.get(path, &till.cashier).await;
        assert_eq!(reply.status, 400, "{path}: {}", reply.text);
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_404_whatever_its_name() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    let payment = till.pay("k", &cash(&bill, "1.00")).await;
    let long = "a".repeat(200);
    // Each one's id is another type's in the other's place.
    for (list, other) in [("bills", id(&payment.body)), ("payments", id(&bill))] {
        let odd = ["x", "1", "..%2f..%2fetc%2fpasswd", "%27%20OR%201=1%20--", "%00", &long];
        let unknown = "018f0000-0000-7000-8000-000000000000";
        for name in odd.into_iter().chain([other, unknown]) {
            let reply = till.app.get(&format!("/{list}/{name}"), &till.cashier).await;
            assert_eq!((reply.status, reply.code()), (404, "not-found"), "/{list}/{name}");
        }
    }
    let mut body = cash(&bill, "1.00");
    for name in [id(&payment.body), &long, "../..", "' OR 1=1 --"] {
        body["billId"] = name.into();
        let reply = till.pay(&name[..4], &body).await;
        assert_eq!((reply.status, reply.code()), (422, "bill-unknown"), "{name}");
    }
    assert_eq!(till.app.rows("payment").await, 1);
}
