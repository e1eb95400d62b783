//! Durable jobs: work that is done later, or again until it succeeds.
//!
//! A job is a row of the service's own database, written in the transaction that asks for it. It has
//! a kind and a key, and there is one job for each key of a kind. A worker of any replica takes it
//! when it is due, under a lease, and says what became of it. A process that dies leaves a lease
//! that ends, so a job may be begun more than once: a handler looks again before it acts.
//!
//! Two clocks: the time at which a job is due is business, and the service's clock decides it.
//! Leases and pauses between attempts are elapsed time, which all replicas must agree on, so the
//! database's clock decides them.

mod gauges;
mod handler;
mod queue;
mod worker;

pub use self::{
    gauges::measure,
    handler::{Handler, Worker},
    queue::{cancel, enqueue},
    worker::run,
};

use std::{fmt, marker::PhantomData, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

pub use crate::backoff::Backoff;
use crate::cause::Cause;

/// A kind of job, whose payload is a `P`: its name and how its jobs are worked on.
pub struct Kind<P> {
    /// Such as `payment.reconcile`.
    pub name: &'static str,
    /// How many a worker takes at a time.
    pub batch_max: u16,
    /// For how long a worker has them. It is renewed while the handler is at work, so it says how
    /// long a process that died holds them up.
    pub lease: Duration,
    /// After how many attempts a job is dead; `None` is never.
    pub attempts_max: Option<u32>,
    /// The pauses between attempts, where the handler does not say.
    pub backoff: Backoff,
    payload: PhantomData<fn(P) -> P>,
}

impl<P> Kind<P> {
    /// One at a time, a lease of half a minute, ten attempts.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            batch_max: 1,
            lease: Duration::from_secs(30),
            attempts_max: Some(10),
            backoff: Backoff::DEFAULT,
            payload: PhantomData,
        }
    }

    #[must_use]
    pub const fn batch_max(mut self, batch_max: u16) -> Self {
        self.batch_max = batch_max;
        self
    }

    #[must_use]
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    #[must_use]
    pub const fn attempts_max(mut self, attempts_max: Option<u32>) -> Self {
        self.attempts_max = attempts_max;
        self
    }

    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }
}

impl<P> fmt::Debug for Kind<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A job to enqueue.
#[derive(Clone, Debug)]
pub struct NewJob<P> {
    key: String,
    payload: P,
    due_at: Option<Timestamp>,
    pause: Duration,
}

impl<P> NewJob<P> {
    /// Due at once.
    pub fn new(key: impl fmt::Display, payload: P) -> Self {
        Self { key: key.to_string(), payload, due_at: None, pause: Duration::ZERO }
    }

    /// Due at a time of the service's clock.
    #[must_use]
    pub fn at(self, due_at: Timestamp) -> Self {
        Self { due_at: Some(due_at), ..self }
    }

    /// Due when so much time has passed, whatever the service's clock says meanwhile.
    #[must_use]
    pub fn after(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }
}

/// A job that this process has a lease of.
#[derive(Clone, Debug)]
pub struct Job<P> {
    pub key: String,
    pub payload: P,
    /// How often it was begun, this time included.
    pub attempts: u32,
    traceparent: Option<String>,
    lease: Uuid,
    asked: i32,
}

impl<P> Job<P> {
    /// Who does something about this job, in the trace of what asked for it.
    pub fn cause(&self, name: &str) -> Cause {
        Cause { trace: self.traceparent.clone(), ..Cause::system(name) }
    }

    fn with<Q>(self, payload: Q) -> Job<Q> {
        Job {
            key: self.key,
            payload,
            attempts: self.attempts,
            traceparent: self.traceparent,
            lease: self.lease,
            asked: self.asked,
        }
    }
}

/// What a handler says of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is nothing more to do: the row goes.
    Done,
    /// The attempt did not succeed. Without a pause, the kind's backoff says when the next is; after
    /// the kind's last attempt the job is dead.
    Again { after: Option<Duration>, because: String },
    /// It was too early; no attempt was made.
    NotYet { after: Duration },
    /// It can never succeed. The row stays, with the reason, until somebody decides.
    Dead { because: String },
}

impl Verdict {
    /// The attempt did not succeed; the kind's backoff says when the next is.
    pub fn again(because: impl fmt::Display) -> Self {
        Self::Again { after: None, because: because.to_string() }
    }

    /// The attempt did not succeed; the next is after this pause.
    pub fn again_after(after: Duration, because: impl fmt::Display) -> Self {
        Self::Again { after: Some(after), because: because.to_string() }
    }

    pub fn dead(because: impl fmt::Display) -> Self {
        Self::Dead { because: because.to_string() }
    }
}
