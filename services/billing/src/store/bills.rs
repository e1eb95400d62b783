use hospital_contracts::billing::{BillFacts, BillStatus};
use hospital_kit::{
    db::{Reader, Tx},
    outcome::{Broken, Outcome},
    sql,
};
use hospital_types::{AppointmentId, BillId, Currency, Money, PatientId};
use serde::Deserialize;
use tokio_postgres::{Row, types::Json};

use super::money;
use crate::bill::{Bill, Line};

/// Queues the locks of appointments, in one order for everybody.
pub(crate) fn lock_appointments<R>(tx: &mut Tx<R>, appointments: &[AppointmentId]) {
    tx.write(sql!(
        "SELECT pg_advisory_xact_lock(l.lock) FROM (
             SELECT DISTINCT hashtextextended('hospital bill of ' || a::text, 0) AS lock FROM unnest($1::uuid[]) AS a ORDER BY 1) l",
        appointments.to_vec(),
    ));
}

fn exponent(currency: Currency) -> i16 {
    i16::try_from(currency.exponent()).expect("at most 4")
}

/// Queues new bills and their lines, a statement each for all of them.
pub(crate) fn insert_bills<R>(tx: &mut Tx<R>, bills: &[Bill]) {
    if bills.is_empty() {
        return;
    }
    let of = |status: BillStatus| match status {
        BillStatus::Draft => "draft",
        BillStatus::Cancelled => "cancelled",
        BillStatus::Issued | BillStatus::PartiallyPaid | BillStatus::Paid => "issued",
    };
    let now = tx.now();
    tx.write(sql!(
        "INSERT INTO bill (id, version, number, appointment_id, patient_id, currency, exponent, total, state, appointment_cancelled,
                           back_dated, created_at, issued_at)
         SELECT b.id, 1, b.number, b.appointment_id, b.patient_id, b.currency, b.exponent, b.total, b.state, b.cancelled, b.back_dated,
                $11::timestamptz, CASE WHEN b.state = 'issued' THEN $11::timestamptz END
         FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::smallint[], $7::bigint[], $8::text[], $9::boolean[],
                     $10::boolean[])
              AS b (id, number, appointment_id, patient_id, currency, exponent, total, state, cancelled, back_dated)",
        bills.iter().map(|b| b.id).collect::<Vec<_>>(),
        bills.iter().map(|b| b.number.clone()).collect::<Vec<_>>(),
        bills.iter().map(|b| b.appointment).collect::<Vec<_>>(),
        bills.iter().map(|b| b.patient).collect::<Vec<_>>(),
        bills.iter().map(|b| b.currency().code().to_owned()).collect::<Vec<_>>(),
        bills.iter().map(|b| exponent(b.currency())).collect::<Vec<_>>(),
        bills.iter().map(|b| b.total.minor()).collect::<Vec<_>>(),
        bills.iter().map(|b| of(b.status)).collect::<Vec<_>>(),
        bills.iter().map(|b| b.appointment_cancelled).collect::<Vec<_>>(),
        bills.iter().map(|b| b.back_dated).collect::<Vec<_>>(),
        now,
    ));
    let lines: Vec<(BillId, &Line)> =
        bills.iter().flat_map(|b| b.lines.iter().map(|l| (b.id, l))).collect();
    insert_lines(tx, &lines);
}

/// Queues lines behind those that their bills have.
fn insert_lines<R>(tx: &mut Tx<R>, lines: &[(BillId, &Line)]) {
    if lines.is_empty() {
        return;
    }
    tx.write(sql!(
        "INSERT INTO bill_line (bill_id, place, code, description, quantity, unit_price, amount)
         SELECT n.bill_id, coalesce(h.last, 0) + row_number() OVER (PARTITION BY n.bill_id ORDER BY n.place),
                n.code, n.description, n.quantity, n.unit_price, n.amount
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::bigint[], $6::bigint[]) WITH ORDINALITY
              AS n (bill_id, code, description, quantity, unit_price, amount, place)
         LEFT JOIN LATERAL (SELECT max(l.place) AS last FROM bill_line l WHERE l.bill_id = n.bill_id) h ON true",
        lines.iter().map(|(bill, _)| *bill).collect::<Vec<_>>(),
        lines.iter().map(|(_, l)| l.code.clone()).collect::<Vec<_>>(),
        lines.iter().map(|(_, l)| l.description.clone()).collect::<Vec<_>>(),
        lines.iter().map(|(_, l)| l.quantity).collect::<Vec<_>>(),
        lines.iter().map(|(_, l)| l.unit_price.minor()).collect::<Vec<_>>(),
        lines.iter().map(|(_, l)| l.amount.minor()).collect::<Vec<_>>(),
    ));
}

pub(crate) fn append_lines<R>(tx: &mut Tx<R>, bill: &Bill, lines: &[Line]) {
    let lines: Vec<(BillId, &Line)> = lines.iter().map(|line| (bill.id, line)).collect();
    insert_lines(tx, &lines);
}

pub(crate) fn update_total<R>(tx: &mut Tx<R>, bill: &Bill) {
    tx.write(sql!(
        "UPDATE bill SET total = $2, version = $3 WHERE id = $1",
        bill.id,
        bill.total.minor(),
        bill.version,
    ));
}

pub(crate) fn update_issued<R>(tx: &mut Tx<R>, bill: &Bill) {
    tx.write(sql!(
        "UPDATE bill SET state = 'issued', number = $2, issued_at = $3, version = $4 WHERE id = $1",
        bill.id,
        bill.number.clone(),
        bill.issued_at,
        bill.version,
    ));
}

/// Takes numbers of a year; gives the last of them.
pub(crate) async fn take_numbers<R>(tx: &mut Tx<R>, year: i32, count: i64) -> Outcome<i64, R> {
    let rows = tx
        .read(sql!(
            "INSERT INTO bill_counter AS c (year, last) VALUES ($1, $2)
             ON CONFLICT ON CONSTRAINT bill_counter_year DO UPDATE SET last = c.last + excluded.last
             RETURNING last",
            year,
            count,
        ))
        .await?;
    Ok(rows.first().map(|row| row.get(0)).expect("an upsert gives its row"))
}

/// Marks the bills of cancelled appointments, cancels those without payments and gives them.
pub(crate) async fn cancel_bills<R>(
    tx: &mut Tx<R>,
    appointments: &[AppointmentId],
) -> Outcome<Vec<BillFacts>, R> {
    lock_appointments(tx, appointments);
    tx.write(sql!(
        "INSERT INTO cancelled_appointment (appointment_id)
         SELECT a FROM unnest($1::uuid[]) AS a WHERE NOT EXISTS (SELECT 1 FROM bill b WHERE b.appointment_id = a)
         ON CONFLICT DO NOTHING",
        appointments.to_vec(),
    ));
    tx.write(sql!(
        "SELECT id FROM bill WHERE appointment_id = ANY ($1) ORDER BY id FOR NO KEY UPDATE",
        appointments.to_vec(),
    ));
    let rows = tx
        .read(sql!(
            "UPDATE bill SET appointment_cancelled = true, version = version + 1,
                    state = CASE WHEN paid = 0 AND reserved = 0 THEN 'cancelled' ELSE state END
             WHERE appointment_id = ANY ($1) AND NOT appointment_cancelled
             RETURNING id, version, number, appointment_id, patient_id, currency, total, back_dated, state",
            appointments.to_vec(),
        ))
        .await?;
    Ok(rows
        .iter()
        .filter(|row| row.get::<_, &str>("state") == "cancelled")
        .map(|row| BillFacts {
            bill_id: row.get("id"),
            version: row.get("version"),
            number: row.get("number"),
            appointment_id: row.get("appointment_id"),
            patient_id: row.get("patient_id"),
            total: money(row, "total"),
            back_dated: row.get("back_dated"),
        })
        .collect())
}

/// The columns of a bill, for `FROM bill b`.
macro_rules! select_bill {
    ($($rest:literal),+) => {
        concat!(
            "SELECT b.id, b.version, b.number, b.appointment_id, b.patient_id, b.status, b.currency, b.total, b.paid, b.reserved,
                    b.appointment_cancelled, b.back_dated, b.created_at, b.issued_at,
                    coalesce((SELECT jsonb_agg(jsonb_build_object('code', l.code, 'description', l.description, 'quantity', l.quantity,
                                                                  'unit_price', l.unit_price, 'amount', l.amount) ORDER BY l.place)
                              FROM bill_line l WHERE l.bill_id = b.id), '[]') AS lines
             FROM bill b ",
            $($rest),+
        )
    };
}

pub(crate) async fn bill_for_update<R>(tx: &mut Tx<R>, id: BillId) -> Outcome<Option<Bill>, R> {
    // The lock first, in a statement of its own: lines that were added while it was waited for are then visible.
    tx.write(sql!("SELECT id FROM bill WHERE id = $1 FOR NO KEY UPDATE", id));
    let rows = tx.read(sql!(select_bill!("WHERE b.id = $1"), id)).await?;
    Ok(rows.first().map(bill))
}

pub(crate) async fn bill_by_id(db: Reader<'_>, id: BillId) -> Result<Option<Bill>, Broken> {
    let rows = db.read(sql!(select_bill!("WHERE b.id = $1"), id)).await?;
    Ok(rows.first().map(bill))
}

/// What a list of bills asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct BillFilter {
    pub(crate) appointment: Option<AppointmentId>,
    pub(crate) patient: Option<PatientId>,
    pub(crate) status: Option<BillStatus>,
}

/// Plans are generic, so each statement leads with the one condition whose index is to be used; the others only narrow.
macro_rules! bill_list {
    ($lead:literal) => {
        select_bill!(
            "WHERE ",
            $lead,
            " AND b.id > coalesce($4, '00000000-0000-0000-0000-000000000000'::uuid)
              AND ($1::uuid IS NULL OR b.appointment_id = $1) AND ($2::uuid IS NULL OR b.patient_id = $2)
              AND ($3::text IS NULL OR b.status = $3)
              ORDER BY b.id LIMIT $5"
        )
    };
}

/// One page by rising id, after `after`.
pub(crate) async fn bills(
    db: Reader<'_>,
    filter: &BillFilter,
    after: Option<BillId>,
    limit: i64,
) -> Result<Vec<Bill>, Broken> {
    let sql = if filter.appointment.is_some() {
        bill_list!("b.appointment_id = $1")
    } else if filter.patient.is_some() {
        bill_list!("b.patient_id = $2")
    } else {
        bill_list!("true")
    };
    let rows = db
        .read(sql!(
            sql,
            filter.appointment,
            filter.patient,
            filter.status.map(BillStatus::as_str),
            after,
            limit,
        ))
        .await?;
    Ok(rows.iter().map(bill).collect())
}

#[derive(Deserialize)]
struct LineRow {
    code: String,
    description: String,
    quantity: i32,
    unit_price: i64,
    amount: i64,
}

fn bill(row: &Row) -> Bill {
    let Json(lines): Json<Vec<LineRow>> = row.get("lines");
    let total = money(row, "total");
    let of = |minor| Money::from_minor(minor, total.currency());
    let lines = lines.into_iter().map(|line| Line {
        code: line.code,
        description: line.description,
        quantity: line.quantity,
        unit_price: of(line.unit_price),
        amount: of(line.amount),
    });
    Bill {
        id: row.get("id"),
        version: row.get("version"),
        number: row.get("number"),
        appointment: row.get("appointment_id"),
        patient: row.get("patient_id"),
        status: BillStatus::parse(row.get("status"))
            .expect("the column is generated from known ones"),
        lines: lines.collect(),
        total,
        paid: money(row, "paid"),
        reserved: money(row, "reserved"),
        appointment_cancelled: row.get("appointment_cancelled"),
        back_dated: row.get("back_dated"),
        created_at: row.get("created_at"),
        issued_at: row.get("issued_at"),
    }
}
