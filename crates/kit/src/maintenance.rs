//! What a service's schema needs now and then: partitions ahead of time, and an end to what grows.
//!
//! It has a connection of its own and waits for nobody's lock, since bookings and the relay would
//! wait behind it: a backup that reads the log for hours only has it try again later. One replica
//! does it at a time, in batches, and how it went is in the table `maintenance`.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls, error::SqlState, types::ToSql};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    db::{Db, broken},
    outcome::Broken,
};

/// How long things are kept, in days.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    pub outbox_days: i32,
    pub inbox_days: i32,
    /// Dead letters, after they were applied or dropped.
    pub dead_letters_days: i32,
}

impl From<&Config> for Keep {
    fn from(config: &Config) -> Self {
        Self {
            outbox_days: config.outbox.retention_days,
            inbox_days: config.retention.inbox_days,
            dead_letters_days: config.retention.dead_letters_days,
        }
    }
}

/// Removes a bounded number of rows that are past retention: SQL that is given how many days they
/// are kept (`$1`) and how many may go (`$2`), and gives how many went.
#[derive(Clone, Copy, Debug)]
pub struct Prune {
    pub what: &'static str,
    pub sql: &'static str,
    pub keep_days: i32,
}

/// How many months have their partition before they begin. Each costs every round of the relay
/// some forty microseconds, and a month without one is taken by the default partition.
const MONTHS_AHEAD: i32 = 3;

/// How many rows go at a time.
const BATCH: i32 = 2000;
/// How long others have the database to themselves between batches.
const BREATH: Duration = Duration::from_millis(50);

const AGAIN: Duration = Duration::from_secs(3600);
/// After somebody was in the way, or something failed.
const SOON: Duration = Duration::from_secs(60);

/// How a look at what is to be done ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    Done,
    /// What could not be done, and why.
    Left(String),
    /// Another replica is at it.
    Elsewhere,
}

/// Maintains the schema until told to stop. Whatever fails is tried again, and stops nothing else.
pub async fn run(db: Db, keep: Keep, prunes: Vec<Prune>, stop: CancellationToken) {
    loop {
        let pause = match once(&db, keep, &prunes).await {
            Ok(Ended::Done | Ended::Elsewhere) => AGAIN,
            Ok(Ended::Left(problem)) => {
                tracing::warn!(schema = db.schema(), problem, "maintenance is tried again");
                SOON
            }
            Err(e) => {
                tracing::warn!(schema = db.schema(), error = %e, "maintenance is tried again");
                SOON
            }
        };
        if timeout(pause, stop.cancelled()).await.is_ok() {
            return;
        }
    }
}

/// Does all that is to be done now, and writes down how it went.
pub async fn once(db: &Db, keep: Keep, prunes: &[Prune]) -> Result<Ended, Broken> {
    let (client, connection) =
        db.config().connect(NoTls).await.map_err(|e| broken("connecting for maintenance", e))?;
    #[expect(clippy::disallowed_methods, reason = "ends with the client")]
    let connection = tokio::spawn(async move {
        // The client's next call reports what broke.
        let _ = connection.await;
    });
    let ended = maintain(&client, keep, prunes).await;
    drop(client);
    // The lock ends with it, so the next caller finds it free.
    let _ = connection.await;
    ended
}

async fn maintain(client: &Client, keep: Keep, prunes: &[Prune]) -> Result<Ended, Broken> {
    let failed = |e| broken("maintaining a schema", e);
    client.batch_execute(SETTINGS).await.map_err(failed)?;
    let mine = client.query_one(LOCK, &[]).await.map_err(failed)?.get::<_, bool>(0);
    if !mine {
        return Ok(Ended::Elsewhere);
    }
    let mut problems: Vec<String> = Vec::new();
    let mut note = |what: &str, e: Trouble| problems.push(format!("{what}: {e}"));
    for ahead in 0..=MONTHS_AHEAD {
        if let Err(e) = patiently(client, ADD_MONTH, &[&ahead]).await {
            note("making partitions of the event log", e);
            break;
        }
    }
    if let Err(e) = forget_months(client, keep.outbox_days).await {
        note("dropping old months of the event log", e);
    }
    let kits = [
        Prune {
            what: "removing old events from the default partition",
            sql: "SELECT outbox_forget_default($1, $2)",
            keep_days: keep.outbox_days,
        },
        Prune {
            what: "forgetting old events that were received",
            sql: "SELECT inbox_forget($1, $2)",
            keep_days: keep.inbox_days,
        },
        Prune {
            what: "forgetting old dead letters",
            sql: "SELECT dead_letter_forget($1, $2)",
            keep_days: keep.dead_letters_days,
        },
    ];
    for prune in kits.iter().chain(prunes) {
        if let Err(e) = in_batches(client, prune).await {
            note(prune.what, e);
        }
    }
    let problem = (!problems.is_empty()).then(|| problems.join("; "));
    client.execute("SELECT maintenance_ended($1)", &[&problem]).await.map_err(failed)?;
    Ok(problem.map_or(Ended::Done, Ended::Left))
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("somebody reads or writes it just now, such as a backup")]
    InUse,
    #[error("{0}")]
    Failed(String),
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(e: tokio_postgres::Error) -> Self {
        if e.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) {
            Self::InUse
        } else {
            // Statements of ours, which name no row's values.
            Self::Failed(
                e.as_db_error().map_or_else(|| e.to_string(), |db| db.message().to_owned()),
            )
        }
    }
}

/// Tries for about a second to find a moment in which nobody is there.
async fn patiently(
    client: &Client,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<(), Trouble> {
    const TRIES: u32 = 50;
    for _ in 1..TRIES {
        match client.execute(sql, params).await.map_err(Trouble::from) {
            Err(Trouble::InUse) => sleep(Duration::from_millis(20)).await,
            other => return other.map(|_| ()),
        }
    }
    Ok(client.execute(sql, params).await.map(|_| ())?)
}

async fn forget_months(client: &Client, keep_days: i32) -> Result<(), Trouble> {
    for row in client.query("SELECT outbox_old_months($1)", &[&keep_days]).await? {
        let month: String = row.get(0);
        match patiently(client, FORGET_MONTH, &[&month, &keep_days, &true]).await {
            // There is always a booking under way: an empty month is in nobody's way either.
            Err(Trouble::InUse) => {
                patiently(client, FORGET_MONTH, &[&month, &keep_days, &false]).await?;
            }
            other => other?,
        }
    }
    Ok(())
}

async fn in_batches(client: &Client, prune: &Prune) -> Result<(), Trouble> {
    loop {
        let row = client.query_one(prune.sql, &[&prune.keep_days, &BATCH]).await?;
        if row.get::<_, i64>(0) == 0 {
            return Ok(());
        }
        sleep(BREATH).await;
    }
}

/// Whoever waits for a lock has everybody behind it, so hardly at all.
const SETTINGS: &str = "SET lock_timeout = '20ms'; SET statement_timeout = '5s'";

const LOCK: &str = "
    SELECT pg_try_advisory_lock(hashtextextended('hospital maintenance ' || current_schema, 0))";

const ADD_MONTH: &str = "
    SELECT outbox_add_month((date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => $1))::date)";

const FORGET_MONTH: &str = "SELECT outbox_forget_month($1, $2, $3)";
