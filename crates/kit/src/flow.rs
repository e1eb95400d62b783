//! Whether events flow: what waits to be published, what waits to be consumed, how maintenance went.
//!
//! It is told as metrics, and readiness says `degraded` with the reason when something stands still.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};
use tokio_postgres::Row;
use tokio_util::sync::CancellationToken;

use crate::{bus::SharedBus, cause::Cause, db::Db, inbox::Consume, outcome::Broken, sql};

/// How often the database is asked.
const EVERY: Duration = Duration::from_secs(2);
/// How often the bus is asked how far the groups are; a cluster has more to do for that.
const LAG_EVERY: Duration = Duration::from_secs(10);
/// How old the oldest event that is not published may be: the relay asks an absent bus again
/// every two seconds.
const UNPUBLISHED_MAX: Duration = Duration::from_secs(30);
/// For how long a group may have records to do of which it does none.
const STILL_MAX: Duration = Duration::from_secs(60);
/// How long maintenance may go without doing all that it should; it tries every hour.
const UNMAINTAINED_MAX: Duration = Duration::from_secs(2 * 86_400);

/// What stands still, in words; nothing where all is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standstill {
    pub events: Option<String>,
    pub consumers: Option<String>,
    pub maintenance: Option<String>,
}

/// Looks until told to stop.
pub async fn run(
    db: Db,
    bus: SharedBus,
    consumers: Vec<Arc<dyn Consume>>,
    state: watch::Sender<Standstill>,
    stop: CancellationToken,
) {
    let mut lags = Lags::default();
    let mut asked: Option<Instant> = None;
    loop {
        match look(&db).await {
            Ok(seen) => {
                seen.measure();
                state.send_modify(|state| {
                    (state.events, state.maintenance) = (seen.events(), seen.maintenance());
                });
            }
            // Readiness says so by itself.
            Err(e) => tracing::debug!(error = %e, "cannot see whether events flow"),
        }
        if asked.is_none_or(|at| at.elapsed() >= LAG_EVERY) {
            lags.look(&bus, &consumers).await;
            state.send_modify(|state| state.consumers = lags.standstill());
            asked = Some(Instant::now());
        }
        if timeout(EVERY, stop.cancelled()).await.is_ok() {
            return;
        }
    }
}

/// What the database tells.
#[derive(Debug, Default)]
struct Seen {
    unpublished: Duration,
    lost: Option<String>,
    maintained_at: f64,
    maintained_well_at: f64,
    unmaintained: Duration,
    problem: Option<String>,
}

fn seconds(row: &Row, column: &str) -> Duration {
    // Nothing waits; or a clock was set back.
    let seconds = row.get::<_, Option<f64>>(column).unwrap_or_default();
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

async fn look(db: &Db) -> Result<Seen, Broken> {
    let rows = db.reader(&Cause::system("flow")).read(sql!(LOOK)).await?;
    Ok(rows.first().map_or_else(Seen::default, |row| Seen {
        unpublished: seconds(row, "unpublished"),
        lost: row.get("lost"),
        maintained_at: row.get("maintained_at"),
        maintained_well_at: row.get("maintained_well_at"),
        unmaintained: seconds(row, "unmaintained"),
        problem: row.get("problem"),
    }))
}

impl Seen {
    fn measure(&self) {
        metrics::gauge!("outbox_oldest_unpublished_seconds").set(self.unpublished.as_secs_f64());
        metrics::gauge!("maintenance_last_time_seconds", "end" => "any").set(self.maintained_at);
        metrics::gauge!("maintenance_last_time_seconds", "end" => "done")
            .set(self.maintained_well_at);
    }

    fn events(&self) -> Option<String> {
        if let Some(lost) = &self.lost {
            return Some(format!("the relay's snapshot is not of this database: {lost}"));
        }
        let age = self.unpublished;
        (age > UNPUBLISHED_MAX)
            .then(|| format!("the oldest unpublished event is {} s old", age.as_secs()))
    }

    fn maintenance(&self) -> Option<String> {
        let problem = self.problem.as_deref().unwrap_or("nobody did it");
        (self.unmaintained > UNMAINTAINED_MAX)
            .then(|| format!("not done for {} h: {problem}", self.unmaintained.as_secs() / 3600))
    }
}

/// The lowest id of those that are not published is an old one, if not always the oldest: both
/// branches are a look into each partition's index, however much waits.
const LOOK: &str = "
    WITH relay AS MATERIALIZED (SELECT snapshot FROM outbox_relay)
    SELECT extract(epoch FROM clock_timestamp() - (
               SELECT min(w.created_at) FROM (
                   (SELECT created_at FROM outbox
                    WHERE xid >= (SELECT pg_snapshot_xmax(snapshot) FROM relay) ORDER BY xid LIMIT 1)
                   UNION ALL
                   SELECT created_at FROM outbox
                   WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip(snapshot) FROM relay))) w
           ))::float8 AS unpublished,
           outbox_relay_lost() AS lost,
           extract(epoch FROM m.at)::float8 AS maintained_at,
           extract(epoch FROM m.done_at)::float8 AS maintained_well_at,
           extract(epoch FROM clock_timestamp() - m.done_at)::float8 AS unmaintained,
           m.problem
    FROM maintenance m";

/// How many records each group has still to do of each topic, and since when it does none of them.
#[derive(Default)]
struct Lags {
    groups: BTreeMap<(&'static str, &'static str), Lag>,
}

#[derive(Clone, Copy, Debug)]
struct Lag {
    records: i64,
    /// When it last had nothing to do, or fewer than before.
    moved: Instant,
}

impl Lags {
    async fn look(&mut self, bus: &SharedBus, consumers: &[Arc<dyn Consume>]) {
        for consumer in consumers {
            let (group, topics) = (consumer.group(), consumer.topics());
            match bus.lags(group, topics).await {
                Ok(lags) => {
                    for (topic, records) in topics.iter().zip(lags) {
                        self.see(group, topic, records, Instant::now());
                    }
                }
                // Readiness says by itself that the bus is away.
                Err(e) => tracing::debug!(group, error = %e, "cannot see how far the group is"),
            }
        }
    }

    fn see(&mut self, group: &'static str, topic: &'static str, records: i64, now: Instant) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        metrics::gauge!("consumer_lag_records", "group" => group, "topic" => topic)
            .set(records as f64);
        let lag = self.groups.entry((group, topic)).or_insert(Lag { records, moved: now });
        if records == 0 || records < lag.records {
            lag.moved = now;
        }
        lag.records = records;
    }

    fn standstill(&self) -> Option<String> {
        let still: Vec<String> = self
            .groups
            .iter()
            .filter(|(_, lag)| lag.records > 0 && lag.moved.elapsed() > STILL_MAX)
            .map(|((group, topic), lag)| {
                let since = lag.moved.elapsed().as_secs();
                format!(
                    "{group} has {} records of {topic} to do, no fewer for {since} s",
                    lag.records
                )
            })
            .collect();
        (!still.is_empty()).then(|| still.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_does_nothing_for_a_minute_stands_still_and_one_that_is_slow_does_not() {
        let now = Instant::now();
        let Some(before) = now.checked_sub(Duration::from_secs(90)) else { return };
        let mut lags = Lags::default();
        lags.see("billing", "appointment.booked", 7, before);
        assert!(
            lags.standstill().unwrap().starts_with("billing has 7 records of appointment.booked")
        );
        lags.see("billing", "appointment.booked", 9, now);
        assert!(lags.standstill().unwrap().contains("9 records"), "it grows and grows");
        lags.see("billing", "appointment.booked", 8, now);
        assert_eq!(lags.standstill(), None, "it does some");
        let mut none = Lags::default();
        none.see("billing", "appointment.booked", 0, before);
        assert_eq!(none.standstill(), None);
    }

    #[test]
    fn what_stands_still_is_said_in_words() {
        let mut seen = Seen { unpublished: Duration::from_secs(29), ..Seen::default() };
        assert_eq!((seen.events(), seen.maintenance()), (None, None));
        seen.unpublished = Duration::from_secs(75);
        assert_eq!(seen.events().unwrap(), "the oldest unpublished event is 75 s old");
        seen.lost = Some("it was saved in another cluster".to_owned());
        assert!(seen.events().unwrap().contains("another cluster"));
        seen.unmaintained = Duration::from_secs(3 * 86_400);
        seen.problem = Some("a backup".to_owned());
        assert_eq!(seen.maintenance().unwrap(), "not done for 72 h: a backup");
    }
}
