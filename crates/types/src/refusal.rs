//! How the business says no.

/// The neutral kind of a refusal; each edge translates it once (HTTP to a status, events to acknowledge or dead-letter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// A value that cannot be accepted. HTTP 422.
    Invalid,
    /// The caller may not, and may know it. HTTP 403.
    Forbidden,
    /// It does not exist, or the caller must not learn that it does. HTTP 404.
    NotFound,
    /// It is in conflict with what is. HTTP 409.
    Conflict,
    /// The version in `If-Match` is not the current one. HTTP 412.
    Stale,
    /// The money was asked for and not given. HTTP 402.
    PaymentDeclined,
}

/// A business refusal: a small enum beside its rule.
pub trait Refusal: Send + Sync + 'static {
    fn kind(&self) -> RefusalKind;

    /// Stable, kebab-case; clients branch on it.
    fn code(&self) -> &'static str;

    /// One or two sentences for a person: what is wrong and what to do. Never personal data.
    fn detail(&self) -> String;

    /// Further members of the problem body, such as `outstanding` of an overpayment.
    fn members(&self) -> serde_json::Map<String, serde_json::Value> {
        serde_json::Map::new()
    }

    /// The JSON pointer of the field at fault, if one is.
    fn pointer(&self) -> Option<&'static str> {
        None
    }
}

/// The refusal of work that cannot be refused.
impl Refusal for std::convert::Infallible {
    fn kind(&self) -> RefusalKind {
        match *self {}
    }
    fn code(&self) -> &'static str {
        match *self {}
    }
    fn detail(&self) -> String {
        match *self {}
    }
}
