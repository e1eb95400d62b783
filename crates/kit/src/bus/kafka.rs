//! Apache Kafka, by librdkafka.
//!
//! `acks=all` and an idempotent producer; offsets are committed by hand, after the database.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{
        BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance, StreamConsumer,
    },
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Header, Headers, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer},
    util::Timeout,
};
use tokio::sync::mpsc;

use super::{Bus, BusError, Consumer, Position, Received, Record, TopicSpec};
use crate::config::BusConfig;

/// A Kafka cluster.
pub struct KafkaBus {
    settings: ClientConfig,
    replication_factor: i32,
    producer: Mutex<FutureProducer>,
}

const CALL: Duration = Duration::from_secs(5);

impl KafkaBus {
    /// Makes the bus; nothing is connected yet, so this succeeds while the brokers are away.
    pub fn new(bus: &BusConfig, client_id: &str) -> Result<Self, BusError> {
        let mut settings = ClientConfig::new();
        settings
            .set("bootstrap.servers", bus.bootstrap_servers.as_deref().unwrap_or_default())
            .set("client.id", client_id)
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.max.ms", "1000")
            .set("log_level", "3");
        for (name, value) in &bus.properties {
            settings.set(name, value.expose());
        }
        let producer = producer(&settings)?;
        Ok(Self {
            settings,
            replication_factor: bus.replication_factor,
            producer: Mutex::new(producer),
        })
    }

    fn producer(&self) -> FutureProducer {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// After a fatal error a producer never sends again; what was not acknowledged is published again by the relay.
    fn rebuild_after(&self, dead: &FutureProducer) -> Result<(), BusError> {
        if dead.client().fatal_error().is_some() {
            tracing::warn!("the Kafka producer died and is built anew");
            *self.producer.lock().unwrap_or_else(PoisonError::into_inner) =
                producer(&self.settings)?;
        }
        Ok(())
    }

    /// A consumer that belongs to no group's rebalancing: for offsets and for reading.
    fn reader(&self, group: &str) -> Result<BaseConsumer, BusError> {
        let mut settings = self.settings.clone();
        settings
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "false");
        settings.set("auto.offset.reset", "earliest");
        settings.create().map_err(|e| failed(&e))
    }
}

fn producer(settings: &ClientConfig) -> Result<FutureProducer, BusError> {
    let mut settings = settings.clone();
    settings
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "300000")
        .set("linger.ms", "2")
        // Java's own partitioner, so that other producers' keys find the same partition.
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.messages", "200000");
    settings.create().map_err(|e| failed(&e))
}

fn failed(e: &KafkaError) -> BusError {
    use RDKafkaErrorCode as Code;
    match e.rdkafka_error_code() {
        Some(
            Code::MessageSizeTooLarge
            | Code::TopicAuthorizationFailed
            | Code::InvalidTopic
            | Code::InvalidReplicationFactor
            | Code::InvalidArgument,
        ) => BusError::Refused(e.to_string()),
        Some(
            Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::RebalanceInProgress
            | Code::StaleMemberEpoch,
        ) => BusError::Revoked,
        Some(_) => BusError::Unavailable(e.to_string()),
        None => BusError::Refused(e.to_string()),
    }
}

/// Runs a call of librdkafka that blocks. Its handles may take long to close when the brokers are away, so they are closed there too.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, BusError> + Send + 'static,
) -> Result<T, BusError> {
    tokio::task::spawn_blocking(call)
        .await
        .unwrap_or_else(|e| Err(BusError::Unavailable(format!("the call did not finish: {e}"))))
}

fn headers_of(record: &Record) -> OwnedHeaders {
    record
        .headers
        .iter()
        .fold(OwnedHeaders::new_with_capacity(record.headers.len()), |all, (name, value)| {
            all.insert(Header { key: name, value: Some(value) })
        })
}

fn received(message: &BorrowedMessage<'_>) -> Received {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().map(|headers| {
        headers.iter().map(|h| (h.key.to_owned(), h.value.map(text).unwrap_or_default())).collect()
    });
    Received {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(text),
        headers: headers.unwrap_or_default(),
        value: message.payload().unwrap_or_default().to_vec(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
    }
}

fn partitions_of<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
) -> Result<Vec<i32>, BusError> {
    let metadata = consumer.fetch_metadata(Some(topic), CALL).map_err(|e| failed(&e))?;
    Ok(metadata.topics().iter().flat_map(|t| t.partitions()).map(|p| p.id()).collect())
}

#[async_trait]
impl Bus for KafkaBus {
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), BusError> {
        let admin: AdminClient<DefaultClientContext> =
            self.settings.create().map_err(|e| failed(&e))?;
        let retention: Vec<String> = topics
            .iter()
            .map(|t| t.retention.map_or_else(|| "-1".to_owned(), |r| r.as_millis().to_string()))
            .collect();
        let wanted: Vec<NewTopic<'_>> = topics
            .iter()
            .zip(&retention)
            .map(|(t, retention)| {
                NewTopic::new(
                    &t.name,
                    t.partitions,
                    TopicReplication::Fixed(self.replication_factor),
                )
                .set("retention.ms", retention)
            })
            .collect();
        let options = AdminOptions::new().operation_timeout(Some(Timeout::After(CALL)));
        for made in admin.create_topics(&wanted, &options).await.map_err(|e| failed(&e))? {
            match made {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, RDKafkaErrorCode::InvalidReplicationFactor)) => {
                    return Err(BusError::Refused(format!(
                        "topic {topic} cannot have {} replicas: the cluster has fewer brokers; set bus.replication_factor",
                        self.replication_factor
                    )));
                }
                Err((topic, code)) => {
                    return Err(BusError::Unavailable(format!("creating topic {topic}: {code}")));
                }
            }
        }
        let reader = self.reader("hospital-admin")?;
        let specs = topics.to_vec();
        blocking(move || {
            for spec in &specs {
                let found = partitions_of(&reader, &spec.name)?.len();
                if i32::try_from(found) != Ok(spec.partitions) {
                    let (name, wanted) = (&spec.name, spec.partitions);
                    return Err(BusError::Refused(format!(
                        "topic {name} has {found} partitions and the settings say {wanted}: set bus.partitions to what it has"
                    )));
                }
            }
            Ok(())
        })
        .await
    }

    async fn publish(&self, records: Vec<Record>) -> Result<(), BusError> {
        let producer = self.producer();
        let mut deliveries = Vec::with_capacity(records.len());
        for record in &records {
            let mut send = FutureRecord::to(&record.topic)
                .key(&record.key)
                .payload(&record.value)
                .headers(headers_of(record));
            // All of them are queued before the first is awaited; the order of a key's records is the queue's.
            loop {
                match producer.send_result(send) {
                    Ok(delivery) => break deliveries.push(delivery),
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                        send = back;
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Err((e, _)) => {
                        self.rebuild_after(&producer)?;
                        return Err(failed(&e));
                    }
                }
            }
        }
        let delivered = tokio::time::timeout(Duration::from_secs(15), join_all(deliveries)).await;
        let Ok(delivered) = delivered else {
            return Err(BusError::Unavailable(
                "the brokers have not acknowledged within 15 s".to_owned(),
            ));
        };
        for delivery in delivered {
            match delivery {
                Ok(Ok(_)) => {}
                Ok(Err((e, _))) => {
                    self.rebuild_after(&producer)?;
                    return Err(match failed(&e) {
                        BusError::Revoked => BusError::Unavailable(e.to_string()),
                        other => other,
                    });
                }
                Err(_) => return Err(BusError::Unavailable("the producer went away".to_owned())),
            }
        }
        Ok(())
    }

    async fn subscribe(&self, group: &str, topics: &[&str]) -> Result<Box<dyn Consumer>, BusError> {
        let mut settings = self.settings.clone();
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
        Ok(Box::new(Member {
            consumer: Some(Arc::new(consumer)),
            revocations,
            lost: HashSet::new(),
        }))
    }

    async fn ready(&self) -> Result<(), BusError> {
        let producer = self.producer();
        blocking(move || {
            let metadata = producer
                .client()
                .fetch_metadata(Some("appointment.booked"), Duration::from_secs(1));
            metadata.map(|_| ()).map_err(|e| failed(&e))
        })
        .await
    }

    async fn reset(
        &self,
        group: &str,
        topic: &str,
        partition: Option<i32>,
        to: Position,
    ) -> Result<(), BusError> {
        let reader = self.reader(group)?;
        let topic = topic.to_owned();
        blocking(move || {
            let mut list = TopicPartitionList::new();
            for p in partitions_of(&reader, &topic)?
                .into_iter()
                .filter(|p| partition.is_none_or(|own| own == *p))
            {
                let (low, high) =
                    reader.fetch_watermarks(&topic, p, CALL).map_err(|e| failed(&e))?;
                let offset = match to {
                    Position::Beginning => low,
                    Position::End => high,
                    Position::Offset(offset) => offset.clamp(low, high),
                    Position::Time(ms) => at_time(&reader, &topic, p, ms)?.unwrap_or(high),
                };
                list.add_partition_offset(&topic, p, Offset::Offset(offset))
                    .map_err(|e| failed(&e))?;
            }
            reader.commit(&list, CommitMode::Sync).map_err(|e| failed(&e))
        })
        .await
    }

    async fn lag(&self, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>, BusError> {
        let reader = self.reader(group)?;
        let topic = topic.to_owned();
        blocking(move || {
            let mut list = TopicPartitionList::new();
            for p in partitions_of(&reader, &topic)? {
                list.add_partition(&topic, p);
            }
            let committed = reader.committed_offsets(list, CALL).map_err(|e| failed(&e))?;
            let mut lag = BTreeMap::new();
            for element in committed.elements() {
                let p = element.partition();
                let (low, high) =
                    reader.fetch_watermarks(&topic, p, CALL).map_err(|e| failed(&e))?;
                let done = element.offset().to_raw().filter(|o| *o >= 0).unwrap_or(low);
                lag.insert(p, high - done);
            }
            Ok(lag)
        })
        .await
    }

    async fn read(&self, topic: &str, from: Position) -> Result<Vec<Received>, BusError> {
        let reader = self.reader("hospital-reader")?;
        let topic = topic.to_owned();
        blocking(move || read_all(&reader, &topic, from)).await
    }
}

fn at_time(
    reader: &BaseConsumer,
    topic: &str,
    partition: i32,
    ms: i64,
) -> Result<Option<i64>, BusError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(ms)).map_err(|e| failed(&e))?;
    let found = reader.offsets_for_times(list, CALL).map_err(|e| failed(&e))?;
    Ok(found.elements().first().and_then(|e| e.offset().to_raw()).filter(|o| *o >= 0))
}

fn read_all(reader: &BaseConsumer, topic: &str, from: Position) -> Result<Vec<Received>, BusError> {
    let mut list = TopicPartitionList::new();
    let mut ends = BTreeMap::new();
    for p in partitions_of(reader, topic)? {
        let (low, high) = reader.fetch_watermarks(topic, p, CALL).map_err(|e| failed(&e))?;
        let begin = match from {
            Position::Beginning => low,
            Position::End => high,
            Position::Offset(offset) => offset.clamp(low, high),
            Position::Time(ms) => at_time(reader, topic, p, ms)?.unwrap_or(high),
        };
        if begin < high {
            ends.insert(p, high);
            list.add_partition_offset(topic, p, Offset::Offset(begin)).map_err(|e| failed(&e))?;
        }
    }
    if ends.is_empty() {
        return Ok(Vec::new());
    }
    reader.assign(&list).map_err(|e| failed(&e))?;
    let mut all = Vec::new();
    while !ends.is_empty() {
        let Some(message) = reader.poll(CALL) else {
            return Err(BusError::Unavailable(format!(
                "topic {topic} was not read to its end in time"
            )));
        };
        let record = received(&message.map_err(|e| failed(&e))?);
        let Some(end) = ends.get(&record.partition).copied() else { continue };
        if record.offset + 1 >= end {
            ends.remove(&record.partition);
        }
        if record.offset < end {
            all.push(record);
        }
    }
    all.sort_by_key(|r| (r.partition, r.offset));
    Ok(all)
}

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

struct Member {
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
