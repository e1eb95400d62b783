//! One cluster per test process, one database per test. Tests of commits that take their time have a second cluster.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::Context;
use hospital_cluster::{Cluster, Options};
use tokio::sync::Mutex;
use tokio_postgres::NoTls;

/// A database of a test's own.
#[derive(Clone, Debug)]
pub struct TestDb {
    name: String,
    commits: Commits,
}

/// How a cluster commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Commits {
    /// At once, for nothing has to survive.
    #[default]
    Fast,
    /// To the disk, and some milliseconds later than could be: long enough to be met while at it.
    Slow,
}

impl TestDb {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster owner's URL.
    pub fn owner_url(&self) -> String {
        cluster(self.commits).owner_url(&self.name)
    }

    pub fn url_as(&self, role: &str, password: &str) -> String {
        cluster(self.commits).url(role, password, &self.name)
    }

    /// Runs statements as the owner.
    pub async fn execute(&self, sql: &str) -> anyhow::Result<()> {
        let client = connect(&self.owner_url()).await?;
        client.batch_execute(sql).await.context("running SQL")
    }

    /// Puts everybody out and lets nobody in, as if its server were away.
    pub async fn shut(&self) -> anyhow::Result<()> {
        let name = &self.name;
        let client = connect(&cluster(self.commits).owner_url("postgres")).await?;
        let sql = format!(
            "ALTER DATABASE {name} ALLOW_CONNECTIONS false;
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        );
        client.batch_execute(&sql).await.context("shutting a database")
    }

    /// Ends what [`TestDb::shut`] began.
    pub async fn open(&self) -> anyhow::Result<()> {
        let client = connect(&cluster(self.commits).owner_url("postgres")).await?;
        let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name);
        client.batch_execute(&sql).await.context("opening a database")
    }

    /// How often an index was searched, as far as sessions have told by now: within about a second.
    ///
    /// # Errors
    /// When there is no such index.
    pub async fn searches(&self, index: &str) -> anyhow::Result<i64> {
        let sql = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = $1";
        Ok(connect(&self.owner_url()).await?.query_one(sql, &[&index]).await?.try_get(0)?)
    }

    /// The first column of the first row of a query, as the owner.
    pub async fn value<T>(&self, sql: &str) -> anyhow::Result<T>
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        let client = connect(&self.owner_url()).await?;
        Ok(client.query_one(sql, &[]).await?.try_get(0)?)
    }
}

/// A database with nothing in it.
pub async fn empty_database() -> anyhow::Result<TestDb> {
    create("template0", Commits::Fast).await
}

/// A database with nothing in it, on a cluster that commits like this.
pub async fn empty_database_with(commits: Commits) -> anyhow::Result<TestDb> {
    create("template0", commits).await
}

/// A clone of a template, which `build` makes once per test process; it is given the owner's URL of the database to fill.
pub async fn database_from(
    template: &str,
    build: impl AsyncFnOnce(String) -> anyhow::Result<()>,
) -> anyhow::Result<TestDb> {
    type Slot = Arc<Mutex<Option<String>>>;
    static TEMPLATES: LazyLock<Mutex<HashMap<String, Slot>>> = LazyLock::new(Mutex::default);
    let slot = Arc::clone(TEMPLATES.lock().await.entry(template.to_owned()).or_default());
    let mut built = slot.lock().await;
    if built.is_none() {
        let db = create("template0", Commits::Fast).await?;
        build(db.owner_url()).await.with_context(|| format!("building the template {template}"))?;
        *built = Some(db.name);
    }
    let name = built.clone().context("built above")?;
    create(&name, Commits::Fast).await
}

/// The owner's URL of the database that a URL of a role names, on the usual cluster.
pub(crate) fn owner_url_of(url: &str) -> anyhow::Result<String> {
    let config: tokio_postgres::Config = url.parse().context("a test's URL")?;
    Ok(cluster(Commits::Fast).owner_url(config.get_dbname().context("a database in it")?))
}

async fn create(template: &str, commits: Commits) -> anyhow::Result<TestDb> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let client = connect(&cluster(commits).owner_url("postgres")).await?;
    // A template that somebody is still connected to cannot be copied; those connections are on their way out.
    client
        .execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
            &[&template],
        )
        .await?;
    client
        .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY"))
        .await
        .with_context(|| format!("copying {template}"))?;
    Ok(TestDb { name, commits })
}

pub(crate) async fn connect(url: &str) -> anyhow::Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("connecting")?;
    #[expect(clippy::disallowed_methods, reason = "ends with the client")]
    tokio::spawn(connection);
    Ok(client)
}

fn cluster(commits: Commits) -> &'static Cluster {
    static FAST: OnceLock<Cluster> = OnceLock::new();
    static SLOW: OnceLock<Cluster> = OnceLock::new();
    let made = match commits {
        Commits::Fast => &FAST,
        Commits::Slow => &SLOW,
    };
    made.get_or_init(|| start(commits).expect("the tests' PostgreSQL starts"))
}

fn start(commits: Commits) -> anyhow::Result<Cluster> {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let dir = tempfile::Builder::new().prefix("hospital-test-").tempdir_in(base)?.keep();
    // The process that must outlive this one, however this one ends.
    let reaper = reap_after_us(&dir)?;
    let mut options = Options { dir, ..Options::default() };
    if commits == Commits::Slow {
        options.durable = true;
        // In microseconds, and however few others are at work.
        let settings = [("commit_delay", "20000"), ("commit_siblings", "0")];
        options.settings =
            settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    }
    let cluster = Cluster::open(&options)?;
    // Never dropped: the end of this process is what closes its standard input.
    std::mem::forget(reaper);
    Ok(cluster)
}

/// A shell that waits for the end of its input, which is the end of this process, and then ends the cluster and removes it. `kill` and `read` are
/// the shell's own, `sleep` and `rm` are on every system.
fn reap_after_us(dir: &PathBuf) -> anyhow::Result<std::process::Child> {
    const SCRIPT: &str = r#"
        trap '' INT TERM HUP
        read -r _
        pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null
        left=200
        while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && [ $left -gt 0 ]; do sleep 0.05; left=$((left - 1)); done
        rm -rf "$1"
    "#;
    Command::new("sh")
        .args(["-c", SCRIPT, "reaper"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting the reaper")
}
