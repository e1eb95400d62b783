//! What a patient is.

use hospital_contracts::patient::{Address, Gender, Identifier, PatientStatus, PatientView};
use hospital_types::{PartialDate, PatientId, Sensitive};
use jiff::Timestamp;

use crate::duplicate::Likeness;

/// What is known of a patient, checked. Whoever has no name has a temporary one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Demographics {
    pub(crate) given_name: Option<Sensitive<String>>,
    pub(crate) family_name: Option<Sensitive<String>>,
    /// What somebody is or was called while nobody knew who it is.
    pub(crate) temporary_name: Option<Sensitive<String>>,
    pub(crate) birth: Option<Birth>,
    pub(crate) gender: Gender,
    pub(crate) phone: Option<Sensitive<String>>,
    pub(crate) email: Option<Sensitive<String>>,
    pub(crate) language: Option<String>,
    pub(crate) address: Option<Sensitive<Address>>,
    pub(crate) identifiers: Vec<Identifier>,
}

/// When somebody was born.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Birth {
    pub(crate) date: Sensitive<PartialDate>,
    /// It is what somebody thinks.
    pub(crate) estimated: bool,
}

impl Demographics {
    /// The given name and the family name, as far as they are known.
    pub(crate) fn names(&self) -> Vec<&str> {
        let names = [&self.given_name, &self.family_name];
        names.into_iter().flatten().map(|name| name.expose().as_str()).collect()
    }

    pub(crate) fn temporary(&self) -> Option<&str> {
        self.temporary_name.as_ref().map(|name| name.expose().as_str())
    }

    /// Nobody knows yet who it is.
    pub(crate) const fn unidentified(&self) -> bool {
        self.given_name.is_none() && self.family_name.is_none()
    }

    fn display_name(&self) -> String {
        match self.temporary() {
            Some(temporary) if self.unidentified() => temporary.to_owned(),
            _ => self.names().join(" "),
        }
    }

    pub(crate) fn likeness(&self) -> Likeness {
        let text = |text: &Option<Sensitive<String>>| text.as_ref().map(|t| t.expose().clone());
        Likeness {
            given_name: text(&self.given_name),
            family_name: text(&self.family_name),
            birth_date: self.birth.as_ref().map(|birth| *birth.date.expose()),
            phone: text(&self.phone),
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
            display_name: Sensitive::new(d.display_name()),
            unidentified: d.unidentified(),
            given_name: d.given_name,
            family_name: d.family_name,
            temporary_name: d.temporary_name,
            birth_date_estimated: d.birth.as_ref().is_some_and(|birth| birth.estimated),
            birth_date: d.birth.map(|birth| birth.date),
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
