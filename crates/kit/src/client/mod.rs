//! How one service asks another: pooled connections, a deadline, a circuit breaker, a retry budget.

mod breaker;
mod budget;

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
    time::{Duration, Instant},
};

pub use breaker::Breaker;
pub use budget::RetryBudget;
use reqwest::{StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{auth::TokenSource, http::ANSWERED_BY, outcome::Broken};

/// Chooses the cryptography of outgoing TLS, once per process.
pub fn install_tls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It fails only if another one was installed first, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// A client without proxies and redirects.
pub(crate) fn http_client() -> Result<reqwest::Client, Broken> {
    install_tls_provider();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
        .pool_max_idle_per_host(64)
        // Below the other side's own timeout for idle connections, so that it is not the one to close.
        .pool_idle_timeout(Duration::from_secs(3))
        .connect_timeout(Duration::from_secs(1))
        .build()
        .map_err(|e| Broken::defect("making an HTTP client", e))
}

/// Reads a whole body that is not larger than it may be.
pub(crate) async fn read_body(
    mut response: reqwest::Response,
    bytes_max: usize,
) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(cause)? {
        if body.len() + chunk.len() > bytes_max {
            return Err(format!("its answer has more than {bytes_max} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What went wrong at the bottom, without the address, in which ids and passwords may stand.
pub(crate) fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut at: &dyn std::error::Error = &error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

/// What the other service knows of a thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<T> {
    Here(T),
    /// The service itself says that there is none.
    Missing,
}

/// The other service gave no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no usable answer: {0}")]
pub struct Unavailable(pub String);

const BODY_BYTES_MAX: usize = 256 * 1024;

/// Another service.
#[derive(Clone)]
pub struct ServiceClient {
    http: reqwest::Client,
    base: String,
    deadline: Duration,
    tokens: Arc<TokenSource>,
    breaker: Arc<Mutex<Breaker>>,
    budget: Arc<Mutex<RetryBudget>>,
    name: &'static str,
}

impl ServiceClient {
    /// `deadline` bounds a whole call, a second try included.
    pub fn new(
        name: &'static str,
        base: &str,
        deadline: Duration,
        tokens: Arc<TokenSource>,
    ) -> Result<Self, Broken> {
        Ok(Self {
            http: http_client()?,
            base: base.trim_end_matches('/').to_owned(),
            deadline,
            tokens,
            breaker: Arc::default(),
            budget: Arc::default(),
            name,
        })
    }

    /// Gets a JSON resource. A 404 is an answer if it is this service's own and says `not-found`:
    /// another's is a fault on the way. Whatever else is not 200 with the expected JSON is none.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        traceparent: Option<&str>,
    ) -> Result<Found<T>, Unavailable> {
        if !self.breaker().admit(Instant::now()) {
            self.count("broken-off");
            return Err(Unavailable(format!(
                "the {} service failed too often; it is asked again soon",
                self.name
            )));
        }
        self.budget().earn();
        let answer = tokio::time::timeout(self.deadline, self.twice(path, traceparent))
            .await
            .unwrap_or_else(|_| Err(Unavailable(format!("no answer within {:?}", self.deadline))));
        self.breaker().record(answer.is_ok(), Instant::now());
        self.count(if answer.is_ok() { "answered" } else { "failed" });
        answer
    }

    fn count(&self, end: &'static str) {
        metrics::counter!("client_calls_total", "service" => self.name, "end" => end).increment(1);
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn budget(&self) -> MutexGuard<'_, RetryBudget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reading may be tried again, within the budget: a pooled connection may have been closed while it idled. Whoever adds writing gives
    /// it a key first: what carries none is never tried again.
    async fn twice<T: DeserializeOwned>(
        &self,
        path: &str,
        traceparent: Option<&str>,
    ) -> Result<Found<T>, Unavailable> {
        match self.once(path, traceparent).await {
            Err(Failed::Connection(_)) if self.budget().spend() => {
                self.count("tried-again");
                tokio::time::sleep(jitter()).await;
                self.once(path, traceparent).await.map_err(Failed::into_unavailable)
            }
            other => other.map_err(Failed::into_unavailable),
        }
    }

    async fn once<T: DeserializeOwned>(
        &self,
        path: &str,
        traceparent: Option<&str>,
    ) -> Result<Found<T>, Failed> {
        let token = self.tokens.token().map_err(|e| Failed::Answer(e.to_string()))?;
        let mut request = self.http.get(format!("{}{path}", self.base)).bearer_auth(token);
        if let Some(traceparent) = traceparent {
            request = request.header("traceparent", traceparent);
        }
        let response = request.send().await.map_err(|e| Failed::Connection(cause(e)))?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return self.missing(response).await;
        }
        if status != StatusCode::OK || !is_json(&response) {
            return Err(Failed::Answer(format!("it answered {status}, not 200 with JSON")));
        }
        let body = read_body(response, BODY_BYTES_MAX).await.map_err(Failed::Answer)?;
        serde_json::from_slice(&body)
            .map(Found::Here)
            // Where, but not what: the answer holds a person's data.
            .map_err(|e| {
                Failed::Answer(format!("its answer is not understood at byte {}", e.column()))
            })
    }

    /// Whether a 404 is the service's own word that there is no such thing. A proxy, a wrong
    /// address or another service says 404 too.
    async fn missing<T>(&self, response: reqwest::Response) -> Result<Found<T>, Failed> {
        let own = response.headers().get(ANSWERED_BY).is_some_and(|by| by == self.name);
        let problem = content_type(&response) == Some("application/problem+json");
        if own && problem {
            let body = read_body(response, BODY_BYTES_MAX).await.map_err(Failed::Answer)?;
            if serde_json::from_slice(&body)
                .is_ok_and(|problem: ProblemCode| problem.code == "not-found")
            {
                return Ok(Found::Missing);
            }
        }
        Err(Failed::Answer(format!("a 404 that is not the {} service's own", self.name)))
    }
}

/// What of a problem decides whether a thing is missing.
#[derive(Deserialize)]
struct ProblemCode {
    code: String,
}

/// Why one try gave nothing.
enum Failed {
    /// No answer began, so another try may find a connection that works.
    Connection(String),
    Answer(String),
}

impl Failed {
    fn into_unavailable(self) -> Unavailable {
        let (Self::Connection(reason) | Self::Answer(reason)) = self;
        Unavailable(reason)
    }
}

/// A few milliseconds that differ from caller to caller, so that those who failed together do not return together.
fn jitter() -> Duration {
    // Every `RandomState` has keys of its own, so that its hash of nothing is a random number.
    Duration::from_millis(2 + RandomState::new().build_hasher().finish() % 16)
}

fn is_json(response: &reqwest::Response) -> bool {
    content_type(response) == Some("application/json")
}

fn content_type(response: &reqwest::Response) -> Option<&str> {
    let kind = response.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    kind.split(';').next().map(str::trim)
}

#[cfg(test)]
mod tests;
