use hospital_types::PatientId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::DomainEvent;

/// Whether a patient can be booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PatientStatus {
    Active,
    Inactive,
}

impl PatientStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Inactive].into_iter().find(|status| status.as_str() == text)
    }
}

/// What `patient.registered` and `patient.updated` tell: that there is something new to ask the patient service for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PatientFacts {
    pub patient_id: PatientId,
    /// The patient's version after the change.
    pub version: i32,
    pub status: PatientStatus,
}

/// `patient.registered`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct PatientRegistered(pub PatientFacts);

/// `patient.updated`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct PatientUpdated(pub PatientFacts);

macro_rules! patient_events {
    ($($event:ident, $topic:literal, $meaning:literal;)*) => {$(
        impl DomainEvent for $event {
            const TOPIC: &'static str = $topic;
            const MEANING: &'static str = $meaning;
            const SOURCE: &'static str = "patient";

            fn aggregate(&self) -> Uuid {
                self.0.patient_id.uuid()
            }

            fn version(&self) -> i32 {
                self.0.version
            }
        }
    )*};
}

patient_events! {
    PatientRegistered, "patient.registered", "A patient is known from now on.";
    PatientUpdated, "patient.updated", "Something about a patient changed; what, the patient service says to those who may ask.";
}
