//! Defects on purpose, for the simulation: what it could not catch, it would not be worth running for.

use std::sync::LazyLock;

/// What is broken in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// What is committed is published once, and forgotten: as if the bus were called after the commit, without an outbox.
    NoOutbox,
    /// What a consumer has applied is not remembered.
    NoInbox,
    /// Payments change a bill by what they read of it before.
    NoRowOrder,
}

/// Whether this defect was asked for.
pub fn is(defect: Defect) -> bool {
    static ASKED: LazyLock<Option<Defect>> = LazyLock::new(|| {
        #[expect(clippy::disallowed_methods, reason = "a switch of the simulation, not a setting")]
        let name = std::env::var("HOSPITAL_TEST_DEFECT").ok()?;
        match name.as_str() {
            "no-outbox" => Some(Defect::NoOutbox),
            "no-inbox" => Some(Defect::NoInbox),
            "no-row-order" => Some(Defect::NoRowOrder),
            _ => None,
        }
    });
    *ASKED == Some(defect)
}
