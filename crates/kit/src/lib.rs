//! Runtime plumbing of the services, without a business noun in it.

pub mod bus;
pub mod clock;
pub mod consumer;
pub mod db;
pub mod http;
pub mod idempotency;
pub mod inbox;
pub mod migrate;
pub mod outbox;
pub mod outcome;
pub mod relay;
