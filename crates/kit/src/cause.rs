//! Who does something, and why.

use hospital_contracts::CloudEvent;
use hospital_types::Actor;

use crate::http::current_trace;

/// Who asks for a command or a reading, and the trace that it belongs to.
///
/// A command has one, its transaction has none: several commands share a transaction, and what each
/// of them writes (events, history, stored responses) names its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Who does it.
    pub actor: Actor,
    /// For whom the actor does it, if for somebody else. No token says so as yet.
    pub on_behalf_of: Option<String>,
    /// The W3C `traceparent`; what comes of it carries it on.
    pub trace: Option<String>,
}

impl Cause {
    /// The request that this task handles, made by `actor`.
    pub fn request(actor: Actor) -> Self {
        let trace = current_trace().map(|trace| trace.traceparent().to_owned());
        Self { actor, on_behalf_of: None, trace }
    }

    /// An event, to which a consumer does something.
    pub fn event(consumer: &str, event: &CloudEvent) -> Self {
        Self { trace: event.traceparent.clone(), ..Self::system(consumer) }
    }

    /// The platform itself: what nobody asked for just now.
    pub fn system(name: &str) -> Self {
        Self { actor: Actor::system(name), on_behalf_of: None, trace: None }
    }
}
