//! Text from outside: bounded, without NUL and other control characters, otherwise kept as given.

/// Why a text cannot be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    #[error("must not be empty")]
    Empty,
    #[error("must have at most {0} characters")]
    TooLong(usize),
    #[error("must not contain NUL or other control characters")]
    Control,
}

/// Checks one line of text of 1 to `max` characters, white space at its ends included, and trims that. Marks such as a right-to-left override,
/// emoji and markup are text like any other: they are stored as given, and whoever shows them escapes them.
pub fn text(value: &str, max: usize) -> Result<String, TextError> {
    if value.chars().count() > max {
        return Err(TextError::TooLong(max));
    }
    let value = value.trim();
    if value.is_empty() {
        return Err(TextError::Empty);
    }
    if value.chars().any(char::is_control) {
        return Err(TextError::Control);
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_bounded_and_printable() {
        assert_eq!(text(" Zoë ", 5), Ok("Zoë".to_owned()));
        assert_eq!(text(" ", 5), Err(TextError::Empty));
        assert_eq!(text("abcdef", 5), Err(TextError::TooLong(5)));
        assert_eq!(text("a     ", 5), Err(TextError::TooLong(5)), "as a client counts");
        assert_eq!(text("a\0b", 5), Err(TextError::Control));
        assert_eq!(text("a\nb", 5), Err(TextError::Control));
        assert_eq!(text("\u{202e}<b>", 5), Ok("\u{202e}<b>".to_owned()));
    }
}
