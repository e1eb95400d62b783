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
    error::{KafkaError, RDKafkaErrorCode},
};
use tokio::sync::mpsc;

use super::{BusError, CALL, Consumer, Received, blocking, failed, received, tune};

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
            // What is stored is what is done; it is sent on its own, and when partitions are given up or the member leaves.
            .set("enable.auto.commit", "true")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed");
        tune(
            &mut settings,
            &[
                ("auto.commit.interval.ms", "100"),
                ("session.timeout.ms", "10000"),
                ("heartbeat.interval.ms", "1000"),
                ("max.poll.interval.ms", "600000"),
                ("fetch.wait.max.ms", "250"),
                ("topic.metadata.refresh.interval.ms", "5000"),
            ],
        );
        let (revoked, revocations) = mpsc::unbounded_channel();
        let consumer: StreamConsumer<Context> =
            settings.create_with_context(Context { revoked }).map_err(|e| failed(&e))?;
        consumer.subscribe(topics).map_err(|e| failed(&e))?;
        Ok(Self { consumer: Some(Arc::new(consumer)), revocations })
    }

    fn consumer(&self) -> &Arc<StreamConsumer<Context>> {
        self.consumer.as_ref().expect("taken only when dropped")
    }

    /// Partitions that were taken away since this was last asked.
    fn revoked(&mut self) -> HashSet<(String, i32)> {
        std::iter::from_fn(|| self.revocations.try_recv().ok()).collect()
    }
}

#[async_trait]
impl Consumer for Member {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Vec<Received>, BusError> {
        let consumer = Arc::clone(self.consumer());
        let mut batch: Vec<Received> = Vec::new();
        while batch.len() < max {
            let next = if batch.is_empty() {
                tokio::time::timeout(wait, consumer.recv()).await.ok()
            } else {
                // What is here already; nothing is waited for.
                futures_util::FutureExt::now_or_never(consumer.recv())
            };
            // Partitions come and go only while a record is being received, so before it. One that went takes what was received of it
            // before; it may be this member's again already, and the record that has come now the first of its new share.
            let revoked = self.revoked();
            batch.retain(|r| !revoked.contains(&(r.topic.clone(), r.partition)));
            match next {
                Some(message) => batch.push(received(&message.map_err(|e| failed(&e))?)),
                None => break,
            }
        }
        Ok(batch)
    }

    async fn commit(&mut self, done: &[Received]) -> Result<(), BusError> {
        let revoked = self.revoked();
        let mut next: BTreeMap<(String, i32), i64> = BTreeMap::new();
        for record in done {
            let offset = next.entry((record.topic.clone(), record.partition)).or_default();
            *offset = (*offset).max(record.offset + 1);
        }
        if next.is_empty() {
            return Ok(());
        }
        if next.keys().any(|partition| revoked.contains(partition)) {
            return Err(BusError::Revoked);
        }
        let mut list = TopicPartitionList::with_capacity(next.len());
        for ((topic, partition), offset) in &next {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
                .map_err(|e| failed(&e))?;
        }
        match self.consumer().store_offsets(&list) {
            // Taken away since the last poll.
            Err(KafkaError::StoreOffset(RDKafkaErrorCode::State)) => Err(BusError::Revoked),
            other => other.map_err(|e| failed(&e)),
        }
    }

    async fn rewind(&mut self) -> Result<(), BusError> {
        let consumer = Arc::clone(self.consumer());
        blocking(move || {
            let assigned = consumer.assignment().map_err(|e| failed(&e))?;
            if assigned.count() == 0 {
                return Ok(());
            }
            match consumer.commit_consumer_state(CommitMode::Sync) {
                Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
                Err(e) => return Err(failed(&e)),
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Instant};

    use rdkafka::{
        mocking::MockCluster,
        producer::{FutureProducer, FutureRecord},
        util::Timeout,
    };

    use super::*;

    const TOPIC: &str = "shared";

    fn client(servers: &str) -> ClientConfig {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", servers);
        settings
    }

    fn parts(consumer: &StreamConsumer<Context>) -> usize {
        consumer.assignment().map_or(0, |list| list.count())
    }

    #[tokio::test(flavor = "multi_thread")]
    #[expect(clippy::disallowed_methods, reason = "awaited below")]
    async fn a_partition_that_comes_back_within_one_poll_loses_no_record() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, 4, 1).unwrap();
        let servers = cluster.bootstrap_servers();
        let join = || Member::join(client(&servers), "group", &[TOPIC]).unwrap();
        let patience = Instant::now();
        let waits = || assert!(patience.elapsed() < Duration::from_secs(60), "no rebalance");

        let mut one = join();
        while parts(one.consumer()) < 4 {
            one.poll(100, Duration::from_millis(50)).await.unwrap();
            waits();
        }
        // One poll, from before the other joins until there is a record.
        let seen_of_one = Arc::clone(one.consumer());
        let long = tokio::spawn(async move {
            let batch = one.poll(100, Duration::from_secs(60)).await.unwrap();
            (one, batch)
        });
        let mut two = join();
        while parts(two.consumer()) != 2 || parts(&seen_of_one) != 2 {
            two.poll(100, Duration::from_millis(50)).await.unwrap();
            waits();
        }

        let producer: FutureProducer = client(&servers).create().unwrap();
        for partition in 0..4 {
            let record = FutureRecord::<str, str>::to(TOPIC).partition(partition).payload("one");
            producer.send(record, Timeout::Never).await.unwrap();
        }
        let (mut one, batch) = long.await.unwrap();
        let mut came: BTreeSet<i32> = batch.iter().map(|r| r.partition).collect();
        let patience = Instant::now();
        while came.len() < 4 {
            assert!(patience.elapsed() < Duration::from_secs(10), "only {came:?} of four came");
            for member in [&mut one, &mut two] {
                let batch = member.poll(100, Duration::from_millis(50)).await.unwrap();
                came.extend(batch.iter().map(|r| r.partition));
            }
        }
    }
}
