//! How the appointment service says no.

use hospital_contracts::appointment::{AppointmentStatus, FreeTime};
use hospital_contracts::patient::Identifier;
use hospital_types::{
    AppointmentId, PatientId, PractitionerId, Refusal,
    RefusalKind::{self, Conflict, Forbidden, Invalid, NotFound, Stale},
};
use serde_json::{Map, Value, json};

use crate::{
    life_cycle::allowed_after,
    own::TooMuch,
    slot::{INVALID_DURATION, Slot},
};

/// A time that somebody else has, and what is needed to look for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub patient: PatientId,
    pub practitioner: PractitionerId,
    pub slot: Slot,
    /// The appointment that wants the time: what it has itself does not count as taken.
    pub appointment: AppointmentId,
    pub back_dated: bool,
    /// Looked up once the refusal is certain.
    pub alternatives: Vec<FreeTime>,
}

impl Taken {
    fn detail(&self) -> String {
        "The practitioner or the patient has another appointment at that time. Take one of the alternatives or look for another time."
            .to_owned()
    }

    fn members(&self) -> Map<String, Value> {
        members([("alternatives", json!(self.alternatives))])
    }
}

fn members<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

const START_IN_THE_PAST: &str = "start-in-the-past";
const SLOT_UNAVAILABLE: &str = "slot-unavailable";

fn in_the_past() -> String {
    "The appointment would start in the past.".to_owned()
}

/// Why an appointment is not booked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BookingRefused {
    PatientUnknown,
    PatientInactive,
    PractitionerUnknown,
    StartInThePast,
    SlotUnavailable(Box<Taken>),
    TooMuch(TooMuch),
    IdentifierTaken { wanted: Vec<Identifier>, holder: Option<AppointmentId> },
}

impl Refusal for BookingRefused {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::PatientUnknown
            | Self::PatientInactive
            | Self::PractitionerUnknown
            | Self::StartInThePast => Invalid,
            Self::SlotUnavailable(_) | Self::TooMuch(_) | Self::IdentifierTaken { .. } => Conflict,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::PatientUnknown => "patient-unknown",
            Self::PatientInactive => "patient-inactive",
            Self::PractitionerUnknown => "practitioner-unknown",
            Self::StartInThePast => START_IN_THE_PAST,
            Self::SlotUnavailable(_) => SLOT_UNAVAILABLE,
            Self::TooMuch(more) => more.code(),
            Self::IdentifierTaken { .. } => "identifier-taken",
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::PatientUnknown => "There is no such patient.".to_owned(),
            Self::PatientInactive => {
                "The patient is deactivated. Reactivate the patient to book.".to_owned()
            }
            Self::PractitionerUnknown => "There is no such practitioner.".to_owned(),
            Self::StartInThePast => in_the_past(),
            Self::SlotUnavailable(taken) => taken.detail(),
            Self::TooMuch(more) => more.detail(),
            Self::IdentifierTaken { .. } => {
                "Another appointment has one of these identifiers.".to_owned()
            }
        }
    }

    fn members(&self) -> Map<String, Value> {
        match self {
            Self::SlotUnavailable(taken) => taken.members(),
            Self::TooMuch(more) => more.members(),
            Self::IdentifierTaken { holder: Some(holder), .. } => {
                members([("appointmentId", json!(holder))])
            }
            _ => Map::new(),
        }
    }

    fn pointer(&self) -> Option<&'static str> {
        match self {
            Self::PatientUnknown | Self::PatientInactive => Some("/patientId"),
            Self::PractitionerUnknown => Some("/practitionerId"),
            Self::StartInThePast => Some("/start"),
            Self::IdentifierTaken { .. } => Some("/identifiers"),
            Self::SlotUnavailable(_) | Self::TooMuch(_) => None,
        }
    }
}

/// Why an appointment does not take a step of its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepRefused {
    NotFound,
    /// The version in `If-Match` is not the current one.
    Stale {
        version: i32,
    },
    InvalidTransition {
        from: AppointmentStatus,
        to: AppointmentStatus,
    },
    AdministratorOnly,
    /// A practitioner takes steps in their own visits only.
    AnotherPractitioner,
    /// Once it has begun, or they are here, patients leave the rest to the desk.
    TooLateToCancel,
    TooLateToReschedule,
    /// A no-show can be undone on the day of the appointment only.
    AnotherDay {
        to: AppointmentStatus,
    },
    NotYetStarted,
    StartInThePast,
    TooLong,
    SlotUnavailable(Box<Taken>),
    TooMuch(TooMuch),
}

impl Refusal for StepRefused {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::NotFound => NotFound,
            Self::Stale { .. } => Stale,
            Self::AdministratorOnly | Self::AnotherPractitioner => Forbidden,
            Self::StartInThePast | Self::TooLong => Invalid,
            Self::InvalidTransition { .. }
            | Self::AnotherDay { .. }
            | Self::TooLateToCancel
            | Self::TooLateToReschedule
            | Self::NotYetStarted
            | Self::SlotUnavailable(_)
            | Self::TooMuch(_) => Conflict,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Stale { .. } => "version-stale",
            Self::AdministratorOnly | Self::AnotherPractitioner => "forbidden",
            Self::TooLateToCancel => "too-late-to-cancel",
            Self::TooLateToReschedule => "too-late-to-reschedule",
            Self::InvalidTransition { .. } | Self::AnotherDay { .. } => "invalid-transition",
            Self::NotYetStarted => "not-yet-started",
            Self::StartInThePast => START_IN_THE_PAST,
            Self::TooLong => INVALID_DURATION,
            Self::SlotUnavailable(_) => SLOT_UNAVAILABLE,
            Self::TooMuch(more) => more.code(),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::NotFound => "There is no such appointment.".to_owned(),
            Self::Stale { version } => {
                format!(
                    "The appointment has changed and is now at version {version}. Read it again."
                )
            }
            Self::AdministratorOnly => "Only an administrator may take this step.".to_owned(),
            Self::AnotherPractitioner => "The appointment is with another practitioner.".to_owned(),
            Self::TooLateToCancel | Self::TooLateToReschedule => {
                "The patient has arrived, or the appointment has begun: ask the desk.".to_owned()
            }
            Self::InvalidTransition { from, to } => {
                format!("An appointment that is {} cannot become {}.", from.as_str(), to.as_str())
            }
            Self::AnotherDay { .. } => {
                "A no-show can be undone on the day of the appointment only.".to_owned()
            }
            Self::NotYetStarted => {
                "The appointment has not started yet, so the patient can still come.".to_owned()
            }
            Self::StartInThePast => in_the_past(),
            Self::TooLong => "An appointment lasts at most 24 hours.".to_owned(),
            Self::SlotUnavailable(taken) => taken.detail(),
            Self::TooMuch(more) => more.detail(),
        }
    }

    fn members(&self) -> Map<String, Value> {
        match self {
            Self::InvalidTransition { from, to } => members([
                ("from", json!(from)),
                ("to", json!(to)),
                ("allowed", json!(allowed_after(*from))),
            ]),
            Self::AnotherDay { to } => members([
                ("from", json!(AppointmentStatus::NoShow)),
                ("to", json!(to)),
                ("allowed", json!([])),
            ]),
            Self::SlotUnavailable(taken) => taken.members(),
            Self::TooMuch(more) => more.members(),
            _ => Map::new(),
        }
    }

    fn pointer(&self) -> Option<&'static str> {
        match self {
            Self::StartInThePast => Some("/start"),
            Self::TooLong => Some("/end"),
            _ => None,
        }
    }
}

/// Why a practitioner is not registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistrationRefused {
    IdentifierTaken { wanted: Vec<Identifier>, holder: Option<PractitionerId> },
}

impl Refusal for RegistrationRefused {
    fn kind(&self) -> RefusalKind {
        Conflict
    }

    fn code(&self) -> &'static str {
        "identifier-taken"
    }

    fn detail(&self) -> String {
        "Another practitioner has one of these identifiers.".to_owned()
    }

    fn members(&self) -> Map<String, Value> {
        match self {
            Self::IdentifierTaken { holder: Some(holder), .. } => {
                members([("practitionerId", json!(holder))])
            }
            Self::IdentifierTaken { holder: None, .. } => Map::new(),
        }
    }

    fn pointer(&self) -> Option<&'static str> {
        Some("/identifiers")
    }
}
