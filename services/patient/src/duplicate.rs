//! Whether a registration is of somebody who is here already (docs/rules.md, D4).

use hospital_types::{DatePrecision, PartialDate, PatientId};

use crate::{contact::without_extension, fold::fold};

/// What two patients are compared by, as far as it is known.
#[derive(Clone)]
pub(crate) struct Likeness {
    pub(crate) given_name: Option<String>,
    pub(crate) family_name: Option<String>,
    pub(crate) birth_date: Option<PartialDate>,
    pub(crate) phone: Option<String>,
}

/// Somebody who may be the same person.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) id: PatientId,
    /// Hundredths, from 0 to 100.
    pub(crate) score: u8,
}

/// From how alike two names are they may be one name, written otherwise, of one who was born on that day (Jaro-Winkler).
const SAME_NAME: f64 = 0.88;

/// Who shares a phone number but no birth date is more often the other's child (Anna and Hanna, John and Jon) than the other, so the
/// names have to be closer: one slip in seven letters, such as a Mueller for a Müller (Damerau-Levenshtein).
const SAME_NAME_BY_PHONE: f64 = 0.85;

/// How likely it is that two are one person, in hundredths; `None` when nothing suggests it. A shared name needs a second sign, a
/// birth date or a phone number; a shared surname, phone and even birth date make a family, or
/// twins. What is not known is no sign: of somebody without a name nothing is suggested.
pub(crate) fn likelihood(a: &Likeness, b: &Likeness) -> Option<u8> {
    let birth = shared_birth(a.birth_date, b.birth_date);
    let phone = a.phone.is_some() && same_phone(a, b);
    let (a, b) = (Names::of(a), Names::of(b));
    let exact = a.alike(&b, |a, b| f64::from(u8::from(a == b))) > 0.5;
    let same = match birth {
        Some(DatePrecision::Day) => a.alike(&b, strsim::jaro_winkler) >= SAME_NAME,
        // Many are born in a month or a year: the names have to be the same, and all of them known.
        Some(_) => exact && a.are_as_many_as(&b),
        None => false,
    };
    let same =
        same || phone && a.alike(&b, strsim::normalized_damerau_levenshtein) >= SAME_NAME_BY_PHONE;
    let birth_points = match birth {
        Some(DatePrecision::Day) => 35,
        Some(DatePrecision::Month) => 25,
        Some(DatePrecision::Year) => 15,
        None => 0,
    };
    let points = |sign, points| if sign { points } else { 0 };
    // One name of two leaves the other open.
    let exact = exact && a.are_as_many_as(&b);
    same.then(|| 40 + points(exact, 10) + birth_points + points(phone, 15))
}

/// How exactly two birth dates are the same: as exactly as the less exact of them.
fn shared_birth(a: Option<PartialDate>, b: Option<PartialDate>) -> Option<DatePrecision> {
    let (a, b) = (a?, b?);
    a.may_be(b).then(|| a.precision().min(b.precision()))
}

/// Whether two are reached by one number: an extension that is not known may be any.
fn same_phone(a: &Likeness, b: &Likeness) -> bool {
    let (Some(a), Some(b)) = (&a.phone, &b.phone) else { return false };
    a == b || without_extension(a) == without_extension(b) && (!a.contains(';') || !b.contains(';'))
}

/// The names that are known, folded.
struct Names(Vec<String>);

impl Names {
    fn of(person: &Likeness) -> Self {
        let known = [&person.given_name, &person.family_name].into_iter().flatten();
        Self(known.map(|name| fold(name)).filter(|name| !name.is_empty()).collect())
    }

    fn are_as_many_as(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
    }

    /// How alike the names are that are known of both, which somebody may have put the wrong way
    /// round, or into one.
    fn alike(&self, other: &Self, alike: impl Fn(&str, &str) -> f64) -> f64 {
        match (&*self.0, &*other.0) {
            ([a, b], [c, d]) => {
                let straight = alike(a, c).min(alike(b, d));
                straight.max(alike(a, d).min(alike(b, c)))
            }
            ([one], [a, b]) | ([a, b], [one]) => {
                let whole = alike(one, &format!("{a} {b}")).max(alike(one, &format!("{b} {a}")));
                whole.max(alike(one, a)).max(alike(one, b))
            }
            ([a], [b]) => alike(a, b),
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHONE: Option<&str> = Some("+16175550100");

    fn person(given: &str, family: &str, birth: &str, phone: Option<&str>) -> Likeness {
        let name = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        Likeness {
            given_name: name(given),
            family_name: name(family),
            birth_date: birth.parse().ok(),
            phone: phone.map(Into::into),
        }
    }

    #[test]
    fn the_same_person_written_otherwise_is_noticed() {
        let zoe = person("Zoë", "Müller", "1990-01-02", PHONE);
        for (given, family, birth, phone) in [
            ("Zoe", "Muller", "1990-01-02", None),
            ("ZOË", "MÜLLER", "1990-01-02", None),
            ("Müller", "Zoë", "1990-01-02", None),
            ("Zoe", "Mueller", "1991-01-02", PHONE),
            ("Zoe", "Muller", "1990-01", None),
            ("Zoe", "Muller", "1990", None),
            ("Zoe", "Muller", "", PHONE),
            ("Zoe", "Muller", "", Some("+16175550100;ext=5")),
            ("Zoë", "", "1990-01-02", None),
            ("", "Müller", "1990-01-02", None),
            ("Zoe Mueller", "", "1990-01-02", None),
        ] {
            let other = person(given, family, birth, phone);
            let score = likelihood(&zoe, &other);
            assert!(score.is_some(), "{given} {family} {birth}");
            assert_eq!(likelihood(&other, &zoe), score, "{given} {family} {birth}");
        }
    }

    #[test]
    fn family_and_strangers_are_told_apart() {
        let anna = person("Anna", "Lee", "1990-01-02", PHONE);
        for (given, family, birth, phone) in [
            ("Robert", "Lee", "2015-03-04", PHONE),
            ("Hanna", "Lee", "2015-03-04", PHONE),
            ("Robert", "Lee", "1990-01-02", PHONE),
            ("Anna", "Lee", "1985-01-02", None),
            ("Anna", "Lee", "1985", None),
            ("Anna", "Lee", "1990-02", None),
            ("Hanna", "Lee", "1990", None),
            ("Anna", "", "1990", None),
            ("Anna", "Lee", "", None),
            ("Carlos", "Ruiz", "1990-01-02", None),
            ("Maynard46", "Mosciski958", "1990-01-02", None),
        ] {
            let other = person(given, family, birth, phone);
            assert_eq!(likelihood(&anna, &other), None, "{given} {family} {birth}");
        }
    }

    #[test]
    fn what_is_known_exactly_counts_for_more() {
        let zoe = person("Zoë", "Müller", "1990-01-02", PHONE);
        let score = |given, family, birth, phone| {
            likelihood(&zoe, &person(given, family, birth, phone)).unwrap()
        };
        assert_eq!(score("Zoë", "Müller", "1990-01-02", PHONE), 100);
        assert_eq!(score("Zoë", "Müller", "1990-01-02", None), 85);
        assert_eq!(score("Zoë", "Müller", "1990-01", None), 75);
        assert_eq!(score("Zoë", "Müller", "1990", None), 65);
        assert_eq!(score("Zoë", "Müller", "", PHONE), 65);
        assert_eq!(score("Zoë", "", "1990-01-02", None), 75);
    }

    #[test]
    fn of_somebody_without_a_name_nothing_is_suggested() {
        let nobody = person("", "", "", None);
        let found = person("", "", "1990", PHONE);
        let zoe = person("Zoë", "Müller", "1990-01-02", PHONE);
        for (a, b) in [(&nobody, &nobody), (&nobody, &zoe), (&found, &zoe), (&found, &found)] {
            assert_eq!(likelihood(a, b), None);
        }
        let suharto = person("Suharto", "", "1970", None);
        assert!(likelihood(&suharto, &suharto).is_some(), "one name is all that there is");
    }
}
