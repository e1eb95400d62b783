//! What travels between services and to clients: events and API bodies, one module per owning service.
//!
//! Events are JSON, camelCase, and change additively only: the golden files under `golden/` hold every version ever published,
//! and all of them must still parse. Events carry ids and amounts; names, contact points and clinical text never.

pub mod appointment;
pub mod billing;
mod catalogue;
mod event;
pub mod notification;
pub mod patient;

pub use catalogue::{EventType, PUBLISHERS, catalogue, publisher_of};
pub use event::{CloudEvent, DomainEvent, EventError, TOPICS};
