use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hospital_kit::bus::{BusError, Position, Record, TopicSpec};

use super::fixtures::{Place, record, records, unique, values};

pub(crate) async fn a_key_keeps_its_order_and_its_partition(place: Place) {
    let (bus, topic) = (place.open(), place.topic(8).await);
    let publish = |from: usize| {
        let batch = (from..from + 25)
            .flat_map(|n| (0..12).map(move |key| (key, n)))
            .map(|(key, n)| record(&topic, &format!("key-{key}"), &format!("{n:03}")))
            .collect();
        bus.publish(batch)
    };
    publish(0).await.unwrap();
    publish(25).await.unwrap();
    let mut of_key: BTreeMap<String, (Vec<String>, Vec<i32>)> = BTreeMap::new();
    for received in bus.read(&topic, Position::Beginning).await.unwrap() {
        let (order, partitions) = of_key.entry(received.key.unwrap()).or_default();
        order.push(String::from_utf8(received.value).unwrap());
        partitions.push(received.partition);
    }
    assert_eq!(of_key.len(), 12);
    for (key, (order, partitions)) in &of_key {
        assert_eq!(order.len(), 50, "{key}");
        assert!(order.is_sorted(), "{key}: {order:?}");
        assert!(partitions.iter().all(|p| *p == partitions[0]), "{key}");
    }
    let mut used: Vec<i32> = of_key.values().map(|(_, partitions)| partitions[0]).collect();
    used.sort_unstable();
    used.dedup();
    assert!(used.len() > 2, "keys are spread: {used:?}");
}

pub(crate) async fn a_record_comes_through_to_the_byte(place: Place) {
    let (bus, topic) = (place.open(), place.topic(1).await);
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let sent = [
        Record {
            topic: topic.clone(),
            key: "018f4c5e-0000-7000-8000-000000000001".to_owned(),
            headers: vec![
                header("ce_id", "1"),
                header("größe", "Ünïcødé ✓"),
                header("twice", "a"),
                header("twice", "b"),
                header("empty", ""),
            ],
            value: (0..=255).collect(),
        },
        Record {
            topic: topic.clone(),
            key: "é".to_owned(),
            headers: Vec::new(),
            value: vec![0, 0],
        },
        Record { topic: topic.clone(), key: String::new(), headers: Vec::new(), value: Vec::new() },
    ];
    let before = now_ms();
    bus.publish(sent.to_vec()).await.unwrap();
    let came = bus.read(&topic, Position::Beginning).await.unwrap();
    assert_eq!(came.len(), sent.len());
    for (offset, (came, sent)) in came.iter().zip(&sent).enumerate() {
        assert_eq!((came.partition, usize::try_from(came.offset).unwrap()), (0, offset));
        assert_eq!((&came.headers, &came.value), (&sent.headers, &sent.value));
        assert_eq!(came.key.as_deref().unwrap_or_default(), sent.key);
        assert!((before - 1000..=now_ms() + 1000).contains(&came.timestamp_ms));
    }
    assert_eq!(came[0].header("größe"), Some("Ünïcødé ✓"));
}

fn now_ms() -> i64 {
    hospital_kit::clock::Clock::system().now().as_millisecond()
}

pub(crate) async fn a_large_record_passes_and_one_too_large_is_refused(place: Place) {
    let (bus, topic) = (place.open(), place.topic(1).await);
    let of = |size: usize| Record {
        topic: topic.clone(),
        key: "k".to_owned(),
        headers: Vec::new(),
        value: vec![b'x'; size],
    };
    bus.publish(vec![of(900_000)]).await.unwrap();
    let refused = bus.publish(vec![of(3_000_000)]).await;
    assert!(matches!(refused, Err(BusError::Refused(_))), "{refused:?}");
    bus.publish(vec![of(1)]).await.unwrap();
    let sizes: Vec<usize> = bus
        .read(&topic, Position::Beginning)
        .await
        .unwrap()
        .iter()
        .map(|record| record.value.len())
        .collect();
    assert_eq!(sizes, [900_000, 1]);
}

pub(crate) async fn reading_begins_where_it_is_told_to(place: Place) {
    let (bus, topic) = (place.open(), place.topic(1).await);
    bus.publish(records(&topic, "a", 3)).await.unwrap();
    let early = bus.read(&topic, Position::Beginning).await.unwrap();
    let between = early.last().unwrap().timestamp_ms + 1;
    until(between + 1).await;
    bus.publish(records(&topic, "b", 2)).await.unwrap();
    for (from, expected) in [
        (Position::Beginning, &["a-0", "a-1", "a-2", "b-0", "b-1"] as &[&str]),
        (Position::Offset(2), &["a-2", "b-0", "b-1"]),
        (Position::Offset(99), &[]),
        (Position::Time(between), &["b-0", "b-1"]),
        (Position::Time(now_ms() + 3_600_000), &[]),
        (Position::End, &[]),
    ] {
        // The mock cluster keeps no times.
        if place.is_mock() && matches!(from, Position::Time(_)) {
            continue;
        }
        assert_eq!(values(&bus.read(&topic, from).await.unwrap()), expected, "{from:?}");
    }
}

/// Waits for the clock, which is what stamps records.
pub(crate) async fn until(ms: i64) {
    while now_ms() <= ms {
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn an_unknown_topic_reads_as_empty(place: Place) {
    // The mock cluster makes topics that are asked for.
    let found = place.open().read(&unique("never-made"), Position::Beginning).await.unwrap();
    assert!(found.is_empty());
}

pub(crate) async fn topics_are_made_once_and_checked(place: Place) {
    if place.is_mock() {
        return;
    }
    let (one, other) = (place.open(), place.open());
    let spec = |name: &str, partitions| TopicSpec {
        name: name.to_owned(),
        partitions,
        retention: Some(Duration::from_secs(86_400)),
    };
    let (a, b) = (unique("made"), unique("made"));
    let both = [spec(&a, 3), spec(&b, 5)];
    let (first, second) = tokio::join!(one.ensure_topics(&both), other.ensure_topics(&both));
    // Whoever comes second may find them half-made, and looks again.
    if first.is_err() || second.is_err() {
        one.ensure_topics(&both).await.unwrap();
    }
    one.ensure_topics(&both).await.unwrap();
    assert_eq!(one.lag("nobody", &a).await.unwrap().len(), 3);
    assert_eq!(one.lag("nobody", &b).await.unwrap().len(), 5);
    let wrong = one.ensure_topics(&[spec(&a, 4)]).await;
    assert!(
        matches!(&wrong, Err(BusError::Refused(why)) if why.contains("has 3 partitions")),
        "{wrong:?}"
    );
}

pub(crate) async fn a_bus_that_is_away_says_so_and_does_not_hang(place: Place) {
    let bus = place.nowhere();
    let started = Instant::now();
    assert!(bus.ready().await.is_err());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(bus.publish(vec![record("t", "k", "v")]).await.is_err());
    assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
    let spec = TopicSpec { name: "t".to_owned(), partitions: 1, retention: None };
    let (started, made) = (Instant::now(), bus.ensure_topics(&[spec]).await);
    assert!(matches!(made, Err(BusError::Unavailable(_))), "worth another try: {made:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

/// Kafka sees to this by itself.
pub(crate) async fn what_is_past_its_retention_goes(place: Place) {
    let Place::Postgres(db) = &place else { return };
    let (bus, short, ever) = (place.open(), unique("short"), place.topic(2).await);
    let retention = Some(Duration::from_secs(3600));
    let spec = TopicSpec { name: short.clone(), partitions: 2, retention };
    bus.ensure_topics(&[spec]).await.unwrap();
    for topic in [&short, &ever] {
        bus.publish(records(topic, "old", 2500)).await.unwrap();
    }
    db.execute("UPDATE bus.message SET created_at = now() - interval '2 hours'").await.unwrap();
    bus.publish(records(&short, "new", 3)).await.unwrap();
    bus.maintain().await.unwrap();
    let left = bus.read(&short, Position::Beginning).await.unwrap();
    assert_eq!(values(&left), ["new-0", "new-1", "new-2"]);
    assert_eq!(bus.read(&ever, Position::Beginning).await.unwrap().len(), 2500);
    // A group that was behind goes on with what is left.
    let mut member = bus.subscribe(&unique("group"), &[&short]).await.unwrap();
    assert_eq!(super::fixtures::poll_all(&mut member, 3).await.len(), 3);
}
