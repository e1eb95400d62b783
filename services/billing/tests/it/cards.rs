use serde_json::Value;

use crate::till::{Till, card, cash, id};

#[tokio::test]
async fn a_declined_card_leaves_the_bill_as_it_was_and_says_so() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    for (place, (token, code)) in [
        ("tok_declined", "card-declined"),
        ("tok_insufficient", "insufficient-funds"),
        ("tok_never_heard_of", "card-declined"),
    ]
    .into_iter()
    .enumerate()
    {
        let reply = till.pay(token, &card(&bill, "120.00", token)).await;
        assert_eq!((reply.status, reply.code()), (402, "payment-declined"), "{}", reply.text);
        let payment = reply.body["paymentId"].as_str().unwrap();
        till.settled(payment, "failed").await;
        let events = till.app.topic_of("payment.failed", place + 1).await;
        let event: Value = serde_json::from_slice(&events.last().unwrap().value).unwrap();
        assert!(
            events.iter().any(|e| {
                let event: Value = serde_json::from_slice(&e.value).unwrap();
                event["paymentId"] == payment && event["code"] == code
            }),
            "{event}"
        );
    }
    till.assert_bill(&bill, "issued", 0, 0).await;
    assert_eq!(till.app.topic("payment.completed").await.len(), 0);
    assert_eq!(till.charges().await, 0);
}

#[tokio::test]
async fn without_an_answer_the_amount_stays_reserved_until_the_gateway_is_heard() {
    let till = Till::open().await;
    for (token, becomes, paid, topic) in [
        ("tok_timeout_charged", "succeeded", 10_000, "payment.completed"),
        ("tok_timeout", "failed", 0, "payment.failed"),
    ] {
        let bill = till.booked("consultation").await;
        let reply = till.pay(token, &card(&bill, "100.00", token)).await;
        assert_eq!(
            (reply.status, &reply.body["status"]),
            (202, &"unknown".into()),
            "{}",
            reply.text
        );
        let payment = id(&reply.body).to_owned();
        till.settled(&payment, becomes).await;
        till.assert_bill(&bill, if paid > 0 { "partially-paid" } else { "issued" }, paid, 0).await;
        let events = till.app.topic_of(topic, 1).await;
        assert_eq!(events.len(), 1);
        // The key keeps its first answer; what became of the payment is read at its address.
        let again = till.pay(token, &card(&bill, "100.00", token)).await;
        assert_eq!((again.status, &again.text), (202, &reply.text));
        assert_eq!(again.headers["idempotent-replayed"], "true");
    }
    assert_eq!(till.charges().await, 1);
}

#[tokio::test]
async fn what_is_reserved_cannot_be_paid_twice() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    // The gateway takes three seconds: longer than the service waits, and the reconciler is told that it is at work.
    let slow = till.pay("slow", &card(&bill, "100.00", "tok_slow")).await;
    assert_eq!(slow.status, 202, "{}", slow.text);
    till.assert_bill(&bill, "issued", 0, 10_000).await;
    let over = till.pay("over", &cash(&bill, "20.01")).await;
    assert_eq!((over.status, over.code()), (409, "overpayment"));
    assert_eq!(till.pay("rest", &cash(&bill, "20.00")).await.status, 201);
    till.settled(id(&slow.body), "succeeded").await;
    till.assert_bill(&bill, "paid", 12_000, 0).await;
}

#[tokio::test]
async fn a_crash_between_the_charge_and_its_record_charges_once() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    let reply = till.pay("k", &card(&bill, "100.00", "tok_ok")).await;
    let payment = id(&reply.body).to_owned();
    // As if the process had died after the gateway charged: the payment pending and due, no answer stored, no event.
    let crashed = format!(
        "UPDATE billing.payment SET status = 'pending', settled_at = NULL WHERE id = '{payment}';
         INSERT INTO billing.job (kind, key, payload, held_until)
         VALUES ('payment.reconcile', '{payment}', '{{\"payment\": \"{payment}\"}}', now() + interval '1 hour');
         UPDATE billing.bill SET paid = 0, reserved = 10000;
         UPDATE billing.idempotency SET status = NULL, headers = NULL, body = NULL WHERE key = 'k'"
    );
    till.app.db.execute(&crashed).await.unwrap();
    till.assert_bill(&bill, "issued", 0, 10_000).await;
    let meanwhile = till.pay("k", &card(&bill, "100.00", "tok_ok")).await;
    assert_eq!((meanwhile.status, meanwhile.code()), (409, "idempotency-key-in-progress"));
    assert_eq!(meanwhile.headers["retry-after"], "1");
    till.app.db.execute("UPDATE billing.job SET held_until = now()").await.unwrap();
    till.settled(&payment, "succeeded").await;
    till.assert_bill(&bill, "partially-paid", 10_000, 0).await;
    let again = till.pay("k", &card(&bill, "100.00", "tok_ok")).await;
    assert_eq!((again.status, again.body["id"].as_str()), (201, Some(payment.as_str())));
    assert_eq!((till.charges().await, till.app.rows("payment").await), (1, 1));
}

#[tokio::test]
async fn a_crash_before_the_charge_charges_nothing() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    let reply = till.pay("k", &card(&bill, "100.00", "tok_ok")).await;
    let payment = id(&reply.body).to_owned();
    let crashed = format!(
        "DELETE FROM billing.sandbox_charge;
         UPDATE billing.bill SET paid = 0, reserved = 10000;
         UPDATE billing.payment SET status = 'pending', settled_at = NULL WHERE id = '{payment}';
         INSERT INTO billing.job (kind, key, payload)
         VALUES ('payment.reconcile', '{payment}', '{{\"payment\": \"{payment}\"}}')"
    );
    till.app.db.execute(&crashed).await.unwrap();
    till.settled(&payment, "failed").await;
    till.assert_bill(&bill, "issued", 0, 0).await;
    assert_eq!(till.charges().await, 0);
    // A charge that arrives after all is refused by the gateway, which was told that nobody waits for it.
    let outcome: String =
        till.app.db.value("SELECT outcome FROM billing.sandbox_charge").await.unwrap();
    assert_eq!(outcome, "void");
}
