//! RFC 9457 problems: what a client is told when it does not get what it asked for.

use axum::response::{IntoResponse, Response};
use hospital_types::{Fault, Faults, Refusal, RefusalKind};
use serde_json::{Map, Value, json};

use super::{Answer, current_trace};
use crate::outcome::{Broken, BrokenKind, Failure};

/// A problem body in the making. Its `traceId` is that of the request in which it was made.
#[derive(Clone, Debug)]
pub struct Problem(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    status: u16,
    code: String,
    detail: String,
    members: Map<String, Value>,
    errors: Vec<Fault>,
    headers: Vec<(&'static str, String)>,
}

impl Problem {
    /// `code` is stable and kebab-case; `detail` is for a person and never holds personal data.
    pub fn new(status: u16, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            status,
            code: code.into(),
            detail: detail.into(),
            members: Map::new(),
            errors: Vec::new(),
            headers: Vec::new(),
        }))
    }

    /// The one 404: what does not exist and what is not the caller's look the same.
    pub fn not_found() -> Self {
        Self::new(404, "not-found", "There is no such thing, or it is not yours to see.")
    }

    pub fn from_refusal(refusal: &impl Refusal) -> Self {
        let status = match refusal.kind() {
            RefusalKind::Invalid => 422,
            RefusalKind::Forbidden => 403,
            RefusalKind::NotFound => return Self::not_found(),
            RefusalKind::Conflict => 409,
            RefusalKind::Stale => 412,
            RefusalKind::PaymentDeclined => 402,
        };
        let mut problem = Self::new(status, refusal.code(), refusal.detail());
        problem.0.members = refusal.members();
        if let Some(pointer) = refusal.pointer() {
            problem = problem.fault(pointer, &refusal.detail());
        }
        problem
    }

    /// Names a field at fault.
    #[must_use]
    pub fn fault(mut self, pointer: &str, detail: &str) -> Self {
        self.0.errors.push(Fault {
            pointer: pointer.to_owned(),
            detail: detail.to_owned(),
            code: None,
        });
        self
    }

    /// A further member, such as `outstanding`.
    #[must_use]
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(name.to_owned(), value.into());
        self
    }

    /// Tells the client when to come again.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header("retry-after", seconds.to_string())
    }

    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.headers.push((name, value.into()));
        self
    }

    /// Says that the connection is closed after it: what is left of the request is not read.
    #[must_use]
    pub(super) fn closing(self) -> Self {
        self.header("connection", "close")
    }

    pub fn status(&self) -> u16 {
        self.0.status
    }

    pub fn code(&self) -> &str {
        &self.0.code
    }

    pub(super) fn headers(&self) -> &[(&'static str, String)] {
        &self.0.headers
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let inner = &*self.0;
        let mut body = Map::new();
        body.insert("type".to_owned(), format!("urn:hospital:problem:{}", inner.code).into());
        body.insert("title".to_owned(), title(&inner.code).into());
        body.insert("status".to_owned(), inner.status.into());
        body.insert("detail".to_owned(), inner.detail.clone().into());
        body.insert("code".to_owned(), inner.code.clone().into());
        if let Some(trace) = current_trace() {
            body.insert("traceId".to_owned(), trace.id().into());
        }
        if !inner.errors.is_empty() {
            body.insert("errors".to_owned(), json!(inner.errors));
        }
        body.extend(inner.members.clone());
        Value::Object(body).to_string().into_bytes()
    }
}

/// `slot-unavailable` as "Slot unavailable".
fn title(code: &str) -> String {
    let mut words = code.replace('-', " ");
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words
}

impl<R: Refusal> From<Failure<R>> for Problem {
    fn from(failure: Failure<R>) -> Self {
        match failure {
            Failure::Refused(refused) => Self::from_refusal(&refused),
            Failure::Broken(broken) => broken.into(),
        }
    }
}

/// Logs what broke, once, with its chain; the client learns only whether to come again.
impl From<Broken> for Problem {
    fn from(broken: Broken) -> Self {
        match broken.kind() {
            BrokenKind::Unavailable => {
                tracing::warn!(error = %broken, "answering 503");
                Self::new(
                    503,
                    "unavailable",
                    "The service cannot do this at the moment. The same request, with the same Idempotency-Key, may be sent again.",
                )
                .retry_after(1)
            }
            BrokenKind::Unknown => {
                tracing::warn!(error = %broken, "answering 503: it is not known whether it was done");
                Self::new(
                    503,
                    "outcome-unknown",
                    "It is not known whether this was done. With its Idempotency-Key the same request may be sent again; without one, look first.",
                )
                .retry_after(1)
            }
            BrokenKind::Defect => {
                tracing::error!(error = %broken, "answering 500");
                Self::new(
                    500,
                    "internal",
                    "This is a fault of ours. The trace id finds it in our logs.",
                )
            }
        }
    }
}

impl From<Faults> for Problem {
    fn from(faults: Faults) -> Self {
        let faults = faults.into_vec();
        let code =
            faults.iter().find_map(|f| f.code.clone()).unwrap_or_else(|| "invalid".to_owned());
        let mut problem =
            Self::new(422, code, "Some values cannot be accepted; `errors` says which and why.");
        problem.0.errors = faults;
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        Answer::problem(self).into_response()
    }
}

/// The body of a problem, for the API documents.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "describes what `Problem` writes")]
#[schema(as = Problem)]
pub(super) struct ProblemSchema {
    #[schema(example = "urn:hospital:problem:slot-unavailable")]
    r#type: String,
    #[schema(example = "Slot unavailable")]
    title: String,
    #[schema(example = 409)]
    status: u16,
    detail: String,
    /// Stable; branch on this.
    #[schema(example = "slot-unavailable")]
    code: String,
    #[schema(rename = "traceId")]
    trace_id: String,
    /// Where fields are at fault: which and why.
    errors: Option<Vec<Fault>>,
}
