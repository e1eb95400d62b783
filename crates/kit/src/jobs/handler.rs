//! What does the work of a kind of job, and how the worker calls it without knowing its payload.

use std::{fmt, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::FutureExt;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Job, Kind, Verdict};
use crate::backoff::Backoff;

/// Does the work of one kind of job.
pub trait Handler: Send + Sync + 'static {
    type Payload: Serialize + DeserializeOwned + Send + 'static;

    const KIND: Kind<Self::Payload>;

    /// Works on jobs that this process has a lease of, and gives a verdict for each, in their order.
    ///
    /// Somebody may have begun a job before and died, and what it is about may have changed since it
    /// was asked for: look again before acting. The future is dropped when the process stops.
    fn work(&self, jobs: Vec<Job<Self::Payload>>) -> impl Future<Output = Vec<Verdict>> + Send;
}

/// How the jobs of a kind are worked on, without the type of their payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) name: &'static str,
    pub(super) batch_max: u16,
    pub(super) lease: Duration,
    pub(super) attempts_max: Option<u32>,
    pub(super) backoff: Backoff,
}

#[async_trait]
pub(super) trait Erased: Send + Sync {
    async fn work(&self, jobs: Vec<Job<Value>>) -> Vec<Verdict>;
}

#[async_trait]
impl<H: Handler> Erased for H {
    async fn work(&self, jobs: Vec<Job<Value>>) -> Vec<Verdict> {
        let unreadable = Verdict::dead("its payload is not what this kind of job takes");
        let mut verdicts = vec![unreadable; jobs.len()];
        let (mut places, mut readable) = (Vec::new(), Vec::new());
        for (place, mut job) in jobs.into_iter().enumerate() {
            if let Ok(payload) = serde_json::from_value(std::mem::take(&mut job.payload)) {
                places.push(place);
                readable.push(job.with(payload));
            }
        }
        if readable.is_empty() {
            return verdicts;
        }
        // A defect in one kind's handler stops no other work, nor its own next attempt.
        let worked = AssertUnwindSafe(Handler::work(self, readable)).catch_unwind().await;
        let mut worked = worked.unwrap_or_default().into_iter();
        for place in places {
            let missing = || Verdict::again("the handler failed: its log says how");
            if let Some(verdict) = verdicts.get_mut(place) {
                *verdict = worked.next().unwrap_or_else(missing);
            }
        }
        verdicts
    }
}

/// A handler, as a service's description lists it.
#[derive(Clone)]
pub struct Worker {
    pub(super) settings: Settings,
    pub(super) handler: Arc<dyn Erased>,
}

impl Worker {
    pub fn new<H: Handler>(handler: H) -> Self {
        let kind = H::KIND;
        let settings = Settings {
            name: kind.name,
            batch_max: kind.batch_max,
            lease: kind.lease,
            attempts_max: kind.attempts_max,
            backoff: kind.backoff,
        };
        Self { settings, handler: Arc::new(handler) }
    }

    /// The kind's name.
    pub const fn kind(&self) -> &'static str {
        self.settings.name
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}
