//! Contact points: phone numbers, e-mail addresses, languages.

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberFormat, enums::Region};
use tracing::subscriber::{NoSubscriber, with_default};

/// Why a contact point cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ContactError {
    #[error(
        "must be a phone number with its area code, and with its country code if it is abroad, such as +1 617 555 0100"
    )]
    Phone,
    #[error("must be an e-mail address, such as ann@example.org")]
    Email,
    #[error("must be a language tag, such as en or pt-BR")]
    Language,
}

/// The country whose phone numbers come without a country code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Country(Region);

impl Country {
    /// The country of an ISO 3166 code, if its phone numbers are known.
    pub(crate) fn parse(code: &str) -> Option<Self> {
        let region = Region::try_from(code).ok()?;
        PHONE_NUMBER_UTIL.get_country_code_for_region(region).map(|_| Self(region))
    }

    /// Normalises a phone number to E.164, and `;ext=` with its extension if it has one, as RFC
    /// 3966 writes that. A number that was never given out passes: numbering plans change, and
    /// refusing an honest number is worse than keeping an odd one.
    pub(crate) fn phone(self, text: &str) -> Result<String, ContactError> {
        if !is_written_like_a_phone_number(text) {
            return Err(ContactError::Phone);
        }
        let text = text.trim();
        // What most of the world dials before a country code, where the facility is or not.
        let international = text.strip_prefix("00").map(|rest| format!("+{rest}"));
        let text = international.as_deref().unwrap_or(text);
        // At its most talkative the library logs what it cannot read, and that is somebody's
        // number.
        let number = with_default(NoSubscriber::new(), || {
            PHONE_NUMBER_UTIL.parse(text, Some(self.0)).map_err(|_| ContactError::Phone)
        })?;
        if !is_dialled_from_abroad(&number) {
            return Err(ContactError::Phone);
        }
        let e164 = number.format_as(PhoneNumberFormat::E164);
        Ok(match number.extension.as_deref().filter(|ext| !ext.is_empty()) {
            Some(extension) => format!("{e164};ext={extension}"),
            None => e164.into_owned(),
        })
    }
}

/// Words that stand in front of a number or its extension. Any other letter is a slip, or a word
/// spelt on a dial (617-CALL-ME), of which the library makes a number that is somebody else's.
const WORDS: [&str; 9] = ["tel", "x", "ext", "extn", "extension", "int", "anexo", "доб", "内線"];

fn is_written_like_a_phone_number(text: &str) -> bool {
    let sign = |c: char| {
        c == ' '
            || c.is_numeric()
            || "+-./()[]~:;,=#\u{a0}\u{ad}\u{2212}\u{2060}\u{3000}\u{ff0b}\u{ff0d}\u{ff1b}".contains(c)
            || ('\u{2000}'..='\u{2015}').contains(&c)
            // Marks of direction, which come with a number that is copied out of a telephone.
            || ('\u{202a}'..='\u{202f}').contains(&c)
    };
    let lower = text.to_lowercase();
    lower.chars().all(|c| sign(c) || c.is_alphabetic())
        && lower
            .split(|c: char| !c.is_alphabetic())
            .all(|word| word.is_empty() || WORDS.contains(&word))
}

fn is_dialled_from_abroad(number: &PhoneNumber) -> bool {
    matches!(
        PHONE_NUMBER_UTIL.is_possible_number_with_reason(number),
        Ok(rlibphonenumber::NumberLengthType::IsPossible)
    )
}

/// A number without its extension.
pub(crate) fn without_extension(phone: &str) -> &str {
    phone.split_once(';').map_or(phone, |(number, _)| number)
}

/// Accepts one plain address. The mail server has the last word; this keeps out what could never be one, and header injection.
pub(crate) fn email(text: &str) -> Result<String, ContactError> {
    // A line break is refused even at the end, where others would trim it: it has no business in a header.
    let text = text.trim_matches(' ');
    let (local, domain) = text.rsplit_once('@').ok_or(ContactError::Email)?;
    let plain = |s: &str| {
        s.chars().all(|c| !c.is_control() && !c.is_whitespace() && !"<>()[],;:\\\"@".contains(c))
    };
    let labels = domain.split('.').all(|l| {
        (1..=63).contains(&l.len())
            && l.chars().all(|c| c.is_alphanumeric() || c == '-')
            && !l.starts_with('-')
    });
    let dots = !local.starts_with('.') && !local.ends_with('.') && !local.contains("..");
    let good = text.len() <= 254
        && (1..=64).contains(&local.len())
        && domain.contains('.')
        && plain(local)
        && labels
        && dots;
    if good { Ok(text.to_owned()) } else { Err(ContactError::Email) }
}

/// Accepts a BCP 47 tag by its shape.
pub(crate) fn language(text: &str) -> Result<String, ContactError> {
    let mut parts = text.split('-');
    let primary = parts.next().unwrap_or_default();
    let good = (2..=3).contains(&primary.len())
        && primary.bytes().all(|b| b.is_ascii_alphabetic())
        && parts
            .all(|p| (1..=8).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_alphanumeric()))
        && text.len() <= 35;
    if good { Ok(text.to_owned()) } else { Err(ContactError::Language) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phone(country: &str, text: &str) -> Result<String, ContactError> {
        Country::parse(country).unwrap().phone(text)
    }

    #[test]
    fn phones_become_e164() {
        for (country, text, number) in [
            ("US", "+1 (617) 555-0100", "+16175550100"),
            ("US", "001 617 555 0100", "+16175550100"),
            ("US", "+16175550100", "+16175550100"),
            ("US", "617-555-0100", "+16175550100"),
            ("US", "617.555.0100", "+16175550100"),
            ("US", "1 617 555 0100", "+16175550100"),
            ("US", "011 44 20 7946 0000", "+442079460000"),
            ("US", "+44 (0)20 7946 0000", "+442079460000"),
            ("US", "\u{202a}+1 617 555\u{2011}0100\u{202c}", "+16175550100"),
            ("US", "+١٦١٧٥٥٥٠١٠٠", "+16175550100"),
            ("US", "+1 555 000 1111", "+15550001111"),
            ("GB", "020 7946 0000", "+442079460000"),
            ("DE", "0171/1234567", "+491711234567"),
            ("DE", "001 617 555 0100", "+16175550100"),
            ("IT", "06 1234 5678", "+390612345678"),
            ("RU", "8 495 123-45-67", "+74951234567"),
            ("AR", "11 15-2345-6789", "+5491123456789"),
        ] {
            assert_eq!(phone(country, text).as_deref(), Ok(number), "{country} {text}");
        }
    }

    #[test]
    fn an_extension_is_kept() {
        for text in [
            "617-555-0100 x5",
            "(617) 555-0100 ext. 5",
            "617-555-0100 Extension 5",
            "617-555-0100#5",
            "+16175550100;ext=5",
            "tel:+1-617-555-0100;ext=5",
            "+1 617 555 0100 доб. 5",
        ] {
            assert_eq!(phone("US", text).as_deref(), Ok("+16175550100;ext=5"), "{text}");
        }
        assert_eq!(without_extension("+16175550100;ext=5"), "+16175550100");
        assert_eq!(without_extension("+16175550100"), "+16175550100");
    }

    #[test]
    fn what_cannot_be_dialled_is_no_phone_number() {
        for text in [
            "",
            " ",
            "x5",
            "555-0100",
            "617-CALL-ME",
            "1-800-FLOWERS",
            "+1 617 555 O1OO",
            "+3367a829916",
            "+3367x829916",
            "617-555-0100 or 617-555-0101",
            "+0123456789",
            "+123",
            "+1",
            "+999 123 4567",
            "+1234567890123456",
            "+1617555\u{0}0100",
            "617-555-0100\n",
            "<617-555-0100>",
        ] {
            assert_eq!(phone("US", text), Err(ContactError::Phone), "{text}");
        }
    }

    #[test]
    fn a_country_has_phone_numbers() {
        for code in ["US", "us", "DE", "NO", "VA"] {
            assert!(Country::parse(code).is_some(), "{code}");
        }
        for code in ["XX", "USA", "", "AQ"] {
            assert_eq!(Country::parse(code), None, "{code}");
        }
    }

    #[test]
    fn an_address_may_have_letters_of_any_writing() {
        for text in ["user@münchen.example", "用户@例子.example", "θσερ@εχαμπλε.ψομ"]
        {
            assert_eq!(email(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn addresses_that_could_carry_a_header_are_refused() {
        assert!(email("ann.lee+x@mail.example.org").is_ok());
        for text in [
            "",
            "ann",
            "@example.org",
            "ann@",
            "ann@example",
            "a b@example.org",
            "a@b.org\nBcc: c@d.org",
            "a@b.org\n",
            "a@@b.org",
            "<a@b.org>",
            "a@-b.org",
            "a..b@c.org",
        ] {
            assert_eq!(email(text), Err(ContactError::Email), "{text}");
        }
    }

    #[test]
    fn languages_have_a_shape() {
        assert!(language("en").is_ok() && language("pt-BR").is_ok());
        assert!(language("english please").is_err() && language("").is_err());
    }
}
