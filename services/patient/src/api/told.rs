//! Who sees what of a patient: the one place that says so.

use hospital_contracts::patient::PatientView;
use hospital_types::{Actor, Role, Roles};
use serde_json::{Map, Value};

use crate::patient::Patient;

/// What a patient is called and told apart by.
const WHO: &[&str] = &[
    "id",
    "version",
    "status",
    "displayName",
    "givenName",
    "familyName",
    "unidentified",
    "temporaryName",
    "birthDate",
    "birthDateEstimated",
    "identifiers",
    "createdAt",
    "updatedAt",
];

/// What each role needs. The desk sees everything, and so does a patient of themselves.
const MEMBERS: &[(Role, &[&[&str]])] = &[
    // Who is treated, and a number to call them.
    (Role::Practitioner, &[WHO, &["gender", "language", "phone"]]),
    // Who pays at the counter.
    (Role::Cashier, &[WHO]),
    // Who gets a bill, a reminder, a call about it.
    (Role::BillingManager, &[WHO, &["language", "phone", "email", "address"]]),
    // Whether somebody can be booked, and how a message reaches them.
    (Role::Service, &[&["id", "version", "status", "language", "phone", "email"]]),
];

const DESK: Roles = Roles::of(&[Role::FrontDesk, Role::Admin]);

/// Whether a caller may page through all patients without saying whom they look for.
pub(super) fn may_browse(who: &Actor) -> bool {
    who.roles.intersects(DESK)
}

/// What a caller is told of a patient; for those with several roles, what any of them needs.
#[derive(serde::Serialize)]
#[serde(untagged)]
pub(super) enum Told {
    Everything(Box<PatientView>),
    Members(Map<String, Value>),
}

impl Told {
    pub(super) fn to(who: &Actor, patient: &Patient) -> Self {
        let view = patient.view();
        let own = who.roles.contains(Role::Patient) && who.patient == Some(patient.id);
        if own || who.roles.intersects(DESK) {
            return Self::Everything(Box::new(view));
        }
        let Ok(Value::Object(mut members)) = serde_json::to_value(view) else {
            unreachable!("views are plain data")
        };
        members.retain(|name, _| {
            MEMBERS.iter().any(|(role, groups)| {
                who.roles.contains(*role)
                    && groups.iter().any(|group| group.contains(&name.as_str()))
            })
        });
        Self::Members(members)
    }
}
