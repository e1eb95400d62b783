//! Runtime plumbing of the services, without a business noun in it.

pub mod auth;
pub mod bus;
pub mod client;
pub mod clock;
pub mod config;
pub mod consumer;
pub mod db;
pub mod dead_letter;
pub mod http;
pub mod idempotency;
pub mod inbox;
pub mod migrate;
pub mod outbox;
pub mod outcome;
pub mod relay;
pub mod service;
pub mod telemetry;
