use std::time::Duration;

use hospital_testkit::{
    eventually, eventually_within,
    mail_server::{MailServer, Mood, header},
};

use crate::post::Post;

async fn with_server(script: &[Mood]) -> (Post, MailServer) {
    let server = MailServer::start(script).await;
    let smtp = server.config();
    let post = Post::with(|config| {
        config.notification.smtp = Some(smtp);
        config.notification.retry_after_s = vec![0, 0, 0];
    })
    .await;
    (post, server)
}

#[tokio::test]
async fn a_mail_server_gets_a_proper_letter() {
    let (post, server) = with_server(&[Mood::Accepts]).await;
    let patient = post.patient(Some("zoe@example.org")).await;
    post.booked(patient).await;
    let messages = post.told(patient, &["sent"]).await;
    let letters = server.taken();
    assert_eq!(letters.len(), 1);
    assert_eq!(header(&letters[0], "To"), "zoe@example.org");
    assert_eq!(header(&letters[0], "Subject"), "Your appointment - Sturdy Memorial");
    let id = messages[0]["id"].as_str().unwrap();
    assert_eq!(header(&letters[0], "Message-ID"), format!("<{id}@hospital.example>"));
    assert!(letters[0].contains("17 May 2035"));
    assert_eq!((&messages[0]["attempts"], messages[0]["sentAt"].is_string()), (&1.into(), true));
}

#[tokio::test]
async fn a_busy_mail_server_is_tried_again_until_it_takes_the_message() {
    let (post, server) = with_server(&[Mood::Busy, Mood::Busy, Mood::Accepts]).await;
    let patient = post.patient(Some("zoe@example.org")).await;
    post.booked(patient).await;
    let messages = post.told(patient, &["sent"]).await;
    assert_eq!((&messages[0]["attempts"], server.taken().len()), (&3.into(), 1));
}

#[tokio::test]
async fn a_refused_message_is_dead_at_once_and_holds_nobody_up() {
    let (post, server) = with_server(&[Mood::Refuses, Mood::Accepts]).await;
    let gone = post.patient(Some("gone@example.org")).await;
    post.booked(gone).await;
    let messages = post.told(gone, &["dead"]).await;
    assert_eq!(
        (&messages[0]["attempts"], &messages[0]["sentAt"]),
        (&1.into(), &serde_json::Value::Null)
    );
    let patient = post.patient(Some("zoe@example.org")).await;
    post.booked(patient).await;
    post.told(patient, &["sent"]).await;
    assert_eq!(server.taken().len(), 1);
    let reason: String = post
        .app
        .db
        .value("SELECT error FROM notification.message WHERE status = 'dead'")
        .await
        .unwrap();
    assert_eq!(reason, "the mail server: 550");
}

#[tokio::test]
async fn a_server_that_is_busy_for_good_makes_the_message_dead_in_the_end() {
    let (post, server) = with_server(&[Mood::Busy]).await;
    let patient = post.patient(Some("zoe@example.org")).await;
    post.booked(patient).await;
    let messages = post.told(patient, &["dead"]).await;
    assert_eq!((&messages[0]["attempts"], server.taken().len()), (&4.into(), 0));
}

#[tokio::test]
async fn a_line_that_drops_after_the_message_repeats_it_under_the_same_id() {
    let (post, server) = with_server(&[Mood::DropsAfterData, Mood::Accepts]).await;
    let patient = post.patient(Some("zoe@example.org")).await;
    post.booked(patient).await;
    post.told(patient, &["sent"]).await;
    let letters = server.taken();
    assert_eq!((letters.len(), &letters[0]), (2, &letters[1]));
}

#[tokio::test]
async fn a_mailbox_holds_the_same_letters() {
    let post = Post::open().await;
    let patient = post.patient(Some("zoe@example.org")).await;
    post.booked(patient).await;
    let messages = post.told(patient, &["sent"]).await;
    let mailbox = post.mailbox();
    let id = messages[0]["id"].as_str().unwrap();
    let letter = &mailbox[&format!("<{id}@hospital.example>")];
    assert!(letter.contains("To: zoe@example.org") && letter.contains("17 May 2035"), "{letter}");
}

#[tokio::test]
async fn a_mailbox_that_cannot_be_written_is_tried_again() {
    let dir = tempdir();
    let blocked = dir.join("mailbox");
    std::fs::write(&blocked, "a file where a directory should be").unwrap();
    let mailbox = blocked.clone();
    let post = Post::with(|config| {
        config.notification.mailbox_dir = mailbox;
        config.notification.retry_after_s = vec![0; 1000];
    })
    .await;
    let patient = post.patient(Some("zoe@example.org")).await;
    post.booked(patient).await;
    eventually("a second attempt", async || {
        let messages = post.messages(patient).await;
        let first = messages.first()?;
        (first["attempts"].as_i64() >= Some(2) && first["status"] == "pending").then_some(())
    })
    .await;
    std::fs::remove_file(&blocked).unwrap();
    post.told(patient, &["sent"]).await;
    assert_eq!(post.mailbox().len(), 1);
    std::fs::remove_dir_all(dir).unwrap();
}

fn tempdir() -> std::path::PathBuf {
    let dir =
        std::env::temp_dir().join(format!("hospital-mailbox-{}", hospital_types::EventId::new()));
    std::fs::create_dir(&dir).unwrap();
    dir
}

#[tokio::test]
async fn what_a_dead_sender_had_claimed_is_sent_by_another_when_its_time_is_over() {
    let post = Post::open().await;
    let patient = post.patient(Some("zoe@example.org")).await;
    post.booked(patient).await;
    post.told(patient, &["sent"]).await;
    // As a process leaves one that it had claimed when it died: tried once, not marked, and due again only after its minute.
    let claimed = "INSERT INTO notification.delivery (id, event_id, kind, channel, recipient, patient_id, subject, body, status, attempts,
                                                      next_attempt_at, created_at)
                   SELECT gen_random_uuid(), gen_random_uuid(), kind, channel, recipient, patient_id, subject, body, 'pending', 1,
                          now() + interval '1 minute', created_at FROM notification.message";
    post.app.db.execute(claimed).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(post.mailbox().len(), 1);
    let over = "UPDATE notification.delivery SET next_attempt_at = now() WHERE status = 'pending'";
    post.app.db.execute(over).await.unwrap();
    let messages = post.told(patient, &["sent", "sent"]).await;
    let attempts: i64 = messages.iter().filter_map(|m| m["attempts"].as_i64()).sum();
    assert_eq!((attempts, post.mailbox().len()), (1 + 2, 2));
}

/// As a process leaves what it had taken along when it died: neither sent nor marked.
#[tokio::test]
async fn the_messages_of_a_dead_process_are_sent_by_another_when_its_time_is_over() {
    let post = Post::open().await;
    let patient = post.patient(Some("zoe@example.org")).await;
    post.booked(patient).await;
    post.told(patient, &["sent"]).await;
    let left = "WITH left_behind AS (
                    INSERT INTO notification.delivery (id, event_id, kind, channel, recipient, patient_id, subject, body, status, attempts,
                                                       next_attempt_at, created_at, dispatch)
                    SELECT gen_random_uuid(), gen_random_uuid(), kind, channel, recipient, patient_id, subject, body, 'pending', 1,
                           'infinity', created_at, '019345f0-0000-7000-8000-000000000000'
                    FROM notification.delivery, generate_series(1, 3)
                    RETURNING id, dispatch)
                INSERT INTO notification.dispatch (id, deliveries, lapses_at)
                SELECT dispatch, array_agg(id), now() + interval '1 minute' FROM left_behind GROUP BY dispatch";
    post.app.db.execute(left).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(post.mailbox().len(), 1);
    let over = "UPDATE notification.dispatch SET lapses_at = now() WHERE sent_at IS NULL";
    post.app.db.execute(over).await.unwrap();
    let messages = post.told(patient, &["sent"; 4]).await;
    let attempts: i64 = messages.iter().filter_map(|m| m["attempts"].as_i64()).sum();
    assert_eq!((attempts, post.mailbox().len()), (1 + 3 * 2, 4));
    let open = "SELECT count(*) FROM notification.dispatch WHERE sent_at IS NULL";
    assert_eq!(post.app.db.value::<i64>(open).await.unwrap(), 0);
}

#[tokio::test]
async fn a_message_whose_dispatch_came_apart_while_it_was_sent_is_marked_by_itself() {
    let (post, server) = with_server(&[Mood::Dawdles]).await;
    let patient = post.patient(Some("zoe@example.org")).await;
    post.booked(patient).await;
    eventually("the letter to be under way", async || (!server.taken().is_empty()).then_some(()))
        .await;
    // As another process does when it believes that this one is dead; it will send the message itself, in a minute.
    let apart = "WITH lapsed AS (DELETE FROM notification.dispatch RETURNING id)
                 UPDATE notification.delivery SET dispatch = NULL, next_attempt_at = now() + interval '1 minute' WHERE dispatch IS NOT NULL";
    post.app.db.execute(apart).await.unwrap();
    assert_eq!(post.messages(patient).await[0]["status"], "pending");
    post.told(patient, &["sent"]).await;
    assert_eq!(server.taken().len(), 1);
}

/// Of two that are tried again and one that is new, each to a server that is not done when others
/// would take them over.
#[tokio::test]
async fn what_takes_long_to_send_is_kept_from_others_meanwhile() {
    let (post, server) = with_server(&[Mood::Accepts, Mood::DawdlesLong]).await;
    let patient = post.patient(Some("zoe@example.org")).await;
    post.booked(patient).await;
    post.told(patient, &["sent"]).await;
    post.booked(patient).await;
    eventually("the letter to be under way", async || (server.taken().len() == 2).then_some(()))
        .await;
    let left = "SELECT lapses_at - now() > interval '58 seconds' FROM notification.dispatch
                WHERE sent_at IS NULL";
    let short = "UPDATE notification.dispatch SET lapses_at = now() + interval '10 seconds'
                 WHERE sent_at IS NULL";
    post.app.db.execute(short).await.unwrap();
    eventually("the dispatch to be kept for longer", async || {
        post.app.db.value::<bool>(left).await.unwrap().then_some(())
    })
    .await;
    post.told(patient, &["sent", "sent"]).await;

    let single = "INSERT INTO notification.delivery
                      (id, event_id, kind, channel, patient_id, subject, body, status, created_at)
                  SELECT gen_random_uuid(), gen_random_uuid(), kind, channel, patient_id, subject,
                         body, 'pending', created_at
                  FROM notification.message LIMIT 1";
    post.app.db.execute(single).await.unwrap();
    eventually("the single letter to be under way", async || {
        (server.taken().len() == 3).then_some(())
    })
    .await;
    let short = "UPDATE notification.delivery SET next_attempt_at = now() + interval '10 seconds'
                 WHERE status = 'pending' AND dispatch IS NULL";
    post.app.db.execute(short).await.unwrap();
    let left = "SELECT next_attempt_at - now() > interval '58 seconds' FROM notification.delivery
                WHERE status = 'pending' AND dispatch IS NULL";
    eventually("the message to be kept for longer", async || {
        post.app.db.value::<bool>(left).await.unwrap().then_some(())
    })
    .await;
    post.told(patient, &["sent"; 3]).await;
    assert_eq!(server.taken().len(), 3, "nobody else sent them");
}

#[tokio::test]
async fn an_address_that_the_mail_server_cannot_take_is_dead_at_once_and_says_why() {
    let (post, server) = with_server(&[Mood::Accepts]).await;
    let patient = post.patient(Some("用户@例子.example")).await;
    post.booked(patient).await;
    let messages = post.told(patient, &["dead"]).await;
    assert_eq!((&messages[0]["attempts"], server.taken().len()), (&1.into(), 0));
    let reason: String = post.app.db.value("SELECT error FROM notification.message").await.unwrap();
    assert!(reason.contains("SMTPUTF8"), "{reason}");
    let other = post.patient(Some("user@münchen.example")).await;
    post.booked(other).await;
    post.told(other, &["sent"]).await;
    assert_eq!(header(&server.taken()[0], "To"), "user@xn--mnchen-3ya.example");
}

#[tokio::test]
async fn a_mailbox_takes_an_address_in_any_script() {
    let post = Post::open().await;
    let patient = post.patient(Some("用户@例子.example")).await;
    post.booked(patient).await;
    post.told(patient, &["sent"]).await;
    let mailbox = post.mailbox();
    let letter = mailbox.values().next().unwrap();
    assert!(letter.contains("To: 用户@xn--fsqu00a.example\n"), "{letter}");
}

#[tokio::test]
async fn a_large_batch_leaves_in_dispatches_of_128() {
    let post = Post::open().await;
    let patient = post.patient(Some("zoe@example.org")).await;
    post.booked(patient).await;
    post.told(patient, &["sent"]).await;
    // Holds the consumer, so that what comes meanwhile is one batch.
    let hold = "BEGIN; LOCK TABLE notification.inbox; SELECT pg_sleep(3); COMMIT";
    let tell = async {
        for _ in 0..300 {
            post.booked(patient).await;
        }
    };
    let (held, ()) = tokio::join!(post.app.db.execute(hold), tell);
    held.unwrap();
    eventually("all messages to be sent", async || {
        let sent = "SELECT count(*) FROM notification.message WHERE status = 'sent' AND sent_at IS NOT NULL";
        (post.app.db.value::<i64>(sent).await.unwrap() == 301).then_some(())
    })
    .await;
    let largest = "SELECT max(n) FROM (SELECT count(*) AS n FROM notification.delivery GROUP BY dispatch) AS d";
    assert_eq!(post.app.db.value::<i64>(largest).await.unwrap(), 128);
    assert_eq!(post.mailbox().len(), 301);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_send_each_message_once() {
    let server = MailServer::start(&[Mood::Accepts]).await;
    let smtp = server.config();
    let post = Post::with(|config| config.notification.smtp = Some(smtp)).await;
    let replica = post.app.replica(hospital_notification::service).await;
    let patient = post.patient(Some("zoe@example.org")).await;
    for _ in 0..60 {
        post.booked(patient).await;
    }
    eventually("all messages to be sent", async || {
        let sent = "SELECT count(*) FROM notification.message WHERE status = 'sent'";
        (post.app.db.value::<i64>(sent).await.unwrap() == 60).then_some(())
    })
    .await;
    let letters = server.taken();
    let ids: std::collections::HashSet<&str> =
        letters.iter().map(|l| header(l, "Message-ID")).collect();
    assert_eq!((letters.len(), ids.len()), (60, 60));
    drop(replica);
}

/// Plans are made while a new database has few messages of which hardly one waits, and PostgreSQL counts again only after a while.
#[tokio::test]
async fn a_flood_into_a_new_database_is_sent_by_an_index() {
    let post = Post::open().await;
    let patient = post.patient(Some("zoe@example.org")).await;
    post.booked(patient).await;
    post.told(patient, &["sent"]).await;
    let messages = async |count: u32, status: &str| {
        let sql = format!(
            "INSERT INTO notification.delivery (id, event_id, kind, channel, patient_id, subject, body, status, created_at)
             SELECT gen_random_uuid(), gen_random_uuid(), 'bill-issued', 'email', '{patient}', 'A bill', 'Hello', '{status}', now()
             FROM generate_series(1, {count})"
        );
        post.app.db.execute(&sql).await.unwrap();
    };
    let all_sent = async || {
        eventually_within(Duration::from_secs(30), "all messages to be sent", async || {
            let left = "SELECT count(*) FROM notification.message WHERE status = 'pending'";
            (post.app.db.value::<i64>(left).await.unwrap() == 0).then_some(())
        })
        .await;
    };
    messages(400, "undeliverable").await;
    post.app.db.execute("ANALYZE notification.delivery").await.unwrap();
    messages(1, "pending").await;
    all_sent().await;
    let before = post.app.db.searches("delivery_id").await.unwrap();
    messages(2000, "pending").await;
    all_sent().await;
    // Each is taken and marked by its id.
    eventually("each to be looked up twice", async || {
        (post.app.db.searches("delivery_id").await.unwrap() >= before + 4000).then_some(())
    })
    .await;
}
