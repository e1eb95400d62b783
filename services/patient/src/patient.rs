//! What a patient is.

use hospital_contracts::patient::{Address, Gender, Identifier, PatientStatus, PatientView};
use hospital_types::{PatientId, Sensitive};
use jiff::{Timestamp, civil::Date};

use crate::duplicate::Likeness;

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
    pub(crate) const fn names(&self) -> [&Sensitive<String>; 2] {
        [&self.given_name, &self.family_name]
    }

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
