//! Reads the jobs of all services.

use anyhow::Context;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::{Client, Row};

use crate::{
    dlq::letters::{Done, done, over_all},
    platform::SERVICES,
};

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Not due yet, or between two attempts
    Waiting,
    /// To be done now
    Due,
    /// Worked on
    Running,
    /// Given up
    Dead,
}

impl State {
    const ALL: [Self; 4] = [Self::Waiting, Self::Due, Self::Running, Self::Dead];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Due => "due",
            Self::Running => "running",
            Self::Dead => "dead",
        }
    }
}

/// Which jobs.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Filter {
    /// Of this service
    #[arg(long, value_parser = SERVICES)]
    pub(crate) service: Option<String>,

    /// Of this kind, such as payment.reconcile
    #[arg(long)]
    pub(crate) kind: Option<String>,

    /// That stand like this
    #[arg(long)]
    pub(crate) state: Option<State>,

    /// With this in the reason of their last failure
    #[arg(long)]
    pub(crate) because: Option<String>,
}

impl Filter {
    pub(crate) const fn is_empty(&self) -> bool {
        self.service.is_none()
            && self.kind.is_none()
            && self.state.is_none()
            && self.because.is_none()
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Job {
    pub(crate) service: String,
    pub(crate) kind: String,
    pub(crate) key: String,
    pub(crate) state: State,
    pub(crate) attempts: i32,
    /// When it is due next; while it is running, when its lease ends.
    pub(crate) due_at: Timestamp,
    /// Why the last attempt did not succeed.
    pub(crate) reason: Option<String>,
    pub(crate) died_at: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) traceparent: Option<String>,
    pub(crate) payload: Value,
}

/// Jobs that stand like this; of these keys, where they are given.
pub(crate) async fn find(
    client: &Client,
    filter: &Filter,
    keys: Option<&[String]>,
    limit: i64,
) -> anyhow::Result<Vec<Job>> {
    let tables: Vec<String> = SERVICES
        .iter()
        .map(|schema| format!("SELECT '{schema}' AS service, * FROM {schema}.job"))
        .collect();
    let sql = format!(
        "SELECT * FROM (
             SELECT service, kind, key, attempts, greatest(due_at, held_until) AS due_at, reason,
                    died_at, created_at, traceparent, payload,
                    CASE WHEN died_at IS NOT NULL THEN 'dead'
                         WHEN lease IS NOT NULL AND held_until > now() THEN 'running'
                         WHEN greatest(due_at, held_until) > now() THEN 'waiting'
                         ELSE 'due' END AS state
             FROM ({}) AS job
         ) AS j
         WHERE ($1::text IS NULL OR service = $1) AND ($2::text IS NULL OR kind = $2)
           AND ($3::text IS NULL OR state = $3)
           AND ($4::text IS NULL OR position(lower($4) IN lower(reason)) > 0)
           AND ($5::text[] IS NULL OR key = ANY ($5))
         ORDER BY due_at, service, kind, key LIMIT $6",
        tables.join(" UNION ALL ")
    );
    let state = filter.state.map(State::as_str);
    let rows = client
        .query(&sql, &[&filter.service, &filter.kind, &state, &filter.because, &keys, &limit])
        .await
        .context("reading the jobs")?;
    Ok(rows.iter().map(job).collect())
}

fn job(row: &Row) -> Job {
    let state: &str = row.get("state");
    Job {
        service: row.get("service"),
        kind: row.get("kind"),
        key: row.get("key"),
        state: State::ALL
            .into_iter()
            .find(|known| known.as_str() == state)
            .expect("the query gives no other"),
        attempts: row.get("attempts"),
        due_at: row.get("due_at"),
        reason: row.get("reason"),
        died_at: row.get("died_at"),
        created_at: row.get("created_at"),
        traceparent: row.get("traceparent"),
        payload: row.get("payload"),
    }
}

/// What people did about jobs of this key, oldest first.
pub(crate) async fn acts(client: &Client, key: &str) -> anyhow::Result<Vec<Done>> {
    let sql = format!(
        "SELECT * FROM {} i WHERE i.detail ->> 'job' = $1 ORDER BY at, seq",
        over_all("intervention")
    );
    let rows = client.query(&sql, &[&key]).await.context("reading what was done")?;
    Ok(rows.iter().map(done).collect())
}
