//! The invariants between the event logs and the bus.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Context;
use futures_util::future::{try_join, try_join_all};
use hospital_contracts::TOPICS;
use hospital_kit::{
    bus::{Position, Received, SharedBus},
    dead_letter::dead_letter_topic,
};
use jiff::Timestamp;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{VIOLATIONS_MAX, Verdict};
use crate::stores::{CONSUMED, outbox, patiently};

/// What is published and not worked off, or dead-lettered though it is ours.
pub(crate) async fn unfinished(
    client: &Client,
    bus: &SharedBus,
) -> anyhow::Result<(i64, Vec<String>)> {
    let (mut checked, mut violations) = (0, Vec::new());
    for schema in ["patient", "appointment", "billing", "notification"] {
        let waiting: i64 = client
            .query_one(
                &format!(
                    "SELECT count(*) FROM {schema}.outbox o, {schema}.outbox_relay r WHERE NOT pg_visible_in_snapshot(o.xid, r.snapshot)"
                ),
                &[],
            )
            .await
            .context("reading how far the relays are")?
            .get(0);
        if waiting > 0 {
            violations
                .push(format!("{waiting} events of the {schema} service are not published yet"));
        }
    }
    for (group, topics) in CONSUMED {
        // At once: a broker makes each of them wait a little.
        let looks = topics.iter().map(async |topic| {
            let letters = dead_letter_topic(topic, group);
            let lag = patiently(async || bus.lag(group, topic).await);
            try_join(lag, patiently(async || bus.read(&letters, Position::Beginning).await)).await
        });
        for (topic, (lag, copies)) in topics.iter().zip(try_join_all(looks).await?) {
            let lag: i64 = lag.values().sum();
            checked += 1;
            if lag > 0 {
                violations.push(format!("{group} has {lag} records of {topic} still to do"));
            }
            unknown_copies(client, group, topic, &copies, &mut violations).await?;
        }
        open_letters(client, group, &mut violations).await?;
        // A look at everything: only once the rest is done.
        if violations.is_empty() {
            for (topic, id) in never_received(client, group, topics, VIOLATIONS_MAX).await? {
                violations.push(format!("{group} has never received {topic} {id}"));
            }
        }
    }
    violations.truncate(VIOLATIONS_MAX);
    Ok((checked, violations))
}

/// Events of ours that a group put aside, or that wait behind such. What is in no log is somebody else's poison.
async fn open_letters(
    client: &Client,
    group: &str,
    violations: &mut Vec<String>,
) -> anyhow::Result<()> {
    let sql = format!(
        concat!(
            "SELECT d.topic, d.id, d.state, d.reason FROM {}.dead_letter d
             WHERE d.closed_at IS NULL AND EXISTS (SELECT 1 FROM ",
            outbox!(),
            " o WHERE o.event_id = d.id) ORDER BY d.seq LIMIT {}"
        ),
        group, VIOLATIONS_MAX
    );
    for row in client.query(&sql, &[]).await.context("reading the dead letters")? {
        let (topic, id): (&str, Uuid) = (row.get(0), row.get(1));
        let (state, reason): (&str, &str) = (row.get(2), row.get(3));
        violations.push(format!("{group} has our own {topic} {id} put aside, {state}: {reason}"));
    }
    Ok(())
}

/// Copies in a dead-letter topic that the group's ledger does not know.
async fn unknown_copies(
    client: &Client,
    group: &str,
    topic: &str,
    copies: &[Received],
    violations: &mut Vec<String>,
) -> anyhow::Result<()> {
    if copies.is_empty() {
        return Ok(());
    }
    let rows = client
        .query(&format!("SELECT id FROM {group}.dead_letter WHERE topic = $1"), &[&topic])
        .await?;
    let known: HashSet<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let kept = kept_since(client, group, "dead_letter").await?;
    for copy in copies {
        let id = copy.header("dlq_id").and_then(|id| id.parse().ok());
        let time = copy.header("dlq_last_time").and_then(|time| time.parse::<Timestamp>().ok());
        let forgotten = kept.zip(time).is_some_and(|(since, time)| time < since);
        if !forgotten && !id.is_some_and(|id| known.contains(&id)) {
            violations
                .push(format!("{}-{}@{} is in no ledger", copy.topic, copy.partition, copy.offset));
        }
    }
    Ok(())
}

/// Since when a service keeps something; nothing where it has forgotten nothing yet.
async fn kept_since(
    client: &Client,
    schema: &str,
    what: &str,
) -> anyhow::Result<Option<Timestamp>> {
    let sql =
        format!("SELECT max(nullif(since, '-infinity')) FROM {schema}.kept_since WHERE what = $1");
    let row =
        client.query_one(&sql, &[&what]).await.context("reading since when things are kept")?;
    Ok(row.get(0))
}

/// Events in the logs that a group should have received and has not, though they are not put aside either.
pub(crate) async fn never_received(
    client: &Client,
    group: &str,
    topics: &[&str],
    max: usize,
) -> anyhow::Result<Vec<(String, Uuid)>> {
    let sql = format!(
        concat!(
            "SELECT o.topic, o.event_id FROM ",
            outbox!(),
            " o WHERE o.topic = ANY ($1)
                 AND o.created_at >= (SELECT since + interval '1 day' FROM {group}.kept_since WHERE what = 'inbox')
                 AND NOT EXISTS (SELECT 1 FROM {group}.inbox i WHERE i.consumer = '{group}' AND i.event_id = o.event_id)
                 AND NOT EXISTS (SELECT 1 FROM {group}.dead_letter d WHERE d.consumer = '{group}' AND d.id = o.event_id
                                 AND d.closed_at IS NULL)
               ORDER BY o.service, o.seq LIMIT {max}"
        ),
        group = group,
        max = max
    );
    let rows = client.query(&sql, &[&topics]).await.context("comparing logs and inboxes")?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// An event as a service's log has it.
struct Logged {
    topic: String,
    /// Whether its topic may have forgotten it.
    old: bool,
    aggregate: Uuid,
    version: i32,
}

/// What a topic may have forgotten: a bus removes what is past its retention in its own time.
pub(crate) const OLD_IN_TOPIC: &str =
    "o.created_at < now() - make_interval(days => greatest($1 - 2, 0))";

/// The event logs of those who publish.
async fn read_logs(client: &Client, retention_days: i32) -> anyhow::Result<HashMap<Uuid, Logged>> {
    let columns = format!("event_id, topic, aggregate, version, {OLD_IN_TOPIC} AS old");
    let rows = client
        .query(
            &format!(
                "SELECT {columns} FROM patient.outbox o
                 UNION ALL SELECT {columns} FROM appointment.outbox o
                 UNION ALL SELECT {columns} FROM billing.outbox o"
            ),
            &[&retention_days],
        )
        .await
        .context("reading the event logs")?;
    Ok(rows
        .iter()
        .map(|row| {
            let (topic, aggregate, version) = (row.get(1), row.get(2), row.get(3));
            (row.get(0), Logged { topic, aggregate, version, old: row.get("old") })
        })
        .collect())
}

pub(crate) async fn all(
    client: &Client,
    bus: &SharedBus,
    retention_days: i32,
) -> anyhow::Result<Vec<Verdict>> {
    let log = read_logs(client, retention_days).await?;
    let mut kept = HashMap::new();
    for schema in ["patient", "appointment", "billing"] {
        if let Some(since) = kept_since(client, schema, "outbox").await? {
            kept.insert(format!("urn:hospital:{schema}"), since);
        }
    }
    // Published again on its last day in the log, a record outlives its row.
    let outlived = |record: &Received| {
        let since = record.header("ce_source").and_then(|source| kept.get(source));
        let time = record.header("ce_time").and_then(|time| time.parse::<Timestamp>().ok());
        since.zip(time).is_some_and(|(since, time)| time < *since)
    };
    let (mut published, mut read) = (HashSet::new(), 0);
    let (mut phantoms, mut disorder) = (Vec::new(), Vec::new());
    let reads = TOPICS
        .iter()
        .map(async |topic| patiently(async || bus.read(topic, Position::Beginning).await).await);
    let topics = try_join_all(reads).await?;
    for (topic, records) in TOPICS.into_iter().zip(topics) {
        let mut versions: BTreeMap<Uuid, i32> = BTreeMap::new();
        for record in records {
            read += 1;
            let id = record.header("ce_id").and_then(|id| id.parse::<Uuid>().ok());
            let logged = id.and_then(|id| Some((id, log.get(&id)?)));
            let Some((id, event)) = logged.filter(|(_, event)| event.topic == topic) else {
                if outlived(&record) {
                    continue;
                }
                phantoms.push(format!(
                    "{topic}-{}@{} is in no event log",
                    record.partition, record.offset
                ));
                continue;
            };
            // Duplicates are what at-least-once means; only the first counts.
            if published.insert(id) {
                let last = versions.entry(event.aggregate).or_insert(i32::MIN);
                if event.version <= *last {
                    disorder.push(format!(
                        "{topic}: {} goes from version {last} to {}",
                        event.aggregate, event.version
                    ));
                }
                *last = event.version.max(*last);
            }
        }
    }
    let missing = log
        .iter()
        .filter(|(id, event)| !event.old && !published.contains(*id))
        .map(|(id, event)| format!("{} {id} is not in its topic", event.topic))
        .collect();
    let logged = i64::try_from(log.len())?;
    Ok(vec![
        verdict("I5", "every event in a log is in its topic", logged, missing),
        verdict("I6", "every event in a topic is in a log", read, phantoms),
        verdict("I14", "per aggregate, versions rise in every topic", logged, disorder),
    ])
}

fn verdict(
    id: &'static str,
    what: &'static str,
    checked: i64,
    mut violations: Vec<String>,
) -> Verdict {
    violations.truncate(VIOLATIONS_MAX);
    Verdict { id, what, checked, violations }
}
