//! A log that came here from another history of transactions: a dump that was put back, a schema
//! that moved to another server.

use std::sync::Arc;

use hospital_cluster::{Cluster, Options};
use hospital_kit::relay::Leader;
use serde_json::Value;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::{
    relay::{leader, published},
    support::{Kept, append, migrate, pool, schema, session},
};

/// Uses up transaction ids.
async fn burn(owner: &Client, ids: i32) {
    let burn = format!(
        "DO $$ BEGIN FOR i IN 1..{ids} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
    );
    owner.batch_execute(&burn).await.unwrap();
}

/// What a dump holds of a log and its relay, and puts back elsewhere: the rows as data.
async fn copy(from: &Client, to: &Client) {
    to.batch_execute("DELETE FROM outbox; DELETE FROM outbox_relay").await.unwrap();
    for table in ["outbox", "outbox_relay"] {
        let rows: Value = from
            .query_one(&format!("SELECT coalesce(jsonb_agg(t), '[]') FROM {table} t"), &[])
            .await
            .unwrap()
            .get(0);
        let put = format!(
            "INSERT INTO {table} OVERRIDING SYSTEM VALUE
             SELECT * FROM jsonb_populate_recordset(NULL::{table}, $1)"
        );
        to.execute(&put, &[&rows]).await.unwrap();
    }
    to.batch_execute(
        "SELECT setval(pg_get_serial_sequence('outbox', 'seq'), (SELECT max(seq) FROM outbox))",
    )
    .await
    .unwrap();
}

const BILL: Uuid = Uuid::from_u128(7);

async fn versions(bus: &Kept) -> Vec<i64> {
    published(bus).await.into_iter().map(|(_, version)| version).collect()
}

async fn rounds(relay: &mut Leader) -> usize {
    let mut all = 0;
    loop {
        match relay.round().await.unwrap() {
            0 => return all,
            n => all += n,
        }
    }
}

/// A log of five events, the first three of which are published, moves between two databases.
async fn moves(from: (&str, &str), to: (&str, &str)) {
    let (here, there) = (session(from.0).await, session(to.0).await);
    let bus = Arc::new(Kept::default());
    for version in 1..=3 {
        append(&here, BILL, version).await;
    }
    let mut relay = leader(&pool(from.1.to_owned()), &bus, 100).await;
    assert_eq!(rounds(&mut relay).await, 3);
    drop(relay);
    append(&here, BILL, 4).await;
    append(&here, BILL, 5).await;
    copy(&here, &there).await;

    // A service at work before its relay leads.
    append(&there, BILL, 6).await;
    let bus = Arc::new(Kept::default());
    let mut relay = leader(&pool(to.1.to_owned()), &bus, 2).await;
    assert_eq!(rounds(&mut relay).await, 3);
    assert_eq!(versions(&bus).await, [4, 5, 6], "what was not published, in its order");
    append(&there, BILL, 7).await;
    assert_eq!(rounds(&mut relay).await, 1);
    // The ids that the old rows had come up here.
    burn(&there, 12_000).await;
    append(&there, BILL, 8).await;
    assert_eq!(rounds(&mut relay).await, 1);
    drop(relay);
    // Nothing is left to be recognised.
    let mut relay = leader_again(to.1, &bus).await;
    assert_eq!(rounds(&mut relay).await, 0);
    assert_eq!(versions(&bus).await, [4, 5, 6, 7, 8]);
    // And everything can be published again, to an end.
    there.batch_execute("UPDATE outbox_relay SET snapshot = '1:1:'").await.unwrap();
    assert_eq!(rounds(&mut relay).await, 8);
    assert_eq!(versions(&bus).await[5..], [1, 2, 3, 4, 5, 6, 7, 8]);
}

/// The lead ends with its connection, a moment after it was dropped.
async fn leader_again(url: &str, bus: &Arc<Kept>) -> Leader {
    let (bus, pool): (hospital_kit::bus::SharedBus, _) =
        (Arc::<Kept>::clone(bus), pool(url.to_owned()));
    hospital_testkit::eventually("the lead to be free", async || {
        Leader::elect(&pool, &bus, hospital_kit::relay::RelaySettings::default()).await.unwrap()
    })
    .await
}

/// Another cluster, whose transactions have begun at the beginning.
struct Young {
    cluster: Cluster,
    _dir: tempfile::TempDir,
}

impl Young {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { dir: dir.path().join("cluster"), ..Options::default() };
        let cluster = tokio::task::block_in_place(|| Cluster::open(&options).unwrap());
        migrate(&cluster.owner_url("postgres")).await.unwrap();
        Self { cluster, _dir: dir }
    }

    fn urls(&self) -> (String, String) {
        let cluster = &self.cluster;
        (cluster.owner_url("postgres"), cluster.url("hospital_kit", "secret", "postgres"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_moves_to_a_younger_cluster_is_published_on() {
    let (db, _) = schema().await;
    burn(&session(&db.owner_url()).await, 10_000).await;
    let young = Young::open().await;
    let (owner, role) = young.urls();
    moves((&db.owner_url(), &db.url_as("hospital_kit", "secret")), (&owner, &role)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_moves_to_an_older_cluster_is_published_on() {
    let (db, _) = schema().await;
    burn(&session(&db.owner_url()).await, 10_000).await;
    let young = Young::open().await;
    let (owner, role) = young.urls();
    moves((&owner, &role), (&db.owner_url(), &db.url_as("hospital_kit", "secret"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_moves_to_another_database_of_its_server_is_published_on() {
    let ((old, _), (new, _)) = (schema().await, schema().await);
    let role = |db: &hospital_testkit::TestDb| db.url_as("hospital_kit", "secret");
    moves((&old.owner_url(), &role(&old)), (&new.owner_url(), &role(&new))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_of_this_database_is_said_and_what_was_interrupted_is_done_again() {
    let ((old, _), (new, _)) = (schema().await, schema().await);
    let (here, there) = (session(&old.owner_url()).await, session(&new.owner_url()).await);
    append(&here, BILL, 1).await;
    copy(&here, &there).await;
    append(&there, BILL, 2).await;
    let lost: Option<String> =
        there.query_one("SELECT outbox_relay_lost()", &[]).await.unwrap().get(0);
    assert!(lost.unwrap().contains("another database"));
    // A leader that died half-way, and somebody who wants everything once more.
    let fresh: String =
        there.query_one("SELECT pg_current_snapshot()::text", &[]).await.unwrap().get(0);
    let part = format!(
        "SELECT outbox_number_anew(inhrelid, '1:1:', '{fresh}') FROM pg_inherits
         WHERE inhparent = 'outbox'::regclass"
    );
    there.batch_execute(&part).await.unwrap();
    there.batch_execute("UPDATE outbox_relay SET snapshot = '1:1:'").await.unwrap();

    let bus = Arc::new(Kept::default());
    let mut relay = leader(&pool(new.url_as("hospital_kit", "secret")), &bus, 100).await;
    assert_eq!(rounds(&mut relay).await, 2);
    assert_eq!(versions(&bus).await, [1, 2]);
    let lost: Option<String> =
        there.query_one("SELECT outbox_relay_lost()", &[]).await.unwrap().get(0);
    assert_eq!(lost, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_the_future_is_replaced_by_a_start_from_the_log() {
    let (db, pool) = schema().await;
    let bus = Arc::new(Kept::default());
    let writer = session(&db.owner_url()).await;
    append(&writer, BILL, 1).await;
    let mut relay = leader(&pool, &bus, 100).await;
    assert_eq!(rounds(&mut relay).await, 1);
    drop(relay);
    let future = "UPDATE outbox_relay SET snapshot = '900000000:900000000:'";
    writer.batch_execute(future).await.unwrap();
    append(&writer, BILL, 2).await;
    let mut relay = leader_again(&db.url_as("hospital_kit", "secret"), &bus).await;
    append(&writer, BILL, 3).await;
    assert_eq!(rounds(&mut relay).await, 3);
    assert_eq!(versions(&bus).await, [1, 1, 2, 3], "anything else once more at most");
    append(&writer, BILL, 4).await;
    assert_eq!(rounds(&mut relay).await, 1);
}
