use hospital_contracts::billing::{BillGenerated, PaymentCompleted};
use hospital_testkit::eventually;
use hospital_types::{PatientId, Role};

use crate::post::Post;

#[tokio::test]
async fn lists_are_filtered_and_read_in_pages() {
    let post = Post::open().await;
    let patient = post.patient(Some("zoe@example.org")).await;
    let facts = post.booked(patient).await;
    let (bill, payment) = (post.bill(patient), post.payment(patient, 0));
    post.consumed(&BillGenerated(bill.clone())).await;
    post.consumed(&PaymentCompleted(payment.clone())).await;
    post.told(patient, &["sent"; 3]).await;
    let other = post.patient(None).await;
    post.booked(other).await;
    post.told(other, &["undeliverable"]).await;
    for (query, count) in [
        (String::new(), 4),
        (format!("patientId={patient}"), 3),
        (format!("appointmentId={}", facts.appointment_id), 1),
        (format!("billId={}", bill.bill_id), 1),
        (format!("billId={}", payment.bill_id), 1),
        ("status=undeliverable".to_owned(), 1),
        (format!("status=dead&patientId={patient}"), 0),
    ] {
        let reply = post.app.get(&format!("/notifications?{query}"), &post.desk).await;
        assert_eq!(reply.body["items"].as_array().unwrap().len(), count, "{query}");
    }
    let first = post.app.get("/notifications?limit=3", &post.desk).await.body;
    let cursor = first["nextCursor"].as_str().unwrap();
    let second =
        post.app.get(&format!("/notifications?limit=3&cursor={cursor}"), &post.desk).await.body;
    let id =
        |page: &serde_json::Value, n: usize| page["items"][n]["id"].as_str().unwrap().to_owned();
    assert_eq!(
        (second["items"].as_array().unwrap().len(), &second["nextCursor"]),
        (1, &serde_json::Value::Null)
    );
    assert!(id(&first, 2) < id(&second, 0));
    let one = post.app.get(&format!("/notifications/{}", id(&first, 0)), &post.desk).await;
    assert_eq!((one.status, &one.body), (200, &first["items"][0]));
    assert_eq!(one.headers["etag"], format!("\"{}\"", one.body["version"]));
}

/// A plan that fits every filter fits none: it would go through everybody's messages for one patient's two.
#[tokio::test]
async fn a_list_is_found_by_an_index_however_many_there_are() {
    let post = Post::open().await;
    let patient = post.patient(Some("zoe@example.org")).await;
    let facts = post.booked(patient).await;
    let bill = post.bill(patient);
    post.consumed(&BillGenerated(bill.clone())).await;
    post.told(patient, &["sent"; 2]).await;
    let others = "INSERT INTO notification.delivery (id, event_id, kind, channel, patient_id, appointment_id, bill_id, subject, body,
                                                     status, created_at)
                  SELECT gen_random_uuid(), gen_random_uuid(), 'bill-issued', 'email', gen_random_uuid(), gen_random_uuid(),
                         gen_random_uuid(), '', '', 'undeliverable', now() FROM generate_series(1, 5000);
                  ANALYZE notification.delivery";
    post.app.db.execute(others).await.unwrap();
    for (query, index, count) in [
        (format!("patientId={patient}"), "delivery_by_patient", 2),
        (format!("appointmentId={}", facts.appointment_id), "delivery_by_appointment", 1),
        (format!("billId={}", bill.bill_id), "delivery_by_bill", 1),
    ] {
        let before = post.app.db.searches(index).await.unwrap();
        for _ in 0..20 {
            let reply = post.app.get(&format!("/notifications?{query}"), &post.desk).await;
            assert_eq!(reply.body["items"].as_array().unwrap().len(), count, "{query}");
        }
        eventually(&format!("{index} to be searched for {query}"), async || {
            (post.app.db.searches(index).await.unwrap() >= before + 20).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn messages_are_for_the_desk_for_on_call_and_for_whom_they_are_to() {
    let post = Post::open().await;
    let (patient, other) =
        (post.patient(Some("a@example.org")).await, post.patient(Some("b@example.org")).await);
    post.booked(patient).await;
    post.booked(other).await;
    let own = post.told(patient, &["sent"]).await[0].clone();
    let theirs = post.told(other, &["sent"]).await[0].clone();
    let path =
        |message: &serde_json::Value| format!("/notifications/{}", message["id"].as_str().unwrap());
    for (role, status) in [
        (Role::FrontDesk, 200),
        (Role::OnCall, 200),
        (Role::Admin, 200),
        (Role::Cashier, 403),
        (Role::Practitioner, 403),
        (Role::BillingManager, 403),
        (Role::Service, 403),
    ] {
        let token = post.app.token(&[role]);
        assert_eq!(post.app.get("/notifications", &token).await.status, status, "{role:?}");
        assert_eq!(post.app.get(&path(&own), &token).await.status, status, "{role:?}");
    }
    let token = post.app.patient_token(patient);
    let listed = post.app.get("/notifications", &token).await.body;
    assert_eq!(
        (listed["items"].as_array().unwrap().len(), &listed["items"][0]["id"]),
        (1, &own["id"])
    );
    assert_eq!(post.app.get(&path(&own), &token).await.status, 200);
    assert_eq!(post.app.get(&path(&theirs), &token).await.status, 404);
    let foreign = post.app.get(&format!("/notifications?patientId={other}"), &token).await;
    assert_eq!(foreign.body["items"], serde_json::json!([]));
    assert_eq!(post.app.get("/notifications", "").await.status, 401);
    assert_eq!(
        post.app.get(&path(&own), &post.app.patient_token(PatientId::new())).await.status,
        404
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let post = Post::open().await;
    for query in
        ["limit=0", "limit=201", "cursor=x", "status=lost", "patientId=x", "billId=1", "colour=red"]
    {
        let reply = post.app.get(&format!("/notifications?{query}"), &post.desk).await;
        assert_eq!(reply.status, 400, "{query}: {}", reply.text);
    }
    let patient = post.patient(Some("zoe@example.org")).await;
    let another = post.booked(patient).await.appointment_id.to_string();
    post.told(patient, &["sent"]).await;
    let unknown = "018f0000-0000-7000-8000-000000000000";
    for id in ["x", unknown, &another, "%27%20OR%201=1%20--", "..%2f..", "%00", &"a".repeat(200)] {
        let reply = post.app.get(&format!("/notifications/{id}"), &post.desk).await;
        assert_eq!((reply.status, reply.code()), (404, "not-found"), "{id}");
    }
    let posted = post.app.post("/notifications", &post.desk, &serde_json::json!({})).await;
    assert_eq!(
        (posted.status, posted.headers["allow"].to_str().unwrap().contains("GET")),
        (405, true)
    );
}
