//! What only a real cluster can show.

use std::process::Command;

use hospital_kit::{
    bus::{TopicSpec, kafka::KafkaBus},
    config::{BusConfig, BusKind},
};
use hospital_testkit::{make_topics, output};
use serde_json::Value;

use super::one_broker;
use crate::running::{HOSPITAL, Platform, free_base_port};

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_on_kafka_that_is_not_as_the_settings_say_is_told_before_anything_starts() {
    let Some(kafka) = one_broker() else { return };
    let config = BusConfig {
        kind: BusKind::Kafka,
        bootstrap_servers: Some(kafka.servers().to_owned()),
        ..BusConfig::default()
    };
    let topic = TopicSpec { name: "bill.generated".to_owned(), partitions: 3, retention: None };
    let bus = KafkaBus::new(&config, "test").unwrap();
    make_topics(&bus, &[topic]).await;
    let up = |name: &str, value: &str| {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(HOSPITAL);
        command
            .arg("--data-dir")
            .arg(dir.path())
            .args(["--base-port", &free_base_port().to_string(), "up", "--kafka", kafka.servers()])
            .env(name, value);
        let output = output(&mut command);
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

#[tokio::test(flavor = "multi_thread")]
async fn other_peoples_tools_see_cloud_events_on_kafka() {
    let Some(kafka) = one_broker() else { return };
    let platform = Platform::start_with(Some(kafka));
    platform.must(&["demo", "--pause-ms", "0"]);
    platform.must(&["verify"]);
    let servers = platform.kafka.as_ref().unwrap().servers();
    for topic in ["appointment.booked", "bill.generated", "payment.completed", "payment.failed"] {
        let mut kcat = Command::new("kcat");
        let output = output(kcat.args(["-b", servers, "-C", "-e", "-q", "-J", "-t", topic]));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.is_empty(), "{topic} is empty");
        for line in text.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let headers: Vec<&str> =
                record["headers"].as_array().unwrap().iter().map(|h| h.as_str().unwrap()).collect();
            let header = |name: &str| {
                let found = headers.chunks(2).find(|pair| pair[0] == name);
                found.unwrap_or_else(|| panic!("no {name}: {line}"))[1]
            };
            assert_eq!(header("ce_specversion"), "1.0");
            assert_eq!(header("ce_type"), format!("{topic}.v1"));
            assert_eq!(header("content-type"), "application/json");
            assert!(header("ce_source").starts_with("urn:hospital:"), "{line}");
            assert!(header("ce_time").parse::<jiff::Timestamp>().is_ok(), "{line}");
            for id in [header("ce_id"), header("ce_subject"), record["key"].as_str().unwrap()] {
                assert!(id.parse::<uuid::Uuid>().is_ok(), "{line}");
            }
            let payload: Value = serde_json::from_str(record["payload"].as_str().unwrap()).unwrap();
            assert!(payload["version"].as_i64().is_some_and(|version| version > 0), "{line}");
        }
    }
}
