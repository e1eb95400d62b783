//! The event log of a service: the only way to publish, in the transaction that makes the change.

use hospital_contracts::DomainEvent;
use hospital_types::EventId;
use serde_json::value::RawValue;
use tokio_postgres::types::Json;

use crate::{cause::Cause, db::Tx, sql};

/// An event as text: a tree of its members would be made only to be written out and dropped.
fn payload<E: DomainEvent>(event: &E) -> Json<Box<RawValue>> {
    Json(serde_json::value::to_raw_value(event).expect("events are plain data"))
}

/// Queues an event behind the changes that it tells of. Queue it after the statement that locks its aggregate, so that the events of
/// one aggregate are numbered in the order of its changes.
pub fn append<R, E: DomainEvent>(tx: &mut Tx<R>, cause: &Cause, event: &E) -> EventId {
    let id = EventId::new();
    let payload = payload(event);
    let name = tx.name();
    tx.append(sql!(
        "INSERT INTO outbox (event_id, topic, event_type, aggregate, version, subject, payload, traceparent, unit, actor)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING event_id, xid::text AS xid",
        id,
        E::TOPIC,
        E::cloud_type(),
        event.aggregate(),
        event.version(),
        event.subject(),
        payload,
        cause.trace.clone(),
        name,
        cause.actor.subject.clone(),
    ));
    id
}

/// Events of one kind, in one statement, each with the cause of its own.
pub fn append_all<R, E: DomainEvent>(tx: &mut Tx<R>, events: &[(E, &Cause)]) {
    if events.is_empty() {
        return;
    }
    let name = tx.name();
    tx.append(sql!(
        "INSERT INTO outbox (event_id, topic, event_type, aggregate, version, subject, payload, traceparent, unit, actor)
         SELECT e.id, $1::text, $2::text, e.aggregate, e.version, e.subject, e.payload, e.traceparent, $3::text, e.actor
         FROM unnest($4::uuid[], $5::uuid[], $6::integer[], $7::uuid[], $8::jsonb[], $9::text[], $10::text[])
              AS e (id, aggregate, version, subject, payload, traceparent, actor)
         RETURNING event_id, xid::text AS xid",
        E::TOPIC,
        E::cloud_type(),
        name,
        events.iter().map(|_| EventId::new()).collect::<Vec<_>>(),
        events.iter().map(|(e, _)| e.aggregate()).collect::<Vec<_>>(),
        events.iter().map(|(e, _)| e.version()).collect::<Vec<_>>(),
        events.iter().map(|(e, _)| e.subject()).collect::<Vec<_>>(),
        events.iter().map(|(e, _)| payload(e)).collect::<Vec<_>>(),
        events.iter().map(|(_, cause)| cause.trace.clone()).collect::<Vec<_>>(),
        events.iter().map(|(_, cause)| cause.actor.subject.clone()).collect::<Vec<_>>(),
    ));
}

/// Queues an event some of whose members are known to the database only: a statement that ends one flight cannot hand the bill's new
/// version to Rust and still be one flight. `$members` is an SQL expression of type `jsonb` over `$from`, merged over the payload;
/// `$version` is one for the aggregate's version; `$from` is what follows `FROM` and may name `$11`, the aggregate's id.
#[macro_export]
macro_rules! append_from {
    ($tx:expr, $cause:expr, $event:expr, members: $members:literal, version: $version:literal, from: $from:literal $(,)?) => {
        $crate::outbox::append_statement(
            $tx,
            $cause,
            $event,
            concat!(
                "INSERT INTO outbox (event_id, topic, event_type, aggregate, version, subject, payload, traceparent, unit, actor)
                 SELECT $1::uuid, $2::text, $3::text, $4::uuid, coalesce(",
                $version,
                ", $5::integer), $6::uuid, $7::jsonb || ",
                $members,
                ", $8::text, $9::text, $10::text FROM ",
                $from,
                " RETURNING event_id, xid::text AS xid"
            ),
        )
    };
}

/// Like [`append_from!`] for several commands that are done together; events of one aggregate are numbered in their order. What the
/// statement adds to each event comes from `$from`, a query that is made for each event `e` and calls its row `b`: `e.aggregate`,
/// `e.along`, the number given along with the event, and `e.behind`, how many of the events behind it are of the same aggregate.
#[macro_export]
macro_rules! append_each_from {
    ($tx:expr, $events:expr, along: $along:expr, members: $members:literal, version: $version:literal, from: $from:literal $(,)?) => {
        $crate::outbox::append_each_statement(
            $tx,
            $events,
            $along,
            concat!(
                "INSERT INTO outbox (event_id, topic, event_type, aggregate, version, subject, payload, traceparent, unit, actor)
                 SELECT e.id, $1::text, $2::text, e.aggregate, ",
                $version,
                ", e.subject, e.payload || ",
                $members,
                ", e.traceparent, $3::text, e.actor
                 FROM unnest($4::uuid[], $5::uuid[], $6::uuid[], $7::jsonb[], $8::text[], $9::text[], $10::bigint[], $11::integer[])
                      WITH ORDINALITY AS e (id, aggregate, subject, payload, traceparent, actor, along, behind, place),
                      LATERAL (",
                $from,
                // A query of its own for each event: one plan made while the table was small must not read all of it later.
                " OFFSET 0) AS b ORDER BY e.place RETURNING event_id, xid::text AS xid"
            ),
        )
    };
}

/// Behind [`append_each_from!`].
#[doc(hidden)]
pub fn append_each_statement<R, E: DomainEvent>(
    tx: &mut Tx<R>,
    events: &[(E, &Cause)],
    along: Vec<i64>,
    sql: &'static str,
) {
    let aggregates: Vec<_> = events.iter().map(|(e, _)| e.aggregate()).collect();
    let behind = |(place, aggregate)| {
        let rest = aggregates.iter().skip(place + 1);
        i32::try_from(rest.filter(|other| *other == aggregate).count()).unwrap_or(i32::MAX)
    };
    let behind: Vec<i32> = aggregates.iter().enumerate().map(behind).collect();
    let name = tx.name();
    tx.append(sql!(
        sql,
        E::TOPIC,
        E::cloud_type(),
        name,
        events.iter().map(|_| EventId::new()).collect::<Vec<_>>(),
        aggregates,
        events.iter().map(|(e, _)| e.subject()).collect::<Vec<_>>(),
        events.iter().map(|(e, _)| payload(e)).collect::<Vec<_>>(),
        events.iter().map(|(_, cause)| cause.trace.clone()).collect::<Vec<_>>(),
        events.iter().map(|(_, cause)| cause.actor.subject.clone()).collect::<Vec<_>>(),
        along,
        behind,
    ));
}

/// Behind [`append_from!`].
#[doc(hidden)]
pub fn append_statement<R, E: DomainEvent>(
    tx: &mut Tx<R>,
    cause: &Cause,
    event: &E,
    sql: &'static str,
) -> EventId {
    let id = EventId::new();
    let payload = payload(event);
    let name = tx.name();
    tx.append(sql!(
        sql,
        id,
        E::TOPIC,
        E::cloud_type(),
        event.aggregate(),
        event.version(),
        event.subject(),
        payload,
        cause.trace.clone(),
        name,
        cause.actor.subject.clone(),
        event.aggregate(),
    ));
    id
}
