//! How topics are kept: as many copies as there are brokers, at most three, of which one may be lost.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::RDKafkaErrorCode,
    util::Timeout,
};

use super::{BusError, CALL, TopicSpec, blocking, failed};

/// More copies than this make nothing safer that one lost broker can harm.
const REPLICAS_MAX: i32 = 3;
/// How long brokers that are named and not there yet are waited for before topics are made.
const BROKERS_PATIENCE: Duration = Duration::from_secs(20);
const MIN_IN_SYNC: &str = "min.insync.replicas";

/// How many copies the topics are to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copies {
    /// What the settings say; 0 where the brokers decide.
    pub(super) factor: i32,
    /// How many addresses the settings name: so many brokers are probably meant to be there.
    pub(super) addresses: i32,
}

impl Copies {
    const fn of(self, brokers: i32) -> i32 {
        match (self.factor, brokers) {
            (0, ..1) => 1,
            (0, REPLICAS_MAX..) => REPLICAS_MAX,
            (0, brokers) => brokers,
            (set, _) => set,
        }
    }
}

/// How many copies must have a record before it is acknowledged: all but the one that may be lost.
const fn in_sync(replicas: i32) -> i32 {
    if replicas > 1 { replicas - 1 } else { 1 }
}

/// A topic that exists.
struct Found {
    partitions: i32,
    /// Of the partition that has the fewest, and the most.
    replicas: (i32, i32),
}

/// Makes the topics that are missing, and checks all of them; warns of what is less safe than it could be.
pub(super) async fn ensure(
    settings: &ClientConfig,
    topics: &[TopicSpec],
    copies: Copies,
) -> Result<(), BusError> {
    let specs = topics.to_vec();
    let reader = reader(settings)?;
    let replicas = blocking(move || {
        let (brokers, missing) = look(&reader, &specs, copies)?;
        Ok((copies.of(brokers), missing))
    });
    let (replicas, missing) = replicas.await?;
    if !missing.is_empty() {
        make(settings, &missing, replicas).await?;
    }
    for weakness in weaknesses(settings, topics, copies).await? {
        tracing::warn!("{weakness}");
    }
    Ok(())
}

/// What the topics that are there lack: one line each way, with the topics that lack it, and what to do.
pub(super) async fn weaknesses(
    settings: &ClientConfig,
    topics: &[TopicSpec],
    copies: Copies,
) -> Result<Vec<String>, BusError> {
    let (specs, reader) = (topics.to_vec(), reader(settings)?);
    let found = blocking(move || check(&reader, &specs, copies));
    let (wanted, found) = found.await?;
    let in_sync = min_in_sync(settings, topics).await;
    Ok(told(wanted, &found, &in_sync))
}

fn reader(settings: &ClientConfig) -> Result<BaseConsumer, BusError> {
    settings.clone().set("group.id", "hospital-admin").create().map_err(|e| failed(&e))
}

fn number(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// How many brokers there are, and which of the topics are not. Brokers of a cluster that is just starting come one after the
/// other, and a topic that is made now keeps the copies that it is made with: those that the settings name are waited for.
fn look(
    reader: &BaseConsumer<impl ConsumerContext>,
    specs: &[TopicSpec],
    copies: Copies,
) -> Result<(i32, Vec<TopicSpec>), BusError> {
    const PAUSE: Duration = Duration::from_millis(300);
    let started = Instant::now();
    loop {
        let metadata = reader.fetch_metadata(None, CALL).map_err(|e| failed(&e))?;
        let brokers = number(metadata.brokers().len());
        let there = |spec: &TopicSpec| metadata.topics().iter().any(|t| t.name() == spec.name);
        let missing: Vec<TopicSpec> = specs.iter().filter(|s| !there(s)).cloned().collect();
        let expected = copies.of(copies.addresses);
        if missing.is_empty() || brokers >= expected || started.elapsed() > BROKERS_PATIENCE {
            if !missing.is_empty() && brokers < expected {
                tracing::warn!(
                    brokers,
                    expected,
                    "topics are made with fewer copies: bus.bootstrap_servers names more brokers than are there"
                );
            }
            return Ok((brokers, missing));
        }
        std::thread::sleep(PAUSE);
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(Timeout::After(CALL)))
        .request_timeout(Some(Timeout::After(CALL + Duration::from_secs(1))))
}

/// A client that met the brokers before they had a controller waits for one that it does not look for: a fresh client, soon, finds it.
fn admin(settings: &ClientConfig) -> Result<AdminClient<DefaultClientContext>, BusError> {
    settings.create().map_err(|e| failed(&e))
}

async fn make(
    settings: &ClientConfig,
    topics: &[TopicSpec],
    replicas: i32,
) -> Result<(), BusError> {
    let retention: Vec<String> = topics
        .iter()
        .map(|t| t.retention.map_or_else(|| "-1".to_owned(), |r| r.as_millis().to_string()))
        .collect();
    let in_sync = in_sync(replicas).to_string();
    let wanted: Vec<NewTopic<'_>> = topics
        .iter()
        .zip(&retention)
        .map(|(t, retention)| {
            NewTopic::new(&t.name, t.partitions, TopicReplication::Fixed(replicas))
                .set("retention.ms", retention)
                .set(MIN_IN_SYNC, &in_sync)
        })
        .collect();
    let made = admin(settings)?.create_topics(&wanted, &options()).await.map_err(|e| failed(&e))?;
    for made in made {
        match made {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, RDKafkaErrorCode::InvalidReplicationFactor)) => {
                return Err(BusError::Refused(format!(
                    "topic {topic} cannot have {replicas} replicas: the cluster has fewer brokers; \
                     set bus.replication_factor, or leave it out"
                )));
            }
            Err((topic, code)) => {
                return Err(BusError::Unavailable(format!("creating topic {topic}: {code}")));
            }
        }
    }
    Ok(())
}

/// How many copies there should be, and the topics as they are. Refuses those that the platform cannot work with, or that are
/// not as the settings say.
fn check(
    reader: &BaseConsumer<impl ConsumerContext>,
    specs: &[TopicSpec],
    copies: Copies,
) -> Result<(i32, BTreeMap<String, Found>), BusError> {
    let mut all = BTreeMap::new();
    let mut brokers = 0;
    for spec in specs {
        let (name, wanted) = (&spec.name, spec.partitions);
        let (seen, found) = find(reader, name)?;
        brokers = brokers.max(seen);
        if found.partitions != wanted {
            return Err(BusError::Refused(format!(
                "topic {name} has {} partitions and the settings say {wanted}: set bus.partitions to what it has",
                found.partitions
            )));
        }
        let factor = copies.factor;
        let other = [found.replicas.0, found.replicas.1].into_iter().find(|n| *n != factor);
        if let Some(other) = other.filter(|_| factor > 0) {
            return Err(BusError::Refused(format!(
                "topic {name} has {other} replicas and the settings say {factor}: set bus.replication_factor to what it has, \
                 leave it out, or reassign its partitions"
            )));
        }
        all.insert(name.clone(), found);
    }
    Ok((copies.of(brokers), all))
}

/// A topic as it is, with the number of brokers. A broker of a cluster hears a moment later of a topic that was made through another.
fn find(
    reader: &BaseConsumer<impl ConsumerContext>,
    topic: &str,
) -> Result<(i32, Found), BusError> {
    const PAUSE: Duration = Duration::from_millis(100);
    for _ in 0..CALL.as_millis() / PAUSE.as_millis() {
        let metadata = reader.fetch_metadata(Some(topic), CALL).map_err(|e| failed(&e))?;
        let replicas: Vec<i32> = metadata
            .topics()
            .iter()
            .flat_map(|t| t.partitions())
            .map(|p| number(p.replicas().len()))
            .collect();
        if let (Some(least), Some(most)) = (replicas.iter().min(), replicas.iter().max()) {
            let brokers = number(metadata.brokers().len());
            let found = Found { partitions: number(replicas.len()), replicas: (*least, *most) };
            return Ok((brokers, found));
        }
        std::thread::sleep(PAUSE);
    }
    Err(BusError::Unavailable(format!("topic {topic} was made and is not to be seen")))
}

/// How many copies must have a record, by topic, where the cluster tells.
async fn min_in_sync(settings: &ClientConfig, topics: &[TopicSpec]) -> BTreeMap<String, i32> {
    let Ok(admin) = admin(settings) else { return BTreeMap::new() };
    let asked: Vec<ResourceSpecifier<'_>> =
        topics.iter().map(|t| ResourceSpecifier::Topic(&t.name)).collect();
    let told = match admin.describe_configs(&asked, &options()).await {
        Ok(told) => told,
        Err(e) => {
            tracing::warn!(error = %e, "the cluster does not tell its topics' {MIN_IN_SYNC}");
            return BTreeMap::new();
        }
    };
    let mut all = BTreeMap::new();
    for (topic, config) in topics.iter().zip(told) {
        let value = config.ok().and_then(|config| {
            config.get(MIN_IN_SYNC).and_then(|entry| entry.value.as_ref()?.parse().ok())
        });
        all.extend(value.map(|value| (topic.name.clone(), value)));
    }
    all
}

/// What is to be said of topics as they are; those that lack the same are named together.
fn told(
    wanted: i32,
    found: &BTreeMap<String, Found>,
    in_sync_of: &BTreeMap<String, i32>,
) -> Vec<String> {
    let mut alike: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (topic, found) in found {
        let least = found.replicas.0;
        if least < wanted {
            let lack = format!(
                "{least} replicas where the brokers allow {wanted}: one lost broker can stop them or lose what is in them; \
                 reassign their partitions with kafka-reassign-partitions.sh"
            );
            alike.entry(lack).or_default().push(topic);
        }
        let Some(has) = in_sync_of.get(topic).copied() else { continue };
        let should = in_sync(least);
        let lack = match has {
            has if has < should => "what is acknowledged may be on the lost broker alone",
            has if has >= least && least > 1 => "they take nothing while one broker is lost",
            _ => continue,
        };
        let lack = format!(
            "{MIN_IN_SYNC}={has} with {least} replicas: {lack}; \
             kafka-configs.sh --alter --entity-type topics --entity-name TOPIC --add-config {MIN_IN_SYNC}={should}"
        );
        alike.entry(lack).or_default().push(topic);
    }
    alike
        .into_iter()
        .map(|(lack, topics)| format!("the topics {} have {lack}", topics.join(", ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_have_as_many_copies_as_there_are_brokers_at_most_three() {
        let copies = |factor| {
            let copies = Copies { factor, addresses: 1 };
            [0, 1, 2, 3, 4, 9].map(|brokers| copies.of(brokers))
        };
        assert_eq!(copies(0), [1, 1, 2, 3, 3, 3]);
        assert_eq!(copies(2), [2; 6], "what is set is set");
        assert_eq!([1, 2, 3, 4].map(in_sync), [1, 1, 2, 3]);
    }

    #[test]
    fn what_topics_lack_is_said_with_their_names_and_what_to_do() {
        let found = |replicas| Found { partitions: 3, replicas: (replicas, replicas) };
        let topics: BTreeMap<String, Found> =
            [("alone", 1), ("early", 3), ("good", 3), ("late", 3), ("single", 1)]
                .map(|(name, replicas)| (name.to_owned(), found(replicas)))
                .into();
        let in_sync: BTreeMap<String, i32> =
            [("alone", 1), ("early", 1), ("good", 2), ("late", 3), ("single", 1)]
                .map(|(name, n)| (name.to_owned(), n))
                .into();
        let said = told(3, &topics, &in_sync);
        assert_eq!(said.len(), 3, "{said:#?}");
        let one = |names: &str| {
            let found = said.iter().find(|line| line.contains(names));
            found.unwrap_or_else(|| panic!("nothing of {names}: {said:#?}")).as_str()
        };
        assert!(one("topics alone, single have 1 replicas").contains("kafka-reassign-partitions"));
        assert!(one("topics early have min.insync.replicas=1 with 3 replicas").ends_with("=2"));
        assert!(one("topics late have min.insync.replicas=3").contains("take nothing"));
        assert_eq!(told(1, &[("alone".to_owned(), found(1))].into(), &in_sync), [""; 0]);
    }
}
