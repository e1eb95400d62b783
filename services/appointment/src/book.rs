//! Books appointments.

use hospital_contracts::appointment::{AppointmentBooked, AppointmentStatus, AppointmentView};
use hospital_contracts::patient::Identifier;
use hospital_kit::{
    cause::Cause,
    db::Tx,
    http::Answer,
    idempotency::{Joint, Member},
    outbox,
    outcome::Outcome,
};
use hospital_types::{AppointmentId, PatientId, PractitionerId, Sensitive};
use jiff::Timestamp;

use crate::{
    appointment::Appointment, own::Limits, patient_check::Standing, refused::BookingRefused,
    slot::Slot, store,
};

#[derive(Clone, Debug)]
pub struct Book {
    pub patient: PatientId,
    /// What the patient service says of the patient.
    pub standing: Standing,
    pub practitioner: PractitionerId,
    pub slot: Slot,
    pub service_type: String,
    pub reason: Option<Sensitive<String>>,
    pub back_dated: bool,
    pub identifiers: Vec<Identifier>,
    /// Within what a patient books who does so without the desk.
    pub own: Option<Limits>,
}

/// Writes the appointments, the reservations of those who meet, the first steps of their history and their events, each in one statement
/// for all. Nothing is read, so all of it is one round trip; that a time is free is for the reservations' constraint to say. `R` is the
/// refusal of whatever books: a booking's own, or one that a booking is a part of.
pub fn book<R: From<BookingRefused>>(
    tx: &mut Tx<R>,
    commands: &[(&Book, &Cause)],
) -> Vec<Appointment> {
    let booked: Vec<Appointment> =
        commands.iter().map(|(cmd, _)| cmd.appointment(tx.now())).collect();
    let own: Vec<_> = booked
        .iter()
        .zip(commands)
        .filter_map(|(one, (cmd, _))| cmd.own.map(|limits| (one, limits)))
        .collect();
    store::lock_times(tx, &booked, own.iter().map(|(one, _)| one.patient));
    store::insert_appointments(tx, &booked);
    store::count_own(tx, &own, |more| BookingRefused::TooMuch(more).into());
    store::insert_appointment_identifiers(tx, &booked);
    store::insert_reservations(tx, &booked, |taken| BookingRefused::SlotUnavailable(taken).into());
    let causes = || commands.iter().map(|(_, cause)| *cause);
    let steps: Vec<_> = booked.iter().zip(causes()).collect();
    store::insert_first_steps(tx, &steps);
    let events: Vec<_> =
        booked.iter().map(|one| AppointmentBooked(one.facts())).zip(causes()).collect();
    outbox::append_all(tx, &events);
    booked
}

impl Book {
    /// What is refused without looking.
    pub fn check(&self, now: Timestamp) -> Result<(), BookingRefused> {
        match self.standing {
            Standing::Active => {}
            Standing::Inactive => return Err(BookingRefused::PatientInactive),
            Standing::Unknown => return Err(BookingRefused::PatientUnknown),
        }
        if self.slot.starts_before(now) && !self.back_dated {
            return Err(BookingRefused::StartInThePast);
        }
        Ok(())
    }

    fn appointment(&self, now: Timestamp) -> Appointment {
        Appointment {
            id: AppointmentId::new(),
            version: 1,
            patient: self.patient,
            practitioner: self.practitioner,
            slot: self.slot,
            status: AppointmentStatus::Booked,
            service_type: self.service_type.clone(),
            reason: self.reason.clone(),
            back_dated: self.back_dated,
            identifiers: self.identifiers.clone(),
            cancelled: None,
            created_at: now,
            updated_at: now,
        }
    }
}

/// Bookings of the same moment, which are done together.
pub(crate) struct Bookings;

impl Joint for Bookings {
    type Cmd = Book;
    type Done = AppointmentView;
    type Refused = BookingRefused;

    const NAME: &'static str = "appointment.book";

    fn check(cmd: &Book, now: Timestamp) -> Result<(), BookingRefused> {
        cmd.check(now)
    }

    fn clash(one: &Book, other: &Book) -> bool {
        (one.practitioner == other.practitioner || one.patient == other.patient)
            && one.slot.overlaps(other.slot)
    }

    fn work(
        tx: &mut Tx<BookingRefused>,
        members: &[Member<Book>],
    ) -> Outcome<Vec<AppointmentView>, BookingRefused> {
        let commands: Vec<_> = members.iter().map(|m| (&m.cmd, &m.request.cause)).collect();
        let booked = book(tx, &commands);
        Ok(booked.iter().zip(&commands).map(|(one, (_, cause))| one.view(&cause.actor)).collect())
    }

    fn answer(booked: &AppointmentView) -> Answer {
        Answer::created(format!("/appointments/{}", booked.id), booked.version, booked)
    }
}
