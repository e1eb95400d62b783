//! What is to be done at an appointment, as a code. Its price is billing's.

use hospital_types::Faults;

/// Reads `serviceType` of a request: 1 to 64 small letters, digits and hyphens.
pub fn parse(given: String, faults: &mut Faults) -> Option<String> {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=64).contains(&given.len()) && given.bytes().all(known) {
        return Some(given);
    }
    faults.push_coded(
        "/serviceType",
        "service-type-invalid",
        "must have 1 to 64 small letters, digits and hyphens",
    );
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_type_is_a_short_code() {
        let parse = |given: &str| parse(given.to_owned(), &mut Faults::new());
        let longest = "a".repeat(64);
        for code in ["x", "general-consultation", "mri-3t", &longest] {
            assert_eq!(parse(code).as_deref(), Some(code));
        }
        for code in ["", "Visit", "a b", "a_b", "é", "a\0", &"a".repeat(65)] {
            assert_eq!(parse(code), None, "{code}");
        }
    }
}
