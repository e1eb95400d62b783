//! Whose journey an id belongs to.

use anyhow::Context;
use tokio_postgres::Client;
use uuid::Uuid;

/// A trace may touch several appointments; no more of them are shown.
const APPOINTMENTS_MAX: i64 = 20;

/// The appointments that an id, a bill's number or a trace id leads to.
pub(super) async fn appointments(client: &Client, text: &str) -> anyhow::Result<Vec<Uuid>> {
    if let Ok(id) = text.parse::<Uuid>() {
        let found = by_id(client, id).await?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    if let Some(trace) = trace_id(text) {
        return by_trace(client, &trace).await;
    }
    let sql = "SELECT appointment_id FROM billing.bill WHERE number = $1";
    let rows = client.query(sql, &[&text]).await.context("looking for a bill's number")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The trace id of a trace id or of a whole `traceparent`.
fn trace_id(text: &str) -> Option<String> {
    let id = text.split('-').nth(1).filter(|_| text.starts_with("00-")).unwrap_or(text);
    let hex = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| id.to_ascii_lowercase())
}

async fn by_id(client: &Client, id: Uuid) -> anyhow::Result<Vec<Uuid>> {
    // An appointment that left events and no row is one, too: then it is looked at because something is wrong.
    let sql = "
        SELECT id FROM appointment.appointment WHERE id = $1
        UNION SELECT aggregate FROM appointment.outbox WHERE aggregate = $1 OR event_id = $1
        UNION SELECT appointment_id FROM billing.bill WHERE $1 IN (id, appointment_id)
        UNION SELECT b.appointment_id FROM billing.payment p JOIN billing.bill b ON b.id = p.bill_id WHERE p.id = $1
        UNION SELECT b.appointment_id FROM billing.outbox o JOIN billing.bill b ON b.id = o.aggregate WHERE o.event_id = $1
        UNION SELECT appointment_id FROM notification.delivery WHERE id = $1 AND appointment_id IS NOT NULL";
    let rows = client.query(sql, &[&id]).await.context("looking for an id")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn by_trace(client: &Client, trace: &str) -> anyhow::Result<Vec<Uuid>> {
    let sql = "
        SELECT aggregate FROM appointment.outbox WHERE traceparent LIKE $1
        UNION SELECT b.appointment_id FROM billing.outbox o JOIN billing.bill b ON b.id = o.aggregate WHERE o.traceparent LIKE $1
        LIMIT $2";
    let pattern = format!("00-{trace}-%");
    let rows = client.query(sql, &[&pattern, &APPOINTMENTS_MAX]).await;
    Ok(rows.context("looking for a trace")?.iter().map(|row| row.get(0)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_given_alone_or_as_it_travels() {
        let id = "98eb9ec0ee5d47029c28edd4f31053bb";
        assert_eq!(trace_id(id).as_deref(), Some(id));
        assert_eq!(trace_id(&format!("00-{id}-b30715bcb87dd731-01")).as_deref(), Some(id));
        for text in ["", "2026-000001", "98eb", "zz"] {
            assert_eq!(trace_id(text), None);
        }
    }
}
