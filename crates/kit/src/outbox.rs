//! The event log of a service: the only way to publish, in the transaction that makes the change.

use hospital_contracts::DomainEvent;
use hospital_types::EventId;
use tokio_postgres::types::Json;

use crate::{db::Tx, sql};

/// Queues an event behind the changes that it tells of. Queue it after the statement that locks its aggregate, so that the events of
/// one aggregate are numbered in the order of its changes.
pub fn append<R, E: DomainEvent>(tx: &mut Tx<R>, event: &E) -> EventId {
    let id = EventId::new();
    let payload = serde_json::to_value(event).expect("events are plain data");
    let unit = tx.unit().clone();
    tx.write(sql!(
        "INSERT INTO outbox (event_id, topic, event_type, aggregate, version, subject, payload, traceparent, unit, actor)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        id,
        E::TOPIC,
        E::cloud_type(),
        event.aggregate(),
        event.version(),
        event.subject(),
        Json(payload),
        unit.traceparent,
        unit.name,
        unit.actor.subject,
    ));
    tx.mark_appended();
    id
}

/// Many events of one kind in one statement, for consumers that work in batches.
pub fn append_all<R, E: DomainEvent>(tx: &mut Tx<R>, events: &[E]) {
    if events.is_empty() {
        return;
    }
    let unit = tx.unit().clone();
    let ids: Vec<EventId> = events.iter().map(|_| EventId::new()).collect();
    let payloads: Vec<_> = events
        .iter()
        .map(|e| Json(serde_json::to_value(e).expect("events are plain data")))
        .collect();
    tx.write(sql!(
        "INSERT INTO outbox (event_id, topic, event_type, aggregate, version, subject, payload, traceparent, unit, actor)
         SELECT e.id, $1::text, $2::text, e.aggregate, e.version, e.subject, e.payload, $3::text, $4::text, $5::text
         FROM unnest($6::uuid[], $7::uuid[], $8::integer[], $9::uuid[], $10::jsonb[]) WITH ORDINALITY
              AS e (id, aggregate, version, subject, payload, place)
         ORDER BY e.place",
        E::TOPIC,
        E::cloud_type(),
        unit.traceparent,
        unit.name,
        unit.actor.subject,
        ids,
        events.iter().map(E::aggregate).collect::<Vec<_>>(),
        events.iter().map(E::version).collect::<Vec<_>>(),
        events.iter().map(E::subject).collect::<Vec<_>>(),
        payloads,
    ));
    tx.mark_appended();
}

/// Queues an event some of whose members are known to the database only: a statement that ends one flight cannot hand the bill's new
/// version to Rust and still be one flight. `$members` is an SQL expression of type `jsonb` over `$from`, merged over the payload;
/// `$version` is one for the aggregate's version; `$from` is what follows `FROM` and may name `$11`, the aggregate's id.
#[macro_export]
macro_rules! append_from {
    ($tx:expr, $event:expr, members: $members:literal, version: $version:literal, from: $from:literal $(,)?) => {
        $crate::outbox::append_statement(
            $tx,
            $event,
            concat!(
                "INSERT INTO outbox (event_id, topic, event_type, aggregate, version, subject, payload, traceparent, unit, actor)
                 SELECT $1::uuid, $2::text, $3::text, $4::uuid, coalesce(",
                $version,
                ", $5::integer), $6::uuid, $7::jsonb || ",
                $members,
                ", $8::text, $9::text, $10::text FROM ",
                $from
            ),
        )
    };
}

/// Behind [`append_from!`].
#[doc(hidden)]
pub fn append_statement<R, E: DomainEvent>(
    tx: &mut Tx<R>,
    event: &E,
    sql: &'static str,
) -> EventId {
    let id = EventId::new();
    let payload = serde_json::to_value(event).expect("events are plain data");
    let unit = tx.unit().clone();
    tx.write(sql!(
        sql,
        id,
        E::TOPIC,
        E::cloud_type(),
        event.aggregate(),
        event.version(),
        event.subject(),
        Json(payload),
        unit.traceparent,
        unit.name,
        unit.actor.subject,
        event.aggregate(),
    ));
    tx.mark_appended();
    id
}
