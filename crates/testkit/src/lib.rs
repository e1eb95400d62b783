//! What tests stand on: a private PostgreSQL per test process, a database per test, services in-process, a mail server, and real Kafka where a test wants it.

mod app;
mod database;
mod eventually;
mod kafka;
pub mod mail_server;
mod processes;

pub use app::{Replica, Response, TestApp, bus_apart, read};
pub use database::{Commits, TestDb, database_from, empty_database, empty_database_with};
pub use eventually::{eventually, eventually_within, make_topics};
pub use kafka::{Kafka, KafkaMode};
pub use processes::{PATIENCE, Running, Signal, output, output_within, signal};
