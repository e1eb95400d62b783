//! Publishes a service's event log, in order and completely, by snapshot difference.
//!
//! A cursor on the sequence number loses events whose transactions commit late, and ordering by transaction id reorders the events of
//! one bill. So the relay remembers a *snapshot*: it publishes what is visible in a new snapshot and was not in the saved one, ordered by
//! sequence, and saves the new snapshot once the bus has acknowledged all of it. Two changes of one aggregate exclude each other by its
//! row lock, so the later one is numbered later and is never visible without the earlier one: the order per aggregate holds.
//!
//! Snapshots and the rows' transaction ids mean something in one history of transactions only. A log
//! that came here as data, from a dump or by replication, is recognised, and gets ids of this
//! history: what was not published by then, as the old snapshot says, is published here.

use std::time::{Duration, Instant};

use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::{Client, NoTls, Row, Statement};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    bus::{BusError, Record, SharedBus},
    db::{Db, broken},
    outcome::Broken,
};

/// How the relay paces itself.
#[derive(Clone, Copy, Debug)]
pub struct RelaySettings {
    /// How many events are published at a time.
    pub batch: i64,
    /// How long it waits for work when nobody wakes it.
    pub idle: Duration,
    /// How long it lets events gather after a round, for each event that it published: above some two thousand events a second rounds
    /// grow to hundreds of events, which cost all who handle them a third less.
    pub gather_each: Duration,
    /// How long at least, after a round that published any, and at most.
    pub gather: (Duration, Duration),
    /// How long a replica that does not lead waits before it asks again.
    pub standby: Duration,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            batch: 1000,
            idle: Duration::from_millis(50),
            gather_each: Duration::from_micros(400),
            gather: (Duration::from_millis(5), Duration::from_millis(50)),
            standby: Duration::from_millis(500),
        }
    }
}

impl RelaySettings {
    /// How long it lets events gather after a round that published so many.
    fn gathering(&self, published: usize) -> Duration {
        let published = u32::try_from(published).unwrap_or(u32::MAX);
        self.gather_each.saturating_mul(published).clamp(self.gather.0, self.gather.1)
    }
}

/// Why a round of the relay ended early.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error(transparent)]
    Database(#[from] Broken),
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// Relays until it is told to stop; survives the loss of the database and of the bus. On a stop it publishes what is already
/// committed, then ends.
pub async fn run(db: Db, bus: SharedBus, settings: RelaySettings, stop: CancellationToken) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        match Leader::elect(&db, &bus, settings).await {
            Ok(Some(mut leader)) => {
                tracing::info!(schema = db.schema(), "this replica leads the relay");
                if let Err(e) = leader.lead(&db, &stop, &mut failures).await {
                    tracing::warn!(schema = db.schema(), error = %e, "the relay lost its database; it tries again");
                }
            }
            Ok(None) => pause(settings.standby, &stop).await,
            Err(e) => {
                tracing::warn!(schema = db.schema(), error = %e, "the relay cannot reach its database; it tries again");
                failures += 1;
                pause(Backoff::UNREACHABLE.pause(failures), &stop).await;
            }
        }
    }
}

async fn pause(time: Duration, stop: &CancellationToken) {
    // Whether the time is over or the stop came first makes no difference to the caller.
    let _ = timeout(time, stop.cancelled()).await;
}

/// The one relay of a service that publishes, by a session lock that ends with its connection.
pub struct Leader {
    client: Client,
    connection: JoinHandle<()>,
    bus: SharedBus,
    source: &'static str,
    settings: RelaySettings,
    fetch: Statement,
    save: Statement,
    /// When the snapshot was last seen to be of this database.
    recognised: Instant,
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Leader {
    /// Takes the lead, or `None` when another replica has it.
    pub async fn elect(
        db: &Db,
        bus: &SharedBus,
        settings: RelaySettings,
    ) -> Result<Option<Self>, Broken> {
        let (client, connection) =
            db.config().connect(NoTls).await.map_err(|e| broken("connecting the relay", e))?;
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the connection; aborted when the leader is dropped"
        )]
        let connection = tokio::spawn(async move {
            // The client's next call reports what broke.
            let _ = connection.await;
        });
        let prepare = |sql: &'static str| {
            let client = &client;
            async move { client.prepare(sql).await.map_err(|e| broken("preparing the relay", e)) }
        };
        client.batch_execute(SETTINGS).await.map_err(|e| broken("setting up the relay", e))?;
        let lock = prepare(
            "SELECT pg_try_advisory_lock(hashtextextended('hospital relay ' || current_schema, 0))",
        )
        .await?;
        let fetch = prepare(FETCH).await?;
        let save =
            // Only over the snapshot that the round began with: somebody may have set it back meanwhile, to have everything published again.
            prepare("UPDATE outbox_relay SET snapshot = $1::text::pg_snapshot, saved_at = now() WHERE snapshot::text = $2")
                .await?;
        let row = client.query_one(&lock, &[]).await.map_err(|e| broken("electing a relay", e))?;
        let mut leader = Self {
            client,
            connection,
            bus: SharedBus::clone(bus),
            source: db.schema(),
            settings,
            fetch,
            save,
            recognised: Instant::now(),
        };
        if !row.get::<_, bool>(0) {
            return Ok(None);
        }
        leader.recognise().await?;
        Ok(Some(leader))
    }

    /// Sees to it that the saved snapshot is of this history of transactions. Where it is not, every
    /// event gets an id that is, and the relay begins with what was not published. Interrupted
    /// anywhere, it is done again by the next leader.
    async fn recognise(&mut self) -> Result<(), Broken> {
        let broke = |e| broken("recognising the relay's snapshot", e);
        self.recognised = Instant::now();
        loop {
            let row = self.client.query_one(RECOGNISE, &[]).await.map_err(broke)?;
            let Some(reason) = row.get::<_, Option<String>>("lost") else {
                if row.get("elsewhere") {
                    // The files moved with their history, as `pg_upgrade` moves them.
                    self.client.execute(SETTLE, &[]).await.map_err(broke)?;
                }
                return Ok(());
            };
            let (saved, fresh): (String, String) = (row.get("saved"), row.get("fresh"));
            tracing::warn!(
                schema = self.source,
                reason,
                saved,
                fresh,
                "the relay's snapshot is not of this database; it begins again from the log"
            );
            self.client.batch_execute("SET statement_timeout = 0").await.map_err(broke)?;
            let mut unpublished = 0_i64;
            for part in self.client.query(PARTS, &[]).await.map_err(broke)? {
                let part: String = part.get(0);
                let numbered = self
                    .client
                    .query_one(NUMBER_ANEW, &[&part, &saved, &fresh])
                    .await
                    .map_err(broke)?;
                unpublished += numbered.get::<_, i64>(0);
            }
            let begun = self.client.execute(BEGIN_AGAIN, &[&fresh, &saved]).await;
            self.client.batch_execute(SETTINGS).await.map_err(broke)?;
            // Otherwise somebody wanted everything published again meanwhile.
            if begun.map_err(broke)? > 0 {
                metrics::counter!("relay_begun_again_total").increment(1);
                tracing::warn!(
                    schema = self.source,
                    unpublished,
                    "the relay has begun again; this many events were not published"
                );
            }
        }
    }

    /// Rounds until the stop or until the database is lost; trouble with the bus is waited out here, so that the lead is kept.
    async fn lead(
        &mut self,
        db: &Db,
        stop: &CancellationToken,
        failures: &mut u32,
    ) -> Result<(), Broken> {
        loop {
            let stopping = stop.is_cancelled();
            match self.round().await {
                Ok(0) if stopping => return Ok(()),
                Ok(0) => {
                    *failures = 0;
                    let woken = timeout(self.settings.idle, db.appended().notified());
                    tokio::select! { _ = woken => {}, () = stop.cancelled() => {} }
                }
                Ok(published) => {
                    *failures = 0;
                    pause(self.settings.gathering(published), stop).await;
                }
                Err(RelayError::Database(e)) => return Err(e),
                Err(RelayError::Bus(e)) => {
                    metrics::counter!("relay_bus_errors_total").increment(1);
                    tracing::warn!(schema = self.source, error = %e, "events wait in the outbox; the relay tries again");
                    if stopping {
                        return Ok(());
                    }
                    *failures += 1;
                    pause(Backoff::UNREACHABLE.pause(*failures), stop).await;
                }
            }
            // Somebody may put a dump back while the service runs.
            if self.recognised.elapsed() >= RECOGNISED_FOR {
                self.recognise().await?;
            }
        }
    }

    /// Publishes everything that committed since the saved snapshot, and saves the new one. Gives how many events there were.
    pub async fn round(&mut self) -> Result<usize, RelayError> {
        let batch = self.settings.batch;
        let rows = self
            .client
            .query(&self.fetch, &[&None::<String>, &0_i64, &Some(batch)])
            .await
            .map_err(|e| broken("reading the outbox", e))?;
        let Some(last) = rows.last() else { return Ok(0) };
        let (snapshot, saved): (String, String) = (last.get("snapshot"), last.get("saved"));
        let after: i64 = last.get("seq");
        #[cfg(feature = "simulation")]
        if crate::defects::is(crate::defects::Defect::NoOutbox) {
            return self.publish_and_forget(&rows).await;
        }
        self.bus.publish(records(self.source, &rows)).await?;
        let mut published = rows.len();
        if i64::try_from(published).is_ok_and(|n| n >= batch) {
            published += self.publish_rest(&snapshot, after).await?;
        }
        self.client
            .execute(&self.save, &[&snapshot, &saved])
            .await
            .map_err(|e| broken("saving the relay's snapshot", e))?;
        metrics::counter!("relay_events_total").increment(published as u64);
        Ok(published)
    }

    /// What is behind the first page, however much: looked up and sorted once, and read through a cursor.
    async fn publish_rest(&mut self, snapshot: &str, after: i64) -> Result<usize, RelayError> {
        let cursor_broke = |e| broken("reading the outbox through a cursor", e);
        let page = i32::try_from(self.settings.batch).unwrap_or(i32::MAX);
        let reading = self.client.transaction().await.map_err(cursor_broke)?;
        let cursor = reading
            .bind(&self.fetch, &[&snapshot, &after, &None::<i64>])
            .await
            .map_err(cursor_broke)?;
        let mut published = 0;
        loop {
            let rows = reading.query_portal(&cursor, page).await.map_err(cursor_broke)?;
            if rows.is_empty() {
                break;
            }
            self.bus.publish(records(self.source, &rows)).await?;
            published += rows.len();
        }
        reading.commit().await.map_err(cursor_broke)?;
        Ok(published)
    }

    /// As who calls the bus after the commit would: what does not arrive is lost.
    #[cfg(feature = "simulation")]
    async fn publish_and_forget(&self, rows: &[Row]) -> Result<usize, RelayError> {
        let last = rows.last().expect("there is something to publish");
        let (snapshot, saved): (String, String) = (last.get("snapshot"), last.get("saved"));
        self.client
            .execute(&self.save, &[&snapshot, &saved])
            .await
            .map_err(|e| broken("saving the relay's snapshot", e))?;
        drop(self.bus.publish(records(self.source, rows)).await);
        Ok(rows.len())
    }
}

fn records(source: &str, rows: &[Row]) -> Vec<Record> {
    rows.iter().map(|row| record(source, row)).collect()
}

/// The record of a row of a service's event log: the same, however often it is published. The row has the columns `event_id`, `topic`,
/// `event_type`, `aggregate`, `subject`, `payload` as text, `traceparent` and `created_at`.
pub fn record(source: &str, row: &Row) -> Record {
    let header = |name: &str, value: String| (name.to_owned(), value);
    let mut headers = vec![
        header("ce_specversion", "1.0".to_owned()),
        header("ce_id", row.get::<_, uuid::Uuid>("event_id").to_string()),
        header("ce_type", row.get("event_type")),
        header("ce_source", format!("urn:hospital:{source}")),
        header("ce_subject", row.get::<_, uuid::Uuid>("subject").to_string()),
        header("ce_time", row.get::<_, jiff::Timestamp>("created_at").to_string()),
        header("content-type", "application/json".to_owned()),
    ];
    if let Some(traceparent) = row.get::<_, Option<String>>("traceparent") {
        headers.push(header("traceparent", traceparent));
    }
    Record {
        topic: row.get("topic"),
        key: row.get::<_, uuid::Uuid>("aggregate").to_string(),
        headers,
        value: row.get::<_, String>("payload").into_bytes(),
    }
}

/// The log is looked up by index, whatever the planner thinks of it: it knows nothing of a table that was filled a minute ago, and reading
/// all of it in each round would make a round as slow as the log is long. The first row of a long backlog comes late, and the bus may take
/// its time with each page of it.
const SETTINGS: &str = "SET enable_seqscan = off; SET statement_timeout = '10min'; SET idle_in_transaction_session_timeout = '10min'";

/// How long a snapshot is taken to be of this database after a look.
const RECOGNISED_FOR: Duration = Duration::from_secs(30);

/// The fresh snapshot is one of before anything is numbered anew: it sees none of that.
const RECOGNISE: &str = "
    SELECT outbox_relay_lost() AS lost, cluster <> outbox_cluster() AS elsewhere,
           snapshot::text AS saved, pg_current_snapshot()::text AS fresh
    FROM outbox_relay";

const SETTLE: &str = "UPDATE outbox_relay SET cluster = outbox_cluster()";

const PARTS: &str = "
    SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'outbox'::regclass";

const NUMBER_ANEW: &str = "
    SELECT outbox_number_anew($1::text::regclass, $2::text::pg_snapshot, $3::text::pg_snapshot)";

const BEGIN_AGAIN: &str = "
    UPDATE outbox_relay SET snapshot = $1::text::pg_snapshot, saved_at = now(),
           saved_by = pg_current_xact_id(), cluster = outbox_cluster()
    WHERE snapshot::text = $2 AND outbox_relay_lost() IS NOT NULL";

/// The difference of two snapshots, behind `$2`, at most `$3` events of it, or all of them. `$1` is the new snapshot; null takes one. Invisible
/// in the saved snapshot is what had begun later or was still running: both are looked up by index, so a long transaction anywhere costs
/// one more index probe and stalls nothing. Transactions in the new snapshot that are still running are left for the next difference.
const FETCH: &str = "
    WITH bounds AS MATERIALIZED (
        SELECT saved, saved::text AS saved_text, fresh, fresh::text AS fresh_text
        FROM (SELECT snapshot AS saved, coalesce($1::text::pg_snapshot, pg_current_snapshot()) AS fresh FROM outbox_relay OFFSET 0) AS snapshots
    ), changed AS (
        SELECT * FROM outbox WHERE xid >= (SELECT pg_snapshot_xmax(saved) FROM bounds)
        UNION ALL
        SELECT * FROM outbox WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip(saved) FROM bounds))
    )
    SELECT c.seq, c.event_id, c.topic, c.event_type, c.aggregate, c.subject, c.payload::text AS payload, c.traceparent,
           c.created_at, b.fresh_text AS snapshot, b.saved_text AS saved
    FROM changed c, bounds b
    WHERE pg_visible_in_snapshot(c.xid, b.fresh) AND c.seq > $2
    ORDER BY c.seq
    LIMIT $3";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_a_round_had_the_longer_it_gathers() {
        let gathering = |n| RelaySettings::default().gathering(n).as_millis();
        assert_eq!([1, 12, 50, 125, usize::MAX].map(gathering), [5, 5, 20, 50, 50]);
    }
}
