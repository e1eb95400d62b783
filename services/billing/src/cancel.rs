//! Closes the money of a cancelled appointment (docs/rules.md, B6).

use std::collections::HashMap;

use hospital_contracts::billing::BillCancelled;
use hospital_kit::{db::Tx, inbox::Poison, outbox, outcome::Outcome};
use hospital_types::AppointmentId;

use crate::store;

/// Cancels the bills of these appointments, each with the trace of its cancellation: those without payments; one with payments keeps its status and shows what is due back. An appointment whose bill is not there
/// yet is remembered, and its bill is cancelled as it is made.
pub(crate) async fn cancel(
    tx: &mut Tx<Poison>,
    appointments: &[(AppointmentId, Option<String>)],
) -> Outcome<(), Poison> {
    let ids: Vec<AppointmentId> = appointments.iter().map(|(id, _)| *id).collect();
    let traces: HashMap<AppointmentId, &Option<String>> =
        appointments.iter().map(|(id, traceparent)| (*id, traceparent)).collect();
    let cancelled = store::cancel_bills(tx, &ids).await?.into_iter();
    let traced = cancelled.map(|bill| {
        let traceparent = traces.get(&bill.appointment_id).and_then(|trace| (*trace).clone());
        (BillCancelled(bill), traceparent)
    });
    outbox::append_all(tx, traced.collect());
    Ok(())
}
