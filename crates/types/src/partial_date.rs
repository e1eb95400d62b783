//! Dates of which the day, or the month and the day, may not be known.

use std::{fmt, str::FromStr};

use jiff::civil::Date;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, schema::Schema},
};

use crate::parse_date;

/// A date as far as it is known: `1980`, `1980-06` or `1980-06-05`, as FHIR has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartialDate {
    /// The first day that it may be.
    first: Date,
    precision: DatePrecision,
}

/// How much of a date is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DatePrecision {
    Year,
    Month,
    Day,
}

impl DatePrecision {
    pub const ALL: [Self; 3] = [Self::Year, Self::Month, Self::Day];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Year => "year",
            Self::Month => "month",
            Self::Day => "day",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|precision| precision.as_str() == text)
    }
}

/// Why a text is no date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a date that exists, as YYYY-MM-DD, or YYYY-MM or YYYY if no more is known")]
pub struct PartialDateError;

impl PartialDate {
    /// The date of this precision in which a day lies.
    pub fn of(day: Date, precision: DatePrecision) -> Self {
        let first = match precision {
            DatePrecision::Year => day.first_of_year(),
            DatePrecision::Month => day.first_of_month(),
            DatePrecision::Day => day,
        };
        Self { first, precision }
    }

    pub const fn precision(self) -> DatePrecision {
        self.precision
    }

    /// The first day that it may be.
    pub const fn first(self) -> Date {
        self.first
    }

    /// The last day that it may be.
    pub fn last(self) -> Date {
        match self.precision {
            DatePrecision::Year => self.first.last_of_year(),
            DatePrecision::Month => self.first.last_of_month(),
            DatePrecision::Day => self.first,
        }
    }

    /// Whether the two may be one day.
    pub fn may_be(self, other: Self) -> bool {
        self.first <= other.last() && other.first <= self.last()
    }
}

impl FromStr for PartialDate {
    type Err = PartialDateError;

    fn from_str(text: &str) -> Result<Self, PartialDateError> {
        let (whole, precision) = match text.len() {
            4 => (format!("{text}-01-01"), DatePrecision::Year),
            7 => (format!("{text}-01"), DatePrecision::Month),
            _ => (text.to_owned(), DatePrecision::Day),
        };
        let first = parse_date(&whole).map_err(|_| PartialDateError)?;
        Ok(Self { first, precision })
    }
}

impl fmt::Display for PartialDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month) = (self.first.year(), self.first.month());
        match self.precision {
            DatePrecision::Year => write!(f, "{year:04}"),
            DatePrecision::Month => write!(f, "{year:04}-{month:02}"),
            DatePrecision::Day => self.first.fmt(f),
        }
    }
}

impl Serialize for PartialDate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PartialDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl PartialSchema for PartialDate {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some(r"^[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?$"))
            .examples([serde_json::json!("1990-01-02")])
            .into()
    }
}
impl ToSchema for PartialDate {
    fn name() -> std::borrow::Cow<'static, str> {
        "PartialDate".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> PartialDate {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_known_of_a_date_is_kept() {
        for (text, first, last) in [
            ("1980", "1980-01-01", "1980-12-31"),
            ("1980-02", "1980-02-01", "1980-02-29"),
            ("1980-06-05", "1980-06-05", "1980-06-05"),
        ] {
            let parsed = date(text);
            assert_eq!(parsed.to_string(), text);
            assert_eq!(
                (parsed.first().to_string(), parsed.last().to_string()),
                (first.to_owned(), last.to_owned())
            );
            assert_eq!(PartialDate::of(parsed.last(), parsed.precision()), parsed);
        }
        for text in [
            "",
            "80",
            "198",
            "1980-",
            "1980-13",
            "1980-6",
            "1980-02-30",
            "1980-06-05T00:00",
            "+198",
            "1980/06",
            "198é",
        ] {
            assert_eq!(text.parse::<PartialDate>(), Err(PartialDateError), "{text}");
        }
    }

    #[test]
    fn dates_that_may_be_one_day_agree() {
        for (a, b, agree) in [
            ("1980", "1980-06-05", true),
            ("1980-06", "1980-06-05", true),
            ("1980-06", "1980", true),
            ("1980-06-05", "1980-06-05", true),
            ("1980-06-05", "1980-06-06", false),
            ("1980-07", "1980-06-05", false),
            ("1981", "1980-06", false),
        ] {
            assert_eq!(
                (date(a).may_be(date(b)), date(b).may_be(date(a))),
                (agree, agree),
                "{a} {b}"
            );
        }
    }
}
