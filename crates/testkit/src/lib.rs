//! What tests stand on: a private PostgreSQL per test process, a database per test, services in-process.

mod database;
mod eventually;

pub use database::{TestDb, database_from, empty_database};
pub use eventually::eventually;
