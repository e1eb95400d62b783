//! Books an appointment.

use hospital_contracts::appointment::{AppointmentBooked, AppointmentStatus};
use hospital_contracts::patient::Identifier;
use hospital_kit::{db::Tx, outbox, outcome::Outcome};
use hospital_types::{AppointmentId, PatientId, PractitionerId, Sensitive};
use jiff::Timestamp;

use crate::{
    appointment::Appointment, patient_check::Standing, refused::BookingRefused, slot::Slot, store,
};

#[derive(Clone, Debug)]
pub struct Book {
    pub patient: PatientId,
    pub practitioner: PractitionerId,
    pub slot: Slot,
    pub service_type: String,
    pub reason: Option<Sensitive<String>>,
    pub back_dated: bool,
    pub identifiers: Vec<Identifier>,
}

/// `standing` is what the patient service says of the patient.
///
/// Writes the appointment, the reservations of both who meet, the first step of its history and its event. Nothing is read, so all of
/// it is one flight; that the time is free is for the reservations' constraint to say.
pub async fn book(
    tx: &mut Tx<BookingRefused>,
    cmd: &Book,
    standing: Standing,
) -> Outcome<Appointment, BookingRefused> {
    match standing {
        Standing::Active => {}
        Standing::Inactive => return Err(BookingRefused::PatientInactive.into()),
        Standing::Unknown => return Err(BookingRefused::PatientUnknown.into()),
    }
    if cmd.slot.starts_before(tx.now()) && !cmd.back_dated {
        return Err(BookingRefused::StartInThePast.into());
    }
    let appointment = cmd.appointment(tx.now());
    store::lock_resources(tx, &appointment);
    store::insert_appointment(tx, &appointment);
    store::insert_appointment_identifiers(tx, &appointment);
    store::insert_reservations(tx, &appointment);
    store::insert_step(tx, &appointment, None, None);
    outbox::append(tx, &AppointmentBooked(appointment.facts()));
    Ok(appointment)
}

impl Book {
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
