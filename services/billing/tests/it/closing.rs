//! The money of appointments that are cancelled while something was paid, or is being paid.

use serde_json::Value;

use crate::till::{Till, card, cash, cents, id};

#[tokio::test]
async fn the_bill_of_a_cancelled_appointment_takes_no_more_money() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    assert_eq!(till.pay("part", &cash(&bill, "40.00")).await.status, 201);
    till.cancelled(&bill).await;
    let more = [
        ("rest", cash(&bill, "60.00")),
        ("cent", cash(&bill, "0.01")),
        ("card", card(&bill, "60.00", "tok_ok")),
        ("too much", cash(&bill, "1000.00")),
    ];
    for (key, body) in more {
        let reply = till.pay(key, &body).await;
        assert_eq!(
            (reply.status, reply.code()),
            (409, "bill-not-payable"),
            "{key}: {}",
            reply.text
        );
    }
    let now = till.bill(&bill).await;
    let amounts = ["paid", "reserved", "outstanding", "refundDue"].map(|name| cents(&now[name]));
    assert_eq!(amounts, [4000, 0, 0, 4000], "{now}");
    assert_eq!((till.app.rows("payment").await, till.charges().await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_payment_and_a_cancellation_at_once_end_in_one_order() {
    let till = Till::open().await;
    for round in 0..10 {
        let bill = till.booked("consultation").await;
        assert_eq!(till.pay(&format!("{round}-a"), &cash(&bill, "40.00")).await.status, 201);
        let key = format!("{round}-b");
        let body =
            if round % 2 == 0 { cash(&bill, "60.00") } else { card(&bill, "60.00", "tok_ok") };
        let (reply, ()) = tokio::join!(till.pay(&key, &body), till.cancelled(&bill));
        let due = match reply.status {
            201 => 10_000,
            409 => 4000,
            other => panic!("{other}: {}", reply.text),
        };
        let now = till.bill(&bill).await;
        let amounts = ["paid", "reserved", "refundDue"].map(|name| cents(&now[name]));
        assert_eq!(amounts, [due, 0, due], "{now}");
        let after = till.pay(&format!("{round}-c"), &cash(&bill, "1.00")).await;
        assert_eq!((after.status, after.code()), (409, "bill-not-payable"));
    }
}

#[tokio::test]
async fn a_card_under_way_at_the_cancellation_is_settled_and_nothing_is_paid_beside_it() {
    // Nobody asks the gateway before the appointment is cancelled.
    let till = Till::with(|config| config.billing.reconcile_after_s = [3600; 3]).await;
    let outcomes = [
        ("tok_timeout_charged", "succeeded", 7000, "payment.completed"),
        ("tok_timeout", "failed", 4000, "payment.failed"),
    ];
    for (token, becomes, due, topic) in outcomes {
        let bill = till.booked("consultation").await;
        assert_eq!(till.pay(&format!("{token}-a"), &cash(&bill, "40.00")).await.status, 201);
        let slow = till.pay(token, &card(&bill, "30.00", token)).await;
        assert_eq!(slow.status, 202, "{}", slow.text);
        till.cancelled(&bill).await;
        till.app.db.execute("UPDATE billing.job SET held_until = now()").await.unwrap();
        till.settled(id(&slow.body), becomes).await;
        let beside = till.pay(&format!("{token}-b"), &cash(&bill, "30.00")).await;
        assert_eq!((beside.status, beside.code()), (409, "bill-not-payable"), "{token}");
        let now = till.bill(&bill).await;
        let amounts = ["paid", "reserved", "outstanding", "refundDue"].map(|n| cents(&now[n]));
        assert_eq!(amounts, [due, 0, 0, due], "{now}");
        let told = till.app.topic_of(topic, 1).await;
        let told: Vec<Value> =
            told.iter().map(|event| serde_json::from_slice(&event.value).unwrap()).collect();
        let told = told.iter().find(|event| event["paymentId"] == slow.body["id"]).unwrap();
        assert_eq!(cents(&told["outstanding"]), 0, "nothing of it is to be paid: {told}");
    }
}
