//! Money: whole minor units of a currency. No float ever touches it (docs/rules.md, M1 to M5).

use std::fmt;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};
use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, OneOfBuilder, RefOr, Schema,
        schema::{AdditionalProperties, Type},
    },
};

use crate::{Currency, Faults};

/// Why a text is no amount of a currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    #[error("must be an amount in plain decimal notation, such as 125.00")]
    NotPlainDecimal,
    #[error("must have at most {0} decimals in this currency")]
    TooManyDecimals(u32),
    #[error(
        "is larger than the platform can keep: 999,999,999,999,999 of the currency's smallest units"
    )]
    TooLarge,
}

/// The largest amount that a request may give and that a bill may come to, in minor units. Fifteen digits are exact in every reader of
/// JSON, and so far below what 64 bits hold that no sum of what is accepted overflows, in Rust or in SQL.
pub const MINOR_MAX: i64 = 999_999_999_999_999;

/// An amount in whole minor units (cents, fils, yen) of one currency.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

impl Money {
    pub const fn from_minor(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    pub const fn zero(currency: Currency) -> Self {
        Self { minor: 0, currency }
    }

    /// Whole minor units.
    pub const fn minor(self) -> i64 {
        self.minor
    }

    pub const fn currency(self) -> Currency {
        self.currency
    }

    pub const fn is_zero(self) -> bool {
        self.minor == 0
    }

    pub const fn is_positive(self) -> bool {
        self.minor > 0
    }

    /// Whether it is no larger than what the platform accepts: [`MINOR_MAX`].
    pub const fn is_acceptable(self) -> bool {
        self.minor.unsigned_abs() <= MINOR_MAX.unsigned_abs()
    }

    /// The sum, or `None` when the currencies differ or it is more than [`MINOR_MAX`].
    pub fn checked_add(self, other: Self) -> Option<Self> {
        if self.currency != other.currency {
            return None;
        }
        let sum = self.minor.checked_add(other.minor).map(|minor| Self { minor, ..self });
        sum.filter(|sum| sum.is_acceptable())
    }

    /// The difference, or `None` when the currencies differ or it does not fit.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        if self.currency != other.currency {
            return None;
        }
        self.minor.checked_sub(other.minor).map(|minor| Self { minor, ..self })
    }

    /// `quantity` times the amount, or `None` when it is more than [`MINOR_MAX`].
    pub fn checked_mul(self, quantity: i64) -> Option<Self> {
        let product = self.minor.checked_mul(quantity).map(|minor| Self { minor, ..self });
        product.filter(|product| product.is_acceptable())
    }

    /// Parses an amount in plain decimal notation, exactly: at most the currency's decimals, no exponent, no sign but `-`. Takes whatever
    /// 64 bits hold, for what was written before there was a largest amount is still read.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, AmountError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((_, "")) => return Err(AmountError::NotPlainDecimal),
            Some(parts) => parts,
            None => (digits, ""),
        };
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty() || leading_zero || !all_digits(whole) || !all_digits(fraction) {
            return Err(AmountError::NotPlainDecimal);
        }
        let exponent = currency.exponent();
        if fraction.len() > exponent as usize {
            return Err(AmountError::TooManyDecimals(exponent));
        }
        let mut minor: i64 = 0;
        let padding = std::iter::repeat_n(b'0', exponent as usize - fraction.len());
        for digit in whole.bytes().chain(fraction.bytes()).chain(padding) {
            minor = minor
                .checked_mul(10)
                .and_then(|m| m.checked_add(i64::from(digit - b'0')))
                .ok_or(AmountError::TooLarge)?;
        }
        Ok(Self { minor: if negative { -minor } else { minor }, currency })
    }

    /// The amount in plain decimal notation with all the currency's decimals, without the currency.
    pub fn amount(self) -> String {
        let exponent = self.currency.exponent() as usize;
        let sign = if self.minor < 0 { "-" } else { "" };
        let digits = format!("{:0>width$}", self.minor.unsigned_abs(), width = exponent + 1);
        let (whole, fraction) = digits.split_at(digits.len() - exponent);
        if exponent == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount(), self.currency)
    }
}
impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Money", 2)?;
        out.serialize_field("amount", &self.amount())?;
        out.serialize_field("currency", &self.currency)?;
        out.end()
    }
}
/// For what the platform itself wrote (events, answers); requests go through [`MoneyInput`], which can say what is wrong.
impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            amount: String,
            currency: Currency,
        }
        let wire = Wire::deserialize(deserializer)?;
        Self::parse(&wire.amount, wire.currency).map_err(serde::de::Error::custom)
    }
}
impl PartialSchema for Money {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .property("amount", amount_schema())
            .required("amount")
            .property("currency", currency_schema())
            .required("currency")
            .description(Some("An amount as a decimal string, and its ISO 4217 currency."))
            .into()
    }
}
impl ToSchema for Money {}

/// Money as a request gives it: the amount as a string or as an exact JSON number, not looked at yet.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoneyInput {
    amount: Value,
    currency: String,
}

impl MoneyInput {
    /// Whether the amount is of the wrong JSON type, which is no fault of a value but of the schema.
    pub fn has_wrong_type(&self) -> bool {
        !matches!(self.amount, Value::String(_) | Value::Number(_))
    }

    /// The money, or faults below `pointer`; a bad amount carries the code `amount-invalid`.
    pub fn parse(&self, pointer: &str, faults: &mut Faults) -> Option<Money> {
        let amount = match &self.amount {
            Value::String(text) => text.clone(),
            // Exact: serde_json keeps the number's own text.
            Value::Number(number) => number.to_string(),
            _ => {
                faults.push(format!("{pointer}/amount"), "must be a string or a number");
                return None;
            }
        };
        let currency = Currency::parse(&self.currency);
        let currency = faults.take(&format!("{pointer}/currency"), currency)?;
        let parsed = Money::parse(&amount, currency);
        match parsed.and_then(|m| m.is_acceptable().then_some(m).ok_or(AmountError::TooLarge)) {
            Ok(money) => Some(money),
            Err(e) => {
                faults.push_coded(format!("{pointer}/amount"), "amount-invalid", e.to_string());
                None
            }
        }
    }
}
impl PartialSchema for MoneyInput {
    fn schema() -> RefOr<Schema> {
        let amount = OneOfBuilder::new()
            .item(amount_schema())
            .item(ObjectBuilder::new().schema_type(Type::Number))
            .description(Some(
                "A decimal string or an exact JSON number, without an exponent, with at most the \
                 currency's decimals.",
            ));
        ObjectBuilder::new()
            .property("amount", amount)
            .required("amount")
            .property("currency", currency_schema())
            .required("currency")
            .description(Some(
                "An amount, and its ISO 4217 currency; at most 999,999,999,999,999 of its smallest units.",
            ))
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .into()
    }
}
impl ToSchema for MoneyInput {}

fn amount_schema() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^-?(0|[1-9][0-9]{0,14})(\\.[0-9]{1,4})?$"))
        .examples(["125.00"])
}

fn currency_schema() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("ISO 4217."))
        .enum_values(Some(Currency::codes()))
        .examples(["USD"])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_exact_or_refused() {
        let usd = |text| Money::parse(text, Currency::USD).map(Money::minor);
        assert_eq!(usd("125.00"), Ok(12_500));
        assert_eq!(usd("125"), Ok(12_500));
        assert_eq!(usd("0.1"), Ok(10));
        assert_eq!(usd("-1"), Ok(-100));
        assert_eq!(usd("199.999"), Err(AmountError::TooManyDecimals(2)));
        assert_eq!(usd("5.000"), Err(AmountError::TooManyDecimals(2)));
        assert_eq!(usd("92233720368547758.08"), Err(AmountError::TooLarge));
        assert_eq!(usd("92233720368547758.07"), Ok(i64::MAX));
        for text in [
            "", "-", ".5", "1.", "1e2", "+1", "NaN", "1e400", "1,00", " 1", "0x1", "--1", "01", "١",
        ] {
            assert_eq!(usd(text), Err(AmountError::NotPlainDecimal), "{text}");
        }
        assert_eq!(Money::parse("1.234", Currency::KWD).unwrap().minor(), 1234);
        assert_eq!(Money::parse("1.0", Currency::JPY), Err(AmountError::TooManyDecimals(0)));
    }

    #[test]
    fn a_json_number_keeps_its_own_text() {
        let parse = |json: &str| {
            let mut faults = Faults::new();
            let input: MoneyInput = serde_json::from_str(json).unwrap();
            input.parse("", &mut faults).map(Money::minor)
        };
        assert_eq!(parse(r#"{"amount": 0.07, "currency": "USD"}"#), Some(7));
        assert_eq!(
            parse(r#"{"amount": 90071992547409.93, "currency": "USD"}"#),
            None,
            "more than the platform keeps"
        );
        assert_eq!(
            parse(r#"{"amount": 9999999999999.99, "currency": "USD"}"#),
            Some(999_999_999_999_999)
        );
        assert_eq!(parse(r#"{"amount": 199.999, "currency": "USD"}"#), None);
        assert_eq!(parse(r#"{"amount": 5.000, "currency": "USD"}"#), None);
        assert_eq!(parse(r#"{"amount": 1e2, "currency": "USD"}"#), None);
        assert_eq!(parse(r#"{"amount": 1e400, "currency": "USD"}"#), None);
    }

    proptest! {
        #[test]
        fn what_is_given_is_within_what_can_be_kept(minor in any::<i64>(), near in -3..=3_i64) {
            for minor in [minor, MINOR_MAX + near, -MINOR_MAX + near, i64::MAX - near.abs()] {
                prop_assume!(minor != i64::MIN);
                let text = Money::from_minor(minor, Currency::USD).amount();
                let input = MoneyInput { amount: text.into(), currency: "USD".to_owned() };
                let mut faults = Faults::new();
                let given = input.parse("", &mut faults).map(Money::minor);
                let kept = (-MINOR_MAX..=MINOR_MAX).contains(&minor).then_some(minor);
                prop_assert_eq!(given, kept);
            }
        }

        #[test]
        fn sums_and_products_are_exact_or_more_than_can_be_kept(
            a in -MINOR_MAX..=MINOR_MAX, b in -MINOR_MAX..=MINOR_MAX, quantity in 0..=10_000_i64
        ) {
            let usd = |minor| Money::from_minor(minor, Currency::USD);
            let kept = |exact: i128| {
                let minor = i64::try_from(exact).ok()?;
                (-MINOR_MAX..=MINOR_MAX).contains(&minor).then_some(usd(minor))
            };
            prop_assert_eq!(usd(a).checked_add(usd(b)), kept(i128::from(a) + i128::from(b)));
            prop_assert_eq!(usd(a).checked_mul(quantity), kept(i128::from(a) * i128::from(quantity)));
        }

        #[test]
        fn an_amount_survives_being_written_and_read(minor in any::<i64>(), which in 0..4usize) {
            prop_assume!(minor != i64::MIN);
            let currency = [Currency::USD, Currency::JPY, Currency::KWD, Currency::EUR][which];
            let money = Money::from_minor(minor, currency);
            prop_assert_eq!(Money::parse(&money.amount(), currency), Ok(money));
            let json = serde_json::to_string(&money).unwrap();
            prop_assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), money);
        }
    }
}
