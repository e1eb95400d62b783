//! Faults of a request's fields, collected so that a client hears of all of them at once.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One field at fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// JSON pointer (RFC 6901) into the request's body.
    #[schema(example = "/birthDate")]
    pub pointer: String,
    pub detail: String,
    /// A stable code of its own, when the API names one for this fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "patient-unknown")]
    pub code: Option<String>,
}

/// Collects faults while a body is parsed into a command.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.0.push(Fault { pointer: pointer.into(), detail: detail.into(), code: None });
    }

    /// A fault that has a stable code, such as `amount-invalid`. The first coded fault names the whole problem.
    pub fn push_coded(
        &mut self,
        pointer: impl Into<String>,
        code: &str,
        detail: impl Into<String>,
    ) {
        self.0.push(Fault {
            pointer: pointer.into(),
            detail: detail.into(),
            code: Some(code.to_owned()),
        });
    }

    /// Keeps the value, or the fault at `pointer`.
    pub fn take<T, E: std::fmt::Display>(
        &mut self,
        pointer: &str,
        parsed: Result<T, E>,
    ) -> Option<T> {
        parsed.map_err(|e| self.push(pointer, e.to_string())).ok()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value, if nothing was at fault. `value` must be `Some` when no fault was recorded.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self),
        }
    }

    pub fn into_vec(self) -> Vec<Fault> {
        self.0
    }

    pub fn as_slice(&self) -> &[Fault] {
        &self.0
    }
}
