use hospital_types::{AppointmentId, PatientId, PractitionerId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::DomainEvent;

/// What each step of an appointment's life tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppointmentFacts {
    pub appointment_id: AppointmentId,
    /// The appointment's version after the step.
    pub version: i32,
    pub patient_id: PatientId,
    pub practitioner_id: PractitionerId,
    pub start: Timestamp,
    pub end: Timestamp,
    pub service_type: String,
    /// A record moved in from elsewhere: it, its bill and its payments notify nobody.
    #[serde(default)]
    pub back_dated: bool,
}

/// Who called an appointment off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CancelledBy {
    Patient,
    Hospital,
}

/// `appointment.rescheduled`, with both times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppointmentRescheduled {
    #[serde(flatten)]
    pub facts: AppointmentFacts,
    pub previous_start: Timestamp,
    pub previous_end: Timestamp,
}

/// `appointment.cancelled`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppointmentCancelled {
    #[serde(flatten)]
    pub facts: AppointmentFacts,
    pub by: CancelledBy,
}

macro_rules! appointment_events {
    ($($event:ident, $topic:literal, $facts:tt, $meaning:literal;)*) => {$(
        impl DomainEvent for $event {
            const TOPIC: &'static str = $topic;
            const MEANING: &'static str = $meaning;
            const SOURCE: &'static str = "appointment";

            fn aggregate(&self) -> Uuid {
                self.$facts.appointment_id.uuid()
            }

            fn version(&self) -> i32 {
                self.$facts.version
            }
        }
    )*};
}

macro_rules! plain_steps {
    ($($event:ident, $topic:literal, $meaning:literal;)*) => {
        $(
            #[doc = concat!("`", $topic, "`: ", $meaning)]
            #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
            #[serde(transparent)]
            pub struct $event(pub AppointmentFacts);
        )*
        appointment_events! { $($event, $topic, 0, $meaning;)* }
    };
}

plain_steps! {
    AppointmentBooked, "appointment.booked", "A patient has a time with a practitioner.";
    AppointmentArrived, "appointment.arrived", "The patient is in the house.";
    AppointmentCheckedIn, "appointment.checked-in", "The patient has been received and waits to be seen.";
    AppointmentCompleted, "appointment.completed", "The visit took place and is over.";
    AppointmentNoShow, "appointment.noshow", "The patient did not come.";
}
appointment_events! {
    AppointmentRescheduled, "appointment.rescheduled", facts, "An appointment has another time; the previous one is free again.";
    AppointmentCancelled, "appointment.cancelled", facts, "An appointment will not take place; its time is free again.";
}
