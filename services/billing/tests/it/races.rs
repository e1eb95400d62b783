use std::collections::BTreeMap;

use futures_util::future::join_all;
use hospital_testkit::Response;
use serde_json::Value;

use crate::till::{Till, card, cash, cents};

/// Comes again when told that the first with this key is still running, as it may be for long on a busy machine.
async fn pay_patiently(till: &Till, key: &str, body: &Value) -> Response {
    loop {
        let reply = till.pay(key, body).await;
        if reply.status != 409 {
            return reply;
        }
        assert_eq!(reply.code(), "idempotency-key-in-progress");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_a_hundred_times_at_once_is_one_charge_and_a_hundred_equal_answers() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    for (key, body) in [("cash", cash(&bill, "10.00")), ("card", card(&bill, "10.00", "tok_ok"))] {
        let all = join_all((0..100).map(|_| pay_patiently(&till, key, &body))).await;
        assert!(
            all.iter().all(|reply| (reply.status, &reply.text) == (201, &all[0].text)),
            "{key}"
        );
    }
    till.assert_bill(&bill, "partially-paid", 2000, 0).await;
    assert_eq!((till.app.rows("payment").await, till.charges().await), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_payments_at_once_never_exceed_the_bill() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    let requests = (0..50).map(|n| {
        let body = if n % 2 == 0 { cash(&bill, "7.00") } else { card(&bill, "7.00", "tok_ok") };
        let till = &till;
        async move { till.pay(&n.to_string(), &body).await }
    });
    let mut statuses: BTreeMap<u16, i64> = BTreeMap::new();
    for reply in join_all(requests).await {
        *statuses.entry(reply.status).or_default() += 1;
    }
    // 17 times 7.00 is 119.00.
    assert_eq!(statuses, BTreeMap::from([(201, 17), (409, 33)]));
    till.assert_bill(&bill, "partially-paid", 11_900, 0).await;
    let events = till.app.topic_of("payment.completed", 17).await;
    let sum: i64 = events
        .iter()
        .map(|e| cents(&serde_json::from_slice::<Value>(&e.value).unwrap()["amount"]))
        .sum();
    assert_eq!((events.len(), sum), (17, 11_900));
    // The bill's versions in the order of the topic rise.
    let versions: Vec<i64> = events
        .iter()
        .map(|e| serde_json::from_slice::<Value>(&e.value).unwrap()["version"].as_i64().unwrap())
        .collect();
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn paying_and_cancelling_at_once_end_in_one_of_the_two() {
    let till = Till::open().await;
    for round in 0..10 {
        let bill = till.booked("consultation").await;
        let key = round.to_string();
        let body = cash(&bill, "120.00");
        let (reply, ()) = tokio::join!(till.pay(&key, &body), till.cancelled(&bill));
        let now = till.bill(&bill).await;
        match reply.status {
            201 => assert_eq!(
                (&now["status"], cents(&now["refundDue"])),
                (&"paid".into(), 12_000),
                "{now}"
            ),
            409 => assert_eq!(
                (reply.code(), &now["status"]),
                ("bill-not-payable", &"cancelled".into())
            ),
            other => panic!("{other}: {}", reply.text),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_issued_by_many_at_once_is_issued_once() {
    let till = Till::open().await;
    let bill = till.booked("surgery").await;
    let path = format!("/bills/{}", bill["id"].as_str().unwrap());
    let line = serde_json::json!([{"code": "a", "description": "b", "quantity": 1, "unitPrice": {"amount": "5.00", "currency": "USD"}}]);
    assert_eq!(till.app.post(&format!("{path}/lines"), &till.cashier, &line).await.status, 200);
    let issue = format!("{path}/issue");
    let replies = join_all((0..20).map(|_| till.step(&issue, None))).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 1);
    assert_eq!(replies.iter().filter(|reply| reply.code() == "bill-not-draft").count(), 19);
    assert_eq!(till.app.topic_of("bill.generated", 1).await.len(), 1);
}
