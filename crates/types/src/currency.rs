//! ISO 4217 currencies and their exponents.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is no currency the platform knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an ISO 4217 currency code in capitals, such as USD")]
pub struct UnknownCurrency;

/// An ISO 4217 currency, kept as its three letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

/// Active codes of ISO 4217 by exponent; those with 2 decimals are the rest of the list.
const EXPONENT_0: &[u8] = b"BIFCLPDJFGNFISKJPYKMFKRWPYGRWFUGXUYIVNDVUVXAFXOFXPF";
const EXPONENT_3: &[u8] = b"BHDIQDJODKWDLYDOMRTND";
const EXPONENT_4: &[u8] = b"CLFUYW";
const EXPONENT_2: &[u8] = b"AEDAFNALLAMDAOAARSAUDAWGAZNBAMBBDBDTBMDBNDBOBBOVBRLBSDBTNBWPBYNBZDCADCDFCHECHFCHWCNYCOPCOUCRCCUP\
CVECZKDKKDOPDZDEGPERNETBEURFJDFKPGBPGELGHSGIPGMDGTQGYDHKDHNLHTGHUFIDRILSINRIRRJMDKESKGSKHRKPWKYDKZTLAKLBPLKRLRDLSL\
MADMDLMGAMKDMMKMNTMOPMRUMURMVRMWKMXNMXVMYRMZNNADNGNNIONOKNPRNZDPABPENPGKPHPPKRPLNQARRONRSDRUBSARSBDSCRSDGSEKSGDSHP\
SLESOSSRDSSPSTNSVCSYPSZLTHBTJSTMTTOPTRYTTDTWDTZSUAHUSDUSNUYUUZSVEDVESWSTXCDXCGYERZARZMWZWG";

impl Currency {
    pub const USD: Self = Self(*b"USD");
    pub const EUR: Self = Self(*b"EUR");
    pub const JPY: Self = Self(*b"JPY");
    pub const KWD: Self = Self(*b"KWD");

    pub fn parse(code: &str) -> Result<Self, UnknownCurrency> {
        let bytes: [u8; 3] = code.as_bytes().try_into().map_err(|_| UnknownCurrency)?;
        exponent_of(bytes).map(|_| Self(bytes)).ok_or(UnknownCurrency)
    }

    /// Every code that is taken, for the API documents.
    pub fn codes() -> impl Iterator<Item = &'static str> {
        [EXPONENT_0, EXPONENT_2, EXPONENT_3, EXPONENT_4]
            .into_iter()
            .flat_map(|list| list.chunks_exact(3))
            .filter_map(|code| str::from_utf8(code).ok())
    }

    pub fn code(&self) -> &str {
        str::from_utf8(&self.0).expect("made of ASCII capitals only")
    }

    /// How many decimals the currency has.
    pub fn exponent(self) -> u32 {
        exponent_of(self.0).expect("only known currencies are made")
    }
}

fn exponent_of(code: [u8; 3]) -> Option<u32> {
    [(EXPONENT_2, 2), (EXPONENT_0, 0), (EXPONENT_3, 3), (EXPONENT_4, 4)]
        .into_iter()
        .find(|(codes, _)| codes.as_chunks::<3>().0.contains(&code))
        .map(|(_, exponent)| exponent)
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}
impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&code).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_follow_iso_4217() {
        assert_eq!(Currency::USD.exponent(), 2);
        assert_eq!(Currency::JPY.exponent(), 0);
        assert_eq!(Currency::KWD.exponent(), 3);
        for list in [EXPONENT_0, EXPONENT_2, EXPONENT_3, EXPONENT_4] {
            assert_eq!(list.len() % 3, 0);
            assert!(list.iter().all(u8::is_ascii_uppercase));
        }
        for code in ["usd", "US", "USDX", "ZZZ", "", "€€"] {
            assert_eq!(Currency::parse(code), Err(UnknownCurrency), "{code}");
        }
    }
}
