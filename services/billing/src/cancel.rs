//! Closes the money of a cancelled appointment.

use hospital_contracts::billing::BillCancelled;
use hospital_kit::{db::Tx, inbox::Poison, outbox, outcome::Outcome};
use hospital_types::AppointmentId;

use crate::store;

/// Cancels the bills without payments; one with payments keeps its status and shows what is due back. An appointment whose bill is not there
/// yet is remembered, and its bill is cancelled as it is made.
pub(crate) async fn cancel(
    tx: &mut Tx<Poison>,
    appointments: &[AppointmentId],
) -> Outcome<(), Poison> {
    let cancelled = store::cancel_bills(tx, appointments).await?;
    let events: Vec<_> = cancelled.into_iter().map(BillCancelled).collect();
    outbox::append_all(tx, &events);
    Ok(())
}
