//! Every event that is published, for documents about them.

use utoipa::openapi::{RefOr, Schema};

use crate::{
    DomainEvent,
    appointment::{
        AppointmentArrived, AppointmentBooked, AppointmentCancelled, AppointmentCheckedIn,
        AppointmentCompleted, AppointmentNoShow, AppointmentRescheduled,
    },
    billing::{BillCancelled, BillGenerated, PaymentCompleted, PaymentFailed},
    patient::{PatientRegistered, PatientUpdated},
};

/// What is known of an event before one is there.
#[derive(Clone)]
pub struct EventType {
    pub topic: &'static str,
    /// The service that publishes it.
    pub source: &'static str,
    /// CloudEvents `type`.
    pub cloud_type: String,
    pub meaning: &'static str,
    /// The name of its payload's schema.
    pub name: String,
    /// Its payload's schema, and those that it refers to, by name.
    pub schemas: Vec<(String, RefOr<Schema>)>,
    /// A payload, as JSON.
    pub example: &'static str,
}

fn of<E: DomainEvent>(example: &'static str) -> EventType {
    let mut schemas = vec![(E::name().into_owned(), E::schema())];
    E::schemas(&mut schemas);
    EventType {
        topic: E::TOPIC,
        source: E::SOURCE,
        cloud_type: E::cloud_type(),
        meaning: E::MEANING,
        name: E::name().into_owned(),
        schemas,
        example,
    }
}

macro_rules! events {
    ($($event:ident $topic:literal)*) => {
        /// Every event that is published, in the order of their topics.
        pub fn catalogue() -> Vec<EventType> {
            vec![$(of::<$event>(include_str!(concat!("../golden/", $topic, ".1.json")))),*]
        }

        /// Every topic that is published to, with the one service that may.
        pub const PUBLISHERS: &[(&str, &str)] = &[$(($event::TOPIC, $event::SOURCE)),*];
    };
}

events! {
    AppointmentArrived "appointment.arrived"
    AppointmentBooked "appointment.booked"
    AppointmentCancelled "appointment.cancelled"
    AppointmentCheckedIn "appointment.checked-in"
    AppointmentCompleted "appointment.completed"
    AppointmentNoShow "appointment.noshow"
    AppointmentRescheduled "appointment.rescheduled"
    BillCancelled "bill.cancelled"
    BillGenerated "bill.generated"
    PatientRegistered "patient.registered"
    PatientUpdated "patient.updated"
    PaymentCompleted "payment.completed"
    PaymentFailed "payment.failed"
}

/// The service that may publish to a topic; nothing for a topic that is none of the platform's.
pub fn publisher_of(topic: &str) -> Option<&'static str> {
    PUBLISHERS.iter().find(|(own, _)| *own == topic).map(|(_, source)| *source)
}
