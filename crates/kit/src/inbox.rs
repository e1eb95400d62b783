//! The door for events: an event's effect happens once, however often it arrives.

use std::collections::HashSet;

use async_trait::async_trait;
use hospital_contracts::CloudEvent;
use hospital_types::{Actor, EventId, Refusal, RefusalKind};
use uuid::Uuid;

use crate::{
    db::{Db, Tx, Unit},
    outcome::Outcome,
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

    /// Applies events that were not applied before, in order, in the given unit of work. Refuses when one of them is poison; a batch
    /// that was refused comes again event by event. Must leave alone what has already passed an event's version.
    async fn apply(&self, tx: &mut Tx<Poison>, events: &[&CloudEvent]) -> Outcome<(), Poison>;
}

/// Applies the events of a batch that this consumer has not applied before, and remembers them, in one transaction. Gives how many
/// were fresh.
pub async fn once(db: &Db, consumer: &dyn Consume, batch: &[CloudEvent]) -> Outcome<usize, Poison> {
    let Some(first) = batch.first() else { return Ok(0) };
    let unit = Unit {
        name: consumer.group(),
        actor: Actor::system(consumer.group()),
        traceparent: first.traceparent.clone(),
    };
    db.write(unit, async |tx: &mut Tx<Poison>| {
        let ids: Vec<EventId> = batch.iter().map(|event| event.id).collect();
        let topics: Vec<String> = batch.iter().map(|event| event.topic.clone()).collect();
        let rows = tx
            .read(sql!(
                "INSERT INTO inbox (consumer, event_id, topic)
                 SELECT $1, e.id, e.topic FROM unnest($2::uuid[], $3::text[]) AS e (id, topic) ORDER BY e.id
                 ON CONFLICT ON CONSTRAINT inbox_once DO NOTHING
                 RETURNING event_id",
                consumer.group(),
                ids,
                topics,
            ))
            .await?;
        let mut fresh: HashSet<Uuid> = rows.iter().map(|row| row.get(0)).collect();
        // An id that stands twice in the batch is fresh the first time only.
        let events: Vec<&CloudEvent> =
            batch.iter().filter(|event| fresh.remove(&event.id.uuid())).collect();
        if !events.is_empty() {
            consumer.apply(tx, &events).await?;
        }
        Ok(events.len())
    })
    .await
}
