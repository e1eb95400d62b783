//! Amounts at the edge of what can be counted.

use serde_json::{Value, json};

use crate::till::{Till, card, cash, id};

/// The largest amount of 64 bits, the smallest that is not kept any more, and what is between.
const TOO_LARGE: [&str; 4] =
    ["92233720368547758.07", "92233720368547758.06", "46116860184273878.03", "10000000000000.00"];

#[tokio::test]
async fn an_amount_that_cannot_be_kept_is_refused_wherever_it_comes_in() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    assert_eq!(till.pay("one", &cash(&bill, "1.00")).await.status, 201);
    let draft = till.booked("surgery").await;
    let lines = format!("/bills/{}/lines", id(&draft));
    for amount in TOO_LARGE {
        for body in [cash(&bill, amount), card(&bill, amount, "tok_ok")] {
            let reply = till.pay(amount, &body).await;
            assert_eq!((reply.status, reply.code()), (422, "amount-invalid"), "{}", reply.text);
        }
        let price = json!({"amount": amount, "currency": "USD"});
        let entry = json!({"name": "x", "price": price});
        let reply = till.app.put("/service-types/x", &till.cashier, &entry).await;
        assert_eq!((reply.status, reply.code()), (422, "amount-invalid"), "{}", reply.text);
        let line = json!([{"code": "a", "description": "b", "quantity": 1, "unitPrice": price}]);
        let reply = till.app.post(&lines, &till.cashier, &line).await;
        assert_eq!((reply.status, reply.code()), (422, "amount-invalid"), "{}", reply.text);
    }
    till.assert_bill(&bill, "partially-paid", 100, 0).await;
    assert_eq!(till.app.rows("bill_line").await, 1);
}

#[tokio::test]
async fn what_is_kept_one_by_one_and_not_together_is_refused_together() {
    let till = Till::open().await;
    let draft = till.booked("surgery").await;
    let lines = format!("/bills/{}/lines", id(&draft));
    let line = |quantity: i32, price: &str| -> Value {
        json!({"code": "a", "description": "b", "quantity": quantity,
               "unitPrice": {"amount": price, "currency": "USD"}})
    };
    for body in [
        json!([line(10_000, "1000000000.00")]),
        json!([line(1, "9999999999999.99"), line(1, "0.01")]),
    ] {
        let reply = till.app.post(&lines, &till.cashier, &body).await;
        assert_eq!((reply.status, reply.code()), (422, "amount-invalid"), "{}", reply.text);
    }
    let most = json!([line(1, "9999999999999.98"), line(1, "0.01")]);
    assert_eq!(till.app.post(&lines, &till.cashier, &most).await.status, 200);
    let more = till.app.post(&lines, &till.cashier, &json!([line(1, "0.01")])).await;
    assert_eq!((more.status, more.code()), (422, "amount-invalid"), "{}", more.text);
    let issue = format!("/bills/{}/issue", id(&draft));
    assert_eq!(till.app.post_empty(&issue, &till.cashier).await.status, 200);
    // The most that there is, paid, and nothing overflows beside it.
    assert_eq!(till.pay("all", &cash(&draft, "9999999999999.99")).await.status, 201);
    for key in ["again", "and again"] {
        let over = till.pay(key, &cash(&draft, "9999999999999.99")).await;
        assert_eq!((over.status, over.code()), (409, "overpayment"), "{}", over.text);
    }
}
