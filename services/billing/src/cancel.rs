//! Closes the money of a cancelled appointment (docs/rules.md, B6).

use std::collections::HashMap;

use hospital_contracts::billing::{BillCancelled, BillFacts};
use hospital_kit::{cause::Cause, db::Tx, inbox::Poison, outbox, outcome::Outcome};
use hospital_types::AppointmentId;

use crate::store;

/// Cancels the bills of these appointments: those without payments; one with payments keeps its
/// status and shows what is due back. An appointment whose bill is not there yet is remembered, and
/// its bill is cancelled as it is made.
pub(crate) async fn cancel(
    tx: &mut Tx<Poison>,
    appointments: &[(AppointmentId, Cause)],
) -> Outcome<(), Poison> {
    let ids: Vec<AppointmentId> = appointments.iter().map(|(id, _)| *id).collect();
    let causes: HashMap<AppointmentId, &Cause> =
        appointments.iter().map(|(id, cause)| (*id, cause)).collect();
    let cancelled = store::cancel_bills(tx, &ids).await?.into_iter();
    let caused = |bill: BillFacts| {
        let cause = causes[&bill.appointment_id];
        (BillCancelled(bill), cause)
    };
    let events: Vec<_> = cancelled.map(caused).collect();
    outbox::append_all(tx, &events);
    Ok(())
}
