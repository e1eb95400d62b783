use std::process::Command;

use hospital_cluster::{Cluster, Options};
use hospital_kit::bus::{Bus, postgres::PostgresBus};
use hospital_testkit::output;
use serde_json::Value;
use tokio_postgres::{Client, NoTls};

use crate::running::{HOSPITAL, Platform};

/// An invariant and a change that violates it, made behind the services' back.
type Breakage = (&'static str, &'static str);

const BREAKAGES: [Breakage; 28] = [
    (
        "I1",
        "DO $$ DECLARE c record; BEGIN
             FOR c IN SELECT conrelid::regclass AS year, conname AS name FROM pg_constraint WHERE conname ^@ 'reservation_no_overlap' LOOP
                 EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.year, c.name);
             END LOOP;
         END $$;
         INSERT INTO appointment.reservation SELECT (jsonb_populate_record(r, jsonb_build_object('appointment_id', gen_random_uuid()))).*
         FROM appointment.reservation r LIMIT 1",
    ),
    ("I1", "DELETE FROM appointment.reservation WHERE ctid = (SELECT min(ctid) FROM appointment.reservation)"),
    ("I3", "UPDATE billing.outbox SET subject = gen_random_uuid() WHERE seq = (SELECT min(seq) FROM billing.outbox)"),
    ("I3", "DELETE FROM patient.patient WHERE id = (SELECT min(id::text)::uuid FROM patient.patient)"),
    ("I4", "DELETE FROM appointment.outbox WHERE seq = (SELECT min(seq) FROM appointment.outbox)"),
    ("I4", "DELETE FROM patient.patient_history WHERE patient_id = (SELECT min(patient_id::text)::uuid FROM patient.patient_history)"),
    ("I4", "DELETE FROM billing.outbox WHERE seq = (SELECT min(seq) FROM billing.outbox WHERE topic = 'bill.generated')"),
    (
        "I5",
        "DELETE FROM bus.message WHERE ctid = (SELECT min(ctid) FROM bus.message WHERE topic = 'payment.completed')",
    ),
    (
        "I6",
        "INSERT INTO bus.message SELECT (jsonb_populate_record(m, jsonb_build_object('offset', 1000000, 'headers',
             (SELECT jsonb_agg(CASE WHEN h ->> 0 = 'ce_id' THEN jsonb_build_array('ce_id', gen_random_uuid()) ELSE h END)
              FROM jsonb_array_elements(m.headers) h)))).* FROM bus.message m WHERE topic = 'bill.generated' LIMIT 1",
    ),
    ("I7", "DELETE FROM billing.bill WHERE id = (SELECT min(id::text)::uuid FROM billing.bill)"),
    (
        "I7",
        "UPDATE billing.bill SET patient_id = gen_random_uuid() WHERE id = (SELECT min(id::text)::uuid FROM billing.bill)",
    ),
    ("I8", "DELETE FROM notification.inbox WHERE event_id = (SELECT event_id FROM notification.delivery LIMIT 1)"),
    (
        "I9",
        "INSERT INTO billing.payment SELECT (jsonb_populate_record(p, jsonb_build_object('id', gen_random_uuid()))).*
         FROM billing.payment p LIMIT 1",
    ),
    (
        "I10",
        "UPDATE billing.bill SET paid = paid - 1 WHERE id = (SELECT min(id::text)::uuid FROM billing.bill WHERE paid > 0)",
    ),
    (
        "I10",
        "UPDATE billing.bill SET total = total + 1 WHERE id = (SELECT min(id::text)::uuid FROM billing.bill)",
    ),
    (
        "I12",
        "UPDATE billing.outbox SET payload = jsonb_set(payload, '{amount,amount}', '\"0.01\"')
         WHERE seq = (SELECT min(seq) FROM billing.outbox WHERE topic = 'payment.completed' AND payload -> 'amount' ->> 'amount' <> '0.01')",
    ),
    ("I12", "DELETE FROM billing.outbox WHERE seq = (SELECT min(seq) FROM billing.outbox WHERE topic = 'payment.failed')"),
    (
        "I13",
        "ALTER TABLE notification.delivery DROP CONSTRAINT delivery_once;
         INSERT INTO notification.delivery SELECT (jsonb_populate_record(d, jsonb_build_object('id', gen_random_uuid()))).*
         FROM notification.delivery d LIMIT 1",
    ),
    ("I13", "DELETE FROM notification.delivery WHERE id = (SELECT min(id::text)::uuid FROM notification.delivery)"),
    (
        "I14",
        "UPDATE billing.outbox SET version = 0 WHERE seq = (SELECT max(seq) FROM billing.outbox WHERE topic = 'payment.completed'
             AND aggregate IN (SELECT aggregate FROM billing.outbox WHERE topic = 'payment.completed' GROUP BY 1 HAVING count(*) > 1))",
    ),
    (
        "I16",
        "UPDATE bus.group_offset SET next_offset = next_offset - 1
         WHERE ctid = (SELECT min(ctid) FROM bus.group_offset WHERE \"group\" = 'billing' AND next_offset > 0)",
    ),
    (
        "I16",
        "UPDATE patient.outbox_relay SET snapshot = '3:3:'",
    ),
    (
        "I16",
        "INSERT INTO billing.dead_letter (consumer, id, state, topic, partition, \"offset\", aggregate, version, headers, value, reason, attempts,
             first_at, last_at)
         SELECT 'billing', event_id, 'dead', topic, 0, 0, aggregate, version, '[]', '', 'a defect', 5, now(), now() FROM appointment.outbox LIMIT 1",
    ),
    (
        "I16",
        "DELETE FROM billing.inbox WHERE event_id = (SELECT event_id FROM appointment.outbox WHERE topic = 'appointment.booked' LIMIT 1)",
    ),
    (
        "I16",
        "INSERT INTO bus.message SELECT (jsonb_populate_record(m, jsonb_build_object('topic', 'bill.generated.notification.dlq'))).*
         FROM bus.message m WHERE topic = 'bill.generated' LIMIT 1",
    ),
    (
        "I17",
        "UPDATE appointment.appointment SET status = 'cancelled', cancelled_by = 'hospital' WHERE id = (SELECT min(id::text)::uuid FROM appointment.appointment)",
    ),
    (
        "I20",
        "UPDATE billing.payment SET status = 'failed', failure = 'declined' WHERE id = (SELECT min(p.id::text)::uuid FROM billing.payment p
             JOIN billing.idempotency i ON (i.key, i.caller, i.route) = (p.key, p.caller, p.route) WHERE p.status = 'succeeded')",
    ),
    (
        "I20",
        "DELETE FROM billing.payment WHERE id = (SELECT min(p.id::text)::uuid FROM billing.payment p
             JOIN billing.idempotency i ON (i.key, i.caller, i.route) = (p.key, p.caller, p.route) WHERE p.status = 'succeeded')",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_each_invariant_that_is_broken_on_purpose() {
    let mut platform = Platform::start_with(None);
    assert!(output(&mut platform.import(8)).status.success());
    platform.must(&["demo", "--pause-ms", "0"]);
    assert!(platform.verify().status.success());
    platform.stop();
    let dir = platform.data().join("postgres");
    let cluster = tokio::task::block_in_place(|| {
        Cluster::open(&Options { dir, ..Options::default() }).unwrap()
    });

    assert_eq!(violated(&cluster.owner_url("hospital"), "0"), Vec::<String>::new());
    let admin = connect(&cluster.owner_url("postgres")).await;
    for (place, (id, change)) in BREAKAGES.into_iter().enumerate() {
        let name = format!("broken_{place}");
        admin
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE hospital STRATEGY FILE_COPY"))
            .await
            .unwrap();
        let url = cluster.owner_url(&name);
        let broken = connect(&url).await;
        // Without foreign keys and triggers: somebody who may do everything.
        let change = format!("SET session_replication_role = replica; {change}");
        broken.batch_execute(&change).await.unwrap_or_else(|e| panic!("{id}: {change}: {e:?}"));
        drop(broken);
        let found = violated(&url, "0");
        assert!(
            found.iter().any(|found| found == id),
            "{id} is broken by {change}; found were {found:?}"
        );
        admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    }
    a_transaction_left_open_is_found(&cluster).await;
    tokio::task::block_in_place(|| cluster.stop());
}

/// Everything that is written down happened three years earlier; visits stay when they are.
const AGE: &str = "
    SET session_replication_role = replica;
    DO $$ DECLARE t record; BEGIN
        FOR t IN
            SELECT c.oid::regclass AS name,
                   string_agg(format('%1$I = %1$I - %2$L::interval', a.attname, '3 years'), ', ') AS earlier
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
            WHERE c.relnamespace IN ('patient'::regnamespace, 'appointment'::regnamespace,
                      'billing'::regnamespace, 'notification'::regnamespace, 'bus'::regnamespace)
              AND c.relkind IN ('r', 'p') AND NOT c.relispartition
              AND c.relname NOT IN ('outbox_relay', 'kept_since', 'maintenance')
              AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid = 'timestamptz'::regtype
              AND a.attname NOT IN ('starts_at', 'ends_at')
            GROUP BY c.oid
        LOOP EXECUTE format('UPDATE %s SET %s', t.name, t.earlier); END LOOP;
    END $$";

#[tokio::test(flavor = "multi_thread")]
async fn verify_is_green_on_a_platform_that_is_three_years_old_and_knows_where_history_begins() {
    let mut platform = Platform::start_with(None);
    assert!(platform.import(8).output().unwrap().status.success());
    platform.must(&["demo", "--pause-ms", "0"]);
    platform.must(&["verify"]);
    platform.database().await.batch_execute(AGE).await.unwrap();
    // Whoever starts maintains.
    platform.stop();
    platform.start_again();
    platform.ready().await;
    let database = platform.database().await;
    let old = "SELECT (SELECT count(*) FROM patient.outbox) + (SELECT count(*) FROM appointment.outbox)
             + (SELECT count(*) FROM billing.outbox) + (SELECT count(*) FROM billing.inbox)
             + (SELECT count(*) FROM notification.inbox) + (SELECT count(*) FROM notification.delivery)
             + (SELECT count(*) FROM notification.dispatch)";
    hospital_testkit::eventually("what is old to be forgotten", async || {
        let left: i64 = database.query_one(old, &[]).await.unwrap().get(0);
        (left == 0).then_some(())
    })
    .await;
    for schema in ["patient", "appointment", "billing", "notification"] {
        hospital_testkit::eventually("maintenance to be done", async || {
            let sql = format!(
                "SELECT problem FROM {schema}.maintenance WHERE at > pg_postmaster_start_time()"
            );
            let row = database.query_opt(&sql, &[]).await.unwrap()?;
            assert_eq!(row.get::<_, Option<String>>(0), None, "{schema}");
            Some(())
        })
        .await;
    }
    let url = platform.database_url();
    PostgresBus::new(&url, "test", None).unwrap().maintain().await.unwrap();
    let records: i64 =
        database.query_one("SELECT count(*) FROM bus.message", &[]).await.unwrap().get(0);
    assert_eq!(records, 0);
    assert_eq!(violated(&url, "5"), Vec::<String>::new(), "old business is still there");

    // What happens now is looked at as ever.
    platform.must(&["demo", "--pause-ms", "0"]);
    assert_eq!(violated(&url, "30"), Vec::<String>::new());
    for (id, topic) in [("I4", "bill.generated"), ("I12", "payment.completed")] {
        let lost = format!(
            "DELETE FROM billing.outbox WHERE seq = (SELECT max(seq) FROM billing.outbox WHERE topic = '{topic}')"
        );
        assert_eq!(database.execute(&lost, &[]).await.unwrap(), 1);
        let found = violated(&url, "0");
        assert!(found.iter().any(|found| found == id), "{id} without {topic}: {found:?}");
    }
}

async fn a_transaction_left_open_is_found(cluster: &Cluster) {
    let url = cluster.owner_url("hospital");
    let client = connect(&url).await;
    client.batch_execute("BEGIN").await.unwrap();
    hospital_testkit::eventually("the open transaction to count", async || {
        violated(&url, "0").contains(&"I15".to_owned()).then_some(())
    })
    .await;
}

/// The ids of the invariants that `verify` says are violated; its exit code says the same.
fn violated(url: &str, wait: &str) -> Vec<String> {
    let mut verify = Command::new(HOSPITAL);
    verify.args(["verify", "--json", "--wait", wait, "--database-url", url]);
    let output = output(&mut verify);
    let told: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let broken: Vec<String> = told["invariants"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|verdict| verdict["violations"] != serde_json::json!([]))
        .map(|verdict| verdict["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(output.status.code(), Some(i32::from(!broken.is_empty())));
    assert_eq!(told["good"], broken.is_empty());
    broken
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "ends with the client")]
    tokio::spawn(connection);
    client
}
