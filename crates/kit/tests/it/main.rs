//! The kit against a real PostgreSQL.

#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "tests spawn what ends with them")]

mod doors;
mod relay;
mod support;
