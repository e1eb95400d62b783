//! An appointment and the steps of its life.

use hospital_contracts::appointment::{
    AppointmentFacts, AppointmentStatus, AppointmentView, CancellationView, CancelledBy,
};
use hospital_contracts::patient::Identifier;
use hospital_types::{Actor, AppointmentId, PatientId, PractitionerId, Role, Sensitive};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    life_cycle::{allowed_after, can_be_moved, is_privileged},
    refused::{StepRefused, Taken},
    slot::{Slot, same_local_day},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appointment {
    pub id: AppointmentId,
    pub version: i32,
    pub patient: PatientId,
    pub practitioner: PractitionerId,
    pub slot: Slot,
    pub status: AppointmentStatus,
    pub service_type: String,
    pub reason: Option<Sensitive<String>>,
    pub back_dated: bool,
    pub identifiers: Vec<Identifier>,
    pub cancelled: Option<CancellationView>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Appointment {
    /// Called off, by whom and why. Its time becomes free.
    pub fn cancel(
        &self,
        by: CancelledBy,
        reason: Sensitive<String>,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<Self, StepRefused> {
        self.may_become(AppointmentStatus::Cancelled)?;
        if self.is_for_the_desk(actor, now) {
            return Err(StepRefused::TooLateToCancel);
        }
        let cancelled = Some(CancellationView { by, reason: Some(reason) });
        Ok(Self { cancelled, ..self.stepped(AppointmentStatus::Cancelled, now) })
    }

    /// The patient arrives, is checked in, has been seen or did not come.
    pub fn advance(
        &self,
        to: AppointmentStatus,
        actor: &Actor,
        now: Timestamp,
        zone: &TimeZone,
    ) -> Result<Self, StepRefused> {
        if !actor.may_attend(self.practitioner) {
            return Err(StepRefused::AnotherPractitioner);
        }
        self.may_become(to)?;
        if is_privileged(self.status, to) && !actor.roles.contains(Role::Admin) {
            return Err(StepRefused::AdministratorOnly);
        }
        let undoes_no_show = self.status == AppointmentStatus::NoShow;
        if undoes_no_show && !same_local_day(self.slot.start(), now, zone) {
            return Err(StepRefused::AnotherDay { to });
        }
        if to == AppointmentStatus::NoShow && now < self.slot.start() {
            return Err(StepRefused::NotYetStarted);
        }
        Ok(self.stepped(to, now))
    }

    /// Moved to another time. Only a back-dated appointment may lie in the past or last longer than a day, and only an administrator
    /// moves one there.
    pub fn reschedule(
        &self,
        slot: Slot,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<Self, StepRefused> {
        if !can_be_moved(self.status) {
            return Err(StepRefused::InvalidTransition {
                from: self.status,
                to: AppointmentStatus::Booked,
            });
        }
        if self.is_for_the_desk(actor, now) {
            return Err(StepRefused::TooLateToReschedule);
        }
        let free_of_limits = self.back_dated && actor.roles.contains(Role::Admin);
        if slot.is_too_long() && !free_of_limits {
            return Err(StepRefused::TooLong);
        }
        if slot.starts_before(now) && !free_of_limits {
            return Err(StepRefused::StartInThePast);
        }
        Ok(Self { slot, ..self.stepped(self.status, now) })
    }

    /// Whether the actor is a patient who has arrived, or should have: what they call off then was
    /// no longer theirs alone, and a no-show would look like a cancellation.
    fn is_for_the_desk(&self, actor: &Actor, now: Timestamp) -> bool {
        let begun = !can_be_moved(self.status) || self.slot.start() <= now;
        !actor.works_here() && begun
    }

    fn may_become(&self, to: AppointmentStatus) -> Result<(), StepRefused> {
        if allowed_after(self.status).contains(&to) {
            Ok(())
        } else {
            Err(StepRefused::InvalidTransition { from: self.status, to })
        }
    }

    fn stepped(&self, status: AppointmentStatus, now: Timestamp) -> Self {
        Self { status, version: self.version + 1, updated_at: now, ..self.clone() }
    }

    /// What a refusal needs to know to look for free times instead of this appointment's.
    pub fn taken(&self) -> Box<Taken> {
        Box::new(Taken {
            patient: self.patient,
            practitioner: self.practitioner,
            slot: self.slot,
            appointment: self.id,
            back_dated: self.back_dated,
            alternatives: Vec::new(),
        })
    }

    pub fn facts(&self) -> AppointmentFacts {
        AppointmentFacts {
            appointment_id: self.id,
            version: self.version,
            patient_id: self.patient,
            practitioner_id: self.practitioner,
            start: self.slot.start(),
            end: self.slot.end(),
            service_type: self.service_type.clone(),
            back_dated: self.back_dated,
        }
    }

    /// What the reader may know of it.
    pub fn view(&self, reader: &Actor) -> AppointmentView {
        let why = reader.may_know_why(self.patient, self.practitioner);
        let cancelled = self.cancelled.clone();
        AppointmentView {
            id: self.id,
            version: self.version,
            patient_id: self.patient,
            practitioner_id: self.practitioner,
            start: self.slot.start(),
            end: self.slot.end(),
            status: self.status,
            service_type: self.service_type.clone(),
            reason: self.reason.clone().filter(|_| why),
            back_dated: self.back_dated,
            identifiers: self.identifiers.clone(),
            cancelled: cancelled
                .map(|one| CancellationView { reason: one.reason.filter(|_| why), ..one }),
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use AppointmentStatus::{Arrived, Booked, CheckedIn, Completed, NoShow};
    use hospital_types::Roles;
    use jiff::ToSpan;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn appointment(status: AppointmentStatus) -> Appointment {
        let now = at("2030-05-01T08:00:00Z");
        Appointment {
            id: AppointmentId::new(),
            version: 3,
            patient: PatientId::new(),
            practitioner: PractitionerId::new(),
            slot: Slot::stored(at("2030-05-17T09:00:00Z"), at("2030-05-17T09:30:00Z")),
            status,
            service_type: "visit".to_owned(),
            reason: None,
            back_dated: false,
            identifiers: Vec::new(),
            cancelled: None,
            created_at: now,
            updated_at: now,
        }
    }

    fn actor(role: Role) -> Actor {
        Actor { roles: Roles::of(&[role]), ..Actor::system("test") }
    }

    #[test]
    fn a_step_raises_the_version_and_keeps_the_rest() {
        let booked = appointment(Booked);
        let now = at("2030-05-17T08:55:00Z");
        let arrived =
            booked.advance(Arrived, &actor(Role::FrontDesk), now, &TimeZone::UTC).unwrap();
        assert_eq!(arrived, Appointment { status: Arrived, version: 4, updated_at: now, ..booked });
    }

    #[test]
    fn an_illegal_step_says_what_would_be_allowed() {
        let now = at("2030-05-17T08:55:00Z");
        let refused = appointment(Completed).cancel(
            CancelledBy::Patient,
            Sensitive::new("changed plans".to_owned()),
            &actor(Role::FrontDesk),
            now,
        );
        assert_eq!(
            refused,
            Err(StepRefused::InvalidTransition {
                from: Completed,
                to: AppointmentStatus::Cancelled
            })
        );
    }

    #[test]
    fn a_patient_cancels_and_moves_until_the_start_and_not_once_arrived() {
        let (patient, desk) = (actor(Role::Patient), actor(Role::FrontDesk));
        let (before, at_start) = (at("2030-05-17T08:59:59Z"), at("2030-05-17T09:00:00Z"));
        let cancel = |status, who: &Actor, now| {
            let reason = Sensitive::new("changed plans".to_owned());
            appointment(status).cancel(CancelledBy::Patient, reason, who, now)
        };
        let later = Slot::stored(at("2030-05-18T09:00:00Z"), at("2030-05-18T09:30:00Z"));
        let reschedule = |who: &Actor, now| appointment(Booked).reschedule(later, who, now);
        assert!(cancel(Booked, &patient, before).is_ok());
        assert!(reschedule(&patient, before).is_ok());
        assert_eq!(cancel(Booked, &patient, at_start), Err(StepRefused::TooLateToCancel));
        assert_eq!(reschedule(&patient, at_start), Err(StepRefused::TooLateToReschedule));
        for here in [Arrived, CheckedIn] {
            assert_eq!(cancel(here, &patient, before), Err(StepRefused::TooLateToCancel));
            assert!(cancel(here, &desk, at_start).is_ok());
        }
        assert!(cancel(Booked, &desk, at_start).is_ok() && reschedule(&desk, at_start).is_ok());
    }

    #[test]
    fn nobody_misses_an_appointment_before_it_starts() {
        let desk = actor(Role::FrontDesk);
        let booked = appointment(Booked);
        let early = booked.advance(NoShow, &desk, at("2030-05-17T08:59:59Z"), &TimeZone::UTC);
        assert_eq!(early, Err(StepRefused::NotYetStarted));
        assert!(booked.advance(NoShow, &desk, at("2030-05-17T09:00:00Z"), &TimeZone::UTC).is_ok());
    }

    #[test]
    fn a_no_show_is_undone_by_an_administrator_on_the_same_day_only() {
        let missed = appointment(NoShow);
        let (desk, admin) = (actor(Role::FrontDesk), actor(Role::Admin));
        let same_day = at("2030-05-17T20:00:00Z");
        let undo = |actor, now| missed.advance(Arrived, actor, now, &TimeZone::UTC);
        assert_eq!(undo(&desk, same_day), Err(StepRefused::AdministratorOnly));
        assert_eq!(
            undo(&admin, at("2030-05-18T00:00:00Z")),
            Err(StepRefused::AnotherDay { to: Arrived })
        );
        assert_eq!(undo(&admin, same_day).unwrap().status, Arrived);
        let tokyo = TimeZone::get("Asia/Tokyo").unwrap();
        assert!(missed.advance(Arrived, &admin, same_day, &tokyo).is_err(), "it is tomorrow there");
    }

    #[test]
    fn a_moved_appointment_keeps_its_status_and_respects_the_limits() {
        let booked = appointment(Booked);
        let desk = actor(Role::FrontDesk);
        let now = at("2030-05-10T08:00:00Z");
        let slot = |hours: i64, length: i64| {
            let start = now + hours.hours();
            Slot::stored(start, start + length.hours())
        };
        let moved = booked.reschedule(slot(1, 1), &desk, now).unwrap();
        assert_eq!((moved.status, moved.version, moved.slot), (Booked, 4, slot(1, 1)));
        assert_eq!(booked.reschedule(slot(-1, 1), &desk, now), Err(StepRefused::StartInThePast));
        assert_eq!(booked.reschedule(slot(1, 25), &desk, now), Err(StepRefused::TooLong));
        let back_dated = Appointment { back_dated: true, ..booked };
        assert!(back_dated.reschedule(slot(-1, 1), &desk, now).is_err());
        assert!(back_dated.reschedule(slot(-100, 25), &actor(Role::Admin), now).is_ok());
        assert!(matches!(
            appointment(CheckedIn).reschedule(slot(1, 1), &desk, now),
            Err(StepRefused::InvalidTransition { from: CheckedIn, to: Booked })
        ));
    }
}
