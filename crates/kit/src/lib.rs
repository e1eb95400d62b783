//! Runtime plumbing of the services, without a business noun in it.

pub mod auth;
pub mod bus;
pub mod client;
pub mod clock;
pub mod config;
pub mod consumer;
pub mod db;
pub mod dead_letter;
#[cfg(feature = "defects")]
pub mod defects;
pub mod http;
pub mod idempotency;
pub mod inbox;
pub mod migrate;
pub mod outbox;
pub mod outcome;
pub mod relay;
pub mod service;
pub mod shuttle;
pub mod telemetry;

/// A fifth of a booking's time was the C library's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
