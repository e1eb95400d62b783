//! The patient service: its events and API bodies.

mod api;
mod events;

pub use api::*;
pub use events::*;
