//! How the service says no.

use hospital_contracts::patient::{Identifier, PatientStatus};
use hospital_types::{PatientId, Refusal, RefusalKind, Sensitive};
use serde_json::{Map, Value, json};

use crate::duplicate::Candidate;

/// Identifiers of which at least one names another patient.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Taken {
    pub(crate) wanted: Sensitive<Vec<Identifier>>,
    /// Who wants them, if it is somebody who is here already.
    pub(crate) wanted_by: Option<PatientId>,
    /// Who has one, once that was looked up.
    pub(crate) owner: Option<PatientId>,
}

impl Taken {
    pub(crate) fn of(wanted: &[Identifier], wanted_by: Option<PatientId>) -> Self {
        Self { wanted: Sensitive::new(wanted.to_vec()), wanted_by, owner: None }
    }

    fn members(&self) -> Map<String, Value> {
        self.owner.map(|id| ("patientId".to_owned(), json!(id))).into_iter().collect()
    }
}

const IDENTIFIER_TAKEN: &str = "identifier-taken";
const IDENTIFIER_TAKEN_DETAIL: &str =
    "One of the identifiers names another patient already; `patientId` says whom.";

/// How a registration is refused.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RegisterRefused {
    PossibleDuplicate(Vec<Candidate>),
    IdentifierTaken(Taken),
}

impl Refusal for RegisterRefused {
    fn kind(&self) -> RefusalKind {
        RefusalKind::Conflict
    }

    fn code(&self) -> &'static str {
        match self {
            Self::PossibleDuplicate(_) => "possible-duplicate",
            Self::IdentifierTaken(_) => IDENTIFIER_TAKEN,
        }
    }

    fn detail(&self) -> String {
        let detail = match self {
            Self::PossibleDuplicate(_) => {
                "Somebody much like this is registered already; `candidates` says who. \
                 If it is somebody else, send the same with `acceptDuplicate: true`."
            }
            Self::IdentifierTaken(_) => IDENTIFIER_TAKEN_DETAIL,
        };
        detail.to_owned()
    }

    fn members(&self) -> Map<String, Value> {
        match self {
            Self::PossibleDuplicate(candidates) => {
                let one =
                    |c: &Candidate| json!({ "id": c.id, "score": f64::from(c.score) / 100.0 });
                let list = candidates.iter().map(one).collect();
                Map::from_iter([("candidates".to_owned(), list)])
            }
            Self::IdentifierTaken(taken) => taken.members(),
        }
    }
}

/// How a change is refused.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ChangeRefused {
    Unknown,
    Stale {
        version: i32,
    },
    IdentifierTaken(Taken),
    InvalidTransition {
        from: PatientStatus,
        to: PatientStatus,
    },
    /// Nothing would be left to call the patient by.
    NameMissing,
}

impl Refusal for ChangeRefused {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::Unknown => RefusalKind::NotFound,
            Self::Stale { .. } => RefusalKind::Stale,
            Self::IdentifierTaken(_) | Self::InvalidTransition { .. } => RefusalKind::Conflict,
            Self::NameMissing => RefusalKind::Invalid,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "not-found",
            Self::Stale { .. } => "version-stale",
            Self::IdentifierTaken(_) => IDENTIFIER_TAKEN,
            Self::InvalidTransition { .. } => "invalid-transition",
            Self::NameMissing => "name-missing",
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Unknown => "There is no such patient.".to_owned(),
            Self::Stale { version } => {
                format!("It was changed meanwhile and is at version {version}: read it again.")
            }
            Self::IdentifierTaken(_) => IDENTIFIER_TAKEN_DETAIL.to_owned(),
            Self::NameMissing => {
                "Nothing would be left to call the patient by: leave one of the two names."
                    .to_owned()
            }
            Self::InvalidTransition { from, .. } => {
                format!("The patient is {} already.", from.as_str())
            }
        }
    }

    fn members(&self) -> Map<String, Value> {
        match self {
            Self::IdentifierTaken(taken) => taken.members(),
            Self::InvalidTransition { from, to } => {
                // There are two statuses, so the one to go to is the other one.
                let allowed = match from {
                    PatientStatus::Active => [PatientStatus::Inactive],
                    PatientStatus::Inactive => [PatientStatus::Active],
                };
                [("from", json!(from)), ("to", json!(to)), ("allowed", json!(allowed))]
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()
            }
            Self::Unknown | Self::Stale { .. } | Self::NameMissing => Map::new(),
        }
    }

    fn pointer(&self) -> Option<&'static str> {
        matches!(self, Self::NameMissing).then_some("/givenName")
    }
}
