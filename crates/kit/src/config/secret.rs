//! Settings that never print.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that never prints: a URL with a password.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Written out masked: settings are shown to people, and never read back from what was shown.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a text, a number, true or false")]
enum Plain {
    Text(String),
    Truth(bool),
    Whole(i64),
    Decimal(f64),
}

/// Reads a table of properties, in which `"socket.timeout.ms" = 6000` is as good as `"6000"`.
pub(super) fn texts<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Secret>, D::Error> {
    let plain = BTreeMap::<String, Plain>::deserialize(deserializer)?;
    let text = |value| match value {
        Plain::Text(text) => Secret(text),
        Plain::Truth(truth) => Secret(truth.to_string()),
        Plain::Whole(number) => Secret(number.to_string()),
        Plain::Decimal(number) => Secret(number.to_string()),
    };
    Ok(plain.into_iter().map(|(name, value)| (name, text(value))).collect())
}
