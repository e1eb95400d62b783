//! Takes an appointment through the visit: arrived, checked in, completed, or not come.

use hospital_contracts::appointment::{
    AppointmentArrived, AppointmentCheckedIn, AppointmentCompleted, AppointmentNoShow,
    AppointmentStatus,
};
use hospital_kit::{cause::Cause, db::Tx, outbox, outcome::Outcome};
use hospital_types::AppointmentId;
use jiff::tz::TimeZone;

use crate::{appointment::Appointment, refused::StepRefused, step, store};

/// A step of the visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    Arrive,
    CheckIn,
    Complete,
    NoShow,
}

impl Visit {
    pub const fn status(self) -> AppointmentStatus {
        match self {
            Self::Arrive => AppointmentStatus::Arrived,
            Self::CheckIn => AppointmentStatus::CheckedIn,
            Self::Complete => AppointmentStatus::Completed,
            Self::NoShow => AppointmentStatus::NoShow,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Advance {
    pub id: AppointmentId,
    pub seen_version: Option<i32>,
    pub visit: Visit,
    /// The facility's, in which "today" is.
    pub zone: TimeZone,
}

/// Keeps the time of both who meet as taken, and publishes the step.
pub async fn advance(
    tx: &mut Tx<StepRefused>,
    cause: &Cause,
    cmd: &Advance,
) -> Outcome<Appointment, StepRefused> {
    let appointment = step::locked(tx, &cause.actor, cmd.id, cmd.seen_version).await?;
    let advanced = appointment.advance(cmd.visit.status(), &cause.actor, tx.now(), &cmd.zone)?;
    store::update_appointment(tx, &advanced);
    store::insert_step(tx, cause, &advanced, Some(appointment.status), None);
    let facts = advanced.facts();
    match cmd.visit {
        Visit::Arrive => outbox::append(tx, cause, &AppointmentArrived(facts)),
        Visit::CheckIn => outbox::append(tx, cause, &AppointmentCheckedIn(facts)),
        Visit::Complete => outbox::append(tx, cause, &AppointmentCompleted(facts)),
        Visit::NoShow => outbox::append(tx, cause, &AppointmentNoShow(facts)),
    };
    Ok(advanced)
}
