//! The model: what a patient is, how it changes, and how the service says no.

use hospital_contracts::patient::{Address, Gender, Identifier, PatientStatus, PatientView};
use hospital_types::{PatientId, Refusal, RefusalKind, Sensitive};
use jiff::{Timestamp, civil::Date};
use serde_json::{Map, Value, json};

use crate::duplicate::{Candidate, Likeness};

/// What is known of a patient, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Demographics {
    pub(crate) given_name: Sensitive<String>,
    pub(crate) family_name: Sensitive<String>,
    pub(crate) birth_date: Sensitive<Date>,
    pub(crate) gender: Gender,
    pub(crate) phone: Option<Sensitive<String>>,
    pub(crate) email: Option<Sensitive<String>>,
    pub(crate) language: Option<String>,
    pub(crate) address: Option<Sensitive<Address>>,
    pub(crate) identifiers: Vec<Identifier>,
}

impl Demographics {
    pub(crate) fn likeness(&self) -> Likeness {
        Likeness {
            given_name: self.given_name.expose().clone(),
            family_name: self.family_name.expose().clone(),
            birth_date: *self.birth_date.expose(),
            phone: self.phone.as_ref().map(|p| p.expose().clone()),
        }
    }
}

/// A patient.
#[derive(Clone, Debug)]
pub(crate) struct Patient {
    pub(crate) id: PatientId,
    pub(crate) version: i32,
    pub(crate) status: PatientStatus,
    pub(crate) demographics: Demographics,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

impl Patient {
    pub(crate) fn view(&self) -> PatientView {
        let d = self.demographics.clone();
        PatientView {
            id: self.id,
            version: self.version,
            status: self.status,
            given_name: d.given_name,
            family_name: d.family_name,
            birth_date: d.birth_date,
            gender: d.gender,
            phone: d.phone,
            email: d.email,
            language: d.language,
            address: d.address,
            identifiers: d.identifiers,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

/// How a registration is refused.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RegisterRefused {
    PossibleDuplicate(Vec<Candidate>),
    /// Whose it is, once that was looked up.
    IdentifierTaken {
        identifiers: Vec<Identifier>,
        by: Option<PatientId>,
    },
}

impl Refusal for RegisterRefused {
    fn kind(&self) -> RefusalKind {
        RefusalKind::Conflict
    }

    fn code(&self) -> &'static str {
        match self {
            Self::PossibleDuplicate(_) => "possible-duplicate",
            Self::IdentifierTaken { .. } => "identifier-taken",
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::PossibleDuplicate(_) => {
                "Somebody much like this is registered already; `candidates` says who. \
                If it is somebody else, send the same with `acceptDuplicate: true`."
                    .to_owned()
            }
            Self::IdentifierTaken { .. } => {
                "One of the identifiers belongs to another patient already.".to_owned()
            }
        }
    }

    fn members(&self) -> Map<String, Value> {
        let mut members = Map::new();
        match self {
            Self::PossibleDuplicate(candidates) => {
                let list = candidates
                    .iter()
                    .map(|c| json!({ "id": c.id, "score": f64::from(c.score) / 100.0 }));
                members.insert("candidates".to_owned(), list.collect());
            }
            Self::IdentifierTaken { by: Some(id), .. } => {
                members.insert("patientId".to_owned(), json!(id));
            }
            Self::IdentifierTaken { by: None, .. } => {}
        }
        members
    }
}

/// How a change is refused.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ChangeRefused {
    Unknown,
    Stale { version: i32 },
    IdentifierTaken,
    InvalidTransition { from: PatientStatus, to: PatientStatus },
}

impl Refusal for ChangeRefused {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::Unknown => RefusalKind::NotFound,
            Self::Stale { .. } => RefusalKind::Stale,
            Self::IdentifierTaken | Self::InvalidTransition { .. } => RefusalKind::Conflict,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "not-found",
            Self::Stale { .. } => "version-stale",
            Self::IdentifierTaken => "identifier-taken",
            Self::InvalidTransition { .. } => "invalid-transition",
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Unknown => String::new(),
            Self::Stale { version } => {
                format!("It was changed meanwhile and is at version {version}: read it again.")
            }
            Self::IdentifierTaken => {
                "One of the identifiers belongs to another patient already.".to_owned()
            }
            Self::InvalidTransition { from, .. } => {
                format!("The patient is {} already.", from.as_str())
            }
        }
    }

    fn members(&self) -> Map<String, Value> {
        match self {
            Self::InvalidTransition { from, to } => {
                Map::from_iter([("from".to_owned(), json!(from)), ("to".to_owned(), json!(to))])
            }
            _ => Map::new(),
        }
    }
}
