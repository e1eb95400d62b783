//! Makes the bills of booked appointments: exactly one each, whatever is delivered how often.

use hospital_contracts::{
    appointment::AppointmentFacts,
    billing::{BillCancelled, BillGenerated, BillStatus},
};
use hospital_kit::{db::Tx, inbox::Poison, outbox, outcome::Outcome};
use hospital_types::{BillId, Currency, Money};
use jiff::tz::TimeZone;

use crate::{
    bill::{Bill, Line},
    issue, store,
    store::Pricing,
};

/// Makes a bill for each appointment that has none: issued at once where the price list has a price, otherwise a draft.
pub(crate) async fn generate(
    tx: &mut Tx<Poison>,
    booked: &[AppointmentFacts],
    currency: Currency,
    zone: &TimeZone,
) -> Outcome<(), Poison> {
    let pricing = store::pricing(tx, booked).await?;
    let mut bills: Vec<Bill> = booked
        .iter()
        .zip(pricing)
        .filter(|(_, pricing)| !pricing.has_bill)
        .map(|(facts, pricing)| bill(tx, facts, pricing, currency))
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
    let of =
        |status: fn(&Bill) -> bool| bills.iter().filter(move |bill| status(bill)).map(Bill::facts);
    let generated: Vec<_> = of(|b| b.issued_at.is_some()).map(BillGenerated).collect();
    let cancelled: Vec<_> = of(|b| b.status == BillStatus::Cancelled).map(BillCancelled).collect();
    outbox::append_all(tx, &generated);
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
