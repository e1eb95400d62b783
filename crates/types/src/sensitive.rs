//! What must not leak: names, contact points, anything clinical.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::{PartialSchema, ToSchema};

/// A value that never prints: no `Display`, a masked `Debug`. Serializing is allowed, because the one legitimate way out is an
/// answer to somebody who may see it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sensitive<T>(T);

impl<T> Sensitive<T> {
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Gives the value out; the call site is where to ask whether that is right.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    pub fn into_exposed(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T: PartialSchema> PartialSchema for Sensitive<T> {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        T::schema()
    }
}
impl<T: ToSchema> ToSchema for Sensitive<T> {
    fn name() -> std::borrow::Cow<'static, str> {
        T::name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_is_masked() {
        assert_eq!(format!("{:?}", Sensitive::new("Grace Hopper")), "***");
    }
}
