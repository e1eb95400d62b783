//! What a consumer could not apply, and what waits behind it.
//!
//! The consumer's own database is the ledger: a letter is written, applied and closed in its transactions, alike on every bus. The
//! dead-letter topic is a copy for other people's tools. While a letter of an aggregate is open, its later events are set aside behind it, so
//! that they are applied in their order once it is applied or dropped. `docs/adr/0005` says why.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use hospital_contracts::CloudEvent;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tokio_postgres::{Row, types::Json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    bus::{BusError, Received, Record, SharedBus},
    cause::Cause,
    db::{Db, Tx},
    inbox::{Arrival, Consume, Poison},
    outcome::{Broken, BrokenKind, Failure, Outcome},
    sql,
};

/// A record with this header is for one group only; the others pass it by.
pub const ONLY_FOR: &str = "replay_group";

/// How long the redelivery of a consumer waits when nothing is due.
const IDLE: Duration = Duration::from_millis(500);

/// How old what the metrics say of open letters may be.
const COUNTED_EVERY: Duration = Duration::from_secs(2);

/// The dead-letter topic of a consumer group for a topic.
pub fn dead_letter_topic(topic: &str, group: &str) -> String {
    format!("{topic}.{group}.dlq")
}

/// The aggregate by whose id a record is keyed: its events keep their order.
pub(crate) fn aggregate_of(record: &Received) -> Option<Uuid> {
    record.key.as_deref().and_then(|key| key.parse().ok())
}

/// PostgreSQL's texts hold no NUL.
fn plain(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// The version that a payload names, where it can be read.
pub(crate) fn version_of(value: &[u8]) -> Option<i32> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: i32,
    }
    serde_json::from_slice::<Versioned>(value).ok().map(|v| v.version).filter(|v| *v > 0)
}

/// A name for a record that has none: the same whenever it comes again.
fn made_id(record: &Received) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(format!(
        "{}\n{}\n{}\n{}\n",
        record.topic, record.partition, record.offset, record.timestamp_ms
    ));
    hash.update(&record.value);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn headers_of(record: &Received) -> Json<Vec<(String, String)>> {
    Json(record.headers.iter().map(|(name, value)| (plain(name), plain(value))).collect())
}

/// Why a record is put aside.
pub(crate) struct Failed<'a> {
    pub(crate) reason: &'a str,
    pub(crate) attempts: u32,
    /// When it was first tried.
    pub(crate) first_at: Timestamp,
    /// The letter that it is already, if it was redriven.
    pub(crate) letter: Option<Uuid>,
}

/// Puts a record aside: into the ledger, then, as a copy, into the dead-letter topic. What is no event, or is from a source that may
/// not publish it, is put aside under a name of its own: it stands for no event of ours, and none waits behind it.
pub(crate) async fn bury(
    db: &Db,
    bus: &SharedBus,
    group: &str,
    record: &Received,
    failed: &Failed<'_>,
) -> Result<(), BuryError> {
    let event = CloudEvent::from_record(&record.topic, &record.headers, Vec::new()).ok();
    let aggregate = event.as_ref().and_then(|_| aggregate_of(record));
    let made = || failed.letter.unwrap_or_else(|| made_id(record));
    let id = event.map_or_else(made, |event| event.id.uuid());
    let reason: String = plain(failed.reason).chars().take(500).collect();
    let rows = db
        .write_alone("dead-letter.put-aside", sql!(
            "INSERT INTO dead_letter AS d
                 (consumer, id, state, topic, partition, \"offset\", key, aggregate, version, headers, value, reason, attempts, first_at, last_at)
             VALUES ($1, $2, 'dead', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
             ON CONFLICT ON CONSTRAINT dead_letter_once DO UPDATE SET state = 'dead', closed_at = NULL, reason = excluded.reason,
                 attempts = d.attempts + excluded.attempts, last_at = excluded.last_at
             RETURNING attempts, redrives, first_at, last_at",
            group.to_owned(),
            id,
            record.topic.clone(),
            record.partition,
            record.offset,
            record.key.as_deref().map(plain),
            aggregate,
            version_of(&record.value).unwrap_or(0),
            headers_of(record),
            record.value.clone(),
            reason.clone(),
            i32::try_from(failed.attempts).unwrap_or(i32::MAX),
            failed.first_at,
            db.clock().now(),
        ))
        .await?;
    let row = rows.first().expect("an upsert gives its row");
    tracing::error!(
        group,
        topic = record.topic,
        partition = record.partition,
        offset = record.offset,
        %id,
        reason,
        "a record was put aside as a dead letter"
    );
    metrics::counter!("consumer_events_total", "group" => group.to_owned(), "end" => "dead-lettered")
        .increment(1);
    publish_copy(bus, group, record, &reason, row, id).await.map_err(BuryError::Bus)
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum BuryError {
    #[error(transparent)]
    Database(#[from] Broken),
    #[error(transparent)]
    Bus(BusError),
}

async fn publish_copy(
    bus: &SharedBus,
    group: &str,
    record: &Received,
    reason: &str,
    row: &Row,
    id: Uuid,
) -> Result<(), BusError> {
    let mut headers = record.headers.clone();
    headers.retain(|(name, _)| !name.starts_with("dlq_"));
    for (name, value) in [
        ("dlq_id", id.to_string()),
        ("dlq_reason", reason.to_owned()),
        ("dlq_attempts", row.get::<_, i32>("attempts").to_string()),
        ("dlq_redrives", row.get::<_, i32>("redrives").to_string()),
        ("dlq_first_time", row.get::<_, Timestamp>("first_at").to_string()),
        ("dlq_last_time", row.get::<_, Timestamp>("last_at").to_string()),
        ("dlq_topic", record.topic.clone()),
        ("dlq_partition", record.partition.to_string()),
        ("dlq_offset", record.offset.to_string()),
        ("dlq_group", group.to_owned()),
    ] {
        headers.push((name.to_owned(), value));
    }
    let copy = Record {
        topic: dead_letter_topic(&record.topic, group),
        key: record.key.clone().unwrap_or_default(),
        headers,
        value: record.value.clone(),
    };
    let cut = Record { value: Vec::new(), ..copy.clone() };
    match bus.publish(vec![copy]).await {
        // The headers made it too large for a record; the ledger has it whole.
        Err(BusError::Refused(_)) if !record.value.is_empty() => bus.publish(vec![cut]).await,
        other => other,
    }
}

/// The letter of an aggregate behind which others wait.
pub(crate) struct Head {
    pub(crate) id: Uuid,
    pub(crate) version: i32,
}

/// Which of the fresh events have to wait, and which of the letters they are.
pub(crate) struct Sorted<'a, 'b> {
    pub(crate) apply: Vec<&'a Arrival<'b>>,
    wait: Vec<&'a Arrival<'b>>,
    /// Letters whose events came again by another way, and are applied now.
    again: Vec<Uuid>,
}

/// Sorts fresh events by the open letters of their aggregates. An event may pass a letter of a later version: topics are not ordered among each
/// other, so it is an earlier step that came late.
pub(crate) fn sort<'a, 'b>(
    fresh: Vec<&'a Arrival<'b>>,
    heads: &HashMap<Uuid, Head>,
) -> Sorted<'a, 'b> {
    let mut sorted = Sorted { apply: Vec::new(), wait: Vec::new(), again: Vec::new() };
    for arrival in fresh {
        let head = aggregate_of(arrival.record).and_then(|aggregate| heads.get(&aggregate));
        let Some(head) = head else {
            sorted.apply.push(arrival);
            continue;
        };
        let id = arrival.event.id.uuid();
        if id == head.id {
            sorted.again.push(id);
            sorted.apply.push(arrival);
        } else if version_of(arrival.record.value.as_slice()).is_some_and(|v| v < head.version) {
            sorted.apply.push(arrival);
        } else {
            sorted.wait.push(arrival);
        }
    }
    sorted
}

impl Sorted<'_, '_> {
    /// Queues what becomes of those that are not simply applied: they wait, unclaimed, or their letters are closed.
    pub(crate) fn settle(&self, tx: &mut Tx<Poison>, group: &str) {
        if !self.again.is_empty() {
            tx.write(sql!(
                "UPDATE dead_letter SET state = 'applied', closed_at = now() WHERE consumer = $1 AND id = ANY ($2) AND closed_at IS NULL",
                group.to_owned(),
                self.again.clone(),
            ));
        }
        if self.wait.is_empty() {
            return;
        }
        let ids: Vec<Uuid> = self.wait.iter().map(|a| a.event.id.uuid()).collect();
        tx.write(sql!(
            "DELETE FROM inbox WHERE consumer = $1 AND event_id = ANY ($2)",
            group.to_owned(),
            ids.clone(),
        ));
        let records = || self.wait.iter().map(|a| a.record);
        let now = tx.now();
        tx.write(sql!(
            "INSERT INTO dead_letter
                 (consumer, id, state, topic, partition, \"offset\", key, aggregate, version, headers, value, reason, attempts, first_at, last_at)
             SELECT $1, w.id, 'waiting', w.topic, w.partition, w.place, w.aggregate::text, w.aggregate, w.version, w.headers, w.value,
                    'it waits behind an earlier event of its aggregate', 0, $10, $10
             FROM unnest($2::uuid[], $3::text[], $4::integer[], $5::bigint[], $6::uuid[], $7::integer[], $8::jsonb[], $9::bytea[])
                  WITH ORDINALITY AS w (id, topic, partition, place, aggregate, version, headers, value, nth)
             ORDER BY w.nth
             ON CONFLICT ON CONSTRAINT dead_letter_once DO NOTHING",
            group.to_owned(),
            ids,
            records().map(|r| r.topic.clone()).collect::<Vec<_>>(),
            records().map(|r| r.partition).collect::<Vec<_>>(),
            records().map(|r| r.offset).collect::<Vec<_>>(),
            records().map(aggregate_of).collect::<Vec<_>>(),
            records().map(|r| version_of(&r.value).unwrap_or(0)).collect::<Vec<_>>(),
            records().map(headers_of).collect::<Vec<_>>(),
            records().map(|r| r.value.clone()).collect::<Vec<_>>(),
            now,
        ));
        tracing::warn!(
            group,
            count = self.wait.len(),
            "events wait behind a dead letter of their aggregate"
        );
    }
}

/// Applies what is due again, and what waited behind it, until told to stop; meanwhile the metrics say how many are open.
pub async fn run(db: Db, bus: SharedBus, consumer: Arc<dyn Consume>, stop: CancellationToken) {
    let mut counted: Option<Instant> = None;
    while !stop.is_cancelled() {
        let ended = async {
            let dealt_with = round(&db, &bus, &*consumer).await?;
            if counted.is_none_or(|at| at.elapsed() >= COUNTED_EVERY) {
                count_open(&db, consumer.group()).await?;
                counted = Some(Instant::now());
            }
            Ok::<_, BuryError>(dealt_with)
        };
        match ended.await {
            Ok(n) if n > 0 => {}
            Ok(_) => pause(&stop).await,
            Err(e) => {
                tracing::warn!(group = consumer.group(), error = %e, "dead letters that are due wait");
                pause(&stop).await;
            }
        }
    }
}

/// Tells the metrics what somebody has to look at (`dead`), and what waits for that (`waiting`).
async fn count_open(db: &Db, group: &'static str) -> Result<(), Broken> {
    let rows = db
        .reader(&Cause::system(group))
        .read(sql!(
            "SELECT count(*) FILTER (WHERE state = 'dead'), count(*) FILTER (WHERE state <> 'dead')
             FROM dead_letter WHERE consumer = $1 AND closed_at IS NULL",
            group,
        ))
        .await?;
    let open: (i64, i64) = rows.first().map_or((0, 0), |row| (row.get(0), row.get(1)));
    for (state, letters) in [("dead", open.0), ("waiting", open.1)] {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        metrics::gauge!("dead_letters_open", "group" => group, "state" => state)
            .set(letters as f64);
    }
    Ok(())
}

async fn pause(stop: &CancellationToken) {
    // Whether the time is over or the stop came first makes no difference to the caller.
    let _ = timeout(IDLE, stop.cancelled()).await;
}

/// What may be applied: due or waiting, with nothing of its aggregate before it.
macro_rules! ready {
    ($columns:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM dead_letter d WHERE d.consumer = $1 AND d.closed_at IS NULL AND d.state <> 'dead'
                AND NOT EXISTS (SELECT 1 FROM dead_letter e WHERE e.consumer = d.consumer AND e.aggregate = d.aggregate
                                AND e.closed_at IS NULL AND (e.version, e.seq) < (d.version, d.seq)) ",
            $rest
        )
    };
}

/// One look at what is due; gives how many letters were dealt with.
async fn round(db: &Db, bus: &SharedBus, consumer: &dyn Consume) -> Result<usize, BuryError> {
    let group = consumer.group();
    let rows = db
        .reader(&Cause::system(group))
        .read(sql!(
            ready!(
                "d.id, d.topic, d.partition, d.\"offset\", d.key, d.headers, d.value, d.first_at",
                "ORDER BY d.seq LIMIT 50"
            ),
            group,
        ))
        .await?;
    for row in &rows {
        let record = record_of(row);
        let reason = match apply(db, consumer, row.get("id"), &record).await {
            Ok(()) => continue,
            Err(Failure::Refused(poison)) => poison.0,
            Err(Failure::Broken(e)) if e.kind() != BrokenKind::Defect => return Err(e.into()),
            Err(Failure::Broken(e)) => e.to_string(),
        };
        let letter = Some(row.get("id"));
        let failed = Failed { reason: &reason, attempts: 1, first_at: row.get("first_at"), letter };
        bury(db, bus, group, &record, &failed).await?;
    }
    Ok(rows.len())
}

fn record_of(row: &Row) -> Received {
    let Json(headers) = row.get("headers");
    Received {
        topic: row.get("topic"),
        partition: row.get("partition"),
        offset: row.get("offset"),
        key: row.get("key"),
        headers,
        value: row.get("value"),
        timestamp_ms: 0,
    }
}

/// Applies a letter's event, unless it was applied meanwhile, and closes the letter, in one transaction.
async fn apply(
    db: &Db,
    consumer: &dyn Consume,
    id: Uuid,
    record: &Received,
) -> Outcome<(), Poison> {
    let event = CloudEvent::from_record(&record.topic, &record.headers, record.value.clone())
        .map_err(Poison::because)?;
    consumer.prepare(&[&event]).await;
    let group = consumer.group();
    db.write(group, async |tx: &mut Tx<Poison>| {
        // Another replica may have it, or somebody dropped it.
        let mine = tx
            .read(sql!(ready!("d.id", "AND d.id = $2 FOR UPDATE SKIP LOCKED"), group, id))
            .await?;
        if mine.is_empty() {
            return Ok(());
        }
        let fresh = tx
            .read(sql!(
                "INSERT INTO inbox (consumer, event_id, topic) VALUES ($1, $2, $3)
                 ON CONFLICT ON CONSTRAINT inbox_once DO NOTHING RETURNING event_id",
                group,
                event.id,
                event.topic.clone(),
            ))
            .await?;
        if !fresh.is_empty() {
            consumer.apply(tx, &[&event]).await?;
        }
        tx.write(sql!(
            "UPDATE dead_letter SET state = 'applied', closed_at = now(), attempts = attempts + 1, last_at = now()
             WHERE consumer = $1 AND id = $2",
            group,
            id,
        ));
        metrics::counter!("consumer_events_total", "group" => group, "end" => "redelivered")
            .increment(1);
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_where_there_is_one() {
        assert_eq!(version_of(br#"{"version": 3, "other": []}"#), Some(3));
        for value in
            [b"" as &[u8], b"[]", b"{}", br#"{"version": "3"}"#, br#"{"version": 0}"#, b"\xff"]
        {
            assert_eq!(version_of(value), None);
        }
    }
}
