//! Instants and dates as they come in on the wire.

use jiff::{Timestamp, civil::Date};

/// Why a text is no instant or date that the platform takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstantError {
    #[error("must be an RFC 3339 date and time with an offset, such as 2030-05-17T09:30:00+02:00")]
    Instant,
    #[error("must be a date that exists, as YYYY-MM-DD")]
    Date,
    #[error("must lie between the years 1900 and 2199")]
    Range,
}

/// Parses an RFC 3339 instant. The offset is required, a leap second is refused, fractions below a microsecond are cut, which is
/// what PostgreSQL keeps. Years outside 1900..=2199 are taken for a slip of the keyboard.
pub fn parse_instant(text: &str) -> Result<Timestamp, InstantError> {
    let bytes = text.as_bytes();
    let shape = bytes.len() >= 20
        && bytes.len() <= 40
        && bytes[..19].iter().enumerate().all(|(i, b)| match i {
            4 | 7 => *b == b'-',
            10 => matches!(b, b'T' | b't' | b' '),
            13 | 16 => *b == b':',
            _ => b.is_ascii_digit(),
        })
        && &bytes[17..19] != b"60";
    let (_, rest) = text.split_at_checked(19).filter(|_| shape).ok_or(InstantError::Instant)?;
    if !is_fraction_and_offset(rest) {
        return Err(InstantError::Instant);
    }
    let instant: Timestamp = text.parse().map_err(|_| InstantError::Instant)?;
    let instant =
        Timestamp::from_microsecond(instant.as_microsecond()).map_err(|_| InstantError::Range)?;
    if !(-2_208_988_800..7_258_118_400).contains(&instant.as_second()) {
        return Err(InstantError::Range);
    }
    Ok(instant)
}

fn is_fraction_and_offset(rest: &str) -> bool {
    let offset = match rest.strip_prefix('.') {
        Some(fraction) => {
            let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 {
                return false;
            }
            &fraction[digits..]
        }
        None => rest,
    };
    match offset.as_bytes() {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()),
        _ => false,
    }
}

/// Parses a calendar date, `YYYY-MM-DD` and nothing else.
pub fn parse_date(text: &str) -> Result<Date, InstantError> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return Err(InstantError::Date);
    }
    let date: Date = text.parse().map_err(|_| InstantError::Date)?;
    if (1800..=2199).contains(&date.year()) { Ok(date) } else { Err(InstantError::Range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_required() {
        assert_eq!(
            parse_instant("2030-05-17T09:30:00+02:00").unwrap().to_string(),
            "2030-05-17T07:30:00Z"
        );
        assert_eq!(
            parse_instant("2030-05-17T09:30:00.123456789Z").unwrap().to_string(),
            "2030-05-17T09:30:00.123456Z"
        );
        for text in [
            "2030-05-17T09:30:00",
            "2030-05-17",
            "2030-02-30T09:30:00Z",
            "2030-05-17T09:30:60Z",
            "2030-05-17T25:30:00Z",
            "2030-05-17T09:30:00.Z",
            "2030-05-17T09:30:00+02",
            "2030-05-17T09:30:00Z[Europe/Berlin]",
            "tomorrow",
            "",
        ] {
            assert_eq!(parse_instant(text), Err(InstantError::Instant), "{text}");
        }
        assert_eq!(parse_instant("9999-05-17T09:30:00Z"), Err(InstantError::Range));
    }

    #[test]
    fn dates_exist() {
        assert!(parse_date("2024-02-29").is_ok());
        for text in ["2023-02-29", "2023-02-31", "20230228", "2023-2-8", "2023-02-28T00:00"] {
            assert_eq!(parse_date(text), Err(InstantError::Date), "{text}");
        }
    }
}
