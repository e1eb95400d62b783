//! The platform on real Apache Kafka, which `deploy/kafka/run` starts with Java and Maven; so these tests are there only with the feature
//! `real-kafka`. `HOSPITAL_TEST_KAFKA=zookeeper` chooses Kafka 3.9 with ZooKeeper.

mod brokers;
mod cluster;
mod import;

use hospital_testkit::{Kafka, KafkaMode};

pub(crate) fn one_broker() -> Kafka {
    Kafka::start(KafkaMode::asked_for().unwrap_or(KafkaMode::Kraft), 1).unwrap()
}
