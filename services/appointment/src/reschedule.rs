//! Moves an appointment to another time.

use std::slice;

use hospital_contracts::appointment::AppointmentRescheduled;
use hospital_kit::{cause::Cause, db::Tx, outbox, outcome::Outcome};
use hospital_types::AppointmentId;

use crate::{appointment::Appointment, own::Limits, refused::StepRefused, slot::Slot, step, store};

#[derive(Clone, Debug)]
pub struct Reschedule {
    pub id: AppointmentId,
    pub seen_version: Option<i32>,
    pub slot: Slot,
    /// Within what a patient moves who does so without the desk.
    pub own: Option<Limits>,
}

/// The reservations go before the new ones come, so that the appointment's own time does not stand in its way. Both times are locked: two
/// appointments that change places would otherwise wait for each other.
pub async fn reschedule(
    tx: &mut Tx<StepRefused>,
    cause: &Cause,
    cmd: &Reschedule,
) -> Outcome<Appointment, StepRefused> {
    let appointment = step::locked(tx, &cause.actor, cmd.id, cmd.seen_version).await?;
    let moved = appointment.reschedule(cmd.slot, &cause.actor, tx.now())?;
    // What becomes no longer takes no more from others than before, however much that was.
    let longer = moved.slot.duration() > appointment.slot.duration();
    let own: Vec<_> =
        cmd.own.filter(|_| longer).map(|limits| (&moved, limits)).into_iter().collect();
    let patients = own.iter().map(|(one, _)| one.patient);
    store::lock_times(tx, &[appointment.clone(), moved.clone()], patients);
    store::delete_reservations(tx, &appointment);
    store::insert_reservations(tx, slice::from_ref(&moved), StepRefused::SlotUnavailable);
    store::update_appointment(tx, &moved);
    store::count_own(tx, &own, StepRefused::TooMuch);
    store::insert_step(tx, cause, &moved, Some(appointment.status), None);
    outbox::append(
        tx,
        cause,
        &AppointmentRescheduled {
            facts: moved.facts(),
            previous_start: appointment.slot.start(),
            previous_end: appointment.slot.end(),
        },
    );
    Ok(moved)
}
