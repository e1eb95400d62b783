//! Adds what was done to a draft bill.

use hospital_contracts::billing::BillStatus;
use hospital_kit::{db::Tx, http::IfMatch, outcome::Outcome};
use hospital_types::BillId;

use crate::{
    bill::{Bill, BillRefused, Line, total},
    store,
};

pub(crate) async fn add_lines(
    tx: &mut Tx<BillRefused>,
    id: BillId,
    seen: IfMatch,
    lines: Vec<Line>,
) -> Outcome<Bill, BillRefused> {
    let mut bill = draft(tx, id, seen).await?;
    let currency = bill.currency();
    if lines.iter().any(|line| line.amount.currency() != currency) {
        return Err(BillRefused::CurrencyMismatch { currency }.into());
    }
    bill.total = total(bill.total, &lines).ok_or(BillRefused::TooLarge)?;
    bill.version += 1;
    store::append_lines(tx, &bill, &lines);
    store::update_total(tx, &bill);
    bill.lines.extend(lines);
    Ok(bill)
}

/// The bill, locked, if it is a draft of the version that the caller saw.
pub(crate) async fn draft(
    tx: &mut Tx<BillRefused>,
    id: BillId,
    seen: IfMatch,
) -> Outcome<Bill, BillRefused> {
    let bill = store::bill_for_update(tx, id).await?.ok_or(BillRefused::Unknown)?;
    if !seen.allows(bill.version) {
        return Err(BillRefused::Stale { version: bill.version }.into());
    }
    if bill.status != BillStatus::Draft {
        return Err(BillRefused::NotDraft { status: bill.status }.into());
    }
    Ok(bill)
}
