//! What a series of runs stands on: a PostgreSQL of its own, a database for the baselines, and one that is set up for the platform.

use std::{path::Path, rc::Rc, time::Duration};

use anyhow::{Context, bail};
use hospital_cluster::{Cluster, Options};

use crate::{
    database, history,
    kafka::Kafka,
    medium::Medium,
    pgbench::{self, Baseline},
    platform::{Platform, Program},
    processor::{Meter, between},
    runs::note,
    setup::{self, Size},
    workload::World,
};

const BASELINE_SCHEMA: &str = include_str!("../baseline/schema.sql");
const SAME_ROWS_FILL: &str = include_str!("../baseline/same-rows-fill.sql");

pub(crate) struct Stage {
    pub(crate) program: Program,
    pub(crate) cluster: Cluster,
    pub(crate) size: Size,
    /// Removed last.
    _dir: tempfile::TempDir,
}

/// A platform that is set up and open.
pub(crate) struct Open {
    pub(crate) platform: Platform,
    pub(crate) world: Rc<World>,
    /// The broker's process.
    pub(crate) kafka: Option<u32>,
    pub(crate) url: String,
    pub(crate) addresses: [std::net::SocketAddr; 4],
}

/// The services work something off while they use more than this share of a processor.
const BUSY: f64 = 0.1;
const SETTLING_MAX: Duration = Duration::from_secs(180);

impl Open {
    /// Waits until the services have nothing left to do, so that what follows has the machine for itself.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        let mut meter = Meter::default();
        self.platform.watch(&mut meter);
        let interval = Duration::from_millis(400);
        let deadline = tokio::time::Instant::now() + SETTLING_MAX;
        let mut quiet = 0;
        while quiet < 2 {
            let before = meter.read();
            tokio::time::sleep(interval).await;
            let used: Duration = between(&before, &meter.read()).values().sum();
            quiet = if used.div_duration_f64(interval) < BUSY { quiet + 1 } else { 0 };
            if tokio::time::Instant::now() > deadline {
                bail!("the services are still busy after {SETTLING_MAX:?}");
            }
        }
        Ok(())
    }
}

const SEED: &str = "seed";
pub(crate) const RUN: &str = "run";
const HISTORY: &str = "history";
pub(crate) const BASELINE: &str = "baseline";

impl Stage {
    pub(crate) async fn set(
        medium: &Medium,
        hospital: Option<&Path>,
        settings: &[(String, String)],
        size: Size,
    ) -> anyhow::Result<Self> {
        let dir = medium.directory()?;
        let mut all = vec![("autovacuum".to_owned(), "on".to_owned())];
        all.extend(settings.iter().cloned());
        let options = Options {
            dir: dir.path().join("postgres"),
            durable: true,
            settings: all,
            ..Options::default()
        };
        let cluster = Cluster::open(&options)?;
        let program = Program::find(hospital, dir.path().join("platform"))?;
        let stage = Self { program, cluster, size, _dir: dir };
        stage.make_baseline().await?;
        Ok(stage)
    }

    fn admin_url(&self) -> String {
        self.cluster.owner_url("postgres")
    }

    /// The baselines run on the platform's own migrations, so that they write into the very same tables and indexes.
    async fn make_baseline(&self) -> anyhow::Result<()> {
        database::create(&self.admin_url(), BASELINE, None).await?;
        self.program.must(&["migrate", "--owner-url", &self.cluster.owner_url(BASELINE)])?;
        Ok(())
    }

    /// Empties the baselines' tables, since an exclusion constraint gets slower as its table grows, and puts some rows there and counts them:
    /// a generic plan that was made for an empty table reads all of it for as long as its session lives.
    pub(crate) async fn ready_baseline(
        &self,
        baseline: Baseline,
        connections: usize,
        meter: &Meter,
    ) -> anyhow::Result<()> {
        let url = self.cluster.owner_url(BASELINE);
        pgbench::sql(&url, BASELINE_SCHEMA).context("making the baselines' tables")?;
        pgbench::sql(&url, SAME_ROWS_FILL).context("emptying the tables of the same rows")?;
        let plan = pgbench::Plan { connections, length: Duration::from_secs(1), rate: None };
        pgbench::run(baseline, &url, plan, meter).await.context("warming the baseline up")?;
        pgbench::sql(&url, "VACUUM ANALYZE;").context("counting the baseline's rows")
    }

    /// Opens a platform on a fresh copy of the set-up database. With Kafka there is no copy, as its topics must agree: it is set up anew.
    pub(crate) async fn open(&self, kafka: Option<&Kafka>) -> anyhow::Result<Open> {
        if kafka.is_some() {
            database::create(&self.admin_url(), RUN, None).await?;
        } else {
            self.copy_seed().await?;
        }
        let url = self.cluster.owner_url(RUN);
        let platform = self.program.start(&url, kafka.map(Kafka::servers))?;
        if kafka.is_some() {
            setup::fill(&self.program, &url, self.size).await?;
        }
        let mut open = self.opened(platform, url).await?;
        open.kafka = kafka.map(Kafka::pid).transpose()?;
        Ok(open)
    }

    /// Makes a database with ten years of history.
    pub(crate) async fn fill_history(&self, appointments: u64) -> anyhow::Result<()> {
        self.make_seed().await?;
        database::create(&self.admin_url(), HISTORY, Some(SEED)).await?;
        let took = history::fill(&self.cluster.owner_url(HISTORY), appointments).await?;
        note(&format!("filled in {:.0} s", took.as_secs_f64()));
        Ok(())
    }

    /// Opens a platform on the history itself; a copy would not fit into memory beside it.
    pub(crate) async fn open_history(&self) -> anyhow::Result<Open> {
        let url = self.cluster.owner_url(HISTORY);
        self.opened(self.program.start(&url, None)?, url).await
    }

    async fn opened(&self, platform: Platform, url: String) -> anyhow::Result<Open> {
        let world = Rc::new(setup::world(&self.program, &url).await?);
        let open = Open { platform, world, kafka: None, url, addresses: self.program.addresses() };
        open.settle().await?;
        Ok(open)
    }

    pub(crate) async fn copy_seed(&self) -> anyhow::Result<()> {
        self.make_seed().await?;
        database::create(&self.admin_url(), RUN, Some(SEED)).await
    }

    async fn make_seed(&self) -> anyhow::Result<()> {
        let admin = database::connect(&self.admin_url()).await?;
        if !admin.query("SELECT 1 FROM pg_database WHERE datname = $1", &[&SEED]).await?.is_empty()
        {
            return Ok(());
        }
        database::create(&self.admin_url(), SEED, None).await?;
        let url = self.cluster.owner_url(SEED);
        let platform = self.program.start(&url, None)?;
        setup::fill(&self.program, &url, self.size).await?;
        platform.verify(Duration::from_secs(120)).context("after the set-up")?;
        platform.stop()
    }
}
