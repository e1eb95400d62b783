//! The door for events: an event's effect happens once, however often it arrives.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use hospital_contracts::CloudEvent;
use hospital_types::{EventId, Refusal, RefusalKind};
use uuid::Uuid;

use crate::{
    bus::Received,
    cause::Cause,
    db::{Db, Tx},
    dead_letter::{self, Head},
    outcome::{Broken, Outcome},
    sql,
};

/// An event that can never be applied: another try changes nothing. Its record goes to the dead-letter topic with this reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison(pub String);

impl Poison {
    pub fn because(reason: impl std::fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl Refusal for Poison {
    fn kind(&self) -> RefusalKind {
        RefusalKind::Invalid
    }
    fn code(&self) -> &'static str {
        "poison"
    }
    fn detail(&self) -> String {
        self.0.clone()
    }
}

/// What a service does on events: its event edge.
#[async_trait]
pub trait Consume: Send + Sync + 'static {
    /// The consumer group, which is also the inbox's consumer: `billing`, `notification`.
    fn group(&self) -> &'static str;

    fn topics(&self) -> &'static [&'static str];

    /// Gets what these events need from elsewhere, before a transaction begins; some of them may
    /// have been applied before. It takes two seconds at most, and does without what it does not
    /// get.
    async fn prepare(&self, _events: &[&CloudEvent]) {}

    /// Applies events that were not applied before, in order, in the given unit of work. Refuses when one of them is poison; a batch
    /// that was refused comes again event by event. Must leave alone what has already passed an event's version. What it writes for an event
    /// is caused by that event: [`Cause::event`](crate::cause::Cause::event).
    async fn apply(&self, tx: &mut Tx<Poison>, events: &[&CloudEvent]) -> Outcome<(), Poison>;
}

/// An event with the record that it came in.
pub struct Arrival<'a> {
    pub event: CloudEvent,
    pub record: &'a Received,
}

/// Applies the events of a batch that this consumer has not applied before, and remembers them, in one transaction. What comes behind a
/// dead letter of its aggregate is set aside in the same transaction. Gives how many were fresh.
pub async fn once(
    db: &Db,
    consumer: &dyn Consume,
    batch: &[Arrival<'_>],
) -> Outcome<usize, Poison> {
    if batch.is_empty() {
        return Ok(0);
    }
    consumer.prepare(&batch.iter().map(|arrival| &arrival.event).collect::<Vec<_>>()).await;
    db.write(consumer.group(), async |tx: &mut Tx<Poison>| {
        let (mut fresh, heads) = claim(tx, consumer.group(), batch).await?;
        // An id that stands twice in the batch is fresh the first time only.
        let arrivals: Vec<&Arrival<'_>> =
            batch.iter().filter(|arrival| fresh.remove(&arrival.event.id.uuid())).collect();
        let count = arrivals.len();
        let sorted = dead_letter::sort(arrivals, &heads);
        sorted.settle(tx, consumer.group());
        let events: Vec<&CloudEvent> = sorted.apply.iter().map(|arrival| &arrival.event).collect();
        if !events.is_empty() {
            consumer.apply(tx, &events).await?;
        }
        Ok(count)
    })
    .await
}

/// Which of these events the consumer is known to have applied.
pub(crate) async fn known(
    db: &Db,
    group: &'static str,
    events: &[Arrival<'_>],
) -> Result<HashSet<Uuid>, Broken> {
    let ids: Vec<EventId> = events.iter().map(|arrival| arrival.event.id).collect();
    let rows = db
        .reader(&Cause::system(group))
        .read(sql!(
            "SELECT event_id FROM inbox WHERE consumer = $1 AND event_id = ANY ($2)",
            group,
            ids,
        ))
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Claims the events that were not claimed before, and looks for open dead letters of the batch's aggregates, in one flight.
async fn claim(
    tx: &mut Tx<Poison>,
    group: &'static str,
    batch: &[Arrival<'_>],
) -> Outcome<(HashSet<Uuid>, HashMap<Uuid, Head>), Poison> {
    let ids: Vec<EventId> = batch.iter().map(|arrival| arrival.event.id).collect();
    let topics: Vec<String> = batch.iter().map(|arrival| arrival.event.topic.clone()).collect();
    let aggregates: Vec<Option<Uuid>> =
        batch.iter().map(|a| dead_letter::aggregate_of(a.record)).collect();
    #[cfg(feature = "simulation")]
    if crate::defects::is(crate::defects::Defect::NoInbox) {
        return Ok((ids.iter().map(|id| id.uuid()).collect(), HashMap::new()));
    }
    let rows = tx
        .read(sql!(
            "WITH fresh AS (
                 INSERT INTO inbox (consumer, event_id, topic)
                 SELECT $1, e.id, e.topic FROM unnest($2::uuid[], $3::text[]) AS e (id, topic) ORDER BY e.id
                 ON CONFLICT ON CONSTRAINT inbox_once DO NOTHING
                 RETURNING event_id)
             SELECT event_id, NULL::uuid AS aggregate, NULL::integer AS version FROM fresh
             UNION ALL
             (SELECT DISTINCT ON (aggregate) id, aggregate, version FROM dead_letter
              WHERE consumer = $1 AND aggregate = ANY ($4) AND closed_at IS NULL ORDER BY aggregate, version, seq)",
            group,
            ids,
            topics,
            aggregates,
        ))
        .await?;
    let (mut fresh, mut heads) = (HashSet::new(), HashMap::new());
    for row in &rows {
        let id: Uuid = row.get("event_id");
        match row.get::<_, Option<Uuid>>("aggregate") {
            None => drop(fresh.insert(id)),
            Some(of) => drop(heads.insert(of, Head { id, version: row.get("version") })),
        }
    }
    Ok((fresh, heads))
}
