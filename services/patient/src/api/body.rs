//! Request bodies, and how they become commands.

use hospital_contracts::patient::{Address, Gender, Identifier};
use hospital_kit::http::{Patch, not_null};
use hospital_types::{Faults, PartialDate, Sensitive, text};
use jiff::civil::Date;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    contact::{self, Country},
    patient::{Birth, Demographics},
    register::Register,
};

const NAME_MAX: usize = 100;
const IDENTIFIERS_MAX: usize = 20;

/// A patient to register: with a given name, a family name or both, and a birth date; or
/// unidentified, with a birth date if somebody can tell.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RegisterBody {
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false, min_length = 1, max_length = 100, example = "Zoë")]
    given_name: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false, min_length = 1, max_length = 100, example = "Müller")]
    family_name: Option<String>,
    /// As much of it as is known: `1980`, `1980-06` or `1980-06-05`.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false, value_type = Option<PartialDate>)]
    birth_date: Option<String>,
    /// The birth date is what somebody thinks.
    #[serde(default)]
    birth_date_estimated: bool,
    /// Nobody knows who it is: a temporary name is given, to be called by until a name is.
    #[serde(default)]
    unidentified: bool,
    #[schema(pattern = "^(female|male|other|unknown)$", example = "female")]
    gender: String,
    /// Without a country code it is one of the facility's country.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false, min_length = 3, example = "+1 617 555 0100")]
    phone: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(
        nullable = false,
        max_length = 254,
        pattern = r"^ *[^@\s]+@[^@\s]+ *$",
        example = "zoe@example.org"
    )]
    email: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(
        nullable = false,
        pattern = "^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$",
        max_length = 35,
        example = "en"
    )]
    language: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false)]
    address: Option<Address>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false, max_items = 20)]
    identifiers: Option<Vec<Identifier>>,
    /// The caller has looked at the candidates: it is somebody else.
    #[serde(default)]
    accept_duplicate: bool,
}

impl RegisterBody {
    pub(super) fn command(self, today: Date, country: Country) -> Result<Register, Faults> {
        let mut faults = Faults::new();
        let f = &mut faults;
        self.complete(f);
        let given_name = self.given_name.and_then(|n| f.take("/givenName", text(&n, NAME_MAX)));
        let family_name = self.family_name.and_then(|n| f.take("/familyName", text(&n, NAME_MAX)));
        let birth_date = self.birth_date.and_then(|d| birth_date(f, &d, today));
        let estimated = self.birth_date_estimated;
        let gender = gender(f, &self.gender);
        let phone = self.phone.map(|p| f.take("/phone", country.phone(&p)));
        let email = self.email.map(|e| f.take("/email", contact::email(&e)));
        let language = self.language.map(|l| f.take("/language", contact::language(&l)));
        let address = self.address.map(|a| address(f, a));
        let identifiers = identifiers(f, self.identifiers.unwrap_or_default());
        let demographics = (|| {
            Some(Demographics {
                given_name: given_name.map(Sensitive::new),
                family_name: family_name.map(Sensitive::new),
                temporary_name: None,
                birth: birth_date.map(|date| Birth { date: Sensitive::new(date), estimated }),
                gender: gender?,
                phone: phone.flatten().map(Sensitive::new),
                email: email.flatten().map(Sensitive::new),
                language: language.flatten(),
                address: address.filter(|a| *a != Address::default()).map(Sensitive::new),
                identifiers,
            })
        })();
        let accept_duplicate = self.accept_duplicate;
        faults.finish(demographics.map(|demographics| Register { demographics, accept_duplicate }))
    }
}

impl RegisterBody {
    /// Everybody can be called by something, and is somebody's who was born at some time, or is
    /// unidentified.
    fn complete(&self, faults: &mut Faults) {
        let named = self.given_name.is_some() || self.family_name.is_some();
        if self.unidentified && named {
            faults.push("/unidentified", "must not be true of somebody with a name");
        }
        if !self.unidentified && !named {
            faults.push("/givenName", "must be given, or familyName, unless unidentified is true");
        }
        if !self.unidentified && self.birth_date.is_none() {
            faults.push(
                "/birthDate",
                "must be given, as much of it as is known, unless unidentified is true",
            );
        }
        if self.birth_date_estimated && self.birth_date.is_none() {
            faults.push("/birthDateEstimated", "must not be true without a birthDate");
        }
    }
}

fn birth_date(faults: &mut Faults, given: &str, today: Date) -> Option<PartialDate> {
    let date: PartialDate = faults.take("/birthDate", given.parse())?;
    if date.first() > today {
        faults.push("/birthDate", "must not lie in the future");
        return None;
    }
    if date.first().year() < 1870 {
        faults.push("/birthDate", "must not lie before 1870");
        return None;
    }
    Some(date)
}

fn gender(faults: &mut Faults, given: &str) -> Option<Gender> {
    faults.take("/gender", Gender::parse(given).ok_or("must be female, male, other or unknown"))
}

/// Checks each part in its place; a fault leaves it as it was, since nothing is kept then.
fn address(faults: &mut Faults, mut given: Address) -> Address {
    let parts = [
        ("line", &mut given.line),
        ("city", &mut given.city),
        ("state", &mut given.state),
        ("postalCode", &mut given.postal_code),
        ("country", &mut given.country),
    ];
    for (name, part) in parts {
        if let Some(value) = part {
            *part = faults.take(&format!("/address/{name}"), text(value, 200));
        }
    }
    given
}

fn identifiers(faults: &mut Faults, given: Vec<Identifier>) -> Vec<Identifier> {
    if given.len() > IDENTIFIERS_MAX {
        faults.push("/identifiers", format!("must be at most {IDENTIFIERS_MAX}"));
    }
    let mut all: Vec<Identifier> = Vec::new();
    for (i, identifier) in given.into_iter().enumerate() {
        let system =
            faults.take(&format!("/identifiers/{i}/system"), text(&identifier.system, 200));
        let value = faults.take(&format!("/identifiers/{i}/value"), text(&identifier.value, 200));
        if system.as_deref().is_some_and(|s| s.contains('|')) {
            faults.push(format!("/identifiers/{i}/system"), "must not contain |");
        }
        if let (Some(system), Some(value)) = (system, value) {
            all.push(Identifier { system, value });
        }
    }
    all.sort();
    let before = all.len();
    all.dedup();
    if all.len() < before {
        faults.push("/identifiers", "must not repeat one");
    }
    all
}

/// A merge patch (RFC 7396) of a patient.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct PatchPatient {
    /// Whoever gets a name is no longer unidentified. One of the two names has to stay.
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100)]
    given_name: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100)]
    family_name: Patch<String>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false, value_type = Option<PartialDate>)]
    birth_date: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false)]
    birth_date_estimated: Option<bool>,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false, pattern = "^(female|male|other|unknown)$")]
    gender: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 3)]
    phone: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 254, pattern = r"^ *[^@\s]+@[^@\s]+ *$")]
    email: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$", max_length = 35)]
    language: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<PatchAddress>)]
    address: Patch<PatchAddress>,
    /// All of them anew.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Identifier>>, max_items = 20)]
    identifiers: Patch<Vec<Identifier>>,
}

/// A merge patch of an address.
#[derive(Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct PatchAddress {
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 200)]
    line: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 200)]
    city: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 200)]
    state: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 200)]
    postal_code: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 200)]
    country: Patch<String>,
}

/// A patch whose values are good.
pub(super) struct Checked {
    given_name: Option<Option<String>>,
    family_name: Option<Option<String>>,
    birth_date: Option<PartialDate>,
    birth_date_estimated: Option<bool>,
    gender: Option<Gender>,
    phone: Option<Option<String>>,
    email: Option<Option<String>>,
    language: Option<Option<String>>,
    address: Option<Option<PatchAddress>>,
    identifiers: Option<Vec<Identifier>>,
}

impl PatchPatient {
    pub(super) fn check(self, today: Date, country: Country) -> Result<Checked, Faults> {
        let mut faults = Faults::new();
        let f = &mut faults;
        let checked = Checked {
            given_name: patched(f, "/givenName", self.given_name, |n| text(n, NAME_MAX)),
            family_name: patched(f, "/familyName", self.family_name, |n| text(n, NAME_MAX)),
            birth_date: self.birth_date.and_then(|d| birth_date(f, &d, today)),
            birth_date_estimated: self.birth_date_estimated,
            gender: self.gender.and_then(|g| gender(f, &g)),
            phone: patched(f, "/phone", self.phone, |p| country.phone(p)),
            email: patched(f, "/email", self.email, contact::email),
            language: patched(f, "/language", self.language, contact::language),
            address: self.address.change().map(|a| a.map(|a| a.check(f))),
            identifiers: self.identifiers.change().map(|i| identifiers(f, i.unwrap_or_default())),
        };
        faults.finish(Some(checked))
    }
}

fn patched<E: std::fmt::Display>(
    faults: &mut Faults,
    pointer: &str,
    patch: Patch<String>,
    parse: impl FnOnce(&str) -> Result<String, E>,
) -> Option<Option<String>> {
    match patch.change()? {
        None => Some(None),
        Some(value) => faults.take(pointer, parse(&value)).map(Some),
    }
}

impl PatchAddress {
    fn check(self, faults: &mut Faults) -> Self {
        let mut one = |name: &str, patch: Patch<String>| match patch {
            Patch::Set(value) => faults
                .take(&format!("/address/{name}"), text(&value, 200))
                .map_or(Patch::Absent, Patch::Set),
            other => other,
        };
        Self {
            line: one("line", self.line),
            city: one("city", self.city),
            state: one("state", self.state),
            postal_code: one("postalCode", self.postal_code),
            country: one("country", self.country),
        }
    }

    fn apply(self, to: Option<Address>) -> Address {
        let mut address = to.unwrap_or_default();
        let parts = [
            (self.line, &mut address.line),
            (self.city, &mut address.city),
            (self.state, &mut address.state),
            (self.postal_code, &mut address.postal_code),
            (self.country, &mut address.country),
        ];
        for (patch, part) in parts {
            if let Some(value) = patch.change() {
                *part = value;
            }
        }
        address
    }
}

impl Checked {
    pub(super) fn apply(self, to: Demographics) -> Demographics {
        let replace = |new: Option<Option<String>>, old: Option<Sensitive<String>>| match new {
            None => old,
            Some(value) => value.map(Sensitive::new),
        };
        let address = match self.address {
            None => to.address,
            Some(None) => None,
            Some(Some(patch)) => {
                let after = patch.apply(to.address.map(Sensitive::into_exposed));
                // An address of which nothing is left is none.
                Some(after).filter(|a| *a != Address::default()).map(Sensitive::new)
            }
        };
        let was_estimated = to.birth.as_ref().is_some_and(|birth| birth.estimated);
        let estimated = self.birth_date_estimated.unwrap_or(was_estimated);
        let date = self.birth_date.map(Sensitive::new).or_else(|| to.birth.map(|birth| birth.date));
        Demographics {
            given_name: replace(self.given_name, to.given_name),
            family_name: replace(self.family_name, to.family_name),
            temporary_name: to.temporary_name,
            // Of nothing there is no estimate.
            birth: date.map(|date| Birth { date, estimated }),
            gender: self.gender.unwrap_or(to.gender),
            phone: replace(self.phone, to.phone),
            email: replace(self.email, to.email),
            language: self.language.unwrap_or(to.language),
            address,
            identifiers: self.identifiers.unwrap_or(to.identifiers),
        }
    }
}
