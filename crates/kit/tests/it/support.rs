use std::collections::BTreeMap;

use async_trait::async_trait;
use hospital_kit::{
    bus::{Bus, BusError, Consumer, Position, Received, Record, TopicSpec},
    clock::Clock,
    db::{Db, DbSettings},
    migrate::Schema,
};
use hospital_testkit::{Commits, TestDb, database_from, empty_database_with};
use tokio::sync::Mutex;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// A service's schema with a table to change: bills with a lock order to get wrong.
pub(crate) async fn schema() -> (TestDb, Db) {
    let db = database_from("kit", async |url| fill(&url).await).await.unwrap();
    opened(db)
}

/// The same on a server whose commits take long enough to be met while at it.
pub(crate) async fn schema_with_slow_commits() -> (TestDb, Db) {
    let db = empty_database_with(Commits::Slow).await.unwrap();
    fill(&db.owner_url()).await.unwrap();
    opened(db)
}

async fn fill(url: &str) -> anyhow::Result<()> {
    migrate(url).await?;
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    client
        .batch_execute(
            "CREATE TABLE kit.bill (id uuid PRIMARY KEY, paid bigint NOT NULL DEFAULT 0, version int NOT NULL DEFAULT 1,
                 CONSTRAINT bill_not_overpaid CHECK (paid <= 100));
             CREATE TABLE kit.payment (id uuid PRIMARY KEY, bill_id uuid NOT NULL,
                 CONSTRAINT payment_bill_exists FOREIGN KEY (bill_id) REFERENCES kit.bill DEFERRABLE INITIALLY DEFERRED);
             GRANT UPDATE, DELETE ON kit.bill, kit.payment TO hospital_kit",
        )
        .await?;
    Ok(())
}

fn opened(db: TestDb) -> (TestDb, Db) {
    let pool = pool(db.url_as("hospital_kit", "secret"));
    (db, pool)
}

/// The schema without more.
pub(crate) async fn migrate(owner_url: &str) -> anyhow::Result<()> {
    let schema = Schema { name: "kit", migrations: Vec::new(), rights: &[] };
    Ok(schema.migrate(owner_url, Some("secret")).await?)
}

/// The service's own pool.
pub(crate) fn pool(url: String) -> Db {
    Db::new(&DbSettings::new(url, "kit"), Clock::system()).unwrap()
}

/// A session that sees the schema.
pub(crate) async fn session(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("SET search_path = kit, public").await.unwrap();
    client
}

/// Appends an event; its version is what tests know it by.
pub(crate) async fn append(session: &Client, aggregate: Uuid, version: i32) {
    session
        .execute(
            "INSERT INTO outbox (event_id, topic, event_type, aggregate, version, subject, payload, unit, actor)
             VALUES (gen_random_uuid(), 't', 't.v1', $1, $2, $1, jsonb_build_object('version', $2::int), 'test', 'test')",
            &[&aggregate, &version],
        )
        .await
        .unwrap();
}

/// A bus that keeps what is published, and can be away.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) records: Mutex<Vec<Record>>,
    pub(crate) away: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl Bus for Kept {
    async fn ensure_topics(&self, _: &[TopicSpec]) -> Result<(), BusError> {
        Ok(())
    }
    async fn publish(&self, records: Vec<Record>) -> Result<(), BusError> {
        if self.away.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(BusError::Unavailable("away".to_owned()));
        }
        self.records.lock().await.extend(records);
        Ok(())
    }
    async fn subscribe(&self, _: &str, _: &[&str]) -> Result<Box<dyn Consumer>, BusError> {
        Err(BusError::Refused("only kept".to_owned()))
    }
    async fn ready(&self) -> Result<(), BusError> {
        Ok(())
    }
    async fn reset(&self, _: &str, _: &str, _: Option<i32>, _: Position) -> Result<(), BusError> {
        Ok(())
    }
    async fn lag(&self, _: &str, _: &str) -> Result<BTreeMap<i32, i64>, BusError> {
        Ok(BTreeMap::new())
    }
    async fn read(&self, _: &str, _: Position) -> Result<Vec<Received>, BusError> {
        Ok(Vec::new())
    }
}

/// Waits until a backend of this database waits for a lock.
pub(crate) async fn until_blocked(db: &TestDb) {
    hospital_testkit::eventually("a session that waits for a lock", async || {
        let waiting: i64 = db
            .value("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
            .await
            .unwrap();
        (waiting > 0).then_some(())
    })
    .await;
}
