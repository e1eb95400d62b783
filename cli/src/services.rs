//! The four services, as the command line composes them.

use hospital_kit::{migrate::Schema, service::Build};

/// A service by its name.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) schema: fn() -> Schema,
    pub(crate) build: Build,
}

pub(crate) const ALL: [Entry; 4] = [
    Entry { name: "patient", schema: hospital_patient::schema, build: hospital_patient::service },
    Entry {
        name: "appointment",
        schema: hospital_appointment::schema,
        build: hospital_appointment::service,
    },
    Entry { name: "billing", schema: hospital_billing::schema, build: hospital_billing::service },
    Entry {
        name: "notification",
        schema: hospital_notification::schema,
        build: hospital_notification::service,
    },
];

pub(crate) fn find(name: &str) -> Option<Entry> {
    ALL.into_iter().find(|entry| entry.name == name)
}

/// For clap: a service by its name, or which there are.
pub(crate) fn parse(name: &str) -> Result<Entry, String> {
    find(name)
        .ok_or_else(|| "the services are patient, appointment, billing, notification".to_owned())
}
