//! Every SQL statement of the service. A write is a plain function that queues; a read is async and sends what is queued before it.

mod appointments;
mod bookings;
mod practitioners;

use hospital_contracts::patient::Identifier;

pub use appointments::*;
pub use bookings::*;
pub use practitioners::*;

/// Identifiers as two columns, in one order everywhere, so that two requests with the same ones wait for each other instead of
/// deadlocking.
fn columns(identifiers: &[Identifier]) -> (Vec<String>, Vec<String>) {
    let mut sorted: Vec<_> = identifiers.iter().collect();
    sorted.sort();
    sorted.into_iter().map(|one| (one.system.clone(), one.value.clone())).unzip()
}
