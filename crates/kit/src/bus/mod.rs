//! The event bus as a port: topics with keyed partitions, consumer groups with stored offsets, replay.
//!
//! Two implementations give the same guarantees and pass the same contract suite: [`kafka`] for hospitals that run Apache
//! Kafka, [`postgres`] for a machine with nothing on it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;

pub mod kafka;
pub mod postgres;

/// A record to publish. Records with equal keys keep their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub topic: String,
    pub key: String,
    /// Text headers, in order; CloudEvents attributes travel here.
    pub headers: Vec<(String, String)>,
    pub value: Vec<u8>,
}

/// A record as a consumer or a reader sees it.
#[derive(Clone, Debug)]
pub struct Received {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// `None` for records that a foreign producer wrote without one.
    pub key: Option<String>,
    /// Headers whose value is not UTF-8 are given lossily.
    pub headers: Vec<(String, String)>,
    /// Empty for a tombstone.
    pub value: Vec<u8>,
    /// When the broker or the producer stamped it, in milliseconds since the epoch.
    pub timestamp_ms: i64,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// The largest record that is taken, in bytes of key, headers and value: what Kafka takes unless told otherwise.
pub const RECORD_BYTES_MAX: usize = 1_000_000;

/// A topic as the platform wants it.
#[derive(Clone, Debug)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: i32,
    /// How long records are kept; `None` keeps them for ever.
    pub retention: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Worth another try after a pause: the broker is away, a leader is being elected, a connection was cut.
    #[error("the bus is not available: {0}")]
    Unavailable(String),
    /// The partition now belongs to another member of the group: drop the batch, its records come again elsewhere.
    #[error("this consumer no longer owns the partition")]
    Revoked,
    /// Another try changes nothing: a wrong configuration, an unknown topic, a record that is too large.
    #[error("the bus refused: {0}")]
    Refused(String),
}

/// Where a group or a reader is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    Beginning,
    End,
    Offset(i64),
    /// The first record stamped at or after this time, in milliseconds since the epoch.
    Time(i64),
}

#[async_trait]
pub trait Bus: Send + Sync {
    /// Creates what is missing; says clearly when an existing topic has another number of partitions. Idempotent, and safe
    /// when several services call it at once.
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), BusError>;

    /// Publishes all records and returns when every one is acknowledged durably. On an error any part of them may have been
    /// published: publish the whole batch again.
    async fn publish(&self, records: Vec<Record>) -> Result<(), BusError>;

    /// Joins a consumer group. A group without a stored offset begins at the beginning. Members of one group share the
    /// partitions; each record goes to one member at a time.
    async fn subscribe(&self, group: &str, topics: &[&str]) -> Result<Box<dyn Consumer>, BusError>;

    /// Answers whether the bus can be reached, within about a second.
    async fn ready(&self) -> Result<(), BusError>;

    /// Moves a group's stored offsets of a topic (all partitions, or one). Members that run see it after they rejoin.
    async fn reset(
        &self,
        group: &str,
        topic: &str,
        partition: Option<i32>,
        to: Position,
    ) -> Result<(), BusError>;

    /// Removes what is past its topic's retention, where the bus does not do that by itself. Called now and then by every service.
    async fn maintain(&self) -> Result<(), BusError> {
        Ok(())
    }

    /// How many records of the topic the group has still to commit, per partition.
    async fn lag(&self, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>, BusError>;

    /// How many records of each of these topics the group has still to commit.
    async fn lags(&self, group: &str, topics: &[&str]) -> Result<Vec<i64>, BusError> {
        let mut lags = Vec::with_capacity(topics.len());
        for topic in topics {
            lags.push(self.lag(group, topic).await?.values().sum());
        }
        Ok(lags)
    }

    /// Reads a topic without a group, from a position to what is its end at the time of the call. Empty when the topic does not
    /// exist. For `verify`, replay and tools.
    async fn read(&self, topic: &str, from: Position) -> Result<Vec<Received>, BusError>;
}

/// A member of a consumer group.
#[async_trait]
pub trait Consumer: Send {
    /// Waits up to `wait` for records and returns at most `max` of them; the records of one partition are in order. An empty
    /// batch is no error. What was returned is not returned again by this member unless it is rewound or reassigned.
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Vec<Received>, BusError>;

    /// Stores that everything up to and including these records is done. A bus may send it a moment later, together with what follows, at
    /// the latest when a partition is given up or the member leaves; after a crash what was not sent comes again.
    /// [`BusError::Revoked`] when a partition of theirs went to another member meanwhile.
    async fn commit(&mut self, done: &[Received]) -> Result<(), BusError>;

    /// Returns to the last committed offsets: what was polled and not committed comes again.
    async fn rewind(&mut self) -> Result<(), BusError>;
}

/// The bus that a service was configured with.
pub type SharedBus = Arc<dyn Bus>;
