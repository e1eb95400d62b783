use hospital_types::{AppointmentId, PatientId, PractitionerId, Sensitive};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::CancelledBy;
use crate::patient::Identifier;

/// Where an appointment is in its life. FHIR R4 names differ for `waitlisted` (waitlist), `held` (pending) and `completed`
/// (fulfilled).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AppointmentStatus {
    Waitlisted,
    Held,
    Booked,
    Arrived,
    CheckedIn,
    Completed,
    Cancelled,
    #[serde(rename = "noshow")]
    NoShow,
    EnteredInError,
}

impl AppointmentStatus {
    pub const ALL: [Self; 9] = [
        Self::Waitlisted,
        Self::Held,
        Self::Booked,
        Self::Arrived,
        Self::CheckedIn,
        Self::Completed,
        Self::Cancelled,
        Self::NoShow,
        Self::EnteredInError,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waitlisted => "waitlisted",
            Self::Held => "held",
            Self::Booked => "booked",
            Self::Arrived => "arrived",
            Self::CheckedIn => "checked-in",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::NoShow => "noshow",
            Self::EnteredInError => "entered-in-error",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// Who called an appointment off, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CancellationView {
    pub by: CancelledBy,
    /// For those only who may know the appointment's own reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reason: Option<Sensitive<String>>,
}

/// An appointment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppointmentView {
    pub id: AppointmentId,
    /// Rises with every step; also the iCalendar `SEQUENCE` and the `ETag`.
    pub version: i32,
    pub patient_id: PatientId,
    pub practitioner_id: PractitionerId,
    pub start: Timestamp,
    pub end: Timestamp,
    pub status: AppointmentStatus,
    /// What is to be done, as a code that billing has a price for.
    #[schema(example = "general-consultation")]
    pub service_type: String,
    /// Why the patient comes, in their own words. Clinical: for the desk, the practitioner and the
    /// patient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reason: Option<Sensitive<String>>,
    /// A record moved in from elsewhere, which notifies nobody.
    #[serde(default)]
    pub back_dated: bool,
    #[serde(default)]
    pub identifiers: Vec<Identifier>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<CancellationView>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// One step of an appointment's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// The appointment's version after the step.
    pub version: i32,
    pub at: Timestamp,
    /// The account that did it.
    pub actor: String,
    /// Absent for the first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<AppointmentStatus>,
    pub to: AppointmentStatus,
    /// The appointment's time after the step.
    pub start: Timestamp,
    pub end: Timestamp,
    /// For those only who may know the appointment's own reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reason: Option<Sensitive<String>>,
}

/// A free time that could be booked instead of a taken one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FreeTime {
    pub start: Timestamp,
    pub end: Timestamp,
}

/// A practitioner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PractitionerView {
    pub id: PractitionerId,
    pub version: i32,
    #[schema(value_type = String)]
    pub name: Sensitive<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specialty: Option<String>,
    /// For staff: a patient sees none.
    #[serde(default)]
    pub identifiers: Vec<Identifier>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_written_the_same_everywhere() {
        for status in AppointmentStatus::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
            assert_eq!(AppointmentStatus::parse(status.as_str()), Some(status));
        }
    }
}
