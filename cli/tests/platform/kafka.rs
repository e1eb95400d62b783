//! What only a real cluster can show.

use std::process::{Command, Stdio};

use hospital_kit::{
    bus::{Bus, TopicSpec, kafka::KafkaBus},
    config::{BusConfig, BusKind},
};
use hospital_testkit::{Kafka, KafkaMode};

use crate::running::HOSPITAL;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs real Kafka: HOSPITAL_TEST_KAFKA=kraft"]
async fn a_topic_on_kafka_that_is_not_as_the_settings_say_is_told_before_anything_starts() {
    let kafka = Kafka::start(KafkaMode::asked_for().unwrap_or(KafkaMode::Kraft), 1).unwrap();
    let config = BusConfig {
        kind: BusKind::Kafka,
        bootstrap_servers: Some(kafka.servers().to_owned()),
        ..BusConfig::default()
    };
    let topic = TopicSpec { name: "bill.generated".to_owned(), partitions: 3, retention: None };
    KafkaBus::new(&config, "test").unwrap().ensure_topics(&[topic]).await.unwrap();
    let up = |name: &str, value: &str| {
        let dir = tempfile::tempdir().unwrap();
        let output = Command::new(HOSPITAL)
            .arg("--data-dir")
            .arg(dir.path())
            .args(["--base-port", "29980", "up", "--kafka", kafka.servers()])
            .env(name, value)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = up("HOSPITAL_BUS__PARTITIONS", "8");
    assert!(
        said.contains("bill.generated has 3 partitions and the settings say 8"),
        "what it said: {said}"
    );
    let said = up("HOSPITAL_BUS__REPLICATION_FACTOR", "3");
    assert!(said.contains("has 1 replicas and the settings say 3"), "what it said: {said}");
}
