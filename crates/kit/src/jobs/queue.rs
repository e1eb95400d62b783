//! Every SQL statement about jobs.

use std::time::Duration;

use hospital_types::{Id, Kind as Named};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::{Row, types::Json};
use uuid::Uuid;

use super::{Job, Kind, NewJob};
use crate::{
    cause::Cause,
    db::{Db, Statement, Tx},
    outcome::Broken,
    sql,
};

/// Marks ids of leases.
enum Lease {}
impl Named for Lease {
    const NAME: &'static str = "lease";
}

/// Queues jobs, which are there once this is committed, and wakes who works on them.
///
/// There is one for each key. A job that is there already is as this says from now on: due then,
/// with this payload, alive. While it is worked on it keeps its lease, and is done again afterwards.
pub fn enqueue<P: Serialize, R>(tx: &mut Tx<R>, cause: &Cause, kind: &Kind<P>, jobs: &[NewJob<P>]) {
    if jobs.is_empty() {
        return;
    }
    let payload = |job: &NewJob<P>| {
        Json(serde_json::value::to_raw_value(&job.payload).expect("payloads are plain data"))
    };
    tx.write(sql!(
        "INSERT INTO job AS j (kind, key, payload, due_at, held_until, traceparent)
         SELECT DISTINCT ON (n.key) $1::text, n.key, n.payload, n.due_at,
                now() + make_interval(secs => n.pause_s), $2::text
         FROM unnest($3::text[], $4::jsonb[], $5::timestamptz[], $6::double precision[])
              AS n (key, payload, due_at, pause_s)
         -- Sorted, so that two who enqueue the same never wait for each other.
         ORDER BY n.key
         ON CONFLICT ON CONSTRAINT job_once DO UPDATE SET
             asked = j.asked + 1, payload = excluded.payload, due_at = excluded.due_at,
             traceparent = excluded.traceparent, died_at = NULL,
             held_until = CASE WHEN j.lease IS NULL OR j.held_until <= now()
                               THEN excluded.held_until ELSE j.held_until END,
             attempts = CASE WHEN j.died_at IS NULL THEN j.attempts ELSE 0 END,
             reason = CASE WHEN j.died_at IS NULL THEN j.reason END",
        kind.name,
        cause.trace.clone(),
        jobs.iter().map(|job| job.key.clone()).collect::<Vec<_>>(),
        jobs.iter().map(payload).collect::<Vec<_>>(),
        jobs.iter().map(|job| job.due_at).collect::<Vec<_>>(),
        jobs.iter().map(|job| job.pause.as_secs_f64()).collect::<Vec<_>>(),
    ));
    tx.wake_jobs_on_commit(kind.name);
}

/// Queues that there is nothing to do about these any more, whoever works on them.
pub fn cancel<P, R>(tx: &mut Tx<R>, kind: &Kind<P>, keys: Vec<String>) {
    tx.write(sql!("DELETE FROM job WHERE kind = $1 AND key = ANY ($2)", kind.name, keys));
}

/// One statement that changes jobs is a transaction by itself.
async fn write(db: &Db, statement: Statement) -> Result<Vec<Row>, Broken> {
    db.write_alone("jobs", statement).await
}

/// What a look for jobs that are due gave.
pub(super) struct Claimed {
    pub(super) jobs: Vec<Job<Value>>,
    /// In how long the first of the kind was due, if there was one.
    pub(super) next_in: Option<Duration>,
}

/// Takes up to so many jobs that are due, for `lease`. What others take at the same moment is left
/// to them, and a job whose lease has ended is taken like any other.
///
/// The index has one time for each job, the later of its two; both clocks decide what is left.
pub(super) async fn claim(
    db: &Db,
    kind: &'static str,
    batch_max: u16,
    lease: Duration,
) -> Result<Claimed, Broken> {
    let id = Id::<Lease>::new().uuid();
    let rows = write(
        db,
        sql!(
            "WITH due AS MATERIALIZED (
                 SELECT key FROM job
                 WHERE kind = $1 AND died_at IS NULL
                   AND greatest(due_at, held_until) <= greatest($2::timestamptz, now())
                   AND (due_at IS NULL OR due_at <= $2) AND held_until <= now()
                 ORDER BY kind, greatest(due_at, held_until) LIMIT $3 FOR UPDATE SKIP LOCKED
             ), claimed AS (
                 UPDATE job j SET lease = $4, held_until = now() + make_interval(secs => $5),
                        attempts = j.attempts + 1
                 WHERE j.kind = $1 AND j.key = ANY (ARRAY(SELECT key FROM due))
                 RETURNING j.key, j.payload, j.attempts, j.asked, j.traceparent
             ), next AS (
                 SELECT greatest(due_at - $2, held_until - now()) AS pause FROM job
                 WHERE kind = $1 AND died_at IS NULL
                 ORDER BY kind, greatest(due_at, held_until) LIMIT 1
             )
             SELECT key, payload, attempts, asked, traceparent, NULL AS next_in_s FROM claimed
             UNION ALL
             SELECT NULL, NULL, NULL, NULL, NULL, extract(epoch FROM pause)::double precision
             FROM next",
            kind,
            db.clock().now(),
            i64::from(batch_max),
            id,
            lease.as_secs_f64(),
        ),
    )
    .await?;
    let job = |row: &Row| {
        let key = row.get::<_, Option<String>>("key")?;
        let Json(payload) = row.get("payload");
        Some(Job {
            key,
            payload,
            attempts: u32::try_from(row.get::<_, i32>("attempts")).unwrap_or(0),
            traceparent: row.get("traceparent"),
            lease: id,
            asked: row.get("asked"),
        })
    };
    let next_in = rows.iter().find_map(|row| row.get::<_, Option<f64>>("next_in_s"));
    Ok(Claimed {
        jobs: rows.iter().filter_map(job).collect(),
        // What is due already, and somebody else's.
        next_in: next_in.map(|s| Duration::try_from_secs_f64(s).unwrap_or_default()),
    })
}

/// Which of a worker's jobs, by their keys, under one lease.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) kind: &'static str,
    pub(super) lease: Uuid,
    pub(super) keys: Vec<String>,
}

/// Keeps jobs for longer. One whose lease had ended and that somebody else has by now stays theirs.
pub(super) async fn renew(db: &Db, held: &Held, lease: Duration) -> Result<(), Broken> {
    write(
        db,
        sql!(
            "UPDATE job SET held_until = now() + make_interval(secs => $4)
         WHERE kind = $1 AND key = ANY ($2) AND lease = $3",
            held.kind,
            held.keys.clone(),
            held.lease,
            lease.as_secs_f64(),
        ),
    )
    .await
    .map(|_| ())
}

/// Gives jobs back without an attempt: they are due at once, for whoever comes.
pub(super) async fn release(db: &Db, held: &Held) -> Result<(), Broken> {
    write(
        db,
        sql!(
            "UPDATE job SET lease = NULL, held_until = now(), attempts = attempts - 1
         WHERE kind = $1 AND key = ANY ($2) AND lease = $3",
            held.kind,
            held.keys.clone(),
            held.lease,
        ),
    )
    .await
    .map(|_| ())
}

/// What is to be written down of a job.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) key: String,
    /// How often it had been asked for when it was taken.
    pub(super) asked: i32,
    pub(super) end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Later { after: Duration, because: Option<String>, counts: bool },
    Dead { because: String },
}

impl End {
    const fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Later { .. } => "later",
            Self::Dead { .. } => "dead",
        }
    }

    fn because(&self) -> Option<String> {
        match self {
            Self::Done => None,
            Self::Later { because, .. } => because.clone(),
            Self::Dead { because } => Some(because.clone()),
        }
    }

    const fn after(&self) -> Duration {
        match self {
            Self::Later { after, .. } => *after,
            Self::Done | Self::Dead { .. } => Duration::ZERO,
        }
    }

    const fn counts(&self) -> bool {
        !matches!(self, Self::Later { counts: false, .. })
    }
}

/// Writes down what became of jobs, in one statement. Nothing is written of one whose lease has
/// ended and that somebody else has by now. One that was asked for again meanwhile is due at once.
///
/// The rows are locked first: somebody may ask for one again while this runs, and both parts of the
/// statement must see it. Each part names the keys as a list: a plan that was made while the table
/// was nearly empty then looks them up by the index, and would read all jobs of the kind otherwise.
pub(super) async fn record(
    db: &Db,
    kind: &'static str,
    lease: Uuid,
    ends: &[Recorded],
) -> Result<(), Broken> {
    write(
        db,
        sql!(
            "WITH mine AS MATERIALIZED (
             SELECT j.key, e.asked IS DISTINCT FROM j.asked AS again, e.became, e.reason, e.pause_s,
                    e.counts
             FROM unnest($3::text[], $4::integer[], $5::text[], $6::text[],
                         $7::double precision[], $8::boolean[])
                  AS e (key, asked, became, reason, pause_s, counts)
                  JOIN job j ON j.kind = $1 AND j.key = ANY ($3) AND j.key = e.key
             WHERE j.lease = $2
             ORDER BY j.key FOR UPDATE OF j
         ), done AS (
             DELETE FROM job j USING mine m
             WHERE j.kind = $1 AND j.key = ANY ($3) AND j.key = m.key
               AND m.became = 'done' AND NOT m.again
         )
         UPDATE job j SET lease = NULL,
                held_until = now()
                    + make_interval(secs => CASE WHEN m.again THEN 0 ELSE m.pause_s END),
                attempts = CASE WHEN m.again AND m.became <> 'later' THEN 0
                                WHEN m.counts THEN j.attempts ELSE j.attempts - 1 END,
                reason = m.reason,
                died_at = CASE WHEN m.became = 'dead' AND NOT m.again THEN now() END
         FROM mine m
         WHERE j.kind = $1 AND j.key = ANY ($3) AND j.key = m.key
           AND (m.became <> 'done' OR m.again)",
            kind,
            lease,
            ends.iter().map(|e| e.key.clone()).collect::<Vec<_>>(),
            ends.iter().map(|e| e.asked).collect::<Vec<_>>(),
            ends.iter().map(|e| e.end.name()).collect::<Vec<_>>(),
            ends.iter().map(|e| e.end.because()).collect::<Vec<_>>(),
            ends.iter().map(|e| e.end.after().as_secs_f64()).collect::<Vec<_>>(),
            ends.iter().map(|e| e.end.counts()).collect::<Vec<_>>(),
        ),
    )
    .await
    .map(|_| ())
}

/// How many jobs of a kind stand how.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) due: i64,
    pub(super) running: i64,
    pub(super) dead: i64,
    /// Since when the oldest is due.
    pub(super) oldest_due: Duration,
}

/// Counts the jobs of each kind that there is one of.
pub(super) async fn counts(db: &Db, now: Timestamp) -> Result<Vec<(String, Count)>, Broken> {
    let rows = db
        .reader(&Cause::system("jobs"))
        .read(sql!(
            "SELECT kind, count(*) FILTER (WHERE due) AS due, count(*) FILTER (WHERE running) AS running,
                    count(*) FILTER (WHERE died_at IS NOT NULL) AS dead,
                    extract(epoch FROM max(late) FILTER (WHERE due))::double precision AS oldest_due_s
             FROM (SELECT kind, died_at, lease IS NOT NULL AND held_until > now() AS running,
                          died_at IS NULL AND held_until <= now()
                              AND (due_at IS NULL OR due_at <= $1::timestamptz) AS due,
                          least($1 - due_at, now() - held_until) AS late
                   FROM job) AS j
             GROUP BY kind",
            now,
        ))
        .await?;
    let count = |row: &Row| Count {
        due: row.get("due"),
        running: row.get("running"),
        dead: row.get("dead"),
        oldest_due: row
            .get::<_, Option<f64>>("oldest_due_s")
            .and_then(|s| Duration::try_from_secs_f64(s).ok())
            .unwrap_or_default(),
    };
    Ok(rows.iter().map(|row| (row.get("kind"), count(row))).collect())
}
