use std::sync::Arc;

use deadpool_postgres::Object;
use futures_util::future::{join_all, try_join_all};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    Db,
    error::{broken, constraint_of, may_have_committed},
};
use crate::outcome::{Broken, Failure, Outcome};

/// An owned parameter, so that a statement can wait in the queue.
pub type Param = Box<dyn ToSql + Sync + Send>;

/// One statement of a unit of work: SQL known at compile time, values owned.
pub struct Statement {
    pub sql: &'static str,
    pub values: Vec<Param>,
}

impl Statement {
    pub(crate) fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|v| &**v as _).collect()
    }
}

/// Makes a [`Statement`](crate::db::Statement) from SQL and owned values.
#[macro_export]
macro_rules! sql {
    ($sql:expr $(, $value:expr)* $(,)?) => {
        $crate::db::Statement { sql: $sql, values: vec![$(Box::new($value) as $crate::db::Param),*] }
    };
}

/// Makes a statement that must change exactly `$rows` rows. Otherwise it ends its transaction as the
/// violation of a constraint does, one called `$rule`: [`Written::refuse_on`](crate::db::Written::refuse_on)
/// turns it into a refusal, in the round trip that all of it is sent in. Several commands in one
/// statement expect `cardinality($1)` rows, and are tried one by one if there are fewer.
#[macro_export]
macro_rules! exactly {
    ($rows:literal, $rule:literal, $change:literal $(, $value:expr)* $(,)?) => {
        $crate::sql!(
            concat!(
                "WITH changed AS (", $change, " RETURNING 1) SELECT expect_rows(count(*), ", $rows, ", '", $rule, "') FROM changed"
            )
            $(, $value)*
        )
    };
}

/// Sessions are read-only but for this.
const BEGIN: &str = "BEGIN READ WRITE";
const COMMIT: &str = "COMMIT";

/// A unit of work. Writes wait in a queue and travel together, in one round trip, when something is read or at the end; the first
/// error in order decides. A connection leaves it only outside of a transaction: one that is dropped half-way is closed.
pub struct Tx<R> {
    connection: Option<Object>,
    queue: Vec<Statement>,
    refusals: Vec<(&'static str, R)>,
    name: &'static str,
    now: Timestamp,
    db: Db,
    /// Where in the queue events are appended.
    events: Vec<usize>,
    wake_relay: bool,
    /// An event that the server has taken, and its transaction's number: by them it shows later whether it was committed.
    witness: Option<(Uuid, String)>,
    on_commit: Vec<Box<dyn FnOnce() + Send>>,
    flights: u32,
    /// Whether the last flight ran to its last statement on the server.
    ended: bool,
    /// The constraint that the first error violated.
    violated: Option<String>,
    /// Whether the COMMIT was sent, and the answer does not say what became of it.
    unknown: bool,
}

impl<R> Tx<R> {
    pub(super) fn new(connection: Object, name: &'static str, now: Timestamp, db: Db) -> Self {
        let mut queue = Vec::with_capacity(12);
        queue.push(Statement { sql: BEGIN, values: Vec::new() });
        Self {
            connection: Some(connection),
            queue,
            refusals: Vec::new(),
            name,
            now,
            db,
            events: Vec::new(),
            wake_relay: false,
            witness: None,
            on_commit: Vec::new(),
            flights: 0,
            ended: false,
            violated: None,
            unknown: false,
        }
    }

    /// The time of this unit of work: every row it writes carries the same.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// What it is called, such as `appointment.book`, in events, metrics and errors. Whoever asked
    /// for it is the [`Cause`](crate::cause::Cause) of each command in it.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// How many round trips it has taken so far.
    pub const fn flights(&self) -> u32 {
        self.flights
    }

    /// How many statements wait in the queue.
    pub(crate) const fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Queues a write. Whether it succeeded shows when the queue is sent; nothing after it takes effect if it failed.
    pub fn write(&mut self, statement: Statement) -> Written<'_, R> {
        self.queue.push(statement);
        Written { tx: self }
    }

    /// Sends what is queued and this query behind it, in one round trip.
    pub async fn read(&mut self, query: Statement) -> Outcome<Vec<Row>, R> {
        self.queue.push(query);
        Ok(self.send().await?.pop().expect("the query was queued last"))
    }

    /// Sends what is queued now. For work that must know that its writes succeeded before it goes on.
    pub async fn flush(&mut self) -> Outcome<(), R> {
        if self.queue.is_empty() {
            return Ok(());
        }
        self.send().await.map(|_| ())
    }

    /// Does this in the process once all of this is committed, and never otherwise.
    pub fn on_commit(&mut self, act: impl FnOnce() + Send + 'static) {
        self.on_commit.push(Box::new(act));
    }

    /// Wakes a task of this process once this is committed.
    pub fn wake_on_commit(&mut self, waiting: &Arc<Notify>) {
        let waiting = Arc::clone(waiting);
        self.on_commit(move || waiting.notify_one());
    }

    /// Wakes who works on jobs of this kind in this process once this is committed.
    pub(crate) fn wake_jobs_on_commit(&mut self, kind: &'static str) {
        let enqueued = self.db.jobs_enqueued(kind);
        self.wake_on_commit(&enqueued);
    }

    /// Queues a statement that appends events and gives the id of each and the transaction's number. The relay is woken once they are
    /// committed.
    pub(crate) fn append(&mut self, statement: Statement) {
        self.events.push(self.queue.len());
        self.queue.push(statement);
        self.wake_relay = true;
    }

    /// The constraint whose violation ended this unit of work, whether or not it was explained as a refusal.
    pub(crate) fn violated(&self) -> Option<&str> {
        self.violated.as_deref()
    }

    /// Whether the last flight ran to its end on the server, so that it is known what became of it.
    pub(crate) const fn ended(&self) -> bool {
        self.ended
    }

    /// A statement that is still in the queue, by its place, while nothing has been sent.
    pub(crate) fn unsent(&mut self, index: usize) -> Option<&mut Statement> {
        if self.flights == 0 { self.queue.get_mut(index) } else { None }
    }

    /// Commits. Should the answer to the COMMIT get lost, it is found out what became of it; when that cannot be, the failure is of the
    /// kind `Unknown`.
    pub(crate) async fn commit(&mut self) -> Outcome<(), R> {
        self.commit_with_rows().await.map(|_| ())
    }

    /// Commits, and gives the rows of each statement that was sent with the COMMIT. There are none if its answer got lost.
    pub(super) async fn commit_with_rows(&mut self) -> Outcome<Vec<Vec<Row>>, R> {
        self.queue.push(Statement { sql: COMMIT, values: Vec::new() });
        let failure = match self.send().await {
            Ok(answers) => {
                self.committed();
                return Ok(answers);
            }
            Err(failure) => failure,
        };
        // The COMMIT behind the error was answered with a rollback, unless the connection itself broke.
        match &self.connection {
            Some(connection) if !connection.is_closed() && self.ended => {
                // PostgreSQL tells an error of the COMMIT itself, such as a deferred key's, before it lets go of the locks:
                // whoever tries the idempotency key's next would find it taken. An empty query is answered when they are gone.
                // Should it fail, the session is ending, and the connection is nobody's to have.
                let alive = connection.batch_execute("").await.is_ok();
                let taken = self.connection.take();
                if !alive {
                    drop(taken.map(Object::take));
                }
            }
            _ => self.abandon().await,
        }
        if !self.unknown {
            return Err(failure);
        }
        // Boxed, for it is rare: every unit of work would be so much larger by it.
        let (db, witness) = (self.db.clone(), self.witness.clone());
        match Box::pin(became_of_it(db, self.name, witness)).await {
            Some(true) => {
                self.committed();
                Ok(Vec::new())
            }
            Some(false) => Err(failure),
            None => Err(match failure {
                Failure::Broken(broken) => Failure::Broken(broken.into_unknown()),
                refused @ Failure::Refused(_) => refused,
            }),
        }
    }

    fn committed(&mut self) {
        metrics::counter!("db_units_total", "unit" => self.name, "end" => "commit").increment(1);
        if self.wake_relay {
            self.db.appended().notify_one();
        }
        for act in self.on_commit.drain(..) {
            act();
        }
        drop(self.connection.take());
    }

    /// Rolls back. A connection goes back to the pool only out of its transaction.
    pub(crate) async fn abandon(&mut self) {
        metrics::counter!("db_units_total", "unit" => self.name, "end" => "rollback").increment(1);
        let Some(connection) = self.connection.take() else { return };
        // Taken out first and put back by dropping it: should this future be dropped, the connection is closed.
        if self.flights == 0 {
            return;
        }
        let guard = Detached(Some(connection));
        let rolled_back = match &guard.0 {
            Some(connection) => connection.batch_execute("ROLLBACK").await.is_ok(),
            None => false,
        };
        if rolled_back {
            guard.give_back();
        }
    }

    async fn send(&mut self) -> Outcome<Vec<Vec<Row>>, R> {
        let (queue, events) = (std::mem::take(&mut self.queue), std::mem::take(&mut self.events));
        let commits = queue.last().is_some_and(|last| last.sql == COMMIT);
        let connection = self.connection.as_ref().expect("held until commit or abandon");
        let prepared = try_join_all(queue.iter().map(|s| connection.prepare_cached(s.sql)))
            .await
            .map_err(|e| Failure::Broken(broken(self.name, e)))?;
        if connection.is_closed() {
            let said = "the connection was closed before anything was sent";
            return Err(Failure::Broken(Broken::unavailable(self.name, said)));
        }
        self.flights += 1;
        // Polled together, so tokio-postgres writes all of them before it waits for the first answer.
        let flights = queue.iter().zip(&prepared).map(|(queued, statement)| async move {
            let params = queued.params();
            connection.query(statement, &params).await
        });
        let mut answers = Vec::with_capacity(prepared.len());
        let results = join_all(flights).await;
        self.ended = results.last().is_some_and(|last| match last {
            Ok(_) => true,
            Err(e) => e.code().is_some(),
        });
        let last = prepared.len() - 1;
        for (place, result) in results.into_iter().enumerate() {
            match result {
                Ok(rows) => {
                    if let Some(row) = rows.first().filter(|_| events.contains(&place)) {
                        self.witness = Some((row.get("event_id"), row.get("xid")));
                    }
                    answers.push(rows);
                }
                // Only a standby, which a server becomes for a while when another takes over, does not begin to write.
                Err(e) if queue[place].sql == BEGIN => {
                    return Err(Failure::Broken(Broken::unavailable(self.name, e)));
                }
                Err(e) => {
                    self.unknown = commits && may_have_committed(&e, place == last);
                    return Err(self.refusal_or_broken(e));
                }
            }
        }
        Ok(answers)
    }

    fn refusal_or_broken(&mut self, error: tokio_postgres::Error) -> Failure<R> {
        let refusals = std::mem::take(&mut self.refusals);
        self.violated = constraint_of(&error).map(ToOwned::to_owned);
        let violated = self.violated.as_deref().map(whole);
        match refusals.into_iter().find(|(name, _)| violated == Some(*name)) {
            Some((_, refused)) => Failure::Refused(refused),
            None => Failure::Broken(broken(self.name, error)),
        }
    }
}

/// Whether a transaction was committed, if that can be found out: by an event of it, which is there or not.
async fn became_of_it(db: Db, name: &'static str, witness: Option<(Uuid, String)>) -> Option<bool> {
    let (event, xid) = witness?;
    let found = db.is_committed(&xid, event).await;
    if let Err(e) = &found {
        tracing::warn!(unit = name, error = %e, "what became of a commit is not known");
    }
    found.ok()
}

impl<R> Drop for Tx<R> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take().filter(|_| self.flights > 0) {
            drop(Object::take(connection));
        }
    }
}

/// A connection that is closed unless it is given back.
struct Detached(Option<Object>);

impl Detached {
    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
}

/// A constraint's name without the partition that it belongs to.
fn whole(constraint: &str) -> &str {
    constraint.split_once("__").map_or(constraint, |(whole, _)| whole)
}

/// A write that waits in the queue.
pub struct Written<'a, R> {
    tx: &'a mut Tx<R>,
}

impl<R> Written<'_, R> {
    /// Turns a violation of the named constraint, or of the rule of [`exactly!`](crate::exactly), at this statement or deferred to the commit, into a refusal. Partitions have constraints
    /// of their own, each named as the whole table's would be, then `__` and the partition: they are meant as well.
    pub fn refuse_on(self, constraint: &'static str, refused: R) -> Self {
        self.tx.refusals.push((constraint, refused));
        self
    }
}
