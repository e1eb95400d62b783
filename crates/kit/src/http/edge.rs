//! What every request passes: its trace, its log line, its metrics, the limits, and a task of its own.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use utoipa::openapi::OpenApi;

use super::{Health, Problem, Trace, docs};
use crate::auth::Authority;

/// The limits of a service's edge.
#[derive(Clone, Copy, Debug)]
pub struct EdgeSettings {
    /// How long a request may take before its client is told to come again.
    pub handler_timeout: Duration,
    /// How many requests may be under way; beyond it they are shed.
    pub in_flight_max: usize,
}

impl Default for EdgeSettings {
    fn default() -> Self {
        Self { handler_timeout: Duration::from_secs(3), in_flight_max: 128 }
    }
}

/// The edge of one service.
#[derive(Clone)]
pub struct Edge {
    settings: EdgeSettings,
    slots: Arc<Semaphore>,
    authority: Arc<Authority>,
    handlers: TaskTracker,
    shed: Arc<Mutex<Shed>>,
}

/// Requests that were shed since the log last told of any. A line for each would cost those that were let in a tenth of their processor.
#[derive(Default)]
struct Shed {
    count: u64,
    told: Option<Instant>,
}

impl Shed {
    fn note(&mut self) {
        self.count += 1;
        if self.told.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
            let count = std::mem::take(&mut self.count);
            tracing::warn!(target: "http", count, "too many requests are under way: some are told to come again");
            self.told = Some(Instant::now());
        }
    }
}

impl Edge {
    /// `handlers` tracks the requests under way: a stop waits for it.
    pub fn new(settings: EdgeSettings, authority: Arc<Authority>, handlers: TaskTracker) -> Self {
        let slots = Arc::new(Semaphore::new(settings.in_flight_max));
        Self { settings, slots, authority, handlers, shed: Arc::default() }
    }

    /// Puts the edge around a service's routes, and beside them what every service answers.
    pub fn around(self, routes: Router, document: &OpenApi, health: Health) -> Router {
        routes
            .merge(docs::routes(document))
            .fallback(async || Problem::new(404, "not-found", "There is no such address."))
            .layer(middleware::from_fn_with_state(self, pass))
            .merge(health.routes())
    }
}

async fn pass(State(edge): State<Edge>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let traceparent = request.headers().get("traceparent").and_then(|v| v.to_str().ok());
    let trace = Trace::from_header(traceparent);
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |p| p.as_str().to_owned());
    request.extensions_mut().insert(Arc::clone(&edge.authority));

    let slot = Arc::clone(&edge.slots).try_acquire_owned().ok();
    let shed = slot.is_none();
    let response = trace.clone().scope(edge.answer(slot, request, next)).await;

    let mut response = trace.clone().scope(async { complete(response) }).await;
    let status = response.status();
    let elapsed = started.elapsed();
    let headers = response.headers_mut();
    set(headers, HeaderName::from_static("traceparent"), trace.traceparent());
    set(headers, HeaderName::from_static("x-request-id"), trace.id());
    set(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if !headers.contains_key(header::CACHE_CONTROL) {
        set(headers, header::CACHE_CONTROL, "no-store");
    }
    let labels = [
        ("method", method.to_string()),
        ("route", route.clone()),
        ("status", status.as_u16().to_string()),
    ];
    metrics::histogram!("http_request_duration_seconds", &labels).record(elapsed);
    if shed {
        return response;
    }
    tracing::info!(
        target: "http",
        traceparent = trace.traceparent(),
        %method,
        route,
        status = status.as_u16(),
        duration_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        "request"
    );
    response
}

fn set(headers: &mut axum::http::HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

impl Edge {
    /// Runs the handler in a task of its own, so that a client that goes away does not cancel a transaction half-way. Without a slot there is no
    /// room for it.
    async fn answer(
        self,
        slot: Option<OwnedSemaphorePermit>,
        request: Request,
        next: Next,
    ) -> Response {
        let Some(slot) = slot else {
            metrics::counter!("http_requests_shed_total").increment(1);
            // Nothing that holds it can panic halfway.
            self.shed.lock().unwrap_or_else(PoisonError::into_inner).note();
            return Problem::new(
                503,
                "overloaded",
                "Too many requests are under way. Come again in a moment.",
            )
            .retry_after(1)
            .into_response();
        };
        let trace = super::current_trace();
        let handler = self.handlers.spawn(async move {
            let response = match trace {
                Some(trace) => trace.scope(next.run(request)).await,
                None => next.run(request).await,
            };
            drop(slot);
            response
        });
        match tokio::time::timeout(self.settings.handler_timeout, handler).await {
            Ok(Ok(response)) => response,
            Ok(Err(e)) => {
                // The panic itself is in the log already; its text may hold anything and goes no further.
                tracing::error!(panicked = e.is_panic(), "a handler did not finish");
                Problem::new(500, "internal", "This is a fault of ours. The trace id finds it in our logs.")
                    .into_response()
            }
            Err(_) => Problem::new(
                503,
                "deadline-exceeded",
                "It takes too long at the moment and may still be done. Send the same request, with the same Idempotency-Key, again.",
            )
            .retry_after(1)
            .into_response(),
        }
    }
}

/// Gives answers that the router made by itself the body that every error has.
fn complete(response: Response) -> Response {
    let is_problem = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|t| t == "application/problem+json");
    let status = response.status();
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let problem = match status.as_u16() {
        405 => Problem::new(
            405,
            "method-not-allowed",
            "This address does not take that method; `Allow` says which it takes.",
        ),
        404 => Problem::not_found(),
        code => Problem::new(code, "request-not-accepted", "The request cannot be read."),
    };
    let allow = response.headers().get(header::ALLOW).cloned();
    let mut completed = problem.into_response();
    if let Some(allow) = allow {
        completed.headers_mut().insert(header::ALLOW, allow);
    }
    completed
}
