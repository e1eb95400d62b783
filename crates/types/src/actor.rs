//! Who is asking, and what they may do.

use serde::{Deserialize, Serialize};

use crate::{PatientId, PractitionerId};

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

    const fn bit(self) -> u64 {
        1 << self as u64
    }
}

/// A set of roles, with room for many more than there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u64);

const _: () = assert!(Role::ALL.len() <= 64, "each role has a bit of its own");

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
    /// The practitioner that a practitioner's token speaks for, if it says so.
    pub practitioner: Option<PractitionerId>,
}

/// Who arranges visits.
const DESK: Roles = Roles::of(&[Role::FrontDesk, Role::Admin]);

impl Actor {
    /// The platform's own work: consumers, schedulers, the reconciler.
    pub fn system(name: &str) -> Self {
        Self {
            subject: format!("system:{name}"),
            roles: Roles::of(&[Role::Service]),
            patient: None,
            practitioner: None,
        }
    }

    /// Whose records the actor may see: the widest that one of the roles allows.
    pub fn scope(&self) -> Scope {
        let of = |role| match role {
            Role::FrontDesk
            | Role::Practitioner
            | Role::Cashier
            | Role::BillingManager
            | Role::OnCall
            | Role::Admin
            | Role::Service => Scope::Everything,
            Role::Patient => self.patient.map_or(Scope::Nothing, Scope::Own),
        };
        self.roles.iter().map(of).fold(Scope::Nothing, Scope::or)
    }

    /// Whether the actor may see what belongs to `patient`.
    pub fn may_see(&self, patient: PatientId) -> bool {
        self.scope().includes(patient)
    }

    /// Whether the actor is staff or a service. Whoever is not does nothing but what a patient may
    /// do for themselves.
    pub fn works_here(&self) -> bool {
        self.scope() == Scope::Everything
    }

    /// Whether the visits of `practitioner` are this actor's to work on: the desk and the platform
    /// itself work on all, a practitioner on their own. A practitioner whose token does not say who
    /// they are counts as each of them.
    pub fn may_attend(&self, practitioner: PractitionerId) -> bool {
        let own = self.practitioner.is_none_or(|own| own == practitioner);
        self.roles.iter().any(|role| match role {
            Role::FrontDesk | Role::Admin | Role::Service => true,
            Role::Practitioner => own,
            Role::Cashier | Role::BillingManager | Role::Patient | Role::OnCall => false,
        })
    }

    /// Whether the actor may know why `patient` visits `practitioner`: the desk, who gives the
    /// visit, and the patient.
    pub fn may_know_why(&self, patient: PatientId, practitioner: PractitionerId) -> bool {
        let arranges_or_gives = self.roles.intersects(DESK.with(Role::Practitioner));
        let own = self.roles.contains(Role::Patient) && self.patient == Some(patient);
        own || (arranges_or_gives && self.may_attend(practitioner))
    }
}

/// Whose records somebody may see. Whoever no rule speaks of sees nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Everything,
    /// What belongs to this patient, who is asking.
    Own(PatientId),
    Nothing,
}

impl Scope {
    /// What either of them includes. An actor is one patient at most.
    const fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Everything, _) | (_, Self::Everything) => Self::Everything,
            (Self::Own(own), _) | (_, Self::Own(own)) => Self::Own(own),
            (Self::Nothing, Self::Nothing) => Self::Nothing,
        }
    }

    pub fn includes(self, patient: PatientId) -> bool {
        match self {
            Self::Everything => true,
            Self::Own(own) => own == patient,
            Self::Nothing => false,
        }
    }

    /// Narrows the patient that a list is asked for to what may be seen. False if that is nothing.
    #[must_use]
    pub fn narrow(self, asked: &mut Option<PatientId>) -> bool {
        match self {
            Self::Everything => true,
            Self::Own(own) => asked.replace(own).is_none_or(|asked| asked == own),
            Self::Nothing => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(roles: &[Role]) -> Actor {
        Actor { roles: Roles::of(roles), ..Actor::system("test") }
    }

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
        let actor = Actor { patient: Some(mine), ..actor(&[Role::Patient]) };
        assert!(actor.may_see(mine));
        assert!(!actor.may_see(PatientId::new()));
        assert!(!Actor { patient: None, ..actor.clone() }.may_see(mine));
        assert!(
            Actor { roles: actor.roles.with(Role::FrontDesk), ..actor }.may_see(PatientId::new())
        );
    }

    #[test]
    fn every_role_has_its_scope_and_whoever_has_none_sees_nothing() {
        let (mine, other) = (PatientId::new(), PatientId::new());
        for role in Role::ALL {
            let actor = Actor { patient: Some(mine), ..actor(&[role]) };
            let scope = if role == Role::Patient { Scope::Own(mine) } else { Scope::Everything };
            assert_eq!(actor.scope(), scope, "{role:?}");
            assert_eq!(actor.may_see(other), role != Role::Patient, "{role:?}");
            assert_eq!(actor.works_here(), role != Role::Patient, "{role:?}");
            let wider = Actor { roles: actor.roles.with(Role::Patient), ..actor };
            assert_eq!(wider.scope(), scope, "{role:?} and patient");
        }
        let nobody = Actor { patient: Some(mine), practitioner: None, ..actor(&[]) };
        assert_eq!(nobody.scope(), Scope::Nothing);
        let practitioner = PractitionerId::new();
        assert!(!nobody.may_see(mine) && !nobody.may_see(other) && !nobody.works_here());
        assert!(!nobody.may_attend(practitioner) && !nobody.may_know_why(mine, practitioner));
        let nameless = Actor { patient: None, ..actor(&[Role::Patient]) };
        assert_eq!(nameless.scope(), Scope::Nothing, "a patient's token that names no patient");
    }

    #[test]
    fn visits_are_worked_on_by_the_desk_their_practitioner_and_the_platform() {
        let mine = PractitionerId::new();
        for role in Role::ALL {
            let actor = Actor { practitioner: Some(mine), ..actor(&[role]) };
            let all = matches!(role, Role::FrontDesk | Role::Admin | Role::Service);
            assert_eq!(actor.may_attend(mine), all || role == Role::Practitioner, "{role:?}");
            assert_eq!(actor.may_attend(PractitionerId::new()), all, "{role:?}");
        }
    }

    #[test]
    fn a_list_is_narrowed_to_what_may_be_seen() {
        let (mine, other) = (PatientId::new(), PatientId::new());
        let narrowed = |scope: Scope, mut asked| scope.narrow(&mut asked).then_some(asked);
        for asked in [None, Some(mine), Some(other)] {
            assert_eq!(narrowed(Scope::Everything, asked), Some(asked));
            assert_eq!(narrowed(Scope::Nothing, asked), None);
        }
        assert_eq!(narrowed(Scope::Own(mine), None), Some(Some(mine)));
        assert_eq!(narrowed(Scope::Own(mine), Some(mine)), Some(Some(mine)));
        assert_eq!(narrowed(Scope::Own(mine), Some(other)), None);
    }

    #[test]
    fn why_a_patient_comes_is_for_the_desk_the_practitioner_and_the_patient() {
        let (patient, practitioner) = (PatientId::new(), PractitionerId::new());
        for role in Role::ALL {
            let may = matches!(role, Role::FrontDesk | Role::Practitioner | Role::Admin);
            assert_eq!(actor(&[role]).may_know_why(patient, practitioner), may, "{role:?}");
        }
        for roles in [&[Role::Patient] as &[Role], &[Role::Patient, Role::Cashier]] {
            let own = Actor { patient: Some(patient), ..actor(roles) };
            assert!(own.may_know_why(patient, practitioner));
            assert!(!own.may_know_why(PatientId::new(), practitioner));
        }
    }

    #[test]
    fn a_practitioner_who_says_who_they_are_attends_their_own_visits_only() {
        let (patient, mine) = (PatientId::new(), PractitionerId::new());
        let actor = Actor { practitioner: Some(mine), ..actor(&[Role::Practitioner]) };
        assert!(actor.may_attend(mine) && actor.may_know_why(patient, mine));
        let other = PractitionerId::new();
        assert!(!actor.may_attend(other) && !actor.may_know_why(patient, other));
        let desk = Actor { roles: actor.roles.with(Role::FrontDesk), ..actor };
        assert!(
            desk.may_attend(other) && desk.may_know_why(patient, other),
            "who also works at the desk does what the desk does"
        );
    }
}
