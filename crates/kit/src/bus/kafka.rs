//! Apache Kafka, by librdkafka.
//!
//! `acks=all` and an idempotent producer; offsets are committed by hand, after the database.

mod member;
mod read;
mod topics;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Header, Headers, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer},
};

use self::{
    member::Member,
    read::{at_time, read_all},
    topics::Copies,
};
use super::{Bus, BusError, Consumer, Position, Received, Record, TopicSpec};
use crate::config::BusConfig;

/// A Kafka cluster.
pub struct KafkaBus {
    settings: ClientConfig,
    instance: Option<String>,
    copies: Copies,
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
        let named = bus.bootstrap_servers.as_deref().unwrap_or_default();
        let addresses = i32::try_from(named.split(',').count()).unwrap_or(1);
        Ok(Self {
            settings,
            instance: bus.instance.clone(),
            copies: Copies { factor: bus.replication_factor, addresses },
            producer: Mutex::new(producer),
        })
    }

    /// What these topics lack to survive the loss of a broker: a line for each way, with what to do about it.
    pub async fn weaknesses(&self, topics: &[TopicSpec]) -> Result<Vec<String>, BusError> {
        topics::weaknesses(&self.settings, topics, self.copies).await
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
        // Java's own partitioner, so that other producers' keys find the same partition.
        .set("partitioner", "murmur2_random");
    tune(
        &mut settings,
        &[
            ("message.timeout.ms", "300000"),
            ("linger.ms", "2"),
            ("queue.buffering.max.messages", "200000"),
        ],
    );
    settings.create().map_err(|e| failed(&e))
}

/// Sets what is a matter of pace unless `bus.properties` says otherwise; what correctness rests on is not asked there.
fn tune(settings: &mut ClientConfig, defaults: &[(&str, &str)]) {
    for (name, value) in defaults {
        if settings.get(name).is_none() {
            settings.set(*name, *value);
        }
    }
}

fn failed(e: &KafkaError) -> BusError {
    use RDKafkaErrorCode as Code;
    let code = match e {
        KafkaError::AdminOp(code) => Some(*code),
        e => e.rdkafka_error_code(),
    };
    match code {
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

fn lag_of(reader: &BaseConsumer, topic: &str) -> Result<BTreeMap<i32, i64>, BusError> {
    let mut list = TopicPartitionList::new();
    for p in partitions_of(reader, topic)? {
        list.add_partition(topic, p);
    }
    let committed = reader.committed_offsets(list, CALL).map_err(|e| failed(&e))?;
    let mut lag = BTreeMap::new();
    for element in committed.elements() {
        let p = element.partition();
        let (low, high) = reader.fetch_watermarks(topic, p, CALL).map_err(|e| failed(&e))?;
        // One behind the end is of a log that was lost: the group begins anew.
        let done = element.offset().to_raw().filter(|o| (0..=high).contains(o));
        let done = done.unwrap_or(low);
        lag.insert(p, high - done);
    }
    Ok(lag)
}

#[async_trait]
impl Bus for KafkaBus {
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), BusError> {
        topics::ensure(&self.settings, topics, self.copies).await
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
        if let Some(instance) = &self.instance {
            settings.set("group.instance.id", format!("{group}-{instance}"));
        }
        Ok(Box::new(Member::join(settings, group, topics)?))
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
        blocking(move || lag_of(&reader, &topic)).await
    }

    async fn lags(&self, group: &str, topics: &[&str]) -> Result<Vec<i64>, BusError> {
        let reader = self.reader(group)?;
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        blocking(move || {
            topics.iter().map(|topic| Ok(lag_of(&reader, topic)?.values().sum())).collect()
        })
        .await
    }

    async fn read(&self, topic: &str, from: Position) -> Result<Vec<Received>, BusError> {
        let reader = self.reader("hospital-reader")?;
        let topic = topic.to_owned();
        blocking(move || read_all(&reader, &topic, from)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BusKind, Secret};

    #[test]
    fn tls_and_sasl_are_built_in() {
        let properties = [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "hospital"),
            ("sasl.password", "correct horse"),
        ];
        let config = BusConfig {
            kind: BusKind::Kafka,
            bootstrap_servers: Some("127.0.0.1:1".to_owned()),
            properties: properties.map(|(k, v)| (k.to_owned(), Secret::new(v.to_owned()))).into(),
            ..BusConfig::default()
        };
        assert!(KafkaBus::new(&config, "test").is_ok());
    }
}
