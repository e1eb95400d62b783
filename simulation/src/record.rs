//! The simulation's own log: what was asked for, under which key, and what came back. Kept outside the platform, it is the oracle.

use serde_json::Value;
use uuid::Uuid;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Register,
    /// Changes a patient.
    Change,
    Book,
    Reschedule,
    Cancel,
    Arrive,
    CheckIn,
    Complete,
    PayCash,
    PayCard,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Change => "change",
            Self::Book => "book",
            Self::Reschedule => "reschedule",
            Self::Cancel => "cancel",
            Self::Arrive => "arrive",
            Self::CheckIn => "check in",
            Self::Complete => "complete",
            Self::PayCash => "pay cash",
            Self::PayCard => "pay card",
        }
    }

    /// The service that is asked, by its place among them.
    pub const fn service(self) -> usize {
        match self {
            Self::Register | Self::Change => 0,
            Self::PayCash | Self::PayCard => 2,
            _ => 1,
        }
    }

    /// The status that an appointment has after such a step.
    pub const fn leads_to(self) -> Option<&'static str> {
        match self {
            Self::Book | Self::Reschedule => Some("booked"),
            Self::Cancel => Some("cancelled"),
            Self::Arrive => Some("arrived"),
            Self::CheckIn => Some("checked-in"),
            Self::Complete => Some("completed"),
            Self::Register | Self::Change | Self::PayCash | Self::PayCard => None,
        }
    }
}

/// An answer as a client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// As it came: repetitions must be equal to the byte.
    pub text: String,
}

impl Answer {
    pub fn body(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    pub fn code(&self) -> String {
        self.body()["code"].as_str().unwrap_or_default().to_owned()
    }

    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// Whether asking again under the same key cannot change it. What was shed, timed out or is still running can.
    pub fn is_final(&self) -> bool {
        self.is_success()
            || ((400..500).contains(&self.status)
                && !matches!(self.status, 401 | 408 | 425 | 429)
                && !(self.status == 409 && self.code() == "idempotency-key-in-progress"))
    }
}

/// One request under one key, and everything that came back for it.
#[derive(Clone, Debug)]
pub struct Request {
    pub kind: Kind,
    pub caller: String,
    /// The idempotency key. It also stands in a member of the body that the platform keeps, so that its effects can be found: the family
    /// name, the reason.
    pub key: String,
    pub path: String,
    pub body: Value,
    /// Whom it is about: the patient, the appointment or the bill.
    pub subject: Option<Uuid>,
    /// Whether the key is sent. Without one nothing is sent twice, and what has no answer stays without.
    pub keyed: bool,
    /// What must not be accepted, whatever happens.
    pub bad: bool,
    /// Answers in order; `None` is one that was lost.
    pub answers: Vec<Option<Answer>>,
}

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    Accepted(&'a Answer),
    Refused(&'a Answer),
    /// Only the platform knows.
    Open,
}

impl Request {
    pub fn finals(&self) -> impl Iterator<Item = &Answer> {
        self.answers.iter().flatten().filter(|answer| answer.is_final())
    }

    pub fn outcome(&self) -> Outcome<'_> {
        if let Some(accepted) = self.finals().find(|answer| answer.is_success()) {
            return Outcome::Accepted(accepted);
        }
        self.finals().next().map_or(Outcome::Open, Outcome::Refused)
    }

    /// Whether an answer came that a client can work with.
    pub fn is_answered(&self) -> bool {
        self.finals().next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, code: &str) -> Option<Answer> {
        Some(Answer { status, text: format!("{{\"code\": \"{code}\"}}") })
    }

    #[test]
    fn what_may_pass_is_not_final() {
        let mut request = Request {
            kind: Kind::PayCash,
            caller: String::new(),
            key: String::new(),
            path: String::new(),
            body: Value::Null,
            subject: None,
            keyed: true,
            bad: false,
            answers: vec![
                None,
                answer(503, "unavailable"),
                answer(429, ""),
                answer(409, "idempotency-key-in-progress"),
            ],
        };
        assert_eq!(request.outcome(), Outcome::Open);
        request.answers.push(answer(409, "overpayment"));
        assert!(matches!(request.outcome(), Outcome::Refused(a) if a.status == 409));
        request.answers.push(answer(201, ""));
        assert!(matches!(request.outcome(), Outcome::Accepted(a) if a.status == 201));
    }
}
