//! Whether a registration is of somebody who is here already.

use hospital_types::PatientId;
use jiff::civil::Date;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// What two patients are compared by.
#[derive(Clone)]
pub(crate) struct Likeness {
    pub(crate) given_name: String,
    pub(crate) family_name: String,
    pub(crate) birth_date: Date,
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
/// birth date or a phone number; a shared surname, phone and even birth date make a family, or twins.
pub(crate) fn likelihood(a: &Likeness, b: &Likeness) -> Option<u8> {
    let birth_date = a.birth_date == b.birth_date;
    let phone = a.phone.is_some() && a.phone == b.phone;
    let same = match (birth_date, phone) {
        (true, _) => names(a, b, strsim::jaro_winkler) >= SAME_NAME,
        (false, true) => names(a, b, strsim::normalized_damerau_levenshtein) >= SAME_NAME_BY_PHONE,
        (false, false) => false,
    };
    let points = |sign, points| if sign { points } else { 0 };
    let exact = names(a, b, |a, b| f64::from(u8::from(a == b))) > 0.5;
    same.then(|| 40 + points(exact, 10) + points(birth_date, 35) + points(phone, 15))
}

/// How alike two are in both names, which somebody may have put the wrong way round.
fn names(a: &Likeness, b: &Likeness, alike: impl Fn(&str, &str) -> f64) -> f64 {
    let plain = |name: &str| words(name).join(" ");
    let (a_given, a_family) = (plain(&a.given_name), plain(&a.family_name));
    let (b_given, b_family) = (plain(&b.given_name), plain(&b.family_name));
    let straight = alike(&a_given, &b_given).min(alike(&a_family, &b_family));
    let swapped = alike(&a_given, &b_family).min(alike(&a_family, &b_given));
    straight.max(swapped)
}

/// The words of a name as they are searched by: without accents, case and marks.
pub(crate) fn words(name: &str) -> Vec<String> {
    let plain: String =
        name.nfd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase).collect();
    let mut words: Vec<String> = plain
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
        .map(|w| w.chars().take(60).collect())
        .collect();
    if words.is_empty() {
        // A name without a letter, such as an emoji, is still searched by itself.
        words.extend(plain.split_whitespace().map(|w| w.chars().take(60).collect::<String>()));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(given: &str, family: &str, birth: &str, phone: Option<&str>) -> Likeness {
        Likeness {
            given_name: given.into(),
            family_name: family.into(),
            birth_date: birth.parse().unwrap(),
            phone: phone.map(Into::into),
        }
    }

    #[test]
    fn the_same_person_written_otherwise_is_noticed() {
        let ann = person("Zoë", "Müller", "1990-01-02", Some("+16175550100"));
        for other in [
            person("Zoe", "Muller", "1990-01-02", None),
            person("ZOË", "MÜLLER", "1990-01-02", None),
            person("Müller", "Zoë", "1990-01-02", None),
            person("Zoe", "Mueller", "1991-01-02", Some("+16175550100")),
        ] {
            assert!(
                likelihood(&ann, &other).is_some(),
                "{} {}",
                other.given_name,
                other.family_name
            );
        }
    }

    #[test]
    fn family_and_strangers_are_told_apart() {
        let ann = person("Anna", "Lee", "1990-01-02", Some("+16175550100"));
        for other in [
            person("Robert", "Lee", "2015-03-04", Some("+16175550100")),
            person("Hanna", "Lee", "2015-03-04", Some("+16175550100")),
            person("Robert", "Lee", "1990-01-02", Some("+16175550100")),
            person("Anna", "Lee", "1985-01-02", None),
            person("Carlos", "Ruiz", "1990-01-02", None),
            person("Maynard46", "Mosciski958", "1990-01-02", None),
        ] {
            assert_eq!(
                likelihood(&ann, &other),
                None,
                "{} {}",
                other.given_name,
                other.family_name
            );
        }
    }
}
