//! Gathers a journey from what the services and the bus have stored.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use hospital_kit::{
    bus::{BusError, Position},
    dead_letter::ONLY_FOR,
};
use jiff::{Timestamp, ToSpan};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::{Appointment, Bill, Entry, Journey, Kind};
use crate::stores::{CONSUMED, Stores};

/// What is known of one event.
struct Known {
    id: Uuid,
    topic: String,
    at: Timestamp,
    trace: Option<String>,
}

fn entry(at: Timestamp, service: &str, kind: Kind, what: impl Into<String>) -> Entry {
    Entry {
        at,
        service: service.to_owned(),
        kind,
        what: what.into(),
        note: String::new(),
        id: None,
    }
}

impl Entry {
    fn with(mut self, id: Uuid, note: impl Into<String>) -> Self {
        self.id = Some(id);
        self.note = note.into();
        self
    }
}

pub(super) async fn journey(stores: &Stores, id: Uuid) -> anyhow::Result<Journey> {
    let client = &stores.client;
    let (appointment, bill) = (appointment(client, id).await?, bill(client, id).await?);
    let mut timeline = Vec::new();
    steps(client, id, &mut timeline).await?;
    let bill_id = bill.as_ref().map(|bill| bill.id);
    if let Some(bill) = bill_id {
        money(client, bill, &mut timeline).await?;
    }
    requests(client, id, &mut timeline).await?;
    let aggregates: Vec<Uuid> = [Some(id), bill_id].into_iter().flatten().collect();
    let events = events(client, &aggregates, &mut timeline).await?;
    let positions = positions(stores, &events, &mut timeline).await;
    received(client, &events, &mut timeline).await?;
    let open = letters(client, &events, &aggregates, &mut timeline).await?;
    messages(client, id, &mut timeline).await?;
    timeline.sort_by_key(|entry| (entry.at, entry.kind));
    let traces: BTreeSet<String> = events.into_iter().filter_map(|event| event.trace).collect();
    Ok(Journey {
        appointment,
        bill,
        traces: traces.into_iter().collect(),
        timeline,
        open,
        bus: positions.err().map(|e| e.to_string()),
    })
}

async fn rows(
    client: &Client,
    sql: &str,
    params: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> anyhow::Result<Vec<Row>> {
    client.query(sql, params).await.context("reading what is stored")
}

async fn appointment(client: &Client, id: Uuid) -> anyhow::Result<Option<Appointment>> {
    let sql = "SELECT status, starts_at, ends_at, service_type, patient_id, practitioner_id FROM appointment.appointment WHERE id = $1";
    Ok(rows(client, sql, &[&id]).await?.first().map(|row| Appointment {
        id,
        status: row.get(0),
        start: row.get(1),
        end: row.get(2),
        service_type: row.get(3),
        patient_id: row.get(4),
        practitioner_id: row.get(5),
    }))
}

async fn bill(client: &Client, appointment: Uuid) -> anyhow::Result<Option<Bill>> {
    let sql = "SELECT id, number, status, currency, billing.amount_text(total, exponent), billing.amount_text(paid, exponent),
                      billing.amount_text(reserved, exponent)
               FROM billing.bill WHERE appointment_id = $1";
    Ok(rows(client, sql, &[&appointment]).await?.first().map(|row| Bill {
        id: row.get(0),
        number: row.get(1),
        status: row.get(2),
        currency: row.get(3),
        total: row.get(4),
        paid: row.get(5),
        reserved: row.get(6),
    }))
}

async fn steps(client: &Client, id: Uuid, timeline: &mut Vec<Entry>) -> anyhow::Result<()> {
    let sql = "SELECT version, at, from_status, to_status, starts_at FROM appointment.history WHERE appointment_id = $1";
    for row in rows(client, sql, &[&id]).await? {
        let (from, to): (Option<String>, String) = (row.get(2), row.get(3));
        let what = match from {
            None => to,
            Some(from) if from == to => "another time".to_owned(),
            Some(from) => format!("{from} → {to}"),
        };
        let mut step = entry(row.get(1), "appointment", Kind::Step, what);
        step.note = format!("version {}, for {}", row.get::<_, i32>(0), row.get::<_, Timestamp>(4));
        timeline.push(step);
    }
    Ok(())
}

async fn money(client: &Client, bill: Uuid, timeline: &mut Vec<Entry>) -> anyhow::Result<()> {
    let sql = "SELECT created_at, issued_at, number, currency, billing.amount_text(total, exponent), exponent FROM billing.bill WHERE id = $1";
    for row in rows(client, sql, &[&bill]).await? {
        let (made, issued): (Timestamp, Option<Timestamp>) = (row.get(0), row.get(1));
        if issued != Some(made) {
            timeline.push(entry(made, "billing", Kind::Bill, "bill drafted").with(bill, ""));
        }
        if let Some(issued) = issued {
            let (currency, total): (&str, &str) = (row.get(3), row.get(4));
            let number = row.get::<_, Option<&str>>(2).unwrap_or("?");
            let what = format!("bill {number} issued");
            let note = format!("{total} {currency}");
            timeline.push(entry(issued, "billing", Kind::Bill, what).with(bill, note));
        }
    }
    let sql = "SELECT p.id, p.created_at, p.settled_at, p.method, p.status, p.failure, p.currency, billing.amount_text(p.amount, b.exponent),
                      p.checks
               FROM billing.payment p JOIN billing.bill b ON b.id = p.bill_id WHERE p.bill_id = $1";
    for row in rows(client, sql, &[&bill]).await? {
        let id: Uuid = row.get(0);
        let (began, settled): (Timestamp, Option<Timestamp>) = (row.get(1), row.get(2));
        let (method, status): (&str, &str) = (row.get(3), row.get(4));
        let amount = format!("{} {}", row.get::<_, &str>(7), row.get::<_, &str>(6));
        if settled != Some(began) {
            let what = format!("payment by {method} began");
            timeline.push(entry(began, "billing", Kind::Payment, what).with(id, amount.clone()));
        }
        if let Some(settled) = settled {
            let failure = row.get::<_, Option<&str>>(5).map(|f| format!(": {f}"));
            let what = format!("payment by {method} {status}{}", failure.unwrap_or_default());
            let checks = match row.get::<_, i32>(8) {
                0 => String::new(),
                n => format!(", the gateway was asked {n}×"),
            };
            let note = format!("{amount}{checks}");
            timeline.push(entry(settled, "billing", Kind::Payment, what).with(id, note));
        }
    }
    Ok(())
}

/// What was asked under a key, as far as the answers are still kept.
async fn requests(client: &Client, id: Uuid, timeline: &mut Vec<Entry>) -> anyhow::Result<()> {
    // The answer's time is its transaction's, so it is looked for around the steps only.
    let sql = "
        SELECT DISTINCT 'appointment' AS service, i.created_at, i.route, i.status FROM appointment.history h
        JOIN appointment.idempotency i ON i.created_at BETWEEN h.at - interval '10 seconds' AND h.at + interval '10 seconds'
            AND position(convert_to(h.appointment_id::text, 'UTF8') IN i.body) > 0
        WHERE h.appointment_id = $1
        UNION ALL
        SELECT 'billing', i.created_at, i.route, i.status FROM billing.payment p JOIN billing.bill b ON b.id = p.bill_id
        JOIN billing.idempotency i ON (i.key, i.caller, i.route) = (p.key, p.caller, p.route)
        WHERE b.appointment_id = $1";
    for row in rows(client, sql, &[&id]).await? {
        let status = row
            .get::<_, Option<i16>>(3)
            .map_or_else(|| "not answered".to_owned(), |s| s.to_string());
        let what = row.get::<_, String>(2);
        let mut request = entry(row.get(1), row.get(0), Kind::Request, what);
        request.note = status;
        timeline.push(request);
    }
    Ok(())
}

async fn events(
    client: &Client,
    aggregates: &[Uuid],
    timeline: &mut Vec<Entry>,
) -> anyhow::Result<Vec<Known>> {
    let sql = "SELECT 'appointment' AS service, event_id, topic, version, created_at, traceparent FROM appointment.outbox
               WHERE aggregate = ANY ($1)
               UNION ALL SELECT 'billing', event_id, topic, version, created_at, traceparent FROM billing.outbox
               WHERE aggregate = ANY ($1)";
    let mut events = Vec::new();
    for row in rows(client, sql, &[&aggregates]).await? {
        let (id, topic, at): (Uuid, String, Timestamp) = (row.get(1), row.get(2), row.get(4));
        let note = format!("version {}", row.get::<_, i32>(3));
        timeline.push(entry(at, row.get(0), Kind::Event, topic.clone()).with(id, note));
        let trace = row.get::<_, Option<&str>>(5).and_then(|t| t.split('-').nth(1));
        events.push(Known { id, topic, at, trace: trace.map(ToOwned::to_owned) });
    }
    Ok(events)
}

/// Where the events are in their topics.
async fn positions(
    stores: &Stores,
    events: &[Known],
    timeline: &mut Vec<Entry>,
) -> Result<(), BusError> {
    let mut topics: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for event in events {
        let first = topics.entry(&event.topic).or_insert(event.at);
        *first = event.at.min(*first);
    }
    for (topic, first) in topics {
        // Published after it happened; a minute for clocks that differ.
        let from = first.checked_sub(1.minute()).unwrap_or(first).as_millisecond();
        for record in stores.bus.read(topic, Position::Time(from)).await? {
            let id = record.header("ce_id").and_then(|id| id.parse::<Uuid>().ok());
            let Some(event) = events.iter().find(|event| Some(event.id) == id) else { continue };
            // Where two clocks differ, an event is still not published before it happens.
            let at = Timestamp::from_millisecond(record.timestamp_ms).unwrap_or(event.at);
            let what = format!("{topic}-{}@{}", record.partition, record.offset);
            let note = record.header(ONLY_FOR).map(|group| format!("again, for {group} only"));
            let published = entry(at.max(event.at), "bus", Kind::Published, what);
            timeline.push(published.with(event.id, note.unwrap_or_default()));
        }
    }
    Ok(())
}

async fn received(
    client: &Client,
    events: &[Known],
    timeline: &mut Vec<Entry>,
) -> anyhow::Result<()> {
    let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
    for (group, _) in CONSUMED {
        let sql = format!(
            "SELECT event_id, topic, received_at FROM {group}.inbox WHERE consumer = '{group}' AND event_id = ANY ($1)"
        );
        for row in rows(client, &sql, &[&ids]).await? {
            let what = row.get::<_, String>(1);
            timeline.push(entry(row.get(2), group, Kind::Received, what).with(row.get(0), ""));
        }
    }
    Ok(())
}

/// What was put aside, and what was done about it; gives the ids of what still is.
async fn letters(
    client: &Client,
    events: &[Known],
    aggregates: &[Uuid],
    timeline: &mut Vec<Entry>,
) -> anyhow::Result<Vec<Uuid>> {
    let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
    let mut open = Vec::new();
    for (group, _) in CONSUMED {
        let sql = format!(
            "SELECT id, topic, state, reason, attempts, redrives, first_at, last_at, closed_at FROM {group}.dead_letter
             WHERE id = ANY ($1) OR aggregate = ANY ($2)"
        );
        for row in rows(client, &sql, &[&ids, &aggregates]).await? {
            let id: Uuid = row.get(0);
            let (topic, state): (&str, &str) = (row.get(1), row.get(2));
            let waited = row.get::<_, i32>(5) == 0 && row.get::<_, &str>(3).starts_with("it waits");
            let kind = if waited { Kind::Waiting } else { Kind::DeadLetter };
            let note = row.get::<_, String>(3);
            timeline.push(entry(row.get(6), group, kind, topic).with(id, note));
            match row.get::<_, Option<Timestamp>>(8) {
                None => open.push(id),
                Some(closed) => {
                    let what = format!("{topic} {state}");
                    let note = format!("attempt {}", row.get::<_, i32>(4));
                    timeline.push(entry(closed, group, Kind::Intervention, what).with(id, note));
                }
            }
        }
        let sql = format!(
            "SELECT n.at, n.act, n.reason, n.letter FROM {group}.intervention n JOIN {group}.dead_letter d ON d.id = n.letter
             WHERE d.id = ANY ($1) OR d.aggregate = ANY ($2)"
        );
        for row in rows(client, &sql, &[&ids, &aggregates]).await? {
            let what = row.get::<_, String>(1);
            let act = entry(row.get(0), group, Kind::Intervention, what);
            timeline.push(act.with(row.get(3), row.get::<_, String>(2)));
        }
    }
    Ok(open)
}

async fn messages(client: &Client, id: Uuid, timeline: &mut Vec<Entry>) -> anyhow::Result<()> {
    let sql = "SELECT id, kind, channel, status, attempts, created_at, sent_at, event_id FROM notification.message WHERE appointment_id = $1";
    for row in rows(client, sql, &[&id]).await? {
        let id: Uuid = row.get(0);
        let (kind, channel, status): (&str, &str, &str) = (row.get(1), row.get(2), row.get(3));
        let attempts: i32 = row.get(4);
        let tries = if attempts == 1 { "1 attempt" } else { &format!("{attempts} attempts") };
        let sent: Option<Timestamp> = row.get(6);
        let note = match sent {
            Some(_) => format!("by {channel}"),
            None => format!("by {channel}, {status} after {tries}"),
        };
        let what = format!("message {kind}");
        timeline
            .push(entry(row.get(5), "notification", Kind::Message, what.as_str()).with(id, note));
        if let Some(sent) = sent {
            let what = format!("message {kind} sent");
            timeline.push(entry(sent, "notification", Kind::Message, what).with(id, tries));
        }
    }
    Ok(())
}
