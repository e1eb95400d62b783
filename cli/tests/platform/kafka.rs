//! The platform on real Apache Kafka, which `deploy/kafka/run` starts with Java and Maven. A bare
//! machine has neither, so these tests do nothing unless `HOSPITAL_TEST_KAFKA` asks for them: `kraft`,
//! or `zookeeper` for Kafka 3.9 with ZooKeeper. Chosen as they run, not by a feature, for which the
//! executable and its tests would be built a second time.

mod brokers;
mod cluster;
mod import;

use hospital_testkit::{Kafka, KafkaMode};

/// One broker, if `HOSPITAL_TEST_KAFKA` asks for Kafka.
pub(crate) fn one_broker() -> Option<Kafka> {
    let mode = KafkaMode::asked_for()?;
    Some(tokio::task::block_in_place(|| Kafka::start(mode, 1).unwrap()))
}
