//! Moves an appointment to another time.

use std::slice;

use hospital_contracts::appointment::AppointmentRescheduled;
use hospital_kit::{db::Tx, outbox, outcome::Outcome};
use hospital_types::AppointmentId;

use crate::{appointment::Appointment, refused::StepRefused, slot::Slot, step, store};

#[derive(Clone, Debug)]
pub struct Reschedule {
    pub id: AppointmentId,
    pub seen_version: Option<i32>,
    pub slot: Slot,
}

/// The reservations go before the new ones come, so that the appointment's own time does not stand in its way. Both times are locked: two
/// appointments that change places would otherwise wait for each other.
pub async fn reschedule(
    tx: &mut Tx<StepRefused>,
    cmd: &Reschedule,
) -> Outcome<Appointment, StepRefused> {
    let appointment = step::locked(tx, cmd.id, cmd.seen_version).await?;
    let moved = appointment.reschedule(cmd.slot, tx.actor(), tx.now())?;
    store::lock_times(tx, &[appointment.clone(), moved.clone()]);
    store::delete_reservations(tx, &appointment);
    store::insert_reservations(tx, slice::from_ref(&moved), StepRefused::SlotUnavailable);
    store::update_appointment(tx, &moved);
    store::insert_step(tx, &moved, Some(appointment.status), None);
    outbox::append(
        tx,
        &AppointmentRescheduled {
            facts: moved.facts(),
            previous_start: appointment.slot.start(),
            previous_end: appointment.slot.end(),
        },
    );
    Ok(moved)
}
