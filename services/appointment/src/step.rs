//! What all steps begin with.

use hospital_kit::{db::Tx, outcome::Outcome};
use hospital_types::{Actor, AppointmentId};

use crate::{appointment::Appointment, refused::StepRefused, store};

/// Locks and reads the appointment, if the actor may know of it and it still is what they have seen.
pub(crate) async fn locked(
    tx: &mut Tx<StepRefused>,
    actor: &Actor,
    id: AppointmentId,
    seen_version: Option<i32>,
) -> Outcome<Appointment, StepRefused> {
    let appointment = store::appointment_for_update(tx, id)
        .await?
        .filter(|appointment| actor.may_see(appointment.patient))
        .ok_or(StepRefused::NotFound)?;
    if seen_version.is_some_and(|seen| seen != appointment.version) {
        return Err(StepRefused::Stale { version: appointment.version }.into());
    }
    Ok(appointment)
}
