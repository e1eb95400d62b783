//! A member of a consumer group.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use rdkafka::{
    ClientConfig, ClientContext, Offset, TopicPartitionList,
    consumer::{
        BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance, StreamConsumer,
    },
};
use tokio::sync::mpsc;

use super::{BusError, CALL, Consumer, Received, blocking, failed, received};

/// Tells a member which partitions were taken from it.
struct Context {
    revoked: mpsc::UnboundedSender<(String, i32)>,
}

impl ClientContext for Context {}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            for element in partitions.elements() {
                // A member that is gone needs no telling.
                let _ = self.revoked.send((element.topic().to_owned(), element.partition()));
            }
        }
    }
}

pub(super) struct Member {
    consumer: Option<Arc<StreamConsumer<Context>>>,
    revocations: mpsc::UnboundedReceiver<(String, i32)>,
    /// Partitions that were taken away since the last poll.
    lost: HashSet<(String, i32)>,
}

impl Drop for Member {
    fn drop(&mut self) {
        // Closing leaves the group, which can take long when the brokers are away: not on the runtime's threads.
        if let Some(consumer) = self.consumer.take() {
            std::thread::spawn(move || drop(consumer));
        }
    }
}

impl Member {
    /// Joins a group; what it is given is known at the first poll.
    pub(super) fn join(
        mut settings: ClientConfig,
        group: &str,
        topics: &[&str],
    ) -> Result<Self, BusError> {
        settings
            .set("group.id", group)
            .set("group.protocol", "classic")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "1000")
            .set("max.poll.interval.ms", "600000")
            .set("fetch.wait.max.ms", "50")
            .set("topic.metadata.refresh.interval.ms", "5000");
        let (revoked, revocations) = mpsc::unbounded_channel();
        let consumer: StreamConsumer<Context> =
            settings.create_with_context(Context { revoked }).map_err(|e| failed(&e))?;
        consumer.subscribe(topics).map_err(|e| failed(&e))?;
        Ok(Self { consumer: Some(Arc::new(consumer)), revocations, lost: HashSet::new() })
    }

    fn consumer(&self) -> &Arc<StreamConsumer<Context>> {
        self.consumer.as_ref().expect("taken only when dropped")
    }

    fn note_revocations(&mut self) {
        while let Ok(partition) = self.revocations.try_recv() {
            self.lost.insert(partition);
        }
    }
}

#[async_trait]
impl Consumer for Member {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Vec<Received>, BusError> {
        self.note_revocations();
        self.lost.clear();
        let consumer = Arc::clone(self.consumer());
        let mut batch = Vec::new();
        let first = tokio::time::timeout(wait, consumer.recv()).await;
        if let Ok(message) = first {
            batch.push(received(&message.map_err(|e| failed(&e))?));
            // What is here already; nothing is waited for.
            while batch.len() < max {
                match futures_util::FutureExt::now_or_never(consumer.recv()) {
                    Some(message) => batch.push(received(&message.map_err(|e| failed(&e))?)),
                    None => break,
                }
            }
        }
        self.note_revocations();
        let lost = &self.lost;
        batch.retain(|r| !lost.contains(&(r.topic.clone(), r.partition)));
        Ok(batch)
    }

    async fn commit(&mut self, done: &[Received]) -> Result<(), BusError> {
        self.note_revocations();
        let mut next: BTreeMap<(String, i32), i64> = BTreeMap::new();
        for record in done {
            let offset = next.entry((record.topic.clone(), record.partition)).or_default();
            *offset = (*offset).max(record.offset + 1);
        }
        if next.is_empty() {
            return Ok(());
        }
        if next.keys().any(|partition| self.lost.contains(partition)) {
            return Err(BusError::Revoked);
        }
        let consumer = Arc::clone(self.consumer());
        blocking(move || {
            let mut list = TopicPartitionList::new();
            for ((topic, partition), offset) in &next {
                list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
                    .map_err(|e| failed(&e))?;
            }
            consumer.commit(&list, CommitMode::Sync).map_err(|e| failed(&e))
        })
        .await
    }

    async fn rewind(&mut self) -> Result<(), BusError> {
        let consumer = Arc::clone(self.consumer());
        blocking(move || {
            let assigned = consumer.assignment().map_err(|e| failed(&e))?;
            if assigned.count() == 0 {
                return Ok(());
            }
            let committed = consumer.committed_offsets(assigned, CALL).map_err(|e| failed(&e))?;
            for element in committed.elements() {
                let to = match element.offset() {
                    Offset::Offset(offset) => Offset::Offset(offset),
                    _ => Offset::Beginning,
                };
                consumer
                    .seek(element.topic(), element.partition(), to, CALL)
                    .map_err(|e| failed(&e))?;
            }
            Ok(())
        })
        .await
    }
}
