//! Maintenance is in nobody's way, and what is past its retention goes.

use std::sync::Arc;

use hospital_kit::{
    db::Db,
    maintenance::{self, Ended, Keep},
};
use hospital_testkit::TestDb;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::{
    relay::leader,
    support::{Kept, append, schema, session},
};

const KEEP: Keep = Keep { outbox_days: 90, inbox_days: 270, dead_letters_days: 365 };

async fn maintain(db: &Db) -> Ended {
    loop {
        // A lock ends a moment after the session that held it.
        match maintenance::once(db, KEEP, &[]).await.unwrap() {
            Ended::Elsewhere => tokio::task::yield_now().await,
            ended => return ended,
        }
    }
}

async fn number(owner: &Client, sql: &str) -> i64 {
    owner.query_one(sql, &[]).await.unwrap().get(0)
}

/// Whoever waits for a lock on the log has everybody behind it.
async fn waits(owner: &Client) -> i64 {
    let waiting = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
                   WHERE NOT l.granted AND c.relname ^@ 'outbox'
                     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    number(owner, waiting).await
}

const MONTHS: &str = "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'outbox'::regclass AND c.relname ~ '^outbox_[0-9]{6}$'";

async fn drop_all_months(owner: &Client) {
    let drop = "DO $$ DECLARE part text; BEGIN
        FOR part IN SELECT inhrelid::regclass::text FROM pg_inherits
            WHERE inhparent = 'outbox'::regclass AND inhrelid <> 'outbox_default'::regclass
        LOOP EXECUTE 'DROP TABLE ' || part; END LOOP; END $$";
    owner.batch_execute(drop).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_over_a_months_turn_holds_up_neither_bookings_nor_the_relay() {
    let (db, pool) = schema().await;
    let (owner, writer) = (session(&db.owner_url()).await, writer(&db).await);
    let watch = session(&db.owner_url()).await;
    let dump = session(&db.owner_url()).await;
    // The month has turned, and nobody has made its partition.
    drop_all_months(&owner).await;
    dump.batch_execute("BEGIN; LOCK TABLE outbox IN ACCESS SHARE MODE").await.unwrap();

    let bus = Arc::new(Kept::default());
    let mut relay = leader(&pool, &bus, 100).await;
    let maintaining = tokio::spawn({
        let pool = pool.clone();
        async move { maintain(&pool).await }
    });
    let mut written = 0;
    while !maintaining.is_finished() {
        written += 1;
        append(&writer, Uuid::from_u128(1), written).await;
        assert_eq!(relay.round().await.unwrap(), 1);
        assert_eq!(waits(&watch).await, 0, "nobody waits for the log");
    }
    let ended = maintaining.await.unwrap();
    assert!(matches!(&ended, Ended::Left(problem) if problem.contains("backup")), "{ended:?}");
    assert!(written > 10, "{written} events");
    let told = "SELECT count(*) FROM maintenance WHERE problem IS NOT NULL AND at > done_at";
    assert_eq!(number(&owner, told).await, 1);

    // The backup ends. What lies in the default partition is in no partition's way.
    dump.batch_execute("COMMIT").await.unwrap();
    assert_eq!(maintain(&pool).await, Ended::Done);
    let months = number(&owner, MONTHS).await;
    let last_day = "SELECT (extract(month FROM now() AT TIME ZONE 'UTC')
        <> extract(month FROM now() AT TIME ZONE 'UTC' + interval '1 day'))::int::int8";
    assert_eq!(months, 4 - number(&owner, last_day).await);
    append(&writer, Uuid::from_u128(1), written + 1).await;
    assert_eq!(relay.round().await.unwrap(), 1);
    let told = "SELECT count(*) FROM maintenance WHERE problem IS NULL AND at = done_at";
    assert_eq!(number(&owner, told).await, 1);

    // It leaves the log when its time has come.
    owner
        .batch_execute("UPDATE outbox SET created_at = created_at - interval '200 days'")
        .await
        .unwrap();
    assert_eq!(maintain(&pool).await, Ended::Done);
    assert_eq!(number(&owner, "SELECT count(*) FROM outbox").await, 0);
    let since = "SELECT count(*) FROM kept_since WHERE what = 'outbox'
                 AND since BETWEEN now() - interval '91 days' AND now() - interval '89 days'";
    assert_eq!(number(&owner, since).await, 1);
}

/// A session of the service's role.
async fn writer(db: &TestDb) -> Client {
    session(&db.url_as("hospital_kit", "secret")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_month_goes_while_bookings_are_under_way_and_stays_while_it_is_unpublished() {
    let (db, pool) = schema().await;
    let (owner, writer) = (session(&db.owner_url()).await, writer(&db).await);
    owner
        .batch_execute(
            "CREATE TABLE outbox_202001 PARTITION OF outbox
                 FOR VALUES FROM ('2020-01-01Z') TO ('2020-02-01Z')",
        )
        .await
        .unwrap();
    append(&writer, Uuid::from_u128(1), 1).await;
    owner.batch_execute("UPDATE outbox SET created_at = '2020-01-10Z'").await.unwrap();
    let old = "SELECT count(*) FROM outbox_202001";
    assert_eq!(maintain(&pool).await, Ended::Done);
    assert_eq!(number(&owner, old).await, 1, "it is not published");

    let bus = Arc::new(Kept::default());
    let mut relay = leader(&pool, &bus, 100).await;
    assert_eq!(relay.round().await.unwrap(), 1);
    writer.batch_execute("BEGIN").await.unwrap();
    append(&writer, Uuid::from_u128(1), 2).await;
    assert_eq!(maintain(&pool).await, Ended::Done);
    assert_eq!(number(&owner, old).await, 0, "its rows are gone, and nobody was waited for");
    writer.batch_execute("COMMIT").await.unwrap();
    let months = number(&owner, MONTHS).await;
    assert_eq!(maintain(&pool).await, Ended::Done);
    assert_eq!(number(&owner, MONTHS).await, months - 1);
    let since = "SELECT count(*) FROM kept_since WHERE what = 'outbox' AND since = '2020-02-01Z'";
    assert_eq!(number(&owner, since).await, 1);
    assert_eq!(relay.round().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_received_and_dead_letters_that_are_closed_are_forgotten() {
    let (db, pool) = schema().await;
    let owner = session(&db.owner_url()).await;
    owner
        .batch_execute(
            "INSERT INTO inbox (consumer, event_id, topic, received_at)
             SELECT 'kit', gen_random_uuid(), 't', now() - make_interval(days => d)
             FROM generate_series(1, 5000) AS n, LATERAL (SELECT n % 300) AS days (d);
             INSERT INTO dead_letter (consumer, id, state, topic, partition, \"offset\", version, headers, value,
                 reason, attempts, first_at, last_at, closed_at)
             SELECT 'kit', gen_random_uuid(), state, 't', 0, 0, 1, '[]', '', 'a defect', 1, at, at,
                    CASE WHEN state <> 'dead' THEN at END
             FROM (VALUES ('applied', now() - interval '400 days'), ('dropped', now() - interval '300 days'),
                          ('dead', now() - interval '900 days')) AS l (state, at)",
        )
        .await
        .unwrap();
    assert_eq!(maintain(&pool).await, Ended::Done);
    let old = "SELECT count(*) FROM inbox WHERE received_at < now() - interval '270 days'";
    assert_eq!(number(&owner, old).await, 0);
    assert!(number(&owner, "SELECT count(*) FROM inbox").await > 4000);
    let states: String = owner
        .query_one("SELECT string_agg(state, ' ' ORDER BY state) FROM dead_letter", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(states, "dead dropped", "what nobody has decided yet stays");
    let since = "SELECT count(*) FROM kept_since WHERE since > '-infinity'";
    assert_eq!(number(&owner, since).await, 2);
    // One at a time, whatever they do.
    owner
        .batch_execute("SELECT pg_advisory_lock(hashtextextended('hospital maintenance kit', 0))")
        .await
        .unwrap();
    assert_eq!(maintenance::once(&pool, KEEP, &[]).await.unwrap(), Ended::Elsewhere);
}
