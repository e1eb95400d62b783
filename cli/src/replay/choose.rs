//! Which events are replayed, in which order.

use std::collections::HashSet;

use anyhow::{Context, bail};
use hospital_contracts::TOPICS;
use hospital_kit::{
    bus::{Position, Record},
    dead_letter::ONLY_FOR,
    relay,
};

use super::{ReplayArgs, id_of};
use crate::stores::{Stores, outbox};

pub(super) struct Chosen {
    /// In the order of their topics' partitions, or of their logs.
    pub(super) records: Vec<Record>,
    /// Records that were met and are not replayed.
    pub(super) skipped: usize,
}

pub(super) async fn events(args: &ReplayArgs, stores: &Stores) -> anyhow::Result<Chosen> {
    if let Some(topic) = args.topic.as_deref().filter(|topic| !TOPICS.contains(topic)) {
        bail!("there is no topic {topic}; the topics are {}", TOPICS.join(", "));
    }
    match (&args.aggregate, &args.topic) {
        (None, Some(topic)) => from_topic(args, stores, topic).await,
        _ => from_logs(args, stores).await,
    }
}

/// A topic's records from a position on, each event once.
async fn from_topic(args: &ReplayArgs, stores: &Stores, topic: &str) -> anyhow::Result<Chosen> {
    let from = match (args.from_time, args.from_offset) {
        (Some(time), _) => Position::Time(time.as_millisecond()),
        (_, Some(offset)) => Position::Offset(offset),
        _ => Position::Beginning,
    };
    let read = stores.read(topic, from).await.context("reading the topic")?;
    let (mut seen, met) = (HashSet::new(), read.len());
    let mut records = Vec::new();
    for record in read {
        let mut headers = record.headers;
        // That a replay was for one group says nothing about this one.
        headers.retain(|(name, _)| name != ONLY_FOR);
        let key = record.key.unwrap_or_default();
        let record = Record { topic: record.topic, key, headers, value: record.value };
        // What is no event is poison: to publish it again would only make another dead letter.
        if id_of(&record).is_some_and(|id| seen.insert(id)) {
            records.push(record);
        }
    }
    let skipped = met - records.len();
    Ok(Chosen { records, skipped })
}

/// An aggregate's events, as the services' logs have them.
async fn from_logs(args: &ReplayArgs, stores: &Stores) -> anyhow::Result<Chosen> {
    let rows = stores
        .client
        .query(
            concat!(
                "SELECT o.service, o.event_id, o.topic, o.event_type, o.aggregate, o.subject, o.payload::text AS payload, o.traceparent,
                        o.created_at FROM ",
                outbox!(),
                " o WHERE o.aggregate = $1 AND ($2::text IS NULL OR o.topic = $2) ORDER BY o.seq"
            ),
            &[&args.aggregate, &args.topic],
        )
        .await
        .context("reading the event logs")?;
    let records = rows.iter().map(|row| relay::record(row.get("service"), row)).collect();
    Ok(Chosen { records, skipped: 0 })
}
