use std::collections::BTreeMap;

use hospital_contracts::billing::{
    BillCancelled, BillFacts, PaymentCompleted, PaymentFacts, PaymentFailed, PaymentMethod,
    PaymentStatus,
};
use hospital_kit::{
    append_each_from, append_from,
    cause::Cause,
    db::{Reader, Tx, Written},
    outcome::{Broken, Outcome},
    sql,
};
use hospital_types::{AppointmentId, BillId, Currency, Money, PatientId, PaymentId};
use tokio_postgres::Row;
use uuid::Uuid;

use super::money;
use crate::payment::{Asked, FailureCode, PayRefused, Payment};

/// Queues payments, all in one statement. Their bills and currencies are checked at the commit.
pub(crate) fn insert_payments<R: From<PayRefused>>(tx: &mut Tx<R>, payments: &[Payment]) {
    let statement = tx.write(sql!(
        "INSERT INTO payment (id, version, bill_id, amount, currency, method, status, reference, caller, route, key, created_at,
                              settled_at)
         SELECT p.id, p.version, p.bill_id, p.amount, p.currency, p.method, p.status, p.reference, p.caller, p.route, p.key, p.created_at,
                p.settled_at
         FROM unnest($1::uuid[], $2::integer[], $3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
                     $10::text[], $11::text[], $12::timestamptz[], $13::timestamptz[])
              AS p (id, version, bill_id, amount, currency, method, status, reference, caller, route, key, created_at, settled_at)",
        each(payments, |p| p.id),
        each(payments, |p| p.version),
        each(payments, |p| p.bill),
        each(payments, |p| p.amount.minor()),
        each(payments, |p| p.amount.currency().code().to_owned()),
        each(payments, |p| p.method.as_str()),
        each(payments, |p| p.status.as_str()),
        each(payments, |p| p.reference.clone()),
        each(payments, |p| p.asked.caller.clone()),
        each(payments, |p| p.asked.route.clone()),
        each(payments, |p| p.asked.key.clone()),
        each(payments, |p| p.created_at),
        each(payments, |p| p.settled_at),
    ));
    if let [first, ..] = payments {
        let refused = PayRefused::BillUnknownOrOtherCurrency { bill: first.bill };
        statement.refuse_on("payment_bill_exists", refused.into());
    }
}

fn each<T, V>(of: &[T], value: impl Fn(&T) -> V) -> Vec<V> {
    of.iter().map(value).collect()
}

/// Queues the payments' effect on their bills, each bill once. Conditional on nothing: the bills' constraints decide. Payments of one bill
/// are in one currency.
pub(crate) fn add_paid<R: From<PayRefused>>(tx: &mut Tx<R>, payments: &[Payment]) {
    let mut sums: BTreeMap<BillId, (i64, i32, Currency)> = BTreeMap::new();
    for payment in payments {
        let sum = sums.entry(payment.bill).or_insert_with(|| (0, 0, payment.amount.currency()));
        // Not wrapped: what is more than a bill can have is refused by its constraint as well.
        sum.0 = sum.0.saturating_add(payment.amount.minor());
        sum.1 += 1;
    }
    let bills: Vec<BillId> = sums.keys().copied().collect();
    if bills.len() > 1 {
        lock_bills(tx, bills.clone());
    }
    let statement = tx.write(sql!(
        add_paid_sql(),
        bills,
        sums.values().map(|(amount, ..)| *amount).collect::<Vec<_>>(),
        sums.values().map(|(_, count, _)| *count).collect::<Vec<_>>(),
        sums.values().map(|(.., currency)| currency.code().to_owned()).collect::<Vec<_>>(),
    ));
    if let [first, ..] = payments {
        let over = PayRefused::Overpayment { bill: first.bill, outstanding: None };
        statement
            .refuse_on("bill_not_overpaid", over.into())
            .refuse_on("bill_takes_payments", PayRefused::NotPayable.into());
    }
}

#[cfg(not(feature = "simulation"))]
const fn add_paid_sql() -> &'static str {
    ADD_PAID
}

const ADD_PAID: &str = "
    UPDATE bill SET paid = paid + ($2::bigint[])[array_position($1, id)], version = version + ($3::integer[])[array_position($1, id)]
    WHERE id = ANY ($1::uuid[]) AND currency = ($4::text[])[array_position($1, id)]";

#[cfg(feature = "simulation")]
fn add_paid_sql() -> &'static str {
    use hospital_kit::defects::{Defect, is};
    /// What is read is not locked, and somebody else may have written when this writes.
    const BY_WHAT_WAS_READ: &str = "
        UPDATE bill SET paid = was.paid + ($2::bigint[])[array_position($1, bill.id)],
                        version = version + ($3::integer[])[array_position($1, bill.id)]
        FROM (SELECT id, paid, pg_sleep(0.03) FROM bill WHERE id = ANY ($1::uuid[])) AS was
        WHERE bill.id = was.id AND bill.currency = ($4::text[])[array_position($1, bill.id)]";
    if is(Defect::NoRowOrder) { BY_WHAT_WAS_READ } else { ADD_PAID }
}

/// Queues the locks of bills in one order, so that two who change several never wait for each other.
fn lock_bills<R>(tx: &mut Tx<R>, bills: Vec<BillId>) {
    tx.write(sql!(
        "SELECT count(*) FROM (SELECT id FROM bill WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE) AS locked",
        bills,
    ));
}

pub(crate) fn add_reserved<R: From<PayRefused>>(tx: &mut Tx<R>, payment: &Payment) {
    tx.write(sql!(
        "UPDATE bill SET reserved = reserved + $2, version = version + 1 WHERE id = $1 AND currency = $3",
        payment.bill,
        payment.amount.minor(),
        payment.amount.currency().code().to_owned(),
    ))
    .refuse_on(
        "bill_not_overpaid",
        PayRefused::Overpayment { bill: payment.bill, outstanding: None }.into(),
    )
    .refuse_on("bill_takes_payments", PayRefused::NotPayable.into());
}

/// Queues that a payment which held `reserved` is paid.
pub(crate) fn reserved_to_paid<'a, R>(
    tx: &'a mut Tx<R>,
    payment: &Payment,
    reserved: Money,
) -> Written<'a, R> {
    tx.write(sql!(
        "UPDATE bill SET reserved = reserved - $2, paid = paid + $3, version = version + 1 WHERE id = $1",
        payment.bill,
        reserved.minor(),
        payment.amount.minor(),
    ))
}

/// Queues the record of how and why a person settled a payment.
pub(crate) fn insert_settlement<R>(
    tx: &mut Tx<R>,
    cause: &Cause,
    payment: &Payment,
    asked: Money,
    reason: &str,
) {
    let now = tx.now();
    tx.write(sql!(
        "INSERT INTO payment_settlement (payment_id, outcome, asked, reason, actor, at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        payment.id,
        payment.status.as_str(),
        asked.minor(),
        reason.to_owned(),
        cause.actor.subject.clone(),
        now,
    ));
}

/// Queues the release of what a failed payment held. The bill of an appointment that was cancelled meanwhile is closed by it.
pub(crate) fn release_reserved<R>(tx: &mut Tx<R>, payment: &Payment) {
    tx.write(sql!(
        "UPDATE bill SET reserved = reserved - $2, version = version + 1,
                state = CASE WHEN appointment_cancelled AND paid = 0 AND reserved = $2 THEN 'cancelled' ELSE state END
         WHERE id = $1",
        payment.bill,
        payment.amount.minor(),
    ));
}

/// The event's members that only the bill's row knows are nil here and come from the row.
fn facts(payment: &Payment) -> PaymentFacts {
    PaymentFacts {
        payment_id: payment.id,
        bill_id: payment.bill,
        version: 0,
        appointment_id: AppointmentId::from_uuid(Uuid::nil()),
        patient_id: PatientId::from_uuid(Uuid::nil()),
        amount: payment.amount,
        method: payment.method,
        outstanding: Money::zero(payment.amount.currency()),
        back_dated: false,
    }
}

/// Queues `payment.completed` for each of several payments: each tells of its bill as that payment left it, in the order of the payments.
pub(crate) fn append_each_completed<R>(tx: &mut Tx<R>, paid: &[(&Payment, &Cause)]) {
    let events: Vec<_> =
        paid.iter().map(|(payment, cause)| (PaymentCompleted(facts(payment)), *cause)).collect();
    let later = |(place, (payment, _)): (usize, &(&Payment, &Cause))| {
        let rest = paid.iter().skip(place + 1).filter(|(other, _)| other.bill == payment.bill);
        rest.map(|(other, _)| other.amount.minor()).sum::<i64>()
    };
    append_each_from!(
        tx,
        &events,
        along: paid.iter().enumerate().map(later).collect(),
        members: "jsonb_build_object('version', b.version - e.behind, 'appointmentId', b.appointment_id, 'patientId', b.patient_id,
                      'backDated', b.back_dated, 'outstanding', jsonb_build_object('amount',
                      amount_text(b.total - b.paid - b.reserved + e.along, b.exponent), 'currency', b.currency))",
        version: "b.version - e.behind",
        from: "SELECT * FROM bill WHERE bill.id = e.aggregate",
    );
}

pub(crate) fn append_completed<R>(tx: &mut Tx<R>, cause: &Cause, payment: &Payment) {
    append_from!(
        tx,
        cause,
        &PaymentCompleted(facts(payment)),
        members: "jsonb_build_object('version', b.version, 'appointmentId', b.appointment_id, 'patientId', b.patient_id,
                      'backDated', b.back_dated, 'outstanding', jsonb_build_object('amount',
                      amount_text(CASE WHEN b.appointment_cancelled THEN 0 ELSE b.total - b.paid - b.reserved END, b.exponent),
                      'currency', b.currency))",
        version: "b.version",
        from: "bill b WHERE b.id = $11",
    );
}

pub(crate) fn append_failed<R>(
    tx: &mut Tx<R>,
    cause: &Cause,
    payment: &Payment,
    code: FailureCode,
) {
    append_from!(
        tx,
        cause,
        &PaymentFailed { facts: facts(payment), code: code.as_str().to_owned() },
        members: "jsonb_build_object('version', b.version, 'appointmentId', b.appointment_id, 'patientId', b.patient_id,
                      'backDated', b.back_dated, 'outstanding', jsonb_build_object('amount',
                      amount_text(CASE WHEN b.appointment_cancelled THEN 0 ELSE b.total - b.paid - b.reserved END, b.exponent),
                      'currency', b.currency))",
        version: "b.version",
        from: "bill b WHERE b.id = $11",
    );
}

/// Queues `bill.cancelled`, if that is what the bill has become.
pub(crate) fn append_cancelled_if_closed<R>(tx: &mut Tx<R>, cause: &Cause, bill: BillId) {
    let facts = BillFacts {
        bill_id: bill,
        version: 0,
        number: None,
        appointment_id: AppointmentId::from_uuid(Uuid::nil()),
        patient_id: PatientId::from_uuid(Uuid::nil()),
        total: Money::zero(Currency::USD),
        back_dated: false,
    };
    append_from!(
        tx,
        cause,
        &BillCancelled(facts),
        members: "jsonb_build_object('version', b.version, 'number', b.number, 'appointmentId', b.appointment_id,
                      'patientId', b.patient_id, 'backDated', b.back_dated,
                      'total', jsonb_build_object('amount', amount_text(b.total, b.exponent), 'currency', b.currency))",
        version: "b.version",
        from: "bill b WHERE b.id = $11 AND b.state = 'cancelled'",
    );
}

pub(crate) fn update_payment<R>(tx: &mut Tx<R>, payment: &Payment) {
    tx.write(sql!(
        "UPDATE payment SET version = $2, status = $3, failure = $4, settled_at = $5,
                next_check_at = NULL, amount = $6, charged = $7, charged_currency = $8
         WHERE id = $1",
        payment.id,
        payment.version,
        payment.status.as_str(),
        payment.failure.clone(),
        payment.settled_at,
        payment.amount.minor(),
        payment.charged.map(Money::minor),
        payment.charged.map(|charged| charged.currency().code().to_owned()),
    ));
}

/// The columns of a payment, for `FROM payment p`.
macro_rules! select_payment {
    ($($rest:literal),+) => {
        concat!(
            "SELECT p.id, p.version, p.bill_id, p.amount, p.currency, p.method, p.status, p.failure, p.reference, p.caller, p.route, p.key,
                    p.created_at, p.settled_at, p.charged, p.charged_currency
             FROM payment p ",
            $($rest),+
        )
    };
}

pub(crate) async fn payment_for_update<R>(
    tx: &mut Tx<R>,
    id: PaymentId,
) -> Outcome<Option<Payment>, R> {
    let rows = tx.read(sql!(select_payment!("WHERE p.id = $1 FOR NO KEY UPDATE"), id)).await?;
    Ok(rows.first().map(payment))
}

pub(crate) async fn payment_by_id(
    db: Reader<'_>,
    id: PaymentId,
) -> Result<Option<(Payment, PatientId)>, Broken> {
    let rows = db
        .read(sql!(
            "SELECT p.id, p.version, p.bill_id, p.amount, p.currency, p.method, p.status, p.failure, p.reference, p.caller, p.route,
                    p.key, p.created_at, p.settled_at, p.charged, p.charged_currency, b.patient_id
             FROM payment p JOIN bill b ON b.id = p.bill_id WHERE p.id = $1",
            id,
        ))
        .await?;
    Ok(rows.first().map(|row| (payment(row), row.get("patient_id"))))
}

/// What a list of payments asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct PaymentFilter {
    pub(crate) bill: Option<BillId>,
    pub(crate) patient: Option<PatientId>,
    pub(crate) status: Option<PaymentStatus>,
    pub(crate) reference: Option<String>,
}

/// Plans are generic, so each statement leads with the one condition whose index is to be used; the others only narrow.
macro_rules! payment_list {
    ($lead:literal) => {
        select_payment!(
            "WHERE ",
            $lead,
            " AND p.id > coalesce($5, '00000000-0000-0000-0000-000000000000'::uuid)
              AND ($1::uuid IS NULL OR p.bill_id = $1)
              AND ($2::uuid IS NULL OR EXISTS (SELECT FROM bill b WHERE b.id = p.bill_id AND b.patient_id = $2))
              AND ($3::text IS NULL OR p.status = $3) AND ($4::text IS NULL OR p.reference = $4)
              ORDER BY p.id LIMIT $6"
        )
    };
}

/// One page by rising id, after `after`.
pub(crate) async fn payments(
    db: Reader<'_>,
    filter: &PaymentFilter,
    after: Option<PaymentId>,
    limit: i64,
) -> Result<Vec<Payment>, Broken> {
    let sql = if filter.bill.is_some() {
        payment_list!("p.bill_id = $1")
    } else if filter.reference.is_some() {
        payment_list!("p.reference = $4")
    } else if filter.patient.is_some() {
        payment_list!("p.bill_id IN (SELECT b.id FROM bill b WHERE b.patient_id = $2)")
    } else {
        payment_list!("true")
    };
    let rows = db
        .read(sql!(
            sql,
            filter.bill,
            filter.patient,
            filter.status.map(PaymentStatus::as_str),
            filter.reference.clone(),
            after,
            limit,
        ))
        .await?;
    Ok(rows.iter().map(payment).collect())
}

/// Which of these payments the gateway has still to be asked about.
pub(crate) async fn open_payments(
    db: Reader<'_>,
    payments: Vec<PaymentId>,
) -> Result<Vec<Payment>, Broken> {
    let rows = db
        .read(sql!(
            select_payment!("WHERE p.id = ANY ($1) AND p.status IN ('pending', 'unknown')"),
            payments,
        ))
        .await?;
    Ok(rows.iter().map(payment).collect())
}

fn charged(row: &Row) -> Option<Money> {
    let minor: i64 = row.get::<_, Option<_>>("charged")?;
    let code: &str = row.get::<_, Option<_>>("charged_currency")?;
    Some(Money::from_minor(minor, Currency::parse(code).expect("only currencies are written")))
}

fn payment(row: &Row) -> Payment {
    Payment {
        id: row.get("id"),
        version: row.get("version"),
        bill: row.get("bill_id"),
        amount: money(row, "amount"),
        method: PaymentMethod::parse(row.get("method")).expect("payment_method allows no other"),
        status: PaymentStatus::parse(row.get("status")).expect("payment_status allows no other"),
        failure: row.get("failure"),
        reference: row.get("reference"),
        charged: charged(row),
        asked: Asked { caller: row.get("caller"), route: row.get("route"), key: row.get("key") },
        created_at: row.get("created_at"),
        settled_at: row.get("settled_at"),
    }
}
