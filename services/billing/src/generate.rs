//! Makes the bills of booked appointments: exactly one each, whatever is delivered how often.

use hospital_contracts::{
    appointment::AppointmentFacts,
    billing::{BillCancelled, BillGenerated, BillStatus},
};
use hospital_kit::{cause::Cause, db::Tx, inbox::Poison, outbox, outcome::Outcome};
use hospital_types::{BillId, Currency, Money};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    bill::{Bill, Line},
    issue, store,
    store::Pricing,
};

/// An appointment that was booked, when, and the event that said so.
pub(crate) struct Booked {
    pub(crate) facts: AppointmentFacts,
    pub(crate) at: Timestamp,
    pub(crate) cause: Cause,
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
    let mut made: Vec<(Bill, &Cause)> = booked
        .iter()
        .zip(pricing)
        .filter(|(_, pricing)| !pricing.has_bill)
        .map(|(one, pricing)| (bill(tx, &one.facts, pricing, currency), &one.cause))
        .collect();
    // Twice in one batch is once.
    made.sort_by_key(|(bill, _)| bill.appointment);
    made.dedup_by_key(|(bill, _)| bill.appointment);
    let (mut bills, causes): (Vec<Bill>, Vec<&Cause>) = made.into_iter().unzip();
    let issued = bills.iter_mut().filter(|bill| bill.issued_at.is_some()).collect::<Vec<_>>();
    let mut numbers = issue::numbers(tx, issued.len(), zone).await?;
    for bill in issued {
        bill.number = numbers.next();
    }
    store::insert_bills(tx, &bills);
    let caused = || bills.iter().zip(causes.iter().copied());
    let generated: Vec<_> = caused()
        .filter(|(bill, _)| bill.issued_at.is_some())
        .map(|(bill, cause)| (BillGenerated(bill.facts()), cause))
        .collect();
    outbox::append_all(tx, &generated);
    let cancelled: Vec<_> = caused()
        .filter(|(bill, _)| bill.status == BillStatus::Cancelled)
        .map(|(bill, cause)| (BillCancelled(bill.facts()), cause))
        .collect();
    outbox::append_all(tx, &cancelled);
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
