//! The W3C trace context of the request that is being handled.

use std::future::Future;

use std::fmt::Write;

use uuid::Uuid;

tokio::task_local! {
    static CURRENT: Trace;
}

/// A trace context: taken from the client's `traceparent`, or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    traceparent: String,
}

impl Trace {
    /// Goes on with a client's trace under a span of its own; a malformed or missing one begins a new trace.
    pub fn from_header(traceparent: Option<&str>) -> Self {
        let span = random_hex(16);
        match traceparent.filter(|t| is_traceparent(t)) {
            Some(t) => Self { traceparent: format!("00-{}-{span}-{}", &t[3..35], &t[53..55]) },
            None => Self { traceparent: format!("00-{}-{span}-01", random_hex(32)) },
        }
    }

    /// The header's value for what is called next.
    pub fn traceparent(&self) -> &str {
        &self.traceparent
    }

    /// The id in a `traceparent` of ours.
    pub fn id_in(traceparent: &str) -> Option<&str> {
        traceparent.get(3..35)
    }

    /// The 32 hexadecimal digits by which logs, events and answers of one journey are found.
    pub fn id(&self) -> &str {
        &self.traceparent[3..35]
    }

    /// Runs a future as part of this trace.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }
}

/// The trace of the request that this task handles, if it handles one.
pub fn current_trace() -> Option<Trace> {
    CURRENT.try_with(Trace::clone).ok()
}

fn is_traceparent(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 55
        && bytes.iter().enumerate().all(|(i, b)| match i {
            2 | 35 | 52 => *b == b'-',
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        })
        && &text[..2] == "00"
        && text[3..35].bytes().any(|b| b != b'0')
        && text[36..52].bytes().any(|b| b != b'0')
}

#[expect(clippy::disallowed_methods, reason = "random digits, not an id of anything")]
fn random_hex(digits: usize) -> String {
    let mut text = String::with_capacity(32);
    write!(text, "{:032x}", Uuid::new_v4().as_u128()).expect("a String takes what is written");
    // The fixed version digit stands at 12: the tail is as random as the whole.
    text[32 - digits..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_trace_goes_on_under_a_new_span() {
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = Trace::from_header(Some(given));
        assert_eq!(trace.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_ne!(trace.traceparent(), given);
        assert!(is_traceparent(trace.traceparent()));
    }

    #[test]
    fn a_malformed_trace_is_replaced() {
        for given in [
            "",
            "x",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-0",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            let trace = Trace::from_header(Some(given));
            assert!(is_traceparent(trace.traceparent()));
            assert_ne!(trace.id(), given.get(3..35).unwrap_or_default());
        }
    }
}
