//! Ids that other systems know an appointment or a practitioner by.

use hospital_contracts::patient::Identifier;
use hospital_types::{Faults, text};

const COUNT_MAX: usize = 5;
const LENGTH_MAX: usize = 200;

/// Reads `identifiers` of a request: at most five, each once.
pub fn parse(given: Vec<Identifier>, faults: &mut Faults) -> Vec<Identifier> {
    let mut identifiers = Vec::new();
    for (place, Identifier { system, value }) in given.into_iter().enumerate() {
        if place == COUNT_MAX {
            faults.push("/identifiers", format!("must have at most {COUNT_MAX} items"));
            break;
        }
        if system.contains('|') {
            // The bar separates the two in searches: `identifier=system|value`.
            faults.push(format!("/identifiers/{place}/system"), "must not contain a vertical bar");
        }
        let system =
            faults.take(&format!("/identifiers/{place}/system"), text(&system, LENGTH_MAX));
        let value = faults.take(&format!("/identifiers/{place}/value"), text(&value, LENGTH_MAX));
        let (Some(system), Some(value)) = (system, value) else { continue };
        let identifier = Identifier { system, value };
        if identifiers.contains(&identifier) {
            faults.push(format!("/identifiers/{place}"), "must not stand there twice");
        } else {
            identifiers.push(identifier);
        }
    }
    identifiers
}

/// Reads the filter `system|value`.
pub fn parse_filter(given: &str) -> Result<Identifier, &'static str> {
    let (system, value) =
        given.split_once('|').ok_or("identifier takes a system and a value: system|value")?;
    let part = |given| {
        text(given, LENGTH_MAX)
            .map_err(|_| "identifier takes 1 to 200 characters on either side of the bar")
    };
    Ok(Identifier { system: part(system)?, value: part(value)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(given: &[(&str, &str)]) -> Vec<String> {
        let mut faults = Faults::new();
        let identifier = |(system, value): &(&str, &str)| Identifier {
            system: (*system).to_owned(),
            value: (*value).to_owned(),
        };
        parse(given.iter().map(identifier).collect(), &mut faults);
        faults.into_vec().into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn identifiers_are_few_different_and_printable() {
        assert!(faults_of(&[]).is_empty());
        assert!(faults_of(&[("a", "1"), ("a", "2"), ("b", "1")]).is_empty());
        assert_eq!(faults_of(&[("a", "1"), ("a", "1")]), ["/identifiers/1"]);
        assert_eq!(faults_of(&[("a|b", "1")]), ["/identifiers/0/system"]);
        assert_eq!(faults_of(&[("", "a\0")]), ["/identifiers/0/system", "/identifiers/0/value"]);
        let six: Vec<_> = ["1", "2", "3", "4", "5", "6"].map(|value| ("a", value)).into();
        assert_eq!(faults_of(&six), ["/identifiers"]);
    }

    #[test]
    fn a_filter_splits_at_the_first_bar() {
        let filter = parse_filter("urn:x|a|b").unwrap();
        assert_eq!((filter.system.as_str(), filter.value.as_str()), ("urn:x", "a|b"));
        for given in ["", "x", "|", "x|", "|x"] {
            assert!(parse_filter(given).is_err(), "{given}");
        }
    }
}
