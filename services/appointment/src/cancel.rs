//! Calls an appointment off.

use hospital_contracts::appointment::{AppointmentCancelled, CancelledBy};
use hospital_kit::{cause::Cause, db::Tx, outbox, outcome::Outcome};
use hospital_types::{AppointmentId, Sensitive};

use crate::{appointment::Appointment, refused::StepRefused, step, store};

#[derive(Clone, Debug)]
pub struct Cancel {
    pub id: AppointmentId,
    pub seen_version: Option<i32>,
    pub by: CancelledBy,
    pub reason: Sensitive<String>,
}

/// Frees the time of both who would have met.
pub async fn cancel(
    tx: &mut Tx<StepRefused>,
    cause: &Cause,
    cmd: &Cancel,
) -> Outcome<Appointment, StepRefused> {
    let appointment = step::locked(tx, &cause.actor, cmd.id, cmd.seen_version).await?;
    let cancelled = appointment.cancel(cmd.by, cmd.reason.clone(), &cause.actor, tx.now())?;
    store::update_appointment(tx, &cancelled);
    store::delete_reservations(tx, &appointment);
    store::insert_step(tx, cause, &cancelled, Some(appointment.status), Some(&cmd.reason));
    outbox::append(tx, cause, &AppointmentCancelled { facts: cancelled.facts(), by: cmd.by });
    Ok(cancelled)
}
