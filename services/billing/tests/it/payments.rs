use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

use crate::till::{Till, card, cash, cents, id};

#[tokio::test]
async fn a_bill_is_paid_in_parts_to_the_last_cent_and_no_further() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    let first = till.pay("1", &cash(&bill, "50.00")).await;
    assert_eq!((first.status, &first.body["status"]), (201, &"succeeded".into()), "{}", first.text);
    assert!(first.headers["location"].to_str().unwrap().ends_with(id(&first.body)));
    till.assert_bill(&bill, "partially-paid", 5000, 0).await;
    let over = till.pay("2", &cash(&bill, "70.01")).await;
    assert_eq!((over.status, over.code()), (409, "overpayment"));
    assert_eq!(cents(&over.body["outstanding"]), 7000);
    for (key, method) in [("3", "cheque"), ("4", "transfer")] {
        let mut body = cash(&bill, "35.00");
        body["method"] = method.into();
        body["reference"] = format!("slip {key}").into();
        assert_eq!(till.pay(key, &body).await.status, 201, "{method}");
    }
    till.assert_bill(&bill, "paid", 12_000, 0).await;
    let after = till.pay("5", &cash(&bill, "0.01")).await;
    assert_eq!((after.status, after.code()), (409, "overpayment"));
    assert_eq!(cents(&after.body["outstanding"]), 0);
    let events = till.app.topic_of("payment.completed", 3).await;
    let told: Vec<i64> = events
        .iter()
        .map(|e| cents(&serde_json::from_slice::<Value>(&e.value).unwrap()["amount"]))
        .collect();
    assert_eq!((told, events[0].key.as_deref()), (vec![5000, 3500, 3500], Some(id(&bill))));
}

#[tokio::test]
async fn an_amount_may_be_an_exact_number() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    let body = format!(
        r#"{{"billId": {}, "amount": {{"amount": 19.99, "currency": "USD"}}, "method": "cash"}}"#,
        bill["id"]
    );
    let reply = till.app.post_raw("/payments", &till.cashier, "application/json", body).await;
    assert_eq!((reply.status, cents(&reply.body["amount"])), (201, 1999), "{}", reply.text);
}

#[tokio::test]
async fn a_repeated_key_gets_the_first_answer_and_charges_once() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    for (key, body) in [
        ("cash", cash(&bill, "10.00")),
        ("card", card(&bill, "10.00", "tok_ok")),
        ("no", card(&bill, "10.00", "tok_declined")),
        ("over", cash(&bill, "999.00")),
    ] {
        let first = till.pay(key, &body).await;
        assert!(!first.headers.contains_key("idempotent-replayed"), "{key}");
        for _ in 0..2 {
            let again = till.pay(key, &body).await;
            assert_eq!((again.status, &again.text), (first.status, &first.text), "{key}");
            assert_eq!(again.headers["idempotent-replayed"], "true", "{key}");
        }
    }
    till.assert_bill(&bill, "partially-paid", 2000, 0).await;
    assert_eq!(till.app.rows("payment").await, 3);
    assert_eq!(till.charges().await, 1);
}

#[tokio::test]
async fn a_key_is_for_one_request_of_one_caller() {
    let till = Till::open().await;
    let (bill, other) = (till.booked("consultation").await, till.booked("consultation").await);
    assert_eq!(till.pay("k", &cash(&bill, "10.00")).await.status, 201);
    for body in [cash(&bill, "10.01"), cash(&other, "10.00"), card(&bill, "10.00", "tok_ok")] {
        let reply = till.pay("k", &body).await;
        assert_eq!((reply.status, reply.code()), (422, "idempotency-key-reused"), "{body}");
    }
    // The order of members and white space are no difference.
    let same = format!(
        r#"{{ "method":"cash",  "amount": {{"currency": "USD", "amount": "10.00"}}, "billId": {} }}"#,
        bill["id"]
    );
    let request = till.app.request(reqwest::Method::POST, "/payments").bearer_auth(&till.cashier);
    let request = request.header("idempotency-key", "k").header("content-type", "application/json");
    let reply = hospital_testkit::read(request.body(same)).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    let colleague = till.app.sign("another", &[hospital_types::Role::Cashier], None);
    let theirs = till.app.post_keyed("/payments", &colleague, "k", &cash(&bill, "10.00")).await;
    assert_eq!(theirs.status, 201);
    till.assert_bill(&bill, "partially-paid", 2000, 0).await;
}

#[tokio::test]
async fn any_payments_in_any_order_leave_a_bill_that_adds_up() {
    let till = Till::open().await;
    let amounts = || prop_oneof![1..3000_i64, 3000..15_000_i64];
    let methods = prop::sample::select(vec!["cash", "tok_ok", "tok_declined", "tok_insufficient"]);
    let orders = prop::collection::vec((amounts(), methods), 1..12);
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        prop::test_runner::TestRng::deterministic_rng(Default::default()),
    );
    for round in 0..12 {
        let order = orders.new_tree(&mut runner).unwrap().current();
        let bill = till.booked("consultation").await;
        let mut paid = 0;
        for (place, (amount, how)) in order.iter().enumerate() {
            let text = format!("{}.{:02}", amount / 100, amount % 100);
            let body = if *how == "cash" { cash(&bill, &text) } else { card(&bill, &text, how) };
            let reply = till.pay(&format!("{round}-{place}"), &body).await;
            let fits = paid + amount <= 12_000;
            let expected = match (fits, *how) {
                (false, _) => 409,
                (true, "tok_declined" | "tok_insufficient") => 402,
                (true, _) => 201,
            };
            assert_eq!(reply.status, expected, "{order:?} at {place}: {}", reply.text);
            if expected == 201 {
                paid += amount;
            }
            let status = match paid {
                0 => "issued",
                12_000 => "paid",
                _ => "partially-paid",
            };
            till.assert_bill(&bill, status, paid, 0).await;
        }
    }
}

#[tokio::test]
async fn bills_in_other_currencies_count_in_their_own_units() {
    let till = Till::open().await;
    for (code, amount, currency) in [("tokyo", "1500", "JPY"), ("kuwait", "1.234", "KWD")] {
        let body = json!({"name": code, "price": {"amount": amount, "currency": currency}});
        assert_eq!(
            till.app.put(&format!("/service-types/{code}"), &till.cashier, &body).await.status,
            201
        );
        let bill = till.booked(code).await;
        assert_eq!(bill["total"], json!({"amount": amount, "currency": currency}));
        let mut body = cash(&bill, amount);
        let wrong = till.pay(&format!("{code}-usd"), &cash(&bill, "1.00")).await;
        assert_eq!((wrong.status, wrong.code()), (422, "currency-mismatch"));
        body["amount"]["currency"] = currency.into();
        assert_eq!(till.pay(code, &body).await.status, 201);
        assert_eq!(till.bill(&bill).await["status"], "paid");
    }
}
