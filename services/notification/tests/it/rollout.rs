//! What the version before has left behind, or wants while both run, is asked for by this one.

use hospital_testkit::{empty_database, eventually};
use hospital_types::PatientId;

use crate::post::Post;

#[tokio::test]
async fn contacts_that_are_wanted_become_jobs_by_the_migration() {
    let db = empty_database().await.unwrap();
    let mut before = hospital_notification::schema();
    before.migrations.retain(|migration| migration.version() < 5);
    before.migrate(&db.owner_url(), Some("secret")).await.unwrap();
    let contacts = "
        INSERT INTO notification.contact (patient_id, wanted_version, known_version, next_fetch_at, failures)
        VALUES ('018f0000-0000-7000-8000-000000000001', 1, 0, now() + interval '1 minute', 3),
               ('018f0000-0000-7000-8000-000000000002', 1, 1, now(), 0),
               ('018f0000-0000-7000-8000-000000000003', 1, 0, 'infinity', 4)";
    db.execute(contacts).await.unwrap();
    hospital_notification::schema().migrate(&db.owner_url(), Some("secret")).await.unwrap();
    let jobs = "SELECT string_agg(concat_ws(' ', right(j.key, 1), j.kind, j.attempts, j.held_until = c.next_fetch_at,
                                           j.payload = jsonb_build_object('patient', c.patient_id)), ', ')
                FROM notification.job j JOIN notification.contact c ON c.patient_id::text = j.key";
    let jobs: String = db.value(jobs).await.unwrap();
    assert_eq!(jobs, "1 contact.sync 3 t t");
}

#[tokio::test]
async fn a_contact_that_the_version_before_wants_is_synced() {
    let post = Post::open().await;
    let patient = PatientId::new();
    post.patients.set(patient, 1, Some("zoe@example.org"));
    let wanted = format!(
        "SET ROLE hospital_notification;
         INSERT INTO notification.contact (patient_id, wanted_version) VALUES ('{patient}', 1)"
    );
    post.app.db.execute(&wanted).await.unwrap();
    let known = "SELECT email FROM notification.contact";
    eventually("the contact", async || post.app.db.value::<Option<String>>(known).await.unwrap())
        .await;
    post.patients.set(patient, 2, Some("new@example.org"));
    // As it wants news of a patient, and then takes the contact for itself.
    let news = "SET ROLE hospital_notification;
                UPDATE notification.contact SET wanted_version = 2, next_fetch_at = now(), missing = 0;
                UPDATE notification.contact SET next_fetch_at = now() + interval '10 seconds'";
    post.app.db.execute(news).await.unwrap();
    eventually("the news", async || {
        let known = post.app.db.value::<String>(known).await.unwrap();
        (known == "new@example.org").then_some(())
    })
    .await;
    eventually("nothing to be left to do", async || {
        (post.app.rows("job").await == 0).then_some(())
    })
    .await;
    // What this version wants is not the other's to fetch.
    post.registered(PatientId::new(), 1).await;
    let fetched = "SELECT count(*) FROM notification.contact WHERE next_fetch_at < 'infinity'";
    eventually("the second patient", async || (post.app.rows("contact").await == 2).then_some(()))
        .await;
    assert_eq!(post.app.db.value::<i64>(fetched).await.unwrap(), 0);
}
