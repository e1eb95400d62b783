//! The kit against a real PostgreSQL.

#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "tests spawn what ends with them")]

mod bus;
mod crowds;
mod doors;
mod jobs;
mod maintenance;
mod moved;
mod readiness;
mod relay;
mod shedding;
mod support;
mod together;
mod transport;
