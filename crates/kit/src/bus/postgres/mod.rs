//! A bus in PostgreSQL, for a machine with nothing on it. Sound enough for a clinic to live on.
//!
//! Publishing is one statement that locks the partitions it appends to; consumers own partitions by session locks, so a consumer that dies
//! gives them up with its connection, and commit offsets on that same session, so one that lost them cannot.

mod consumer;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use futures_util::{StreamExt, stream};
use hospital_contracts::PUBLISHERS;
use tokio::sync::watch;
use tokio_postgres::{AsyncMessage, NoTls, Row, types::Json};

use super::{Bus, BusError, Consumer, Position, RECORD_BYTES_MAX, Received, Record, TopicSpec};
use crate::{db::is_unavailable, migrate::role, outcome::Broken};

/// The channel on which publishers wake consumers.
const CHANNEL: &str = "hospital_bus";

/// Appends records to their partitions and wakes consumers. A statement and not a function: PostgreSQL would plan the function's body at each
/// call.
const PUBLISH: &str = "
    WITH input AS MATERIALIZED (
        SELECT i.topic, i.partition, i.key, i.headers, i.body, i.place,
               row_number() OVER (PARTITION BY i.topic, i.partition ORDER BY i.place) AS nth
        FROM unnest($1::text[], $2::integer[], $3::text[], $4::jsonb[], $5::bytea[]) WITH ORDINALITY
             AS i (topic, partition, key, headers, body, place)
    ), counts AS MATERIALIZED (
        SELECT topic, partition, count(*) AS n FROM input GROUP BY topic, partition
    ), locked AS MATERIALIZED (
        -- One order for everybody, so that two publishers cannot wait for each other.
        SELECT p.topic, p.partition FROM bus.partition p JOIN counts USING (topic, partition)
        ORDER BY p.topic, p.partition FOR NO KEY UPDATE OF p
    ), taken AS (
        UPDATE bus.partition p SET next_offset = p.next_offset + c.n
        FROM locked l JOIN counts c USING (topic, partition)
        WHERE p.topic = l.topic AND p.partition = l.partition
        RETURNING p.topic, p.partition, p.next_offset - c.n AS first
    ), written AS (
        INSERT INTO bus.message (topic, partition, \"offset\", key, headers, value)
        SELECT i.topic, i.partition, t.first + i.nth - 1, i.key, i.headers, i.body
        FROM input i JOIN taken t USING (topic, partition)
        ORDER BY i.place
        RETURNING 1
    )
    SELECT count(*), pg_notify('hospital_bus', '') FROM written";

/// The bus in one PostgreSQL database.
pub struct PostgresBus {
    pool: Pool,
    config: tokio_postgres::Config,
    partitions: RwLock<HashMap<String, i32>>,
    woken: watch::Receiver<u64>,
    listener: tokio::task::AbortHandle,
}

impl Drop for PostgresBus {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Makes the bus's schema, or brings it up to date, and lets these roles use it.
pub async fn install(owner_url: &str, roles: &[String]) -> Result<(), Broken> {
    let failed = |e| Broken::defect("installing the PostgreSQL bus", e);
    let (client, connection) = tokio_postgres::connect(owner_url, NoTls)
        .await
        .map_err(|e| Broken::unavailable("installing the PostgreSQL bus", e))?;
    #[expect(clippy::disallowed_methods, reason = "ends with the client")]
    tokio::spawn(connection);
    client
        .batch_execute("SELECT pg_advisory_lock(hashtextextended('hospital migrate', 0))")
        .await
        .map_err(failed)?;
    // All of it at once: services may be publishing meanwhile.
    client.batch_execute("BEGIN").await.map_err(failed)?;
    client.batch_execute(include_str!("../../../migrations/bus.sql")).await.map_err(failed)?;
    let (topics, writers): (Vec<&str>, Vec<String>) =
        PUBLISHERS.iter().map(|(topic, service)| (*topic, role(service))).unzip();
    client.execute(OWN, &[&topics, &writers]).await.map_err(failed)?;
    client
        .batch_execute(include_str!("../../../migrations/bus_owners.sql"))
        .await
        .map_err(failed)?;
    for role in roles {
        client
            .batch_execute(&format!(
                "REVOKE ALL ON ALL TABLES IN SCHEMA bus FROM {role};
                 GRANT USAGE ON SCHEMA bus TO {role};
                 GRANT SELECT ON ALL TABLES IN SCHEMA bus TO {role};
                 GRANT INSERT (name, partitions, retention_s) ON bus.topic TO {role};
                 GRANT INSERT (topic, partition), UPDATE (next_offset) ON bus.partition TO {role};
                 GRANT INSERT (topic, partition, \"offset\", key, headers, value) ON bus.message TO {role};
                 GRANT INSERT, UPDATE ON bus.group_offset TO {role};
                 GRANT INSERT, UPDATE, DELETE ON bus.member TO {role};
                 GRANT EXECUTE ON FUNCTION bus.prune() TO {role}"
            ))
            .await
            .map_err(failed)?;
    }
    client.batch_execute("COMMIT").await.map_err(failed)
}

/// Writes down whose the platform's topics are.
const OWN: &str = "
    INSERT INTO bus.publisher AS p (topic, role) SELECT * FROM unnest($1::text[], $2::text[])
    ON CONFLICT (topic) DO UPDATE SET role = excluded.role WHERE p.role <> excluded.role";

/// FNV-1a over the key. Part of what is stored: records with one key must find their partition again after every upgrade.
fn partition_of(key: &str, partitions: i32) -> i32 {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| {
        (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    i32::try_from(hash % u64::from(partitions.unsigned_abs().max(1))).expect("below an i32")
}

fn failed(e: &tokio_postgres::Error) -> BusError {
    if is_unavailable(e) {
        BusError::Unavailable(e.to_string())
    } else {
        BusError::Refused(
            e.as_db_error().map_or_else(|| e.to_string(), |db| db.message().to_owned()),
        )
    }
}

fn received(row: &Row) -> Received {
    let Json(headers): Json<Vec<(String, String)>> = row.get("headers");
    Received {
        topic: row.get("topic"),
        partition: row.get("partition"),
        offset: row.get("offset"),
        key: Some(row.get("key")),
        headers,
        value: row.get("value"),
        timestamp_ms: row.get::<_, jiff::Timestamp>("created_at").as_millisecond(),
    }
}

impl PostgresBus {
    /// Makes the bus. Nothing is connected yet, so this succeeds while the server is away. `role` is the role to work as, for URLs that log in
    /// as somebody who may do more.
    pub fn new(url: &str, application_name: &str, role: Option<&str>) -> Result<Self, BusError> {
        let mut config: tokio_postgres::Config = url
            .parse()
            .map_err(|_| BusError::Refused("the bus's URL is no PostgreSQL URL".to_owned()))?;
        let role = role.map(|r| format!(" -c role={r}")).unwrap_or_default();
        config
            .application_name(application_name)
            .connect_timeout(Duration::from_secs(2))
            .tcp_user_timeout(Duration::from_secs(10))
            .keepalives_idle(Duration::from_secs(10))
            // Plans that are made once, before there is anything in the tables, must be good when they are full.
            .options(format!(
                "-c jit=off -c statement_timeout=10s -c idle_in_transaction_session_timeout=10s -c timezone=UTC \
                 -c plan_cache_mode=force_generic_plan -c enable_seqscan=off{role}"
            ));
        let manager = Manager::from_config(
            config.clone(),
            NoTls,
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let pool = Pool::builder(manager)
            .max_size(4)
            .wait_timeout(Some(Duration::from_secs(5)))
            .create_timeout(Some(Duration::from_secs(2)))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| BusError::Refused(e.to_string()))?;
        let (wake, woken) = watch::channel(0);
        #[expect(clippy::disallowed_methods, reason = "aborted when the bus is dropped")]
        let listener = tokio::spawn(listen(config.clone(), wake)).abort_handle();
        Ok(Self { pool, config, partitions: RwLock::default(), woken, listener })
    }

    #[expect(clippy::disallowed_methods, reason = "the bus has a pool of its own")]
    async fn connection(&self) -> Result<Object, BusError> {
        self.pool.get().await.map_err(|e| BusError::Unavailable(e.to_string()))
    }

    async fn query(
        &self,
        sql: &str,
        params: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<Row>, BusError> {
        let connection = self.connection().await?;
        let statement = connection.prepare_cached(sql).await.map_err(|e| failed(&e))?;
        connection.query(&statement, params).await.map_err(|e| failed(&e))
    }

    async fn partitions_of(&self, topic: &str) -> Result<i32, BusError> {
        if let Some(n) = self.partitions.read().unwrap_or_else(PoisonError::into_inner).get(topic) {
            return Ok(*n);
        }
        let rows =
            self.query("SELECT partitions FROM bus.topic WHERE name = $1", &[&topic]).await?;
        let n: i32 = rows
            .first()
            .map(|row| row.get(0))
            .ok_or_else(|| BusError::Refused(format!("there is no topic {topic}")))?;
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned(), n);
        Ok(n)
    }
}

fn bytes(record: &Record) -> usize {
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    record.key.len() + headers + record.value.len()
}

/// Listens for publishers and counts them up; connects again when the server was away.
async fn listen(config: tokio_postgres::Config, wake: watch::Sender<u64>) {
    loop {
        if let Ok((client, mut connection)) = config.connect(NoTls).await {
            let mut messages = stream::poll_fn(move |cx| connection.poll_message(cx));
            let listening = async {
                client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
                std::future::pending::<Result<(), tokio_postgres::Error>>().await
            };
            tokio::pin!(listening);
            loop {
                tokio::select! {
                    message = messages.next() => match message {
                        Some(Ok(AsyncMessage::Notification(_))) => wake.send_modify(|n| *n += 1),
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => break,
                    },
                    _ = &mut listening => break,
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[async_trait]
impl Bus for PostgresBus {
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), BusError> {
        let names: Vec<&str> = topics.iter().map(|t| t.name.as_str()).collect();
        let counts: Vec<i32> = topics.iter().map(|t| t.partitions).collect();
        let retentions: Vec<Option<i64>> = topics
            .iter()
            .map(|t| t.retention.and_then(|r| i64::try_from(r.as_secs()).ok()))
            .collect();
        self.query(
            "WITH made AS (
                 INSERT INTO bus.topic (name, partitions, retention_s)
                 SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS t (name, partitions, retention_s) ORDER BY name
                 ON CONFLICT (name) DO NOTHING RETURNING name, partitions)
             INSERT INTO bus.partition (topic, partition)
             SELECT name, p FROM made, generate_series(0, made.partitions - 1) AS p ORDER BY name, p
             ON CONFLICT DO NOTHING",
            &[&names, &counts, &retentions],
        )
        .await?;
        for topic in topics {
            let found = self.partitions_of(&topic.name).await?;
            if found != topic.partitions {
                return Err(BusError::Refused(format!(
                    "topic {} has {found} partitions and the settings say {}: set bus.partitions to what it has",
                    topic.name, topic.partitions
                )));
            }
        }
        Ok(())
    }

    async fn publish(&self, records: Vec<Record>) -> Result<(), BusError> {
        if let Some(record) = records.iter().find(|record| bytes(record) > RECORD_BYTES_MAX) {
            return Err(BusError::Refused(format!(
                "a record of {} bytes for {} is larger than {RECORD_BYTES_MAX}",
                bytes(record),
                record.topic
            )));
        }
        if records.is_empty() {
            return Ok(());
        }
        let mut partitions = Vec::with_capacity(records.len());
        for record in &records {
            partitions.push(partition_of(&record.key, self.partitions_of(&record.topic).await?));
        }
        let topics: Vec<&str> = records.iter().map(|r| r.topic.as_str()).collect();
        let keys: Vec<&str> = records.iter().map(|r| r.key.as_str()).collect();
        let headers: Vec<Json<&Vec<(String, String)>>> =
            records.iter().map(|r| Json(&r.headers)).collect();
        let values: Vec<&[u8]> = records.iter().map(|r| r.value.as_slice()).collect();
        let rows = self.query(PUBLISH, &[&topics, &partitions, &keys, &headers, &values]).await?;
        let written: i64 = rows.first().map_or(0, |row| row.get(0));
        if i64::try_from(records.len()) == Ok(written) {
            Ok(())
        } else {
            let mut topics: Vec<&str> = records.iter().map(|r| r.topic.as_str()).collect();
            topics.sort_unstable();
            topics.dedup();
            Err(BusError::Refused(format!(
                "{written} of {} records were taken: whoever publishes here may not publish to all of {}",
                records.len(),
                topics.join(", ")
            )))
        }
    }

    async fn subscribe(&self, group: &str, topics: &[&str]) -> Result<Box<dyn Consumer>, BusError> {
        let topics = topics.iter().map(|t| (*t).to_owned()).collect();
        let member = consumer::Member::join(
            self.config.clone(),
            group.to_owned(),
            topics,
            self.woken.clone(),
        )
        .await?;
        Ok(Box::new(member))
    }

    async fn maintain(&self) -> Result<(), BusError> {
        const PRUNE: &str = "SELECT bus.prune()";
        // A bounded number at a time, so that no transaction is long.
        while self.query(PRUNE, &[]).await?.first().is_some_and(|row| row.get::<_, i64>(0) > 0) {}
        Ok(())
    }

    async fn ready(&self) -> Result<(), BusError> {
        tokio::time::timeout(Duration::from_secs(1), self.query("SELECT 1", &[]))
            .await
            .map_err(|_| BusError::Unavailable("no answer within a second".to_owned()))?
            .map(|_| ())
    }

    async fn reset(
        &self,
        group: &str,
        topic: &str,
        partition: Option<i32>,
        to: Position,
    ) -> Result<(), BusError> {
        let (offset, time): (Option<i64>, Option<i64>) = match to {
            Position::Beginning => (Some(0), None),
            Position::End => (Some(i64::MAX), None),
            Position::Offset(offset) => (Some(offset), None),
            Position::Time(ms) => (None, Some(ms)),
        };
        self.query(
            "INSERT INTO bus.group_offset (\"group\", topic, partition, next_offset)
             SELECT $1, p.topic, p.partition, CASE WHEN $4::bigint IS NOT NULL THEN greatest(0, least($4, p.next_offset))
                 ELSE coalesce((SELECT min(m.\"offset\") FROM bus.message m WHERE m.topic = p.topic AND m.partition = p.partition
                                AND m.created_at >= to_timestamp($5::bigint / 1000.0)), p.next_offset) END
             FROM bus.partition p WHERE p.topic = $2 AND ($3::integer IS NULL OR p.partition = $3)
             ON CONFLICT (\"group\", topic, partition) DO UPDATE SET next_offset = excluded.next_offset",
            &[&group, &topic, &partition, &offset, &time],
        )
        .await
        .map(|_| ())
    }

    async fn lag(&self, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>, BusError> {
        let rows = self
            .query(
                "SELECT p.partition, p.next_offset - CASE WHEN g.next_offset <= p.next_offset THEN g.next_offset ELSE 0 END
                 FROM bus.partition p
                 LEFT JOIN bus.group_offset g ON g.\"group\" = $1 AND g.topic = p.topic AND g.partition = p.partition
                 WHERE p.topic = $2",
                &[&group, &topic],
            )
            .await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    async fn read(&self, topic: &str, from: Position) -> Result<Vec<Received>, BusError> {
        let (offset, time): (i64, i64) = match from {
            Position::Beginning => (0, 0),
            Position::End => return Ok(Vec::new()),
            Position::Offset(offset) => (offset, 0),
            Position::Time(ms) => (0, ms),
        };
        let rows = self
            .query(
                "SELECT topic, partition, \"offset\", key, headers, value, created_at FROM bus.message
                 WHERE topic = $1 AND \"offset\" >= $2 AND created_at >= to_timestamp($3::bigint / 1000.0)
                 ORDER BY partition, \"offset\"",
                &[&topic, &offset, &time],
            )
            .await?;
        Ok(rows.iter().map(received).collect())
    }
}
