//! Who may write what on the PostgreSQL bus: each service's role to its own topics, and its own group's offsets.

use std::time::Duration;

use hospital_kit::bus::{Bus, BusError, Position, TopicSpec, postgres, postgres::PostgresBus};
use hospital_testkit::{TestDb, empty_database};
use tokio_postgres::{Client, NoTls, error::SqlState};

use super::fixtures::{poll_all, record, records};

const ROLES: [&str; 3] = ["hospital_appointment", "hospital_billing", "hospital_notification"];
const TOPICS: [&str; 4] = [
    "appointment.booked",
    "bill.generated",
    "appointment.booked.billing.dlq",
    "bill.generated.notification.dlq",
];

async fn roles(db: &TestDb) {
    for role in ROLES {
        // Roles are the whole cluster's, and tests run side by side.
        let sql = format!(
            "DO $$ BEGIN CREATE ROLE {role} LOGIN PASSWORD 'secret';
             EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        );
        db.execute(&sql).await.unwrap();
    }
}

async fn install(db: &TestDb) {
    roles(db).await;
    postgres::install(&db.owner_url(), &ROLES.map(ToOwned::to_owned)).await.unwrap();
}

fn specs() -> Vec<TopicSpec> {
    let retention = Some(Duration::from_secs(3600));
    TOPICS.map(|name| TopicSpec { name: name.to_owned(), partitions: 2, retention }).to_vec()
}

async fn bus() -> TestDb {
    let db = empty_database().await.unwrap();
    install(&db).await;
    // By somebody whose topics they are not: whoever makes a topic does not own it.
    as_role(&db, "hospital_notification").ensure_topics(&specs()).await.unwrap();
    db
}

fn as_role(db: &TestDb, role: &str) -> PostgresBus {
    PostgresBus::new(&db.url_as(role, "secret"), "test-bus", Some(role)).unwrap()
}

async fn client(db: &TestDb, role: &str) -> Client {
    let (client, connection) =
        tokio_postgres::connect(&db.url_as(role, "secret"), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_publishes_to_its_own_topics_and_to_its_group_s_dead_letters_only() {
    let db = bus().await;
    for (role, own) in [
        ("hospital_appointment", &["appointment.booked"] as &[&str]),
        ("hospital_billing", &["bill.generated", "appointment.booked.billing.dlq"]),
        ("hospital_notification", &["bill.generated.notification.dlq"]),
    ] {
        let bus = as_role(&db, role);
        for topic in TOPICS {
            let before = bus.read(topic, Position::Beginning).await.unwrap().len();
            let published = bus.publish(records(topic, "r", 20)).await;
            let after = bus.read(topic, Position::Beginning).await.unwrap().len();
            if own.contains(&topic) {
                published.unwrap();
                assert_eq!(after, before + 20, "{role} to {topic}");
            } else {
                let refused =
                    matches!(&published, Err(BusError::Refused(why)) if why.contains(topic));
                assert!(refused, "{role} to {topic}: {published:?}");
                assert_eq!(after, before, "{role} to {topic}");
            }
        }
        // Nothing of a batch is taken if one record of it is not.
        let mixed = vec![record(own[0], "k", "v"), record("appointment.booked", "k", "v")];
        let both = own.contains(&"appointment.booked");
        assert_eq!(bus.publish(mixed).await.is_ok(), both, "{role}");
    }
    let owner = PostgresBus::new(&db.owner_url(), "test-bus", None).unwrap();
    for topic in TOPICS {
        owner.publish(records(topic, "tool", 3)).await.unwrap();
    }
}

/// As somebody who has taken over a service and writes SQL of their own.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_changes_no_message_and_no_other_group_s_place() {
    let db = bus().await;
    as_role(&db, "hospital_appointment")
        .publish(records("appointment.booked", "r", 10))
        .await
        .unwrap();
    let billing = as_role(&db, "hospital_billing");
    let mut member = billing.subscribe("billing", &["appointment.booked"]).await.unwrap();
    let came = poll_all(&mut member, 10).await;
    member.commit(&came).await.unwrap();
    let state = "SELECT (SELECT string_agg(m::text, ';' ORDER BY m::text) FROM bus.message m)
        || (SELECT string_agg(t::text, ';' ORDER BY t::text) FROM bus.topic t)
        || (SELECT string_agg(p::text, ';' ORDER BY p::text) FROM bus.partition p)
        || (SELECT string_agg(g::text, ';' ORDER BY g::text) FROM bus.group_offset g)
        || (SELECT string_agg(\"group\" || id, ';' ORDER BY id) FROM bus.member)
        || (SELECT string_agg(p::text, ';' ORDER BY p::text) FROM bus.publisher p)";
    let before: String = db.value(state).await.unwrap();
    let intruder = client(&db, "hospital_notification").await;
    for sql in [
        "DELETE FROM bus.message",
        "UPDATE bus.message SET value = 'x'",
        "TRUNCATE bus.message",
        "INSERT INTO bus.message (topic, partition, \"offset\", key, headers, value)
         VALUES ('appointment.booked', 0, 1000, 'k', '[]', 'x')",
        // Dated back, it would be removed as past its retention.
        "INSERT INTO bus.message (topic, partition, \"offset\", key, headers, value, created_at)
         VALUES ('bill.generated.notification.dlq', 0, 1000, 'k', '[]', 'x', '2000-01-01')",
        "UPDATE bus.partition SET next_offset = 0",
        "UPDATE bus.partition SET writer = 'hospital_notification'",
        "DELETE FROM bus.partition",
        "UPDATE bus.topic SET retention_s = 0",
        "DELETE FROM bus.topic",
        "INSERT INTO bus.partition (topic, partition, writer) VALUES ('bill.generated', 9, 'hospital_notification')",
        "INSERT INTO bus.publisher VALUES ('new', 'hospital_notification')",
        "UPDATE bus.publisher SET role = 'hospital_notification'",
        "UPDATE bus.group_offset SET next_offset = 0",
        "DELETE FROM bus.group_offset",
        "INSERT INTO bus.group_offset VALUES ('billing', 'bill.generated', 0, 7)",
        "INSERT INTO bus.group_offset SELECT * FROM bus.group_offset
         ON CONFLICT (\"group\", topic, partition) DO UPDATE SET next_offset = 0",
        "INSERT INTO bus.member VALUES ('billing', gen_random_uuid())",
        "DELETE FROM bus.member",
        "ALTER TABLE bus.message DISABLE ROW LEVEL SECURITY",
        "CREATE OR REPLACE FUNCTION bus.writer_of(topic text) RETURNS name LANGUAGE sql AS 'SELECT current_user'",
    ] {
        if let Err(e) = intruder.batch_execute(sql).await {
            assert_eq!(e.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}: {e:?}");
        }
        // What is filtered away is refused just as well.
        assert_eq!(db.value::<String>(state).await.unwrap(), before, "{sql}");
    }
    let notification = as_role(&db, "hospital_notification");
    let moved =
        notification.reset("billing", "appointment.booked", None, Position::Beginning).await;
    assert!(matches!(moved, Err(BusError::Refused(_))), "{moved:?}");
    let own = notification.reset("notification", "appointment.booked", None, Position::End).await;
    own.unwrap();
    assert_eq!(
        billing.lag("billing", "appointment.booked").await.unwrap().values().sum::<i64>(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_has_what_is_past_its_retention_removed_and_nothing_else() {
    let db = bus().await;
    as_role(&db, "hospital_billing").publish(records("bill.generated", "old", 30)).await.unwrap();
    db.execute("UPDATE bus.message SET created_at = now() - interval '2 hours'").await.unwrap();
    as_role(&db, "hospital_billing").publish(records("bill.generated", "new", 3)).await.unwrap();
    as_role(&db, "hospital_notification").maintain().await.unwrap();
    assert_eq!(db.value::<i64>("SELECT count(*) FROM bus.message").await.unwrap(), 3);
}

/// The bus as it was made before it knew who writes.
const BEFORE: &str = "
    CREATE SCHEMA bus;
    CREATE TABLE bus.topic (name text PRIMARY KEY, partitions integer NOT NULL, retention_s bigint);
    CREATE TABLE bus.partition (topic text NOT NULL, partition integer NOT NULL, next_offset bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (topic, partition));
    CREATE TABLE bus.message (topic text NOT NULL, partition integer NOT NULL, \"offset\" bigint NOT NULL, key text NOT NULL,
        headers jsonb NOT NULL, value bytea NOT NULL, created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (topic, partition, \"offset\"));
    CREATE TABLE bus.group_offset (\"group\" text NOT NULL, topic text NOT NULL, partition integer NOT NULL, next_offset bigint NOT NULL,
        PRIMARY KEY (\"group\", topic, partition));
    CREATE TABLE bus.member (\"group\" text NOT NULL, id uuid NOT NULL, last_seen timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (\"group\", id));
    GRANT USAGE ON SCHEMA bus TO hospital_billing;
    GRANT SELECT, INSERT, UPDATE ON bus.topic, bus.partition, bus.group_offset TO hospital_billing;
    GRANT SELECT, INSERT, DELETE ON bus.message TO hospital_billing;
    GRANT SELECT, INSERT, UPDATE, DELETE ON bus.member TO hospital_billing";

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_did_not_know_who_writes_learns_it_while_services_publish() {
    let db = empty_database().await.unwrap();
    roles(&db).await;
    db.execute(BEFORE).await.unwrap();
    let bus = as_role(&db, "hospital_billing");
    bus.ensure_topics(&specs()).await.unwrap();
    bus.publish(records("bill.generated", "before", 5)).await.unwrap();
    bus.publish(records("appointment.booked", "forged", 5)).await.unwrap();
    install(&db).await;
    bus.publish(records("bill.generated", "behind", 5)).await.unwrap();
    bus.ensure_topics(&specs()).await.unwrap();
    assert!(bus.publish(records("appointment.booked", "forged", 5)).await.is_err());
    assert_eq!(bus.read("bill.generated", Position::Beginning).await.unwrap().len(), 10);
    let refused =
        client(&db, "hospital_billing").await.batch_execute("DELETE FROM bus.message").await;
    assert!(refused.is_err());
    // Again changes nothing, and waits for nobody who reads all of it, as a dump does.
    let reader = client(&db, "hospital_billing").await;
    reader
        .batch_execute(
            "BEGIN; LOCK TABLE bus.topic, bus.partition, bus.message, bus.group_offset, bus.member IN ACCESS SHARE MODE",
        )
        .await
        .unwrap();
    install(&db).await;
    reader.batch_execute("COMMIT").await.unwrap();
}
