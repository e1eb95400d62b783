//! The invariants between the event logs and the bus.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Context;
use hospital_contracts::TOPICS;
use hospital_kit::{
    bus::{Position, SharedBus},
    dead_letter::dead_letter_topic,
};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{VIOLATIONS_MAX, Verdict};

/// Who consumes what.
const CONSUMED: [(&str, &[&str]); 2] = [
    ("billing", &["appointment.booked", "appointment.cancelled"]),
    (
        "notification",
        &[
            "patient.registered",
            "patient.updated",
            "appointment.booked",
            "appointment.rescheduled",
            "appointment.cancelled",
            "bill.generated",
            "payment.completed",
            "payment.failed",
        ],
    ),
];

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
        for topic in topics {
            let lag: i64 = bus.lag(group, topic).await?.values().sum();
            checked += 1;
            if lag > 0 {
                violations.push(format!("{group} has {lag} records of {topic} still to do"));
            }
            let dead = bus.read(&dead_letter_topic(topic, group), Position::Beginning).await?;
            for record in dead {
                let Some(id) = record.header("ce_id").and_then(|id| id.parse::<Uuid>().ok()) else {
                    continue;
                };
                if is_ours(client, id).await? {
                    let reason = record.header("dlq_reason").unwrap_or("no reason");
                    violations.push(format!("{group} put our own {topic} {id} aside: {reason}"));
                }
            }
        }
    }
    violations.truncate(VIOLATIONS_MAX);
    Ok((checked, violations))
}

async fn is_ours(client: &Client, id: Uuid) -> anyhow::Result<bool> {
    let rows = client
        .query(
            "SELECT 1 FROM patient.outbox WHERE event_id = $1 UNION ALL SELECT 1 FROM appointment.outbox WHERE event_id = $1
             UNION ALL SELECT 1 FROM billing.outbox WHERE event_id = $1",
            &[&id],
        )
        .await?;
    Ok(!rows.is_empty())
}

/// An event as a service's log has it.
struct Logged {
    topic: String,
    aggregate: Uuid,
    version: i32,
}

pub(crate) async fn all(client: &Client, bus: &SharedBus) -> anyhow::Result<Vec<Verdict>> {
    let rows = client
        .query(
            "SELECT event_id, topic, aggregate, version FROM patient.outbox
             UNION ALL SELECT event_id, topic, aggregate, version FROM appointment.outbox
             UNION ALL SELECT event_id, topic, aggregate, version FROM billing.outbox",
            &[],
        )
        .await
        .context("reading the event logs")?;
    let log: HashMap<Uuid, Logged> = rows
        .iter()
        .map(|row| {
            (row.get(0), Logged { topic: row.get(1), aggregate: row.get(2), version: row.get(3) })
        })
        .collect();
    let (mut published, mut read) = (HashSet::new(), 0);
    let (mut phantoms, mut disorder) = (Vec::new(), Vec::new());
    for topic in TOPICS {
        let mut versions: BTreeMap<Uuid, i32> = BTreeMap::new();
        for record in bus.read(topic, Position::Beginning).await? {
            read += 1;
            let id = record.header("ce_id").and_then(|id| id.parse::<Uuid>().ok());
            let logged = id.and_then(|id| Some((id, log.get(&id)?)));
            let Some((id, event)) = logged.filter(|(_, event)| event.topic == topic) else {
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
        .filter(|(id, _)| !published.contains(*id))
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
