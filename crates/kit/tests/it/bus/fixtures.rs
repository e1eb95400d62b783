use std::{
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use hospital_kit::{
    bus::{Consumer, Received, Record, SharedBus, TopicSpec, kafka::KafkaBus, postgres},
    config::{BusConfig, BusKind},
};
use hospital_testkit::{Kafka, KafkaMode, TestDb, database_from, make_topics};
use rdkafka::mocking::MockCluster;

/// Where a bus is, and how another process would open it.
pub(crate) enum Place {
    Postgres(TestDb),
    Kafka { servers: String, mock: bool },
}

impl Place {
    pub(crate) async fn postgres() -> Self {
        let db = database_from("bus", async |url| Ok(postgres::install(&url, &[]).await?));
        Self::Postgres(db.await.unwrap())
    }

    pub(crate) fn kafka() -> Self {
        match KafkaMode::asked_for() {
            Some(mode) => {
                static REAL: OnceLock<Kafka> = OnceLock::new();
                let kafka = REAL.get_or_init(|| Kafka::start(mode, 1).unwrap());
                Self::Kafka { servers: kafka.servers().to_owned(), mock: false }
            }
            None => Self::Kafka { servers: MOCK.servers.clone(), mock: true },
        }
    }

    /// The mock cluster knows no administration: no topic is made or described through it, and its groups' offsets cannot be set from
    /// outside of the group.
    pub(crate) const fn is_mock(&self) -> bool {
        matches!(self, Self::Kafka { mock: true, .. })
    }

    /// A bus of its own, as another process would have.
    pub(crate) fn open(&self) -> SharedBus {
        match self {
            Self::Postgres(db) => {
                Arc::new(postgres::PostgresBus::new(&db.owner_url(), "test-bus", None).unwrap())
            }
            Self::Kafka { servers, .. } => kafka_at(servers),
        }
    }

    /// A bus where nobody listens.
    pub(crate) fn nowhere(&self) -> SharedBus {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        match self {
            Self::Postgres(_) => {
                let url = format!("postgresql://nobody:x@127.0.0.1:{port}/nowhere");
                Arc::new(postgres::PostgresBus::new(&url, "test-bus", None).unwrap())
            }
            Self::Kafka { .. } => kafka_at(&format!("127.0.0.1:{port}")),
        }
    }

    /// A topic of its own.
    pub(crate) async fn topic(&self, partitions: i32) -> String {
        let name = unique("topic");
        self.make(&name, partitions).await;
        name
    }

    pub(crate) async fn make(&self, name: &str, partitions: i32) {
        if self.is_mock() {
            let (done, made) = mpsc::channel();
            MOCK.make.send((name.to_owned(), partitions, done)).unwrap();
            made.recv().unwrap();
        } else {
            let spec = TopicSpec { name: name.to_owned(), partitions, retention: None };
            make_topics(&*self.open(), &[spec]).await;
        }
    }
}

fn kafka_at(servers: &str) -> SharedBus {
    let config = BusConfig {
        kind: BusKind::Kafka,
        bootstrap_servers: Some(servers.to_owned()),
        ..BusConfig::default()
    };
    Arc::new(KafkaBus::new(&config, "test").unwrap())
}

/// A name that no other test and no earlier run has used.
pub(crate) fn unique(what: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let run = std::process::id();
    format!("{what}-{run}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

type Wish = (String, i32, mpsc::Sender<()>);

struct Mock {
    servers: String,
    make: mpsc::SyncSender<Wish>,
}

/// One mock cluster for the process, kept by a thread of its own: it cannot be shared among threads.
static MOCK: LazyLock<Mock> = LazyLock::new(|| {
    let (make, wishes) = mpsc::sync_channel::<Wish>(16);
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let cluster = MockCluster::new(1).unwrap();
        tell.send(cluster.bootstrap_servers()).unwrap();
        for (name, partitions, done) in wishes {
            cluster.create_topic(&name, partitions, 1).unwrap();
            done.send(()).unwrap();
        }
    });
    Mock { servers: told.recv().unwrap(), make }
});

pub(crate) fn record(topic: &str, key: &str, value: &str) -> Record {
    Record {
        topic: topic.to_owned(),
        key: key.to_owned(),
        headers: Vec::new(),
        value: value.as_bytes().to_vec(),
    }
}

/// `count` records under as many keys, their values `prefix-0` and so on.
pub(crate) fn records(topic: &str, prefix: &str, count: usize) -> Vec<Record> {
    (0..count).map(|n| record(topic, &format!("{prefix}{n}"), &format!("{prefix}-{n}"))).collect()
}

/// Polls until there are so many; joining a group may take seconds.
pub(crate) async fn poll_all(member: &mut Box<dyn Consumer>, count: usize) -> Vec<Received> {
    let (mut all, started) = (Vec::new(), std::time::Instant::now());
    while all.len() < count {
        assert!(started.elapsed() < Duration::from_secs(30), "{} of {count} came", all.len());
        all.extend(member.poll(count - all.len(), Duration::from_millis(300)).await.unwrap());
    }
    all
}

pub(crate) fn values(records: &[Received]) -> Vec<String> {
    let mut all: Vec<String> =
        records.iter().map(|r| String::from_utf8(r.value.clone()).unwrap()).collect();
    all.sort();
    all
}
