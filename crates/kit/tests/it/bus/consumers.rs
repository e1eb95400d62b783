use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use hospital_contracts::CloudEvent;
use hospital_kit::{
    bus::{Position, Record},
    consumer::{self, ConsumerSettings},
    db::Tx,
    dead_letter::dead_letter_topic,
    inbox::{self, Arrival, Consume, Poison},
    outcome::Outcome,
    sql,
};
use hospital_testkit::eventually;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    fixtures::{Place, poll_all, records, unique, values},
    records::until,
};
use crate::support::schema;

pub(crate) async fn each_group_sees_everything(place: Place) {
    let (bus, topic) = (place.open(), place.topic(4).await);
    bus.publish(records(&topic, "r", 20)).await.unwrap();
    for group in [unique("group"), unique("group")] {
        let mut member = place.open().subscribe(&group, &[&topic]).await.unwrap();
        let came = poll_all(&mut member, 20).await;
        assert_eq!(values(&came), values(&bus.read(&topic, Position::Beginning).await.unwrap()));
    }
}

/// What a member received and committed, while it lives.
type Seen = Arc<Mutex<BTreeMap<String, u32>>>;

fn member_of(place: &Place, group: &str, topic: &str, seen: &Seen) -> CancellationToken {
    let (bus, group, topic, seen) =
        (place.open(), group.to_owned(), topic.to_owned(), Arc::clone(seen));
    let stop = CancellationToken::new();
    let until = stop.clone();
    tokio::spawn(async move {
        let mut member = bus.subscribe(&group, &[&topic]).await.unwrap();
        while !until.is_cancelled() {
            let batch = member.poll(10, Duration::from_millis(100)).await.unwrap();
            // Taken away meanwhile: the records come again elsewhere.
            if member.commit(&batch).await.is_ok() {
                let mut seen = seen.lock().unwrap();
                for record in batch {
                    *seen.entry(String::from_utf8(record.value).unwrap()).or_default() += 1;
                }
            } else {
                member.rewind().await.unwrap();
            }
        }
    });
    stop
}

pub(crate) async fn members_share_and_take_over(place: Place) {
    let (bus, topic, group) = (place.open(), place.topic(8).await, unique("group"));
    let (a, b) = (Seen::default(), Seen::default());
    let (one, two) = (member_of(&place, &group, &topic, &a), member_of(&place, &group, &topic, &b));
    // Waves until both have had something: then the partitions are shared.
    let mut wave = 0;
    let patience = std::time::Instant::now();
    while a.lock().unwrap().is_empty() || b.lock().unwrap().is_empty() {
        assert!(
            patience.elapsed() < Duration::from_secs(40),
            "only one of two members gets records"
        );
        bus.publish(records(&topic, &format!("w{wave}-"), 40)).await.unwrap();
        wave += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let seen_of = |prefix: &str| {
        let (a, b) = (a.lock().unwrap(), b.lock().unwrap());
        let all = a.iter().chain(b.iter()).filter(|(value, _)| value.starts_with(prefix));
        all.map(|(_, n)| *n).collect::<Vec<u32>>()
    };
    eventually("the waves to be worked off", async || {
        bus.lag(&group, &topic).await.unwrap().values().all(|n| *n == 0).then_some(())
    })
    .await;
    bus.publish(records(&topic, "stable", 80)).await.unwrap();
    eventually("each record at one of the two", async || {
        (seen_of("stable") == vec![1; 80]).then_some(())
    })
    .await;
    assert!(a.lock().unwrap().keys().any(|value| value.starts_with("stable")));
    assert!(b.lock().unwrap().keys().any(|value| value.starts_with("stable")));

    one.cancel();
    let mut late = 0;
    let patience = std::time::Instant::now();
    loop {
        assert!(patience.elapsed() < Duration::from_secs(40), "the other does not take over");
        bus.publish(records(&topic, &format!("late{late}-"), 16)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let whole = format!("late{late}-");
        if b.lock().unwrap().keys().filter(|value| value.starts_with(&whole)).count() == 16 {
            break;
        }
        late += 1;
    }
    eventually("nothing to be left behind", async || {
        bus.lag(&group, &topic).await.unwrap().values().all(|n| *n == 0).then_some(())
    })
    .await;
    two.cancel();
}

/// PostgreSQL only: Kafka waits for the session of one that was killed, unless it comes again under its name.
pub(crate) async fn a_member_that_was_killed_is_replaced_at_once(place: Place) {
    let (bus, topic, group) = (place.open(), place.topic(8).await, unique("group"));
    bus.publish(records(&topic, "before", 40)).await.unwrap();
    let mut killed = bus.subscribe(&group, &[&topic]).await.unwrap();
    let came = poll_all(&mut killed, 40).await;
    killed.commit(&came).await.unwrap();
    // It says nothing when it goes: its connection breaks, as that of a killed process does.
    drop(killed);
    let started = std::time::Instant::now();
    let mut next = place.open().subscribe(&group, &[&topic]).await.unwrap();
    bus.publish(records(&topic, "after", 40)).await.unwrap();
    poll_all(&mut next, 40).await;
    assert!(started.elapsed() < Duration::from_secs(2), "it took {:?}", started.elapsed());
}

pub(crate) async fn committed_offsets_survive_and_the_rest_comes_again(place: Place) {
    let (bus, topic, group) = (place.open(), place.topic(1).await, unique("group"));
    bus.publish(records(&topic, "r", 10)).await.unwrap();
    let first = place.open();
    let mut member = first.subscribe(&group, &[&topic]).await.unwrap();
    let came = poll_all(&mut member, 10).await;
    member.commit(&came[..4]).await.unwrap();
    // It dies with six that it had seen and not committed.
    drop(member);
    drop(first);
    let mut next = place.open().subscribe(&group, &[&topic]).await.unwrap();
    let again = poll_all(&mut next, 6).await;
    assert_eq!(again.iter().map(|r| r.offset).collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9]);
    next.commit(&again).await.unwrap();
    drop(next);
    bus.publish(records(&topic, "s", 1)).await.unwrap();
    let mut last = place.open().subscribe(&group, &[&topic]).await.unwrap();
    assert_eq!(values(&poll_all(&mut last, 1).await), ["s-0"]);
}

pub(crate) async fn rewinding_brings_back_what_was_not_committed(place: Place) {
    let (bus, topic) = (place.open(), place.topic(2).await);
    bus.publish(records(&topic, "r", 12)).await.unwrap();
    let mut member = bus.subscribe(&unique("group"), &[&topic]).await.unwrap();
    let came = poll_all(&mut member, 12).await;
    member.rewind().await.unwrap();
    assert_eq!(values(&poll_all(&mut member, 12).await), values(&came));
    member.commit(&came).await.unwrap();
    member.rewind().await.unwrap();
    bus.publish(records(&topic, "s", 3)).await.unwrap();
    assert_eq!(values(&poll_all(&mut member, 3).await), ["s-0", "s-1", "s-2"]);
}

pub(crate) async fn a_group_is_replayed_from_an_offset_and_from_a_time(place: Place) {
    // The mock cluster lets nobody commit from outside of a group.
    if place.is_mock() {
        return;
    }
    let (bus, topic, group) = (place.open(), place.topic(1).await, unique("group"));
    bus.publish(records(&topic, "a", 3)).await.unwrap();
    let early = bus.read(&topic, Position::Beginning).await.unwrap();
    let between = early.last().unwrap().timestamp_ms + 1;
    until(between + 1).await;
    bus.publish(records(&topic, "b", 3)).await.unwrap();
    for (to, expected) in [
        (Position::Beginning, &["a-0", "a-1", "a-2", "b-0", "b-1", "b-2"] as &[&str]),
        (Position::Offset(4), &["b-1", "b-2"]),
        (Position::Time(between), &["b-0", "b-1", "b-2"]),
    ] {
        // Offsets of a group with members cannot be moved; the last one may still be leaving.
        eventually("the group to be empty", async || {
            bus.reset(&group, &topic, None, to).await.ok()
        })
        .await;
        let mut member = place.open().subscribe(&group, &[&topic]).await.unwrap();
        let came = poll_all(&mut member, expected.len()).await;
        assert_eq!(values(&came), expected, "{to:?}");
        member.commit(&came).await.unwrap();
    }
}

pub(crate) async fn lag_is_what_is_still_to_commit(place: Place) {
    let (bus, topic, group) = (place.open(), place.topic(2).await, unique("group"));
    bus.publish(records(&topic, "r", 10)).await.unwrap();
    let total = async || bus.lag(&group, &topic).await.unwrap().values().sum::<i64>();
    assert_eq!(total().await, 10);
    let mut member = bus.subscribe(&group, &[&topic]).await.unwrap();
    let came = poll_all(&mut member, 10).await;
    assert_eq!(total().await, 10, "polled is not committed");
    member.commit(&came).await.unwrap();
    eventually("the offsets to be sent", async || (total().await == 0).then_some(())).await;
    bus.publish(records(&topic, "s", 1)).await.unwrap();
    assert_eq!(total().await, 1);
}

pub(crate) async fn a_bus_that_was_lost_is_read_from_its_beginning(place: Place) {
    let Place::Postgres(database) = &place else { return };
    let (bus, topic, group) = (place.open(), place.topic(1).await, unique("group"));
    bus.publish(records(&topic, "old", 10)).await.unwrap();
    let mut member = bus.subscribe(&group, &[&topic]).await.unwrap();
    let came = poll_all(&mut member, 10).await;
    member.commit(&came).await.unwrap();
    database
        .execute("DELETE FROM bus.message; UPDATE bus.partition SET next_offset = 0")
        .await
        .unwrap();
    bus.publish(records(&topic, "new", 3)).await.unwrap();
    assert_eq!(bus.lag(&group, &topic).await.unwrap()[&0], 3);
    // One that was there, and one that comes to what the group had committed.
    assert_eq!(values(&poll_all(&mut member, 3).await), ["new-0", "new-1", "new-2"]);
    drop(member);
    let mut next = place.open().subscribe(&group, &[&topic]).await.unwrap();
    assert_eq!(values(&poll_all(&mut next, 3).await), ["new-0", "new-1", "new-2"]);
}

/// Writes a row for each event; refuses what says `poison`.
struct Writes {
    group: &'static str,
    topics: &'static [&'static str],
}

impl Writes {
    fn new(topic: &str) -> Self {
        // A consumer's names live as long as the program, and so do a test's.
        let leaked = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
        let topics: &'static [&'static str] = Box::leak(Box::new([leaked(topic.to_owned())]));
        Self { group: leaked(unique("writes")), topics }
    }
}

#[async_trait]
impl Consume for Writes {
    fn group(&self) -> &'static str {
        self.group
    }

    fn topics(&self) -> &'static [&'static str] {
        self.topics
    }

    async fn apply(&self, tx: &mut Tx<Poison>, events: &[&CloudEvent]) -> Outcome<(), Poison> {
        for event in events {
            if event.value == b"poison" {
                return Err(Poison("it says so".to_owned()).into());
            }
            let id: Uuid = std::str::from_utf8(&event.value).unwrap().parse().unwrap();
            tx.write(sql!("INSERT INTO bill (id) VALUES ($1)", id));
        }
        Ok(())
    }
}

fn event(topic: &str, value: &str) -> Record {
    let headers = [
        ("ce_id", Uuid::now_v7().to_string()),
        ("ce_type", "bill.written.v1".to_owned()),
        ("ce_source", "urn:hospital:kit".to_owned()),
    ];
    Record {
        topic: topic.to_owned(),
        key: unique("key"),
        headers: headers.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        value: value.as_bytes().to_vec(),
    }
}

pub(crate) async fn poison_is_put_aside_and_the_rest_goes_on(place: Place) {
    let (database, db) = schema().await;
    let (bus, topic) = (place.open(), place.topic(2).await);
    let consumer = Arc::new(Writes::new(&topic));
    let dead = dead_letter_topic(&topic, consumer.group());
    place.make(&dead, 1).await;
    let mut batch: Vec<Record> =
        (0..30).map(|_| event(&topic, &Uuid::now_v7().to_string())).collect();
    for place in [0, 10, 20, 32] {
        batch.insert(place, event(&topic, "poison"));
    }
    let mut nameless = event(&topic, "no headers");
    nameless.headers = vec![("note".to_owned(), "kept".to_owned())];
    batch.push(nameless);
    bus.publish(batch).await.unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(consumer::run(
        db,
        Arc::clone(&bus),
        Arc::<Writes>::clone(&consumer),
        ConsumerSettings::default(),
        stop.clone(),
    ));
    eventually("everything to be worked off", async || {
        bus.lag(consumer.group(), &topic).await.unwrap().values().all(|n| *n == 0).then_some(())
    })
    .await;
    assert_eq!(database.value::<i64>("SELECT count(*) FROM kit.bill").await.unwrap(), 30);
    let dead = bus.read(&dead, Position::Beginning).await.unwrap();
    let reasons: Vec<&str> =
        dead.iter().map(|record| record.header("dlq_reason").unwrap()).collect();
    assert_eq!(reasons.iter().filter(|why| **why == "it says so").count(), 4);
    assert_eq!(reasons.len(), 5, "{reasons:?}");
    let nameless = dead.iter().find(|record| record.value == b"no headers").unwrap();
    assert_eq!(nameless.header("note"), Some("kept"));
    for name in [
        "dlq_id",
        "dlq_topic",
        "dlq_partition",
        "dlq_offset",
        "dlq_group",
        "dlq_first_time",
        "dlq_last_time",
        "dlq_attempts",
    ] {
        assert!(nameless.header(name).is_some_and(|value| !value.is_empty()), "{name}");
    }
    stop.cancel();
    running.await.unwrap();
}

pub(crate) async fn a_crash_between_effect_and_commit_has_one_effect(place: Place) {
    let (database, db) = schema().await;
    let (bus, topic) = (place.open(), place.topic(1).await);
    let consumer = Arc::new(Writes::new(&topic));
    let batch: Vec<Record> = (0..5).map(|_| event(&topic, &Uuid::now_v7().to_string())).collect();
    bus.publish(batch).await.unwrap();
    let mut member = place.open().subscribe(consumer.group(), &[&topic]).await.unwrap();
    let came = poll_all(&mut member, 5).await;
    let arrivals: Vec<Arrival<'_>> = came
        .iter()
        .map(|record| {
            let (topic, headers) = (&record.topic, &record.headers);
            let event = CloudEvent::from_record(topic, headers, record.value.clone()).unwrap();
            Arrival { event, record }
        })
        .collect();
    assert_eq!(inbox::once(&db, &*consumer, &arrivals).await.unwrap(), 5);
    // It dies here: the effect is committed, the offsets are not.
    drop(member);
    let stop = CancellationToken::new();
    let running = tokio::spawn(consumer::run(
        db,
        Arc::clone(&bus),
        Arc::<Writes>::clone(&consumer),
        ConsumerSettings::default(),
        stop.clone(),
    ));
    let patience = std::time::Instant::now();
    while bus.lag(consumer.group(), &topic).await.unwrap().values().any(|n| *n > 0) {
        assert!(patience.elapsed() < Duration::from_secs(30), "the records do not come again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(database.value::<i64>("SELECT count(*) FROM kit.bill").await.unwrap(), 5);
    assert_eq!(database.value::<i64>("SELECT count(*) FROM kit.inbox").await.unwrap(), 5);
    stop.cancel();
    running.await.unwrap();
}
