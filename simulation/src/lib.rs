#![doc = include_str!("../README.md")]

pub mod menu;
pub mod proxy;
pub mod seed;

pub mod client;
pub mod day;
pub mod platform;
pub mod record;
pub mod world;

pub mod facts;
pub mod oracle;

pub mod inject;
pub mod recovery;
pub mod round;
pub mod run;
pub mod summary;

use std::future::Future;

use tokio::task::{AbortHandle, JoinHandle};

/// Which bus events travel on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Bus {
    Kafka,
    Postgres,
}

impl Bus {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Postgres => "postgres",
        }
    }
}

/// What can be broken on purpose, to see that it is caught. Compiled into nothing that is shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Defect {
    /// Events are published after the commit, past the outbox
    NoOutbox,
    /// What a consumer has applied is not remembered
    NoInbox,
    /// Payments change a bill by what they read before, without its row's order
    NoRowOrder,
}

impl Defect {
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoOutbox => "no-outbox",
            Self::NoInbox => "no-inbox",
            Self::NoRowOrder => "no-row-order",
        }
    }
}

fn spawn_task<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "the simulation's tasks end with its process")]
    tokio::spawn(future)
}

fn spawn<F>(future: F) -> AbortHandle
where
    F: Future<Output: Send> + Send + 'static,
{
    spawn_task(future).abort_handle()
}
