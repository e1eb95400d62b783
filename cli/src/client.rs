//! A client of the platform's public APIs that waits out what passes: a service that restarts, a request that is still running.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use reqwest::{Method, StatusCode, header};
use serde_json::Value;

use crate::platform::Platform;

/// How long one request is tried before the command gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// A client with one token.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    platform: Platform,
    token: String,
}

/// An answer that is final: a success or a refusal.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
    /// Whether the platform had given this answer before.
    pub(crate) replayed: bool,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        self.status.is_success()
    }

    /// The problem's stable code.
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or("unknown")
    }

    pub(crate) fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap_or("no reason was given")
    }

    /// A member of the body that must be there.
    pub(crate) fn text(&self, member: &str) -> anyhow::Result<&str> {
        self.body[member].as_str().with_context(|| format!("the answer has no {member}"))
    }

    /// The answer, if it is a success.
    pub(crate) fn succeed(self, doing: &str) -> anyhow::Result<Self> {
        if self.is_success() {
            return Ok(self);
        }
        bail!("{doing}: {} {}: {}", self.status.as_u16(), self.code(), self.detail())
    }
}

impl Client {
    pub(crate) fn new(platform: &Platform, token: String) -> anyhow::Result<Self> {
        hospital_kit::client::install_tls_provider();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(64)
            .connect_timeout(Duration::from_secs(2))
            .timeout(Duration::from_secs(10))
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self { http, platform: platform.clone(), token })
    }

    pub(crate) async fn get(&self, service: &str, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, service, path, None, None).await
    }

    pub(crate) async fn put(
        &self,
        service: &str,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Answer> {
        self.send(Method::PUT, service, path, Some(body), None).await
    }

    /// Posts under an idempotency key, so that trying again after a lost answer is safe.
    pub(crate) async fn post(
        &self,
        service: &str,
        path: &str,
        key: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        self.send(Method::POST, service, path, body, Some(key)).await
    }

    /// Every item of a list, page by page.
    pub(crate) async fn list(&self, service: &str, path: &str) -> anyhow::Result<Vec<Value>> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let joint = if path.contains('?') { '&' } else { '?' };
            let page = self
                .get(service, &format!("{path}{joint}limit=200{cursor}"))
                .await?
                .succeed("listing")?;
            items.extend(
                page.body["items"].as_array().context("the list has no items")?.iter().cloned(),
            );
            match page.body["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(items),
            }
        }
    }

    async fn send(
        &self,
        method: Method,
        service: &str,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            let what = match self.attempt(method.clone(), service, path, body, key).await {
                Ok(answer) if !passes(&answer) => return Ok(answer),
                Ok(answer) => format!("{} {}", answer.status.as_u16(), answer.code()),
                Err(e) => format!("{:#}", anyhow::Error::from(e)),
            };
            if started.elapsed() > PATIENCE {
                bail!(
                    "{method} {path} of the {service} service still fails after {PATIENCE:?}: {what}"
                );
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    async fn attempt(
        &self,
        method: Method,
        service: &str,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> reqwest::Result<Answer> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.platform.url(service)))
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let response = request.send().await?;
        let status = response.status();
        let replayed = response.headers().contains_key("idempotent-replayed");
        let is_json = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.contains("json"));
        let bytes = response.bytes().await?;
        let body = if is_json {
            serde_json::from_slice(&bytes).unwrap_or(Value::Null)
        } else {
            Value::Null
        };
        Ok(Answer { status, body, replayed })
    }
}

/// Whether the same request may be answered otherwise in a moment.
fn passes(answer: &Answer) -> bool {
    answer.status.is_server_error()
        || answer.status == StatusCode::TOO_MANY_REQUESTS
        || answer.code() == "idempotency-key-in-progress"
}
