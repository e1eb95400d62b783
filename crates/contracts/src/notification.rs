//! The notification service: its API bodies. It publishes nothing.

mod api;

pub use api::*;
