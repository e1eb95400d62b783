//! The relay's three failure cases, each of which a simpler relay gets wrong, and what it does when the bus is away.

use std::sync::{Arc, atomic::Ordering};

use hospital_kit::{
    bus::SharedBus,
    db::Db,
    relay::{Leader, RelaySettings},
};
use hospital_testkit::TestDb;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::{Kept, append, schema, until_blocked};

/// A session of the service's role.
async fn session(db: &TestDb) -> Client {
    crate::support::session(&db.url_as("hospital_kit", "secret")).await
}

pub(crate) async fn leader(pool: &Db, bus: &Arc<Kept>, batch: i64) -> Leader {
    let bus: SharedBus = Arc::<Kept>::clone(bus);
    let settings = RelaySettings { batch, ..RelaySettings::default() };
    Leader::elect(pool, &bus, settings).await.unwrap().expect("nobody else leads")
}

pub(crate) async fn published(bus: &Kept) -> Vec<(String, i64)> {
    let records = bus.records.lock().await;
    records
        .iter()
        .map(|r| {
            let payload: serde_json::Value = serde_json::from_slice(&r.value).unwrap();
            (r.key.clone(), payload["version"].as_i64().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn a_low_sequence_that_commits_late_is_published() {
    let (db, pool) = schema().await;
    let bus = Arc::new(Kept::default());
    let (early, late) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let (slow, fast) = (session(&db).await, session(&db).await);
    slow.batch_execute("BEGIN").await.unwrap();
    append(&slow, early, 1).await;
    append(&fast, late, 1).await;

    let mut relay = leader(&pool, &bus, 100).await;
    assert_eq!(relay.round().await.unwrap(), 1);
    slow.batch_execute("COMMIT").await.unwrap();
    assert_eq!(relay.round().await.unwrap(), 1);
    assert_eq!(relay.round().await.unwrap(), 0);
    assert_eq!(published(&bus).await, [(late.to_string(), 1), (early.to_string(), 1)]);
}

#[tokio::test]
async fn a_low_xid_with_a_high_sequence_that_commits_first_hides_nothing() {
    let (db, pool) = schema().await;
    let bus = Arc::new(Kept::default());
    let (low_xid, high_xid) = (session(&db).await, session(&db).await);
    low_xid.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    high_xid.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    append(&high_xid, Uuid::from_u128(1), 1).await;
    append(&low_xid, Uuid::from_u128(2), 1).await;
    low_xid.batch_execute("COMMIT").await.unwrap();

    let mut relay = leader(&pool, &bus, 100).await;
    assert_eq!(relay.round().await.unwrap(), 1);
    high_xid.batch_execute("COMMIT").await.unwrap();
    assert_eq!(relay.round().await.unwrap(), 1);
    let keys: Vec<_> = published(&bus).await.into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [Uuid::from_u128(2).to_string(), Uuid::from_u128(1).to_string()]);
}

#[tokio::test]
async fn the_order_of_locks_decides_on_one_bill_not_the_order_of_xids() {
    let (db, pool) = schema().await;
    let bus = Arc::new(Kept::default());
    let bill = Uuid::from_u128(7);
    let (low_xid, high_xid) = (session(&db).await, session(&db).await);
    high_xid.execute("INSERT INTO bill (id) VALUES ($1)", &[&bill]).await.unwrap();
    low_xid.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    high_xid.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    const CHANGE: &str = "UPDATE bill SET version = version + 1 WHERE id = $1";
    high_xid.execute(CHANGE, &[&bill]).await.unwrap();
    append(&high_xid, bill, 2).await;

    let waiting = tokio::spawn(async move {
        low_xid.execute(CHANGE, &[&bill]).await.unwrap();
        append(&low_xid, bill, 3).await;
        low_xid.batch_execute("COMMIT").await.unwrap();
    });
    until_blocked(&db).await;
    high_xid.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap();

    // One page each, so that nothing but the order in which they are read can decide.
    let mut relay = leader(&pool, &bus, 1).await;
    assert_eq!(relay.round().await.unwrap(), 2);
    assert_eq!(published(&bus).await, [(bill.to_string(), 2), (bill.to_string(), 3)]);
}

#[tokio::test]
async fn events_wait_while_the_bus_is_away_and_a_long_transaction_stalls_nothing() {
    let (db, pool) = schema().await;
    let bus = Arc::new(Kept::default());
    let (long, writer) = (session(&db).await, session(&db).await);
    long.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    let mut relay = leader(&pool, &bus, 100).await;
    bus.away.store(true, Ordering::Relaxed);
    append(&writer, Uuid::from_u128(1), 1).await;
    assert!(relay.round().await.is_err());
    bus.away.store(false, Ordering::Relaxed);
    append(&writer, Uuid::from_u128(1), 2).await;
    assert_eq!(relay.round().await.unwrap(), 2);
    append(&writer, Uuid::from_u128(1), 3).await;
    assert_eq!(relay.round().await.unwrap(), 1);
    let versions: Vec<_> = published(&bus).await.into_iter().map(|(_, version)| version).collect();
    assert_eq!(versions, [1, 2, 3]);
}

#[tokio::test]
async fn a_long_log_is_not_read_from_its_beginning_in_each_round() {
    const LONG: u16 = 3000;
    let (db, pool) = schema().await;
    let bus = Arc::new(Kept::default());
    let writer = session(&db).await;
    // Planned while there is nothing: the planner would rather read all of it.
    let mut relay = leader(&pool, &bus, 100).await;
    for version in 1..=10 {
        append(&writer, Uuid::from_u128(1), version).await;
        assert_eq!(relay.round().await.unwrap(), 1);
    }
    let many = "INSERT INTO outbox (event_id, topic, event_type, aggregate, version, subject, payload, unit, actor)
                SELECT gen_random_uuid(), 't', 't.v1', gen_random_uuid(), 1, gen_random_uuid(), '{}', 'test', 'test'
                FROM generate_series(1, $1::int)";
    writer.execute(many, &[&i32::from(LONG)]).await.unwrap();
    assert_eq!(relay.round().await.unwrap(), usize::from(LONG));
    for version in 11..=30 {
        append(&writer, Uuid::from_u128(1), version).await;
        assert_eq!(relay.round().await.unwrap(), 1);
    }
    // A session's counts are there once it has ended.
    drop(relay);
    let counts =
        "SELECT sum(idx_scan + seq_scan)::int8, sum(seq_tup_read)::int8 FROM pg_stat_user_tables
                  WHERE schemaname = current_schema AND relname LIKE 'outbox\\_2%'";
    let read = loop {
        let row = writer.query_one(counts, &[]).await.unwrap();
        if row.get::<_, i64>(0) >= 30 {
            break row.get::<_, i64>(1);
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert!(read < i64::from(LONG), "{read} rows were read one after the other");
}

#[tokio::test]
async fn a_log_that_is_set_back_is_published_again_even_in_the_middle_of_a_round() {
    let (db, pool) = schema().await;
    let bus = Arc::new(Kept::default());
    let writer = session(&db).await;
    for version in 1..=3 {
        append(&writer, Uuid::from_u128(1), version).await;
    }
    let mut relay = leader(&pool, &bus, 2).await;
    assert_eq!(relay.round().await.unwrap(), 3);
    append(&writer, Uuid::from_u128(1), 4).await;
    // The bus takes its time, and meanwhile somebody asks for everything again.
    let kept = bus.records.lock().await;
    let round = tokio::spawn(async move {
        assert_eq!(relay.round().await.unwrap(), 1);
        relay
    });
    hospital_testkit::eventually("the round to wait for the bus", async || {
        let fetched: i64 = db
            .value("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%WITH bounds%'
                    AND state = 'idle' AND application_name = 'hospital-kit'")
            .await
            .unwrap();
        (fetched > 0).then_some(())
    })
    .await;
    db.execute("UPDATE kit.outbox_relay SET snapshot = '1:1:'").await.unwrap();
    drop(kept);
    let mut relay = round.await.unwrap();
    assert_eq!(relay.round().await.unwrap(), 4);
    assert_eq!(relay.round().await.unwrap(), 0);
    let versions: Vec<_> = published(&bus).await.into_iter().map(|(_, version)| version).collect();
    assert_eq!(versions, [1, 2, 3, 4, 1, 2, 3, 4]);
}

#[tokio::test]
async fn one_relay_leads_and_another_takes_over() {
    let (db, pool) = schema().await;
    let bus: SharedBus = Arc::new(Kept::default());
    let settings = RelaySettings::default();
    let first = Leader::elect(&pool, &bus, settings).await.unwrap().expect("the first leads");
    assert!(Leader::elect(&pool, &bus, settings).await.unwrap().is_none());
    drop(first);
    hospital_testkit::eventually("the second to lead", async || {
        Leader::elect(&pool, &bus, settings).await.unwrap()
    })
    .await;
    drop(db);
}

#[tokio::test]
async fn the_event_log_cannot_be_changed_by_the_service() {
    let (db, _pool) = schema().await;
    let service = session(&db).await;
    append(&service, Uuid::from_u128(1), 1).await;
    for sql in [
        "UPDATE outbox SET version = 9",
        "DELETE FROM outbox",
        "TRUNCATE outbox",
        "DROP TABLE outbox",
        "SELECT outbox_number_anew('outbox_default', '1:1:', '2:2:')",
        "SELECT outbox_forget_month('outbox_' || to_char(now(), 'YYYYMM'), 0, true)",
    ] {
        let error = service.batch_execute(sql).await.unwrap_err();
        let code = error.code().map(|c| c.code().to_owned());
        assert_eq!(code.as_deref(), Some("42501"), "{sql}");
    }
}
