//! The billing service: its events and API bodies.

mod api;
mod events;

pub use api::*;
pub use events::*;
