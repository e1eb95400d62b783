//! Who is asking, and what they may do.

use serde::{Deserialize, Serialize};

use crate::PatientId;

/// The platform's roles, as they stand in a token's `roles` claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    FrontDesk,
    Practitioner,
    Cashier,
    BillingManager,
    Patient,
    OnCall,
    Admin,
    Service,
}

impl Role {
    pub const ALL: [Self; 8] = [
        Self::FrontDesk,
        Self::Practitioner,
        Self::Cashier,
        Self::BillingManager,
        Self::Patient,
        Self::OnCall,
        Self::Admin,
        Self::Service,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FrontDesk => "front-desk",
            Self::Practitioner => "practitioner",
            Self::Cashier => "cashier",
            Self::BillingManager => "billing-manager",
            Self::Patient => "patient",
            Self::OnCall => "on-call",
            Self::Admin => "admin",
            Self::Service => "service",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    pub const fn of(roles: &[Role]) -> Self {
        let (mut bits, mut i) = (0, 0);
        while i < roles.len() {
            bits |= roles[i].bit();
            i += 1;
        }
        Self(bits)
    }

    pub const fn contains(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The roles that are in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    #[must_use]
    pub const fn with(self, role: Role) -> Self {
        Self(self.0 | role.bit())
    }

    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.contains(*role))
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        roles.into_iter().fold(Self::default(), Self::with)
    }
}

/// Who does something: a person or a machine with a signed token, or the platform itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The token's `sub`. It is an opaque account name, never a patient's name.
    pub subject: String,
    pub roles: Roles,
    /// The patient that a patient's token speaks for.
    pub patient: Option<PatientId>,
}

impl Actor {
    /// The platform's own work: consumers, schedulers, the reconciler.
    pub fn system(name: &str) -> Self {
        Self {
            subject: format!("system:{name}"),
            roles: Roles::of(&[Role::Service]),
            patient: None,
        }
    }

    /// Whether this is a patient without any staff role, who may see only what is theirs.
    pub fn only_patient(&self) -> Option<Option<PatientId>> {
        (self.roles == Roles::of(&[Role::Patient])).then_some(self.patient)
    }

    /// Whether the actor may see what belongs to `patient`: staff may, a patient only their own.
    pub fn may_see(&self, patient: PatientId) -> bool {
        match self.only_patient() {
            Some(own) => own == Some(patient),
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_names_round_trip() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        assert_eq!(Role::parse("root"), None);
    }

    #[test]
    fn a_patient_sees_only_their_own() {
        let mine = PatientId::new();
        let actor =
            Actor { subject: "p".into(), roles: Roles::of(&[Role::Patient]), patient: Some(mine) };
        assert!(actor.may_see(mine));
        assert!(!actor.may_see(PatientId::new()));
        assert!(!Actor { patient: None, ..actor.clone() }.may_see(mine));
        assert!(
            Actor { roles: actor.roles.with(Role::FrontDesk), ..actor }.may_see(PatientId::new())
        );
    }
}
