//! The one way into a service's database.
//!
//! Commands go through one of three transaction boundaries of the same shape:
//! [`idempotency::once`](crate::idempotency::once) for HTTP writes, [`inbox::once`](crate::inbox::once)
//! for events, [`Db::write`] for scheduled work. Behind each stands a [`Tx`], which queues its writes
//! and sends them in one round trip. Reads that only feed a page go through a [`Reader`], and the few
//! single statements that need no more through [`Db::write_alone`].
//!
//! Sessions are read-only unless a transaction says otherwise, which a [`Tx`] does as it begins. So
//! PostgreSQL refuses what a [`Reader`] is given to write, at the cost of no round trip and no
//! statement.

mod error;
mod tx;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use tokio::sync::Notify;
use tokio_postgres::{NoTls, Row, error::SqlState};
use uuid::Uuid;

pub use self::{
    error::{broken, is_unavailable},
    tx::{Param, Statement, Tx, Written},
};
use crate::{
    cause::Cause,
    clock::Clock,
    outcome::{Broken, Failure, Outcome},
    sql,
};

/// How long a session whose client was cut off is waited for, to see what became of its transaction.
const OUTCOME_PATIENCE: Duration = Duration::from_secs(2);

/// How a service reaches its schema.
#[derive(Clone)]
pub struct DbSettings {
    pub url: String,
    /// The schema, which is also the service's name; its role is `hospital_<schema>`.
    pub schema: &'static str,
    pub pool_size: usize,
    pub statement_timeout: Duration,
    pub lock_timeout: Duration,
}

impl DbSettings {
    pub fn new(url: impl Into<String>, schema: &'static str) -> Self {
        Self {
            url: url.into(),
            schema,
            pool_size: 16,
            statement_timeout: Duration::from_secs(2),
            lock_timeout: Duration::from_millis(500),
        }
    }
}

/// A service's database: a pool of connections that see its own schema and nothing else.
#[derive(Clone)]
pub struct Db {
    pool: Pool,
    config: Arc<tokio_postgres::Config>,
    schema: &'static str,
    clock: Clock,
    appended: Arc<Notify>,
    /// By kind of job.
    enqueued: Arc<Mutex<BTreeMap<&'static str, Arc<Notify>>>>,
}

impl Db {
    /// Makes the pool. No connection is opened yet, so this succeeds while the server is away.
    pub fn new(settings: &DbSettings, clock: Clock) -> Result<Self, Broken> {
        let config = Arc::new(session_config(settings)?);
        let mut pooled = (*config).clone();
        let options = config.get_options().unwrap_or_default();
        pooled.options(format!("{options} -c default_transaction_read_only=on"));
        let manager = Manager::from_config(
            pooled,
            NoTls,
            // A unit of work gives a connection back only out of its transaction, so there is nothing to clean.
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let pool = Pool::builder(manager)
            .max_size(settings.pool_size)
            .wait_timeout(Some(Duration::from_secs(2)))
            .create_timeout(Some(Duration::from_secs(2)))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| Broken::defect("making the connection pool", e))?;
        Ok(Self {
            pool,
            config,
            schema: settings.schema,
            clock,
            appended: Arc::default(),
            enqueued: Arc::default(),
        })
    }

    pub const fn schema(&self) -> &'static str {
        self.schema
    }

    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Opens a connection of its own, outside the pool: for the relay's leader, which holds a session lock.
    pub(crate) fn config(&self) -> &tokio_postgres::Config {
        &self.config
    }

    /// Resolves after a unit of work with events has committed.
    pub(crate) fn appended(&self) -> &Notify {
        &self.appended
    }

    /// Resolves after a unit of work that has enqueued jobs of this kind has committed.
    pub(crate) fn jobs_enqueued(&self, kind: &'static str) -> Arc<Notify> {
        // Nothing that holds it can panic halfway.
        let mut kinds = self.enqueued.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(kinds.entry(kind).or_default())
    }

    #[expect(clippy::disallowed_methods, reason = "the transaction boundaries themselves")]
    async fn connection(&self) -> Result<Object, Broken> {
        self.pool.get().await.map_err(|e| Broken::unavailable("taking a database connection", e))
    }

    /// The transaction boundary of work that is neither a request's nor an event's. `name` is what it
    /// is called in metrics and errors.
    pub async fn write<T, R>(
        &self,
        name: &'static str,
        work: impl AsyncFnOnce(&mut Tx<R>) -> Outcome<T, R>,
    ) -> Outcome<T, R> {
        let mut tx = self.begin(name).await?;
        match work(&mut tx).await {
            Ok(value) => tx.commit().await.map(|()| value),
            Err(failure) => {
                tx.abandon().await;
                Err(failure)
            }
        }
    }

    /// Writes by one statement in a transaction of its own, in one round trip, and gives the rows that it returns: for what needs
    /// neither an event nor another statement. `name` is what it is called in metrics and errors.
    pub async fn write_alone(
        &self,
        name: &'static str,
        statement: Statement,
    ) -> Result<Vec<Row>, Broken> {
        let mut tx = self.begin::<Infallible>(name).await?;
        tx.write(statement);
        match tx.commit_with_rows().await {
            // Behind the BEGIN.
            Ok(answers) => Ok(answers.into_iter().nth(1).unwrap_or_default()),
            Err(Failure::Broken(broken)) => Err(broken),
            Err(Failure::Refused(never)) => match never {},
        }
    }

    /// The database as it is open to `cause` for reading.
    pub const fn reader<'a>(&'a self, cause: &'a Cause) -> Reader<'a> {
        Reader { db: self, cause }
    }

    /// Opens a transaction. Only the transaction boundaries do; nothing has been sent to the server yet.
    pub(crate) async fn begin<R>(&self, name: &'static str) -> Result<Tx<R>, Broken> {
        let connection = self.connection().await?;
        Ok(Tx::new(connection, name, self.clock.now(), self.clone()))
    }

    /// Whether a transaction was committed, by its number and an event of it. Waits while its session is still at work. The number
    /// alone would not do: after a crash it may be given out again.
    pub(crate) async fn is_committed(&self, xid: &str, event: Uuid) -> Result<bool, Broken> {
        let deadline = Instant::now() + OUTCOME_PATIENCE;
        let cause = Cause::system("db");
        let mut ended = false;
        loop {
            let rows = self
                .reader(&cause)
                .read(sql!(
                    "SELECT EXISTS (SELECT FROM outbox WHERE xid = $1::text::xid8 AND event_id = $2),
                            coalesce(pg_xact_status($1::text::xid8), '')",
                    xid.to_owned(),
                    event,
                ))
                .await?;
            let row = rows.first().expect("one row was asked for");
            // What ended while this was looking is seen by the next look only.
            if row.get(0) || ended {
                return Ok(row.get(0));
            }
            match row.get(1) {
                "committed" | "aborted" => ended = true,
                _ if Instant::now() > deadline => {
                    let said = "its session is still at work";
                    return Err(Broken::unavailable("looking for a transaction", said));
                }
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Answers whether the database can be reached and the service's role can work in it.
    pub async fn ready(&self) -> Result<(), Broken> {
        self.reader(&Cause::system("readiness")).read(sql!("SELECT 1")).await.map(|_| ())
    }

    /// Closes the pool; connections in use are closed as they come back.
    pub fn close(&self) {
        self.pool.close();
    }
}

/// A service's database as it is open for reading. Each statement is a transaction of its own that
/// PostgreSQL lets write nothing.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    db: &'a Db,
    cause: &'a Cause,
}

impl<'a> Reader<'a> {
    /// Who reads, and why.
    pub const fn cause(self) -> &'a Cause {
        self.cause
    }

    pub const fn clock(self) -> &'a Clock {
        self.db.clock()
    }

    /// Runs one query, in one round trip.
    pub async fn read(self, query: Statement) -> Result<Vec<Row>, Broken> {
        let connection = self.db.connection().await?;
        let failed = |doing, e: tokio_postgres::Error| {
            if e.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
                Broken::defect(doing, e)
            } else {
                broken(doing, e)
            }
        };
        let statement = connection
            .prepare_cached(query.sql)
            .await
            .map_err(|e| failed("preparing a query", e))?;
        connection
            .query(&statement, &query.params())
            .await
            .map_err(|e| failed("running a query", e))
    }
}

fn session_config(settings: &DbSettings) -> Result<tokio_postgres::Config, Broken> {
    let mut config: tokio_postgres::Config = settings
        .url
        .parse()
        // The parser's own error may quote the URL, and the URL holds a password.
        .map_err(|_| Broken::defect("reading the database URL", "it is not a PostgreSQL URL"))?;
    let schema = settings.schema;
    let (statement_ms, lock_ms) =
        (settings.statement_timeout.as_millis(), settings.lock_timeout.as_millis());
    config
        .application_name(format!("hospital-{schema}"))
        .connect_timeout(Duration::from_secs(2))
        .keepalives_idle(Duration::from_secs(10))
        .tcp_user_timeout(Duration::from_secs(10))
        // Compiling a statement costs seconds where running it costs microseconds: the planner's guesses are high for a partitioned log.
        .options(format!(
            "-c jit=off -c search_path={schema} -c role=hospital_{schema} -c statement_timeout={statement_ms} \
             -c lock_timeout={lock_ms} -c idle_in_transaction_session_timeout=10000 \
             -c default_transaction_isolation=read\\ committed -c timezone=UTC \
             -c plan_cache_mode=force_generic_plan"
        ));
    Ok(config)
}
