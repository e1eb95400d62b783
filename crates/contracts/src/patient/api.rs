use hospital_types::{PartialDate, PatientId, Sensitive};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::PatientStatus;

/// Administrative gender, as FHIR has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Gender {
    Female,
    Male,
    Other,
    Unknown,
}

impl Gender {
    pub const ALL: [Self; 4] = [Self::Female, Self::Male, Self::Other, Self::Unknown];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Female => "female",
            Self::Male => "male",
            Self::Other => "other",
            Self::Unknown => "unknown",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|gender| gender.as_str() == text)
    }
}

/// A name for somebody or something in a system of names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Identifier {
    /// Whose names these are: a URI.
    #[schema(
        max_length = 200,
        pattern = r"^\s*[^\s|\x00-\x1f\x7f-\x9f][^|\x00-\x1f\x7f-\x9f]*$",
        example = "urn:example:mrn"
    )]
    pub system: String,
    #[schema(max_length = 200, example = "12345")]
    pub value: String,
}

/// A postal address, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Address {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub line: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub city: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub postal_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub country: Option<String>,
}

/// A patient. Staff see the members that their role needs; the others are left out. What is not
/// known is null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PatientView {
    pub id: PatientId,
    pub version: i32,
    pub status: PatientStatus,
    /// What to call the patient: the names that are known, or the temporary one.
    #[schema(value_type = String)]
    pub display_name: Sensitive<String>,
    #[schema(required, value_type = Option<String>)]
    pub given_name: Option<Sensitive<String>>,
    #[schema(required, value_type = Option<String>)]
    pub family_name: Option<Sensitive<String>>,
    /// Nobody knows yet who it is.
    pub unidentified: bool,
    /// What somebody was called before anybody knew who it is. It stays, and finds the patient.
    #[schema(required, value_type = Option<String>)]
    pub temporary_name: Option<Sensitive<String>>,
    /// As much of it as is known: `1980`, `1980-06` or `1980-06-05`.
    #[schema(required, value_type = Option<PartialDate>)]
    pub birth_date: Option<Sensitive<PartialDate>>,
    /// The birth date is what somebody thinks.
    pub birth_date_estimated: bool,
    pub gender: Gender,
    /// E.164, and `;ext=` with an extension if there is one.
    #[schema(required, value_type = Option<String>, example = "+16175550100")]
    pub phone: Option<Sensitive<String>>,
    #[schema(required, value_type = Option<String>)]
    pub email: Option<Sensitive<String>>,
    #[schema(required)]
    pub language: Option<String>,
    #[schema(required, value_type = Option<Address>)]
    pub address: Option<Sensitive<Address>>,
    pub identifiers: Vec<Identifier>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// Whether a patient can be booked, and nothing else about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PatientStanding {
    pub id: PatientId,
    pub status: PatientStatus,
}

/// How a patient is reached, for the services that reach them: nothing that says who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PatientContact {
    pub id: PatientId,
    pub version: i32,
    pub status: PatientStatus,
    #[schema(required, value_type = Option<String>)]
    pub phone: Option<Sensitive<String>>,
    #[schema(required, value_type = Option<String>)]
    pub email: Option<Sensitive<String>>,
    #[schema(required)]
    pub language: Option<String>,
}
