//! How one service asks another: pooled connections, a deadline, a circuit breaker.

mod breaker;

use std::{
    sync::{Arc, Mutex, Once, PoisonError},
    time::{Duration, Instant},
};

pub use breaker::Breaker;
use reqwest::{StatusCode, header};
use serde::de::DeserializeOwned;

use crate::{auth::TokenSource, outcome::Broken};

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

/// What the other service knows of a thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<T> {
    Here(T),
    /// It says that there is none.
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
            name,
        })
    }

    /// Gets a JSON resource. 404 is an answer; whatever else is not 200 with the expected JSON is none.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        traceparent: Option<&str>,
    ) -> Result<Found<T>, Unavailable> {
        if !self.breaker().admit(Instant::now()) {
            metrics::counter!("client_calls_total", "service" => self.name, "end" => "broken-off")
                .increment(1);
            return Err(Unavailable(format!(
                "the {} service failed too often; it is asked again soon",
                self.name
            )));
        }
        let answer = tokio::time::timeout(self.deadline, self.twice(path, traceparent))
            .await
            .unwrap_or_else(|_| Err(Unavailable(format!("no answer within {:?}", self.deadline))));
        self.breaker().record(answer.is_ok(), Instant::now());
        let end = if answer.is_ok() { "answered" } else { "failed" };
        metrics::counter!("client_calls_total", "service" => self.name, "end" => end).increment(1);
        answer
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reading may be tried again: a pooled connection may have been closed while it idled.
    async fn twice<T: DeserializeOwned>(
        &self,
        path: &str,
        traceparent: Option<&str>,
    ) -> Result<Found<T>, Unavailable> {
        match self.once(path, traceparent).await {
            Err((_, true)) => self.once(path, traceparent).await.map_err(|(e, _)| e),
            other => other.map_err(|(e, _)| e),
        }
    }

    async fn once<T: DeserializeOwned>(
        &self,
        path: &str,
        traceparent: Option<&str>,
    ) -> Result<Found<T>, (Unavailable, bool)> {
        let token = self.tokens.token().map_err(|e| (Unavailable(e.to_string()), false))?;
        let mut request = self.http.get(format!("{}{path}", self.base)).bearer_auth(token);
        if let Some(traceparent) = traceparent {
            request = request.header("traceparent", traceparent);
        }
        let broken = |e: reqwest::Error| (Unavailable(e.without_url().to_string()), true);
        let mut response = request.send().await.map_err(broken)?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND && is_json(&response) {
            return Ok(Found::Missing);
        }
        if status != StatusCode::OK || !is_json(&response) {
            return Err((Unavailable(format!("it answered {status}, not 200 with JSON")), false));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            body.extend_from_slice(&chunk);
            if body.len() > BODY_BYTES_MAX {
                return Err((Unavailable("its answer is too large".to_owned()), false));
            }
        }
        serde_json::from_slice(&body)
            .map(Found::Here)
            .map_err(|e| (Unavailable(format!("its answer is not understood: {e}")), false))
    }
}

fn is_json(response: &reqwest::Response) -> bool {
    response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).is_some_and(|v| {
        v.starts_with("application/json") || v.starts_with("application/problem+json")
    })
}
