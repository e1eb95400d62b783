//! Issues a draft: from now on it is immutable and can be paid.

use hospital_contracts::billing::{BillGenerated, BillStatus};
use hospital_kit::{cause::Cause, db::Tx, http::IfMatch, outbox, outcome::Outcome};
use hospital_types::BillId;
use jiff::tz::TimeZone;

use crate::{
    add_lines::draft,
    bill::{Bill, BillRefused},
    store,
};

pub(crate) async fn issue(
    tx: &mut Tx<BillRefused>,
    cause: &Cause,
    id: BillId,
    seen: IfMatch,
    zone: &TimeZone,
) -> Outcome<Bill, BillRefused> {
    let mut bill = draft(tx, id, seen).await?;
    if bill.lines.is_empty() {
        return Err(BillRefused::Empty.into());
    }
    bill.number = numbers(tx, 1, zone).await?.next();
    bill.version += 1;
    bill.issued_at = Some(tx.now());
    bill.status = if bill.total.is_zero() { BillStatus::Paid } else { BillStatus::Issued };
    store::update_issued(tx, &bill);
    outbox::append(tx, cause, &BillGenerated(bill.facts()));
    Ok(bill)
}

/// Takes the year's next numbers. They are gap-free: who takes them holds the counter until the commit.
pub(crate) async fn numbers<R>(
    tx: &mut Tx<R>,
    count: usize,
    zone: &TimeZone,
) -> Outcome<impl Iterator<Item = String> + use<R>, R> {
    let year = tx.now().to_zoned(zone.clone()).year();
    let count = i64::try_from(count).expect("a batch is bounded");
    let last = if count == 0 { 0 } else { store::take_numbers(tx, year.into(), count).await? };
    Ok((last - count + 1..=last)
        .take(usize::try_from(count).unwrap_or(0))
        .map(move |n| format!("{year}-{n:06}")))
}
