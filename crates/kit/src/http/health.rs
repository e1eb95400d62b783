//! Whether a service lives and whether it can work.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future::join_all;
use serde_json::{Map, json};

/// Looks at one thing that the service needs.
pub type Check =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// How much a service needs something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Without it no request can be served.
    Always,
    /// It must be there when the service starts. Later it may be away: the service works on without it and says so, and whoever sends it
    /// requests must not stop for that.
    ToStart,
    /// Without it the service starts and works on, for most requests at least, and says what stands still.
    ForSome,
}

/// Liveness and readiness of a service.
#[derive(Clone)]
pub struct Health {
    checks: Arc<Vec<(&'static str, Need, Check)>>,
    /// Whether everything was there once.
    started: Arc<AtomicBool>,
    stopping: Arc<AtomicBool>,
}

impl Health {
    pub fn new(checks: Vec<(&'static str, Need, Check)>) -> Self {
        Self { checks: Arc::new(checks), started: Arc::default(), stopping: Arc::default() }
    }

    /// From now on the service says that it is not ready, so that nobody new is sent to it.
    pub fn begin_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// `/health/live`, `/health/ready` and `/metrics`.
    pub fn routes(self) -> Router {
        Router::new()
            .route("/health/live", get(async || axum::Json(json!({ "status": "live" }))))
            .route("/health/ready", get(async move || self.ready().await))
            .route("/metrics", get(metrics))
    }

    async fn ready(&self) -> Response {
        let checked = join_all(self.checks.iter().map(async |(name, need, check)| {
            let result = tokio::time::timeout(Duration::from_secs(2), check()).await;
            (*name, *need, result.unwrap_or_else(|_| Err("no answer within 2 s".to_owned())))
        }))
        .await;
        let whole = checked.iter().all(|(_, _, result)| result.is_ok());
        let all_of = |needs: &[Need]| {
            checked.iter().all(|(_, need, result)| !needs.contains(need) || result.is_ok())
        };
        let able = all_of(&[Need::Always]);
        if all_of(&[Need::Always, Need::ToStart]) {
            self.started.store(true, Ordering::Relaxed);
        }
        let (status, ready) = if self.stopping.load(Ordering::Relaxed) {
            ("stopping", false)
        } else if whole {
            ("ready", true)
        } else if able && self.started.load(Ordering::Relaxed) {
            ("degraded", true)
        } else {
            ("not-ready", false)
        };
        let checks: Map<_, _> = checked
            .into_iter()
            .map(|(name, _, result)| {
                (name.to_owned(), result.err().unwrap_or_else(|| "ok".to_owned()).into())
            })
            .collect();
        let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (code, axum::Json(json!({ "status": status, "checks": checks }))).into_response()
    }
}

async fn metrics() -> Response {
    let text = crate::telemetry::metrics_handle().render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
