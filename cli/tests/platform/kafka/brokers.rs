//! Three brokers, of which any one may be lost.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use hospital_kit::{
    bus::{Bus as _, TopicSpec, kafka::KafkaBus},
    config::{BusConfig, BusKind},
    service,
};
use hospital_testkit::{Kafka, KafkaMode, eventually_within, make_topics, output};
use serde_json::Value;

use crate::{
    apart::{Apart, Wishes},
    down::desk,
    traffic::{Traffic, WRITES, What},
};

/// The leader of a topic's partition, and how many replicas are in sync in the topic's worst partition.
fn look(kafka: &Kafka, topic: &str, partition: usize) -> Option<(u16, usize)> {
    let mut kcat = Command::new("kcat");
    let told = output(kcat.args(["-b", kafka.servers(), "-L", "-J", "-t", topic, "-m", "5"]));
    let told: Value = serde_json::from_slice(&told.stdout).ok()?;
    let partitions = told["topics"][0]["partitions"].as_array()?;
    let leader = partitions.get(partition)?["leader"].as_u64()?;
    let in_sync = partitions.iter().filter_map(|p| Some(p["isrs"].as_array()?.len())).min()?;
    Some((u16::try_from(leader).ok()?, in_sync))
}

/// Without a setting, every topic has three copies, of which two acknowledge; and one that was made otherwise is told of.
async fn topics_survive_a_broker(kafka: &Kafka) {
    let bus = |replication_factor| {
        let config = BusConfig {
            kind: BusKind::Kafka,
            bootstrap_servers: Some(kafka.servers().to_owned()),
            partitions: 3,
            replication_factor,
            ..BusConfig::default()
        };
        (KafkaBus::new(&config, "test").unwrap(), service::topics(&config, &[]))
    };
    let (by_brokers, mut topics) = bus(0);
    topics.push(spec("appointment.booked.billing.dlq", 1));
    assert_eq!(by_brokers.weaknesses(&topics).await.unwrap(), [""; 0]);
    for topic in &topics {
        let copies = tokio::task::block_in_place(|| look(kafka, &topic.name, 0)).unwrap().1;
        assert_eq!(copies, 3, "{}", topic.name);
    }
    let alone = spec("made.by.somebody", 2);
    make_topics(&bus(1).0, std::slice::from_ref(&alone)).await;
    let told = by_brokers.weaknesses(std::slice::from_ref(&alone)).await.unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("made.by.somebody have 1 replicas where the brokers allow 3"),
        "{told:?}"
    );
    // It is said, and the platform works with it all the same.
    by_brokers.ensure_topics(&[alone]).await.unwrap();
}

fn spec(name: &str, partitions: i32) -> TopicSpec {
    TopicSpec { name: name.to_owned(), partitions, retention: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_brokers_the_leader_is_killed_and_then_another_and_nothing_acknowledged_is_lost() {
    if KafkaMode::asked_for().is_none() {
        return;
    }
    let kafka = tokio::task::block_in_place(|| Kafka::start(KafkaMode::Kraft, 3).unwrap());
    let wishes = Wishes { kafka: Some(kafka), ..Wishes::default() };
    let mut apart = Apart::start(wishes).await;
    topics_survive_a_broker(apart.kafka.as_ref().unwrap()).await;
    let desk = desk(&apart).await;
    let traffic = Traffic::begin(desk.clone()).await;
    let (patient, practitioner) =
        (desk.patient("own").await.id(), desk.practitioner("own").await.id());
    let mut killed = Vec::new();
    for round in 0..2 {
        let topic = ["appointment.booked", "payment.completed"][round];
        let minute = Duration::from_secs(60);
        let leader = eventually_within(minute, "three replicas in sync", async || {
            let kafka = apart.kafka.as_ref().unwrap();
            let (leader, in_sync) = tokio::task::block_in_place(|| look(kafka, topic, 1))?;
            // Another than before.
            (in_sync == 3 && !killed.contains(&leader)).then_some(leader)
        })
        .await;
        let command = apart.kafka.as_ref().unwrap().kill(leader).unwrap();
        killed.push(leader);
        let since = Instant::now();
        let key = format!("round {round}");
        let place = i64::try_from(round).unwrap();
        let booked = desk.book(&key, &desk.booking(&patient, &practitioner, place)).await;
        assert_eq!(booked.status, 201, "{}", booked.body);
        desk.bill_of(&booked.id()).await;
        let took = since.elapsed();
        println!(
            "the leader of {topic}-1, broker {leader}, was killed: billed again after {took:.1?}"
        );
        assert!(took < Duration::from_secs(45), "{took:?}");
        traffic.unharmed(&WRITES, since).await;
        traffic.unharmed(&[What::Read], since).await;
        let kafka = apart.kafka.as_mut().unwrap();
        kafka.revive(&command).unwrap();
    }
    traffic.end().await;
    apart.ready().await;
    apart.verify();
}
