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

/// From how alike two names are they may be one name, written otherwise, of two who were born on the same day.
const SAME_NAME: f64 = 0.88;

/// Who shares a phone but not a birth date is more often the child of the other (Anna and Hanna) than the other, so their names have to
/// be closer: a Mueller for a Müller.
const SAME_NAME_BY_PHONE: f64 = 0.94;

/// How likely it is that two are one person, in hundredths; `None` when nothing suggests it. A shared name needs a second sign, a
/// birth date or a phone number; a shared surname, phone and even birth date make a family, or twins.
pub(crate) fn likelihood(a: &Likeness, b: &Likeness) -> Option<u8> {
    let names =
        same_name(&a.given_name, &b.given_name).min(same_name(&a.family_name, &b.family_name));
    let swapped =
        same_name(&a.given_name, &b.family_name).min(same_name(&a.family_name, &b.given_name));
    let name = names.max(swapped);
    let (birth_date, phone) =
        (a.birth_date == b.birth_date, a.phone.is_some() && a.phone == b.phone);
    let enough = match (birth_date, phone) {
        (true, _) => SAME_NAME,
        (false, true) => SAME_NAME_BY_PHONE,
        (false, false) => return None,
    };
    if name < enough {
        return None;
    }
    let exact = if name > 0.999 { 10 } else { 0 };
    let score = 40 + exact + if birth_date { 35 } else { 0 } + if phone { 15 } else { 0 };
    Some(score)
}

fn same_name(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(&words(a).join(" "), &words(b).join(" "))
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
