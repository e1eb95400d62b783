//! A client of the services, as impatient as it is told to be.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use hospital_kit::{
    auth::{Claims, SigningKey},
    clock::Clock,
    config::AuthConfig,
};
use hospital_types::{Role, Roles};
use serde_json::Value;

use crate::record::{Answer, Kind, Request};

/// A client with the token of somebody who may do everything.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    /// Where the services are, in their order: each behind its proxy.
    bases: Arc<[String; 4]>,
    pub caller: String,
    token: String,
}

impl Client {
    /// # Errors
    /// When no token can be signed.
    pub fn new(key: &SigningKey, caller: &str, bases: [String; 4]) -> anyhow::Result<Self> {
        hospital_kit::client::install_tls_provider();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(3))
            .build()
            .context("making an HTTP client")?;
        let roles = [
            Role::FrontDesk,
            Role::Practitioner,
            Role::Cashier,
            Role::BillingManager,
            Role::Admin,
            Role::OnCall,
        ];
        let claims = Claims {
            subject: caller.to_owned(),
            roles: Roles::of(&roles),
            patient: None,
            practitioner: None,
        };
        let token = key.sign(&claims, Duration::from_secs(24 * 3600))?;
        Ok(Self { http, bases: Arc::new(bases), caller: caller.to_owned(), token })
    }

    /// Sends a request once. `None` when no answer came in that time.
    pub async fn send(&self, request: &Request, patience: Duration) -> Option<Answer> {
        let method = if request.kind == Kind::Change {
            reqwest::Method::PATCH
        } else {
            reqwest::Method::POST
        };
        let mut asked = self.ask(method, request.kind.service(), &request.path);
        if request.keyed {
            asked = asked.header("idempotency-key", &request.key);
        }
        // A step has no body at all.
        let asked = if request.body.is_null() { asked } else { asked.json(&request.body) };
        answer(asked.timeout(patience)).await
    }

    /// Reads something. `None` when no answer came.
    pub async fn get(&self, service: usize, path: &str) -> Option<Answer> {
        let asked = self.ask(reqwest::Method::GET, service, path);
        answer(asked.timeout(Duration::from_secs(2))).await
    }

    /// # Errors
    /// When it is not accepted.
    pub async fn put(&self, service: usize, path: &str, body: &Value) -> anyhow::Result<()> {
        let asked = self.ask(reqwest::Method::PUT, service, path).json(body);
        let answer = answer(asked.timeout(Duration::from_secs(5))).await.context("no answer")?;
        anyhow::ensure!(answer.is_success(), "{path}: {}", answer.text);
        Ok(())
    }

    /// # Errors
    /// When it is not accepted.
    pub async fn post(&self, service: usize, path: &str, body: &Value) -> anyhow::Result<Value> {
        let asked = self.ask(reqwest::Method::POST, service, path).json(body);
        let answer = answer(asked.timeout(Duration::from_secs(5))).await.context("no answer")?;
        anyhow::ensure!(answer.is_success(), "{path}: {}", answer.text);
        Ok(answer.body())
    }

    fn ask(&self, method: reqwest::Method, service: usize, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.bases[service])).bearer_auth(&self.token)
    }
}

/// Dropped half-way by its timeout, a request's connection is closed: that is how a client leaves.
async fn answer(asked: reqwest::RequestBuilder) -> Option<Answer> {
    let response = asked.send().await.ok()?;
    let status = response.status().as_u16();
    let text = response.text().await.ok()?;
    Some(Answer { status, text })
}

/// The platform's key with a clock that is two hours slow: services whose own clocks are off must not take its tokens for tokens of the
/// future.
///
/// # Errors
/// When the machine has no randomness.
pub fn signing_key() -> anyhow::Result<SigningKey> {
    let clock = Clock::system();
    clock.step_back(Duration::from_secs(2 * 3600));
    Ok(SigningKey::generate()?.issuing(&AuthConfig::default(), clock))
}
