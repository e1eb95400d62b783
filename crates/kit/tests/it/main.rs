//! The kit against a real PostgreSQL.

mod doors;
mod relay;
mod support;
