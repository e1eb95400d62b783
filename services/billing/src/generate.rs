//! Makes the bills of booked appointments: exactly one each, whatever is delivered how often.

use std::collections::HashMap;

use hospital_contracts::{
    appointment::AppointmentFacts,
    billing::{BillCancelled, BillGenerated, BillStatus},
};
use hospital_kit::{db::Tx, inbox::Poison, outbox, outcome::Outcome};
use hospital_types::{AppointmentId, BillId, Currency, Money};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    bill::{Bill, Line},
    issue, store,
    store::Pricing,
};

/// An appointment that was booked: when, and in which trace.
pub(crate) struct Booked {
    pub(crate) facts: AppointmentFacts,
    pub(crate) at: Timestamp,
    pub(crate) traceparent: Option<String>,
}

/// Makes a bill for each appointment that has none: issued at once where the price list had a price when it was booked, otherwise a
/// draft.
pub(crate) async fn generate(
    tx: &mut Tx<Poison>,
    booked: &[Booked],
    currency: Currency,
    zone: &TimeZone,
) -> Outcome<(), Poison> {
    let pricing = store::pricing(tx, booked).await?;
    let mut bills: Vec<Bill> = booked
        .iter()
        .zip(pricing)
        .filter(|(_, pricing)| !pricing.has_bill)
        .map(|(booked, pricing)| bill(tx, &booked.facts, pricing, currency))
        .collect();
    // Twice in one batch is once.
    bills.sort_by_key(|bill| bill.appointment);
    bills.dedup_by_key(|bill| bill.appointment);
    let issued = bills.iter_mut().filter(|bill| bill.issued_at.is_some()).collect::<Vec<_>>();
    let mut numbers = issue::numbers(tx, issued.len(), zone).await?;
    for bill in issued {
        bill.number = numbers.next();
    }
    store::insert_bills(tx, &bills);
    let traces: HashMap<AppointmentId, &Option<String>> =
        booked.iter().map(|one| (one.facts.appointment_id, &one.traceparent)).collect();
    let traced = |bill: &Bill| traces.get(&bill.appointment).and_then(|trace| (*trace).clone());
    let of = |status: fn(&Bill) -> bool| {
        bills.iter().filter(move |bill| status(bill)).map(|bill| (bill.facts(), traced(bill)))
    };
    let generated = of(|b| b.issued_at.is_some()).map(|(facts, of)| (BillGenerated(facts), of));
    outbox::append_all(tx, generated.collect());
    let cancelled =
        of(|b| b.status == BillStatus::Cancelled).map(|(facts, of)| (BillCancelled(facts), of));
    outbox::append_all(tx, cancelled.collect());
    Ok(())
}

fn bill(tx: &Tx<Poison>, facts: &AppointmentFacts, pricing: Pricing, currency: Currency) -> Bill {
    let line = pricing
        .price
        .and_then(|(name, price)| Line::new(facts.service_type.clone(), name, 1, price));
    let currency = line.as_ref().map_or(currency, |line| line.amount.currency());
    let status = match (&line, pricing.cancelled) {
        (_, true) => BillStatus::Cancelled,
        (Some(line), _) if line.amount.is_zero() => BillStatus::Paid,
        (Some(_), _) => BillStatus::Issued,
        (None, _) => BillStatus::Draft,
    };
    let issued = matches!(status, BillStatus::Issued | BillStatus::Paid);
    Bill {
        id: BillId::new(),
        version: 1,
        number: None,
        appointment: facts.appointment_id,
        patient: facts.patient_id,
        status,
        total: line.as_ref().map_or_else(|| Money::zero(currency), |line| line.amount),
        lines: line.into_iter().collect(),
        paid: Money::zero(currency),
        reserved: Money::zero(currency),
        appointment_cancelled: pricing.cancelled,
        back_dated: facts.back_dated,
        created_at: tx.now(),
        issued_at: issued.then(|| tx.now()),
    }
}
