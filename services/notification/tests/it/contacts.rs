use hospital_contracts::{
    billing::BillGenerated,
    patient::{PatientFacts, PatientStatus, PatientUpdated},
};
use hospital_testkit::eventually;
use hospital_types::PatientId;

use crate::post::Post;

#[tokio::test]
async fn a_patient_without_an_address_is_undeliverable() {
    let post = Post::open().await;
    let patient = post.patient(None).await;
    post.booked(patient).await;
    let messages = post.told(patient, &["undeliverable"]).await;
    assert_eq!(messages[0]["recipient"], serde_json::Value::Null);
    let reason: String = post.app.db.value("SELECT error FROM notification.message").await.unwrap();
    assert_eq!(reason, "the patient has no e-mail address");
}

#[tokio::test]
async fn a_patient_whom_the_patient_service_does_not_know_to_the_last_is_undeliverable() {
    let post = Post::with(|config| config.notification.retry_after_s = vec![0, 0]).await;
    let patient = PatientId::new();
    post.booked(patient).await;
    post.told(patient, &["undeliverable"]).await;
    assert_eq!(post.patients.asked(), 3);
    let reason: String = post.app.db.value("SELECT error FROM notification.message").await.unwrap();
    assert_eq!(reason, "the patient service does not know the patient");
    // There is something new to tell them, and by now the patient service knows them.
    post.patients.set(patient, 1, Some("zoe@example.org"));
    post.booked(patient).await;
    post.told(patient, &["undeliverable", "sent"]).await;
}

#[tokio::test]
async fn a_patient_whom_the_patient_service_does_not_know_yet_is_asked_for_again() {
    let post = Post::with(|config| config.notification.retry_after_s = vec![0; 1000]).await;
    let patient = PatientId::new();
    post.booked(patient).await;
    eventually("two answers that there is no such patient", async || {
        (post.patients.asked() >= 2).then_some(())
    })
    .await;
    post.told(patient, &["pending"]).await;
    post.patients.set(patient, 1, Some("zoe@example.org"));
    post.told(patient, &["sent"]).await;
}

#[tokio::test]
async fn a_404_of_another_service_ends_nobodys_messages() {
    let post = Post::with(|config| config.notification.retry_after_s = vec![0]).await;
    post.patients.misdirect(true);
    let patient = post.patient(Some("zoe@example.org")).await;
    post.booked(patient).await;
    eventually("four answers of another service", async || {
        (post.patients.asked() >= 4).then_some(())
    })
    .await;
    post.told(patient, &["pending"]).await;
    post.patients.misdirect(false);
    post.told(patient, &["sent"]).await;
}

#[tokio::test]
async fn a_patient_database_put_back_from_before_leaves_known_addresses_in_use() {
    let post = Post::open().await;
    let patient = post.patient(Some("zoe@example.org")).await;
    post.booked(patient).await;
    post.told(patient, &["sent"]).await;
    post.patients.forget(patient);
    let facts = PatientFacts { patient_id: patient, version: 2, status: PatientStatus::Active };
    post.consumed(&PatientUpdated(facts)).await;
    post.booked(patient).await;
    post.told(patient, &["sent", "sent"]).await;
    assert!(post.patients.asked() >= 2);
}

#[tokio::test]
async fn messages_go_to_the_address_that_was_announced_last() {
    let post = Post::open().await;
    let patient = post.patient(Some("old@example.org")).await;
    post.booked(patient).await;
    post.told(patient, &["sent"]).await;
    post.patients.set(patient, 2, Some("new@elsewhere.org"));
    let facts = PatientFacts { patient_id: patient, version: 2, status: PatientStatus::Active };
    post.consumed(&PatientUpdated(facts)).await;
    post.app.publish(&BillGenerated(post.bill(patient))).await;
    let messages = post.told(patient, &["sent", "sent"]).await;
    assert_eq!(
        (&messages[0]["recipient"], &messages[1]["recipient"]),
        (&"o***@e***.org".into(), &"n***@e***.org".into())
    );
}

#[tokio::test]
async fn while_the_patient_service_is_away_known_addresses_are_used_and_unknown_ones_waited_for() {
    let post = Post::open().await;
    let known = post.patient(Some("known@example.org")).await;
    post.booked(known).await;
    post.told(known, &["sent"]).await;
    post.patients.fail(true);
    // Of this one there is news that cannot be asked for, and an address from before.
    let facts = PatientFacts { patient_id: known, version: 2, status: PatientStatus::Active };
    post.consumed(&PatientUpdated(facts)).await;
    let unknown = PatientId::new();
    post.patients.set(unknown, 1, Some("unknown@example.org"));
    post.registered(unknown, 1).await;
    post.booked(unknown).await;
    post.booked(known).await;
    post.told(known, &["sent", "sent"]).await;
    post.told(unknown, &["pending"]).await;
    post.patients.fail(false);
    post.told(unknown, &["sent"]).await;
}

#[tokio::test]
async fn an_older_answer_does_not_replace_a_newer_one() {
    let post = Post::open().await;
    let patient = post.patient(Some("first@example.org")).await;
    // The patient service is asked through a replica that lags: it answers with version 1 though 2 was announced.
    post.registered(patient, 2).await;
    eventually("the lagging answer", async || {
        let sql = "SELECT EXISTS (SELECT 1 FROM notification.contact WHERE known_version = 1 AND wanted_version = 2)";
        post.app.db.value::<bool>(sql).await.unwrap().then_some(())
    })
    .await;
    post.booked(patient).await;
    post.app.consumed("appointment.booked").await;
    post.told(patient, &["pending"]).await;
    post.patients.set(patient, 2, Some("second@example.org"));
    let messages = post.told(patient, &["sent"]).await;
    assert_eq!(messages[0]["recipient"], "s***@e***.org");
}
