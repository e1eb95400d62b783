use hospital_types::{AppointmentId, PatientId, PractitionerId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::DomainEvent;

/// What each step of an appointment's life tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CancelledBy {
    Patient,
    Hospital,
}

/// `appointment.rescheduled`, with both times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppointmentRescheduled {
    #[serde(flatten)]
    pub facts: AppointmentFacts,
    pub previous_start: Timestamp,
    pub previous_end: Timestamp,
}

/// `appointment.cancelled`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppointmentCancelled {
    #[serde(flatten)]
    pub facts: AppointmentFacts,
    pub by: CancelledBy,
}

macro_rules! appointment_events {
    ($($event:ident, $topic:literal, $facts:tt;)*) => {$(
        impl DomainEvent for $event {
            const TOPIC: &'static str = $topic;
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
    ($($event:ident, $topic:literal;)*) => {
        $(
            #[doc = concat!("`", $topic, "`.")]
            #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(transparent)]
            pub struct $event(pub AppointmentFacts);
        )*
        appointment_events! { $($event, $topic, 0;)* }
    };
}

plain_steps! {
    AppointmentBooked, "appointment.booked";
    AppointmentArrived, "appointment.arrived";
    AppointmentCheckedIn, "appointment.checked-in";
    AppointmentCompleted, "appointment.completed";
    AppointmentNoShow, "appointment.noshow";
}
appointment_events! {
    AppointmentRescheduled, "appointment.rescheduled", facts;
    AppointmentCancelled, "appointment.cancelled", facts;
}
