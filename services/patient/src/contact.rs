//! Contact points: phones as E.164, e-mail addresses, languages.

/// Why a contact point cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ContactError {
    #[error("must be a phone number with its country code, such as +1 617 555 0100")]
    Phone,
    #[error("must be an e-mail address, such as ann@example.org")]
    Email,
    #[error("must be a language tag, such as en or pt-BR")]
    Language,
}

/// Normalises a phone number to E.164: `+` and 7 to 15 digits. Spaces, dots, dashes, slashes and parentheses are for people.
pub(crate) fn phone(text: &str) -> Result<String, ContactError> {
    let bare: String =
        text.chars().filter(|c| !matches!(c, ' ' | '-' | '.' | '/' | '(' | ')')).collect();
    let digits =
        bare.strip_prefix('+').or_else(|| bare.strip_prefix("00")).ok_or(ContactError::Phone)?;
    let good = (7..=15).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !digits.starts_with('0');
    if good { Ok(format!("+{digits}")) } else { Err(ContactError::Phone) }
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

    #[test]
    fn phones_become_e164() {
        for text in ["+1 (617) 555-0100", "001 617 555 0100", "+16175550100"] {
            assert_eq!(phone(text).as_deref(), Ok("+16175550100"), "{text}");
        }
        for text in
            ["", "617 555 0100", "+1 617 CALL ME", "+0123456789", "+123", "+1234567890123456"]
        {
            assert_eq!(phone(text), Err(ContactError::Phone), "{text}");
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
