//! The appointment service: its events and API bodies.

mod events;

pub use events::*;
