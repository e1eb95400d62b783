use hospital_testkit::eventually;
use serde_json::Value;

use crate::till::{Till, cash, id};

async fn ids(till: &Till, path: &str) -> Vec<String> {
    let reply = till.app.get(path, &till.cashier).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.text);
    reply.body["items"].as_array().unwrap().iter().map(|item| id(item).to_owned()).collect()
}

#[tokio::test]
async fn lists_are_read_in_pages_that_miss_and_repeat_nothing() {
    let till = Till::open().await;
    let mut made = Vec::new();
    for n in 0..7 {
        let bill = till.booked("consultation").await;
        assert_eq!(till.pay(&n.to_string(), &cash(&bill, "1.00")).await.status, 201);
        made.push(id(&bill).to_owned());
    }
    for list in ["/bills", "/payments", "/service-types"] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let reply = till.app.get(&format!("{list}?limit=3{cursor}"), &till.cashier).await;
            let items = reply.body["items"].as_array().unwrap();
            assert!(items.len() <= 3);
            seen.extend(items.iter().map(Value::to_string));
            match reply.body["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let expected = if list == "/service-types" { 1 } else { 7 };
        let mut distinct = seen.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!((seen.len(), distinct.len()), (expected, expected), "{list}");
    }
    assert_eq!(ids(&till, "/bills").await, made);
}

#[tokio::test]
async fn filters_narrow_and_combine() {
    let till = Till::open().await;
    let (paid, draft) = (till.booked("consultation").await, till.booked("surgery").await);
    let mut body = cash(&paid, "120.00");
    body["reference"] = "receipt 7".into();
    let payment = till.pay("k", &body).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let patient = text(&paid["patientId"]);
    for (path, found) in [
        ("/bills?status=paid".to_owned(), vec![text(&paid["id"])]),
        ("/bills?status=draft".to_owned(), vec![text(&draft["id"])]),
        (format!("/bills?patientId={patient}"), vec![text(&paid["id"])]),
        (format!("/bills?patientId={patient}&status=draft"), vec![]),
        (
            format!("/bills?appointmentId={}", text(&draft["appointmentId"])),
            vec![text(&draft["id"])],
        ),
        ("/payments?status=succeeded".to_owned(), vec![text(&payment.body["id"])]),
        ("/payments?status=unknown".to_owned(), vec![]),
        (format!("/payments?billId={}", text(&paid["id"])), vec![text(&payment.body["id"])]),
        ("/payments?reference=receipt%207".to_owned(), vec![text(&payment.body["id"])]),
    ] {
        assert_eq!(ids(&till, &path).await, found, "{path}");
    }
}

/// A plan that fits every filter fits none: it would go through everybody's bills for one patient's.
#[tokio::test]
async fn a_list_is_found_by_an_index_however_many_there_are() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    let mut body = cash(&bill, "1.00");
    body["reference"] = "receipt 7".into();
    assert_eq!(till.pay("k", &body).await.status, 201);
    let others = "INSERT INTO billing.bill (id, version, number, appointment_id, patient_id, currency, exponent, total, state, back_dated,
                                            created_at)
                  SELECT gen_random_uuid(), 1, 'other ' || n, gen_random_uuid(), gen_random_uuid(), 'USD', 2, 100, 'issued', false, now()
                  FROM generate_series(1, 5000) AS n;
                  INSERT INTO billing.payment (id, version, bill_id, amount, currency, method, status, reference, caller, route, key,
                                               created_at)
                  SELECT gen_random_uuid(), 1, id, 1, 'USD', 'cash', 'succeeded', number, '', '', '', now() FROM billing.bill
                  WHERE number LIKE 'other %';
                  ANALYZE billing.bill, billing.payment";
    till.app.db.execute(others).await.unwrap();
    for (path, index) in [
        (format!("/bills?patientId={}", bill["patientId"].as_str().unwrap()), "bill_by_patient"),
        (format!("/payments?billId={}", id(&bill)), "payment_by_bill"),
        ("/payments?reference=receipt%207".to_owned(), "payment_by_reference"),
    ] {
        let before = till.app.db.searches(index).await.unwrap();
        for _ in 0..20 {
            assert_eq!(ids(&till, &path).await.len(), 1, "{path}");
        }
        eventually(&format!("{index} to be searched for {path}"), async || {
            (till.app.db.searches(index).await.unwrap() >= before + 20).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_read_carries_its_version() {
    let till = Till::open().await;
    let bill = till.booked("consultation").await;
    let reply = till.app.get(&format!("/bills/{}", id(&bill)), &till.cashier).await;
    assert_eq!(reply.headers["etag"], format!("\"{}\"", bill["version"]));
    assert!(reply.body["createdAt"].as_str().unwrap().ends_with('Z'));
}
