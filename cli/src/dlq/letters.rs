//! Reads the ledgers of all services.

use anyhow::Context;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::{Client, Row, types::Json};
use uuid::Uuid;

use crate::{platform::SERVICES, stores::parse_time};

/// Which letters.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Filter {
    /// Of this topic
    #[arg(long)]
    pub(crate) topic: Option<String>,

    /// Of this consumer group
    #[arg(long)]
    pub(crate) group: Option<String>,

    /// Of this appointment, bill or patient
    #[arg(long, visible_alias = "key")]
    pub(crate) aggregate: Option<String>,

    /// With this in their reason
    #[arg(long)]
    pub(crate) because: Option<String>,

    /// Tried last at or after this time; or how long ago, such as 30m, 12h, 7d
    #[arg(long, value_parser = parse_time)]
    pub(crate) since: Option<Timestamp>,

    /// Tried last before this time; or how long ago
    #[arg(long, value_parser = parse_time)]
    pub(crate) until: Option<Timestamp>,
}

impl Filter {
    pub(crate) const fn is_empty(&self) -> bool {
        self.topic.is_none()
            && self.group.is_none()
            && self.aggregate.is_none()
            && self.because.is_none()
            && self.since.is_none()
            && self.until.is_none()
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Letter {
    pub(crate) id: Uuid,
    pub(crate) group: String,
    pub(crate) state: String,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<String>,
    #[serde(skip)]
    pub(crate) aggregate: Option<Uuid>,
    pub(crate) version: i32,
    pub(crate) reason: String,
    pub(crate) attempts: i32,
    pub(crate) redrives: i32,
    pub(crate) first_at: Timestamp,
    pub(crate) last_at: Timestamp,
    pub(crate) closed_at: Option<Timestamp>,
    /// How many events wait behind it.
    pub(crate) waiting: i64,
    pub(crate) headers: Vec<(String, String)>,
    #[serde(skip)]
    pub(crate) value: Vec<u8>,
}

/// What somebody did, in a service's schema.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Done {
    pub(crate) at: Timestamp,
    /// Who is said to have done it.
    pub(crate) by: String,
    /// Whom the command ran as on its machine.
    pub(crate) os_user: Option<String>,
    /// Whom it was logged in as, by the database's own account.
    pub(crate) database_user: Option<String>,
    pub(crate) act: String,
    pub(crate) reason: String,
    pub(crate) group: Option<String>,
    pub(crate) letter: Option<Uuid>,
    pub(crate) detail: Value,
}

/// A query over the same table of every schema.
pub(crate) fn over_all(table: &str) -> String {
    let parts: Vec<String> =
        SERVICES.iter().map(|schema| format!("SELECT * FROM {schema}.{table}")).collect();
    format!("({})", parts.join(" UNION ALL "))
}

fn select(condition: &str) -> String {
    let ledger = over_all("dead_letter");
    format!(
        "WITH ledger AS ({ledger})
         SELECT d.id, d.consumer, d.state, d.topic, d.partition, d.\"offset\", d.key, d.aggregate, d.version, d.reason, d.attempts,
                d.redrives, d.first_at, d.last_at, d.closed_at, d.headers, d.value,
                (SELECT count(*) FROM ledger w WHERE w.consumer = d.consumer AND w.aggregate = d.aggregate AND w.state = 'waiting'
                 AND (w.version, w.seq) > (d.version, d.seq) AND d.closed_at IS NULL) AS waiting
         FROM ledger d WHERE {condition} ORDER BY d.first_at, d.seq"
    )
}

/// The dead and the due, and those that are closed if asked for. What only waits is shown with what it waits for.
pub(crate) async fn find(
    client: &Client,
    filter: &Filter,
    closed: bool,
) -> anyhow::Result<Vec<Letter>> {
    let condition = "(d.state IN ('dead', 'due') OR ($7 AND d.closed_at IS NOT NULL))
         AND ($1::text IS NULL OR d.topic = $1) AND ($2::text IS NULL OR d.consumer = $2)
         AND ($3::text IS NULL OR d.key = $3) AND ($4::text IS NULL OR position(lower($4) IN lower(d.reason)) > 0)
         AND ($5::timestamptz IS NULL OR d.last_at >= $5) AND ($6::timestamptz IS NULL OR d.last_at < $6)";
    let rows = client
        .query(
            &select(condition),
            &[
                &filter.topic,
                &filter.group,
                &filter.aggregate,
                &filter.because,
                &filter.since,
                &filter.until,
                &closed,
            ],
        )
        .await
        .context("reading the dead letters")?;
    Ok(rows.iter().map(letter).collect())
}

/// Letters by their ids, in whatever state; one event may be a letter of several groups.
pub(crate) async fn by_ids(client: &Client, ids: &[Uuid]) -> anyhow::Result<Vec<Letter>> {
    let rows = client
        .query(&select("d.id = ANY ($1)"), &[&ids])
        .await
        .context("reading the dead letters")?;
    Ok(rows.iter().map(letter).collect())
}

/// What waits behind a letter, in the order in which it will be applied.
pub(crate) async fn behind(client: &Client, letter: &Letter) -> anyhow::Result<Vec<Letter>> {
    let condition = "d.consumer = $1 AND d.aggregate = $2 AND d.closed_at IS NULL AND d.id <> $3";
    let rows = client
        .query(&select(condition), &[&letter.group, &letter.aggregate, &letter.id])
        .await
        .context("reading what waits")?;
    let mut behind: Vec<Letter> = rows.iter().map(self::letter).collect();
    behind.sort_by_key(|l| l.version);
    Ok(behind)
}

fn letter(row: &Row) -> Letter {
    let Json(headers) = row.get("headers");
    Letter {
        id: row.get("id"),
        group: row.get("consumer"),
        state: row.get("state"),
        topic: row.get("topic"),
        partition: row.get("partition"),
        offset: row.get("offset"),
        key: row.get("key"),
        aggregate: row.get("aggregate"),
        version: row.get("version"),
        reason: row.get("reason"),
        attempts: row.get("attempts"),
        redrives: row.get("redrives"),
        first_at: row.get("first_at"),
        last_at: row.get("last_at"),
        closed_at: row.get("closed_at"),
        waiting: row.get("waiting"),
        headers,
        value: row.get("value"),
    }
}

/// What people did, oldest first: about one letter, or the newest of everything.
pub(crate) async fn acts(
    client: &Client,
    letter: Option<Uuid>,
    limit: i64,
) -> anyhow::Result<Vec<Done>> {
    let sql = format!(
        "SELECT * FROM (SELECT * FROM {} i WHERE $1::uuid IS NULL OR i.letter = $1 ORDER BY at DESC, seq DESC LIMIT $2) newest
         ORDER BY at, seq",
        over_all("intervention")
    );
    let rows = client.query(&sql, &[&letter, &limit]).await.context("reading what was done")?;
    Ok(rows.iter().map(done).collect())
}

/// A row of the table of interventions.
pub(crate) fn done(row: &Row) -> Done {
    Done {
        at: row.get("at"),
        by: row.get("actor"),
        os_user: row.get("os_user"),
        database_user: row.get("database_user"),
        act: row.get("act"),
        reason: row.get("reason"),
        group: row.get("consumer"),
        letter: row.get("letter"),
        detail: row.get("detail"),
    }
}
