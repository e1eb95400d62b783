//! What becomes of events behind one that cannot be applied.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use hospital_contracts::CloudEvent;
use hospital_kit::{
    bus::{Position, Record, SharedBus},
    consumer::{self, ConsumerSettings},
    db::{Db, Tx},
    dead_letter::{self, ONLY_FOR, dead_letter_topic},
    inbox::{Consume, Poison},
    outcome::Outcome,
    sql, telemetry,
};
use hospital_testkit::{TestDb, eventually};
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::fixtures::{Place, unique};
use crate::support::schema;

/// Writes down each step in the order in which it is applied; refuses those that say `poison` until it is mended.
struct Steps {
    group: &'static str,
    topics: &'static [&'static str],
    mended: AtomicBool,
}

#[async_trait]
impl Consume for Steps {
    fn group(&self) -> &'static str {
        self.group
    }

    fn topics(&self) -> &'static [&'static str] {
        self.topics
    }

    async fn apply(&self, tx: &mut Tx<Poison>, events: &[&CloudEvent]) -> Outcome<(), Poison> {
        for event in events {
            let step: Value = serde_json::from_slice(&event.value).map_err(Poison::because)?;
            if step["poison"] == true && !self.mended.load(Ordering::Relaxed) {
                return Err(Poison("it says so".to_owned()).into());
            }
            let text = format!("{}{}", step["of"].as_str().unwrap(), step["version"]);
            tx.write(sql!("INSERT INTO step (text) VALUES ($1)", text));
        }
        Ok(())
    }
}

/// A consumer that runs on a place, with its redelivery.
struct Running {
    database: TestDb,
    db: Db,
    bus: SharedBus,
    steps: Arc<Steps>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Running {
    async fn start(place: &Place, topics: usize) -> Self {
        let mut names = Vec::new();
        for _ in 0..topics {
            names.push(place.topic(2).await);
        }
        Self::start_on(place, names).await
    }

    async fn start_on(place: &Place, topics: Vec<String>) -> Self {
        let (database, db) = schema().await;
        database
            .execute("CREATE TABLE kit.step (seq bigint GENERATED ALWAYS AS IDENTITY, text text NOT NULL)")
            .await
            .unwrap();
        let group: &'static str = Box::leak(unique("steps").into_boxed_str());
        let mut names: Vec<&'static str> = Vec::new();
        for topic in topics {
            place.make(&dead_letter_topic(&topic, group), 1).await;
            names.push(Box::leak(topic.into_boxed_str()));
        }
        let steps =
            Arc::new(Steps { group, topics: Vec::leak(names), mended: AtomicBool::new(false) });
        let bus = place.open();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let consumer: Arc<dyn Consume> = Arc::<Steps>::clone(&steps);
        tasks.spawn(dead_letter::run(
            db.clone(),
            Arc::clone(&bus),
            Arc::clone(&consumer),
            stop.clone(),
        ));
        let settings = ConsumerSettings::default();
        tasks.spawn(consumer::run(db.clone(), Arc::clone(&bus), consumer, settings, stop.clone()));
        tasks.close();
        Self { database, db, bus, steps, tasks, stop }
    }

    fn topic(&self, place: usize) -> &'static str {
        self.steps.topics[place]
    }

    async fn publish(&self, records: Vec<Record>) {
        self.bus.publish(records).await.unwrap();
    }

    async fn worked_off(&self) {
        for topic in self.steps.topics {
            eventually("everything to be worked off", async || {
                let lag = self.bus.lag(self.steps.group, topic).await.unwrap();
                lag.values().all(|n| *n == 0).then_some(())
            })
            .await;
        }
    }

    /// The steps of one aggregate, in the order in which they were applied.
    async fn steps_of(&self, key: &str) -> Vec<String> {
        let sql = format!(
            "SELECT coalesce(array_agg(text ORDER BY seq), '{{}}') FROM kit.step WHERE text LIKE '{key}%'"
        );
        self.database.value(&sql).await.unwrap()
    }

    /// The states of the letters, by version.
    async fn letters(&self) -> Vec<String> {
        let sql = "SELECT coalesce(array_agg(version || ' ' || state ORDER BY version), '{}') FROM kit.dead_letter";
        self.database.value(sql).await.unwrap()
    }

    async fn redrive(&self, version: i32) {
        self.execute(&format!(
            "UPDATE kit.dead_letter SET state = 'due', redrives = redrives + 1 WHERE version = {version} AND state = 'dead'"
        ))
        .await;
    }

    /// What the metrics say in the end.
    async fn open_by_the_metrics(&self, dead: usize, waiting: usize) {
        let wanted = [("dead", dead), ("waiting", waiting)].map(|(state, letters)| {
            format!(
                "dead_letters_open{{group=\"{}\",state=\"{state}\"}} {letters}\n",
                self.steps.group
            )
        });
        eventually("the metrics to tell of the letters", async || {
            let told = telemetry::metrics_handle().render();
            wanted.iter().all(|line| told.contains(line)).then_some(())
        })
        .await;
    }

    async fn execute(&self, sql: &str) {
        self.database.execute(sql).await.unwrap();
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.wait().await;
        self.db.close();
    }
}

fn step(topic: &str, of: &str, version: i32, poison: bool) -> Record {
    let headers = [
        ("ce_id", Uuid::now_v7().to_string()),
        ("ce_type", "step.v1".to_owned()),
        ("ce_source", "urn:hospital:kit".to_owned()),
    ];
    Record {
        topic: topic.to_owned(),
        key: Uuid::from_u128(u128::from(of.as_bytes()[0])).to_string(),
        headers: headers.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        value: json!({ "of": of, "version": version, "poison": poison }).to_string().into_bytes(),
    }
}

pub(crate) async fn what_follows_a_dead_letter_of_its_aggregate_waits_and_comes_in_order(
    place: Place,
) {
    let running = Running::start(&place, 1).await;
    let topic = running.topic(0);
    let mut garbage = step(topic, "b", 2, true);
    garbage.headers.clear();
    let good = |of: &str, version| step(topic, of, version, false);
    running
        .publish(vec![good("a", 1), step(topic, "a", 2, true), good("a", 3), good("b", 1)])
        .await;
    running.publish(vec![garbage, good("b", 2), good("a", 4), good("b", 3)]).await;
    running.worked_off().await;
    assert_eq!(running.steps_of("a").await, ["a1"]);
    // Nothing waits behind what is no event, and nothing behind another aggregate's.
    assert_eq!(running.steps_of("b").await, ["b1", "b2", "b3"]);
    assert_eq!(running.letters().await, ["2 dead", "2 dead", "3 waiting", "4 waiting"]);

    // Still poison: it dies again, and everything waits on.
    running.execute("DELETE FROM kit.dead_letter WHERE aggregate IS NULL").await;
    running.redrive(2).await;
    let dead = dead_letter_topic(topic, running.steps.group);
    let copies = eventually("its second death", async || {
        let copies = running.bus.read(&dead, Position::Beginning).await.unwrap();
        (copies.len() == 3).then_some(copies)
    })
    .await;
    let last = copies.last().unwrap();
    for (name, value) in [
        ("dlq_reason", "it says so"),
        ("dlq_attempts", "2"),
        ("dlq_redrives", "1"),
        ("dlq_topic", topic),
        ("dlq_group", running.steps.group),
    ] {
        assert_eq!(last.header(name), Some(value), "{name}");
    }
    let time = |name: &str| last.header(name).unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(time("dlq_first_time") < time("dlq_last_time"));
    assert_eq!(running.letters().await, ["2 dead", "3 waiting", "4 waiting"]);
    running.open_by_the_metrics(1, 2).await;

    running.steps.mended.store(true, Ordering::Relaxed);
    running.redrive(2).await;
    eventually("all of them", async || (running.steps_of("a").await.len() == 4).then_some(()))
        .await;
    assert_eq!(running.steps_of("a").await, ["a1", "a2", "a3", "a4"]);
    assert_eq!(running.letters().await, ["2 applied", "3 applied", "4 applied"]);
    running.open_by_the_metrics(0, 0).await;
    running.publish(vec![good("a", 5)]).await;
    running.worked_off().await;
    assert_eq!(running.steps_of("a").await, ["a1", "a2", "a3", "a4", "a5"]);
    let inbox: i64 = running.database.value("SELECT count(*) FROM kit.inbox").await.unwrap();
    assert_eq!(inbox, 8);
    running.end().await;
}

pub(crate) async fn a_letter_that_is_dropped_lets_those_behind_it_go(place: Place) {
    let running = Running::start(&place, 1).await;
    let topic = running.topic(0);
    running
        .publish((1..=40).map(|version| step(topic, "a", version, version % 10 == 2)).collect())
        .await;
    running.worked_off().await;
    // Those behind the first one were not even tried.
    assert_eq!(running.letters().await.iter().filter(|l| l.ends_with("dead")).count(), 1);
    for version in [2, 12, 22, 32] {
        eventually("the next dead letter", async || {
            running.letters().await.contains(&format!("{version} dead")).then_some(())
        })
        .await;
        running
            .execute(&format!(
                "UPDATE kit.dead_letter SET state = 'dropped', closed_at = now() WHERE version = {version}"
            ))
            .await;
    }
    eventually("the rest", async || (running.steps_of("a").await.len() == 36).then_some(())).await;
    let expected: Vec<String> =
        (1..=40).filter(|v| v % 10 != 2).map(|version| format!("a{version}")).collect();
    assert_eq!(running.steps_of("a").await, expected);
    running.end().await;
}

pub(crate) async fn an_earlier_step_from_another_topic_passes_a_dead_letter(place: Place) {
    let running = Running::start(&place, 2).await;
    let (one, two) = (running.topic(0), running.topic(1));
    running.publish(vec![step(one, "a", 2, true)]).await;
    running.worked_off().await;
    running.publish(vec![step(two, "a", 1, false), step(two, "a", 3, false)]).await;
    running.worked_off().await;
    assert_eq!(running.steps_of("a").await, ["a1"]);
    assert_eq!(running.letters().await, ["2 dead", "3 waiting"]);
    running.end().await;
}

pub(crate) async fn a_letter_that_comes_again_by_the_topic_is_applied_and_closed(place: Place) {
    let running = Running::start(&place, 1).await;
    let topic = running.topic(0);
    let all = vec![step(topic, "a", 1, true), step(topic, "a", 2, false)];
    running.publish(all.clone()).await;
    running.worked_off().await;
    assert_eq!(running.letters().await, ["1 dead", "2 waiting"]);
    running.publish(all.clone()).await;
    running.worked_off().await;
    assert_eq!(running.letters().await, ["1 dead", "2 waiting"], "a repetition changes nothing");
    running.steps.mended.store(true, Ordering::Relaxed);
    running.publish(all).await;
    eventually("both", async || (running.steps_of("a").await.len() == 2).then_some(())).await;
    assert_eq!(running.steps_of("a").await, ["a1", "a2"]);
    assert_eq!(running.letters().await, ["1 applied", "2 applied"]);
    running.end().await;
}

pub(crate) async fn a_record_for_another_group_is_passed_by(place: Place) {
    let running = Running::start(&place, 1).await;
    let topic = running.topic(0);
    let only = |version, group: &str| {
        let mut record = step(topic, "a", version, false);
        record.headers.push((ONLY_FOR.to_owned(), group.to_owned()));
        record
    };
    running.publish(vec![only(1, "somebody-else"), only(2, running.steps.group)]).await;
    running.worked_off().await;
    assert_eq!(running.steps_of("a").await, ["a2"]);
    running.end().await;
}

pub(crate) async fn an_event_older_than_what_is_remembered_is_put_aside_unless_it_is_known(
    place: Place,
) {
    let running = Running::start(&place, 1).await;
    let topic = running.topic(0);
    let at = |days: i64, of: &str| {
        let time = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days);
        let mut record = step(topic, of, 1, false);
        record.headers.push(("ce_time".to_owned(), time.to_string()));
        record
    };
    let (young, known, unknown) = (at(200, "a"), at(900, "b"), at(900, "c"));
    let (_, id) = known.headers.first().unwrap();
    let group = running.steps.group;
    running
        .execute(&format!(
            "INSERT INTO kit.inbox (consumer, event_id, topic) VALUES ('{group}', '{id}', '{topic}')"
        ))
        .await;
    running.publish(vec![young, known, unknown]).await;
    running.worked_off().await;
    assert_eq!(running.steps_of("a").await, ["a1"]);
    assert_eq!(running.steps_of("b").await, Vec::<String>::new(), "it was applied once");
    assert_eq!(running.steps_of("c").await, Vec::<String>::new(), "perhaps it was");
    assert_eq!(running.letters().await, ["1 dead"]);
    let reason: String =
        running.database.value("SELECT reason FROM kit.dead_letter").await.unwrap();
    assert!(reason.contains("older than 240 days"), "{reason}");
    // Somebody who knows that it was not has it applied.
    running.redrive(1).await;
    eventually("it to be applied", async || (running.steps_of("c").await == ["c1"]).then_some(()))
        .await;
}

pub(crate) async fn what_a_source_may_not_publish_is_put_aside_and_is_in_nobody_s_way(
    place: Place,
) {
    let topic = "bill.generated";
    place.make(topic, 2).await;
    let running = Running::start_on(&place, vec![topic.to_owned()]).await;
    let from = |source: &str, version| {
        let mut record = step(topic, "a", version, false);
        let given = record.headers.iter_mut().find(|(name, _)| name == "ce_source").unwrap();
        given.1 = format!("urn:hospital:{source}");
        record
    };
    let mut forged = from("notification", 1);
    let own = from("billing", 2);
    // It bears the id of an event that is still to come.
    forged.headers[0] = own.headers[0].clone();
    running.publish(vec![forged.clone(), own, from("billing", 3)]).await;
    running.worked_off().await;
    assert_eq!(running.steps_of("a").await, ["a2", "a3"], "nothing waits behind it");
    let ledger = "SELECT state || ': ' || reason FROM kit.dead_letter";
    let told: String = running.database.value(ledger).await.unwrap();
    let why = "dead: the source \"urn:hospital:notification\" may not publish to bill.generated";
    assert!(told.starts_with(why), "{told}");
    let dead = dead_letter_topic(topic, running.steps.group);
    let copies = running.bus.read(&dead, Position::Beginning).await.unwrap();
    assert_eq!((copies.len(), &copies[0].value), (1, &forged.value));
    // Redriven it is what it was, under the name that it has.
    running.redrive(1).await;
    eventually("it to die again", async || {
        let again = "SELECT count(*) FROM kit.dead_letter WHERE state = 'dead' AND attempts = 2";
        (running.database.value::<i64>(again).await.unwrap() == 1).then_some(())
    })
    .await;
    assert_eq!(running.letters().await, ["1 dead"]);
    assert_eq!(running.steps_of("a").await, ["a2", "a3"]);
    running.end().await;
}
