//! The invariants that the database alone can prove, as queries for what violates them.

use anyhow::Context;
use tokio_postgres::Client;

use super::{VIOLATIONS_MAX, Verdict};
use crate::stores::outbox;

/// The time since which a schema keeps something, and a day.
macro_rules! kept {
    ($schema:literal, $what:literal) => {
        concat!(
            "(SELECT since + interval '1 day' FROM ",
            $schema,
            ".kept_since WHERE what = '",
            $what,
            "')"
        )
    };
}

struct Check {
    id: &'static str,
    what: &'static str,
    /// How many things are looked at.
    counted: &'static str,
    /// A text for each violation. Where `{log of …}` and the like stand, there is the time since which that is kept.
    violations: &'static str,
}

/// What is older than the log is not to be found there. Services write the times of their own rows, and
/// their clocks may be off by a bit.
const KEPT: [(&str, &str); 5] = [
    ("{log of patient}", kept!("patient", "outbox")),
    ("{log of appointment}", kept!("appointment", "outbox")),
    ("{log of billing}", kept!("billing", "outbox")),
    ("{inbox of notification}", kept!("notification", "inbox")),
    ("{messages}", kept!("notification", "delivery")),
];

/// With the times since which things are kept in the places of their names.
fn since_kept(sql: &str) -> String {
    KEPT.iter().fold(sql.to_owned(), |sql, (name, since)| sql.replace(name, since))
}

const CHECKS: [Check; 12] = [
    Check {
        id: "I1",
        what: "no two live appointments of one practitioner or patient overlap",
        counted: "SELECT count(*) FROM appointment.reservation",
        violations: "
            SELECT 'resource ' || resource_id || ' is reserved twice at ' || lower(during) FROM (
                SELECT resource_id, during, max(upper(during)) OVER (PARTITION BY resource_id ORDER BY lower(during), upper(during)
                           ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS busy_until
                FROM appointment.reservation) r
            WHERE lower(during) < busy_until
            UNION ALL
            SELECT 'appointment ' || a.id || ' is ' || a.status || ' and has ' || count(r.*) || ' reservations'
            FROM appointment.appointment a LEFT JOIN (
                SELECT appointment_id, resource_id, range_agg(during) AS during FROM appointment.reservation GROUP BY 1, 2) r
                ON r.appointment_id = a.id AND r.resource_id IN (a.patient_id, a.practitioner_id)
               AND r.during = tstzmultirange(tstzrange(a.starts_at, a.ends_at))
            GROUP BY a.id, a.status
            HAVING count(r.*) <> CASE WHEN a.status IN ('cancelled', 'entered-in-error') THEN 0 ELSE 2 END",
    },
    Check {
        id: "I3",
        what: "no ghosts: every event's subject exists",
        counted: concat!("SELECT count(*) FROM ", outbox!(), " o"),
        violations: "
            SELECT o.topic || ' tells of ' || o.subject || ', which does not exist' FROM (
                SELECT topic, subject FROM patient.outbox o WHERE NOT EXISTS (SELECT 1 FROM patient.patient x WHERE x.id = o.subject)
                UNION ALL
                SELECT topic, subject FROM appointment.outbox o
                WHERE NOT EXISTS (SELECT 1 FROM appointment.appointment x WHERE x.id = o.subject)
                UNION ALL
                SELECT topic, subject FROM billing.outbox o WHERE topic LIKE 'bill.%'
                  AND NOT EXISTS (SELECT 1 FROM billing.bill x WHERE x.id = o.subject)
                UNION ALL
                SELECT topic, subject FROM billing.outbox o WHERE topic LIKE 'payment.%'
                  AND NOT EXISTS (SELECT 1 FROM billing.payment x WHERE x.id = o.subject)) o",
    },
    Check {
        id: "I4",
        what: "every state change has exactly one event",
        counted: "SELECT (SELECT count(*) FROM patient.patient_history) + (SELECT count(*) FROM appointment.history)
                         + (SELECT count(*) FROM billing.bill WHERE issued_at IS NOT NULL OR state = 'cancelled')",
        violations: "
            SELECT 'patient ' || coalesce(h.patient_id, o.aggregate) || ' at version ' || coalesce(h.version, o.version)
                   || ' has ' || coalesce(o.n, 0) || ' events'
            FROM patient.patient_history h
            FULL JOIN (SELECT aggregate, version, count(*) AS n FROM patient.outbox GROUP BY 1, 2) o
                ON (o.aggregate, o.version) = (h.patient_id, h.version)
            WHERE h.patient_id IS NULL OR o.n > 1 OR (o.n IS NULL AND h.at >= {log of patient})
            UNION ALL
            SELECT 'appointment ' || coalesce(h.appointment_id, o.aggregate) || ' at version ' || coalesce(h.version, o.version)
                   || ' has ' || coalesce(o.n, 0) || ' events'
            FROM appointment.history h
            FULL JOIN (SELECT aggregate, version, count(*) AS n FROM appointment.outbox GROUP BY 1, 2) o
                ON (o.aggregate, o.version) = (h.appointment_id, h.version)
            WHERE h.appointment_id IS NULL OR o.n > 1 OR (o.n IS NULL AND h.at >= {log of appointment})
            UNION ALL
            SELECT 'bill ' || b.id || ' is ' || b.status || ' and has ' || count(o.*) FILTER (WHERE o.topic = 'bill.generated')
                   || ' bill.generated and ' || count(o.*) FILTER (WHERE o.topic = 'bill.cancelled') || ' bill.cancelled'
            FROM billing.bill b LEFT JOIN billing.outbox o ON o.aggregate = b.id AND o.topic LIKE 'bill.%'
            GROUP BY b.id
            HAVING count(o.*) FILTER (WHERE o.topic = 'bill.generated') > (b.issued_at IS NOT NULL)::int
                OR count(o.*) FILTER (WHERE o.topic = 'bill.cancelled') > (b.state = 'cancelled')::int
                OR (b.issued_at >= {log of billing} AND count(o.*) FILTER (WHERE o.topic = 'bill.generated') = 0)
                OR (b.created_at >= {log of billing} AND b.state = 'cancelled'
                    AND count(o.*) FILTER (WHERE o.topic = 'bill.cancelled') = 0)",
    },
    Check {
        id: "I7",
        what: "each booked appointment has exactly one bill, and no bill lacks its appointment",
        counted: "SELECT count(*) FROM appointment.appointment",
        violations: "
            SELECT 'appointment ' || coalesce(a.id, b.appointment_id) || CASE WHEN a.id IS NULL THEN ' does not exist and has a bill'
                   ELSE ' has no bill' END
            FROM appointment.appointment a FULL JOIN billing.bill b ON b.appointment_id = a.id
            WHERE a.id IS NULL OR b.id IS NULL
            UNION ALL
            SELECT 'appointment ' || appointment_id || ' has ' || count(*) || ' bills' FROM billing.bill
            GROUP BY appointment_id HAVING count(*) > 1
            UNION ALL
            SELECT 'bill ' || b.id || ' is not for the patient of its appointment' FROM billing.bill b
            JOIN appointment.appointment a ON a.id = b.appointment_id WHERE a.patient_id <> b.patient_id",
    },
    Check {
        id: "I8",
        what: "one inbox row and one effect per consumer and event",
        counted: "SELECT (SELECT count(*) FROM billing.inbox) + (SELECT count(*) FROM notification.inbox)",
        violations: "
            SELECT consumer || ' has event ' || event_id || ' ' || count(*) || ' times' FROM (
                SELECT consumer, event_id FROM billing.inbox UNION ALL SELECT consumer, event_id FROM notification.inbox) i
            GROUP BY consumer, event_id HAVING count(*) > 1
            UNION ALL
            SELECT 'delivery ' || d.id || ' is for an event that was never received' FROM notification.delivery d
            WHERE NOT EXISTS (SELECT 1 FROM notification.inbox i WHERE i.event_id = d.event_id)
              AND d.created_at >= {inbox of notification}",
    },
    Check {
        id: "I9",
        what: "at most one payment per caller and key",
        counted: "SELECT count(*) FROM billing.payment",
        violations: "
            SELECT caller || ' paid twice with key ' || key FROM (
                SELECT caller, key, created_at - lag(created_at) OVER (PARTITION BY caller, route, key ORDER BY created_at) AS after
                FROM billing.payment) p
            -- Keys are kept for 72 hours.
            WHERE after < interval '72 hours'",
    },
    Check {
        id: "I10",
        what: "per bill: 0 <= paid + reserved <= total, and paid is what succeeded",
        counted: "SELECT count(*) FROM billing.bill",
        violations: "
            SELECT 'bill ' || b.id || ' says paid ' || b.paid || ', reserved ' || b.reserved || ' of ' || b.total
                   || '; its payments say ' || coalesce(p.paid, 0) || ' and ' || coalesce(p.reserved, 0)
            FROM billing.bill b
            LEFT JOIN (SELECT bill_id, sum(amount) FILTER (WHERE status = 'succeeded') AS paid,
                              sum(amount) FILTER (WHERE status IN ('pending', 'unknown', 'conflicted')) AS reserved
                       FROM billing.payment GROUP BY bill_id) p ON p.bill_id = b.id
            WHERE b.paid <> coalesce(p.paid, 0) OR b.reserved <> coalesce(p.reserved, 0)
               OR b.paid < 0 OR b.reserved < 0 OR b.paid + b.reserved > b.total
               OR b.status <> CASE WHEN b.state <> 'issued' THEN b.state WHEN b.paid = b.total THEN 'paid'
                                   WHEN b.paid > 0 THEN 'partially-paid' ELSE 'issued' END
            UNION ALL
            SELECT 'bill ' || b.id || ' comes to ' || b.total || ' and its lines to ' || coalesce(sum(l.amount), 0)
            FROM billing.bill b LEFT JOIN billing.bill_line l ON l.bill_id = b.id
            GROUP BY b.id HAVING b.total <> coalesce(sum(l.amount), 0)",
    },
    Check {
        id: "I12",
        what: "each settled payment has exactly one event, with its amount",
        counted: "SELECT count(*) FROM billing.payment WHERE status IN ('succeeded', 'failed')",
        violations: "
            SELECT 'payment ' || p.id || ' ' || p.status || ' and has ' || count(o.*) || ' events that say so'
            FROM billing.payment p
            LEFT JOIN billing.outbox o ON o.subject = p.id
                AND o.topic = CASE p.status WHEN 'succeeded' THEN 'payment.completed' ELSE 'payment.failed' END
                AND o.payload -> 'amount' ->> 'currency' = p.currency
                AND (o.payload -> 'amount' ->> 'amount')::numeric = p.amount / 10::numeric ^ (SELECT exponent FROM billing.bill WHERE id = p.bill_id)
            WHERE p.status IN ('succeeded', 'failed')
            GROUP BY p.id HAVING count(o.*) > 1 OR (count(o.*) = 0 AND p.settled_at >= {log of billing})
            UNION ALL
            SELECT 'payment ' || subject || ' has ' || count(*) || ' events' FROM billing.outbox WHERE topic LIKE 'payment.%'
            GROUP BY subject HAVING count(*) > 1
            UNION ALL
            SELECT 'payment ' || o.subject || ' has an event and is ' || p.status FROM billing.outbox o
            JOIN billing.payment p ON p.id = o.subject WHERE o.topic LIKE 'payment.%' AND p.status NOT IN ('succeeded', 'failed')
            UNION ALL
            SELECT 'payment ' || p.id || ' was settled by hand as ' || s.outcome || ' and is ' || p.status
            FROM billing.payment_settlement s JOIN billing.payment p ON p.id = s.payment_id WHERE p.status <> s.outcome",
    },
    Check {
        id: "I13",
        what: "exactly one delivery per event, channel and recipient",
        counted: "SELECT count(*) FROM notification.delivery",
        violations: concat!(
            "
            SELECT 'event ' || event_id || ' has ' || count(*) || ' deliveries by ' || channel FROM notification.delivery
            GROUP BY event_id, channel, recipient HAVING count(*) > 1
            UNION ALL
            SELECT o.topic || ' ' || o.event_id || ' was received and told nobody' FROM ",
            outbox!(),
            " o
            WHERE o.topic IN ('appointment.booked', 'appointment.rescheduled', 'appointment.cancelled', 'bill.generated',
                              'payment.completed', 'payment.failed')
              AND NOT coalesce((o.payload ->> 'backDated')::boolean, false)
              AND EXISTS (SELECT 1 FROM notification.inbox i WHERE i.event_id = o.event_id)
              -- Unless somebody gave it up, and said why.
              AND NOT EXISTS (SELECT 1 FROM notification.dead_letter l JOIN notification.intervention n ON n.letter = l.id
                              WHERE l.id = o.event_id AND l.state = 'dropped' AND n.act = 'drop')
              AND NOT EXISTS (SELECT 1 FROM notification.delivery d WHERE d.event_id = o.event_id)
              AND o.created_at >= {messages}
            UNION ALL
            SELECT 'delivery ' || id || ' is sent and was never tried' FROM notification.message
            WHERE status = 'sent' AND (attempts = 0 OR sent_at IS NULL OR recipient IS NULL)"
        ),
    },
    Check {
        id: "I15",
        what: "no transaction is left open",
        counted: "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()",
        violations: "
            SELECT 'session ' || pid || ' of ' || application_name || ' is ' || state || ' since ' || state_change FROM pg_stat_activity
            WHERE datname = current_database() AND state LIKE 'idle in transaction%' AND state_change < now() - interval '5 seconds'",
    },
    Check {
        id: "I17",
        what: "a cancelled appointment's bill is cancelled or due back, and its time is free",
        counted: "SELECT count(*) FROM appointment.appointment WHERE status = 'cancelled'",
        violations: "
            SELECT 'appointment ' || a.id || ' is cancelled and its bill ' || b.status FROM appointment.appointment a
            JOIN billing.bill b ON b.appointment_id = a.id
            WHERE a.status = 'cancelled' AND b.state <> 'cancelled' AND NOT (b.appointment_cancelled AND b.paid + b.reserved > 0)
            UNION ALL
            SELECT 'appointment ' || a.id || ' is cancelled and still holds its time' FROM appointment.appointment a
            JOIN appointment.reservation r ON r.appointment_id = a.id WHERE a.status = 'cancelled'",
    },
    Check {
        id: "I20",
        what: "what a key's stored answer says agrees with the database",
        counted: "SELECT count(*) FROM billing.idempotency",
        violations: "
            SELECT 'key ' || i.key || ' of ' || i.caller || ' was answered 201 and its payment is ' || coalesce(p.status, 'not there')
            FROM billing.idempotency i LEFT JOIN billing.payment p ON (p.key, p.caller, p.route) = (i.key, i.caller, i.route)
            WHERE i.route = 'POST /payments' AND i.status = 201 AND p.status IS DISTINCT FROM 'succeeded'
            UNION ALL
            SELECT 'key ' || i.key || ' of ' || i.caller || ' was answered ' || i.status || ' and its payment succeeded'
            FROM billing.idempotency i JOIN billing.payment p ON (p.key, p.caller, p.route) = (i.key, i.caller, i.route)
            WHERE i.route = 'POST /payments' AND i.status BETWEEN 400 AND 499 AND p.status = 'succeeded'",
    },
];

pub(crate) async fn all(client: &Client) -> anyhow::Result<Vec<Verdict>> {
    // Each check joins whole tables, which may have grown since PostgreSQL last counted their rows: row by row it would take hours.
    let whole = "SET enable_nestloop = off";
    client.batch_execute(whole).await.context("preparing the session")?;
    let mut verdicts = Vec::with_capacity(CHECKS.len());
    for check in &CHECKS {
        let proving = || format!("proving {}", check.id);
        let checked = client.query_one(check.counted, &[]).await.with_context(proving)?.get(0);
        let violations = since_kept(check.violations);
        let violations = format!("{} LIMIT {VIOLATIONS_MAX}", wrapped(&violations));
        let rows = client.query(&violations, &[]).await.with_context(proving)?;
        let violations = rows.iter().map(|row| row.get(0)).collect();
        verdicts.push(Verdict { id: check.id, what: check.what, checked, violations });
    }
    Ok(verdicts)
}

fn wrapped(sql: &str) -> String {
    format!("SELECT v::text FROM ({sql}) AS all_of_them (v)")
}
