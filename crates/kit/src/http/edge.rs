//! What every request passes: its trace, its log line, its metrics, the limits, and a task of its own.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use hospital_types::Role;
use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use utoipa::openapi::OpenApi;

use super::{
    BodySettings, Health, Problem, Trace,
    connections::Connection,
    docs,
    receive::receive,
    request::Identity,
    seldom::Seldom,
    share::{Share, Shares},
    source::{Source, client_of},
};
use crate::auth::Authority;

/// The limits of a service's edge.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    /// How long a request may take before its client is told to come again.
    pub handler_timeout: Duration,
    pub body: BodySettings,
    /// How many requests may be under way; beyond it they are shed.
    pub in_flight_max: usize,
    /// How many of them may be one subject's.
    pub in_flight_per_subject_max: usize,
    /// How many of them may come from one address.
    pub in_flight_per_address_max: usize,
    /// Who is believed when it says for whom it asks.
    pub trusted_proxies: Arc<[IpNet]>,
}

/// The edge of one service.
#[derive(Clone)]
pub struct Edge {
    settings: EdgeSettings,
    slots: Arc<Semaphore>,
    subjects: Shares<String>,
    addresses: Shares<Source>,
    authority: Arc<Authority>,
    handlers: TaskTracker,
    shed: Seldom,
    limited: Seldom,
    refused: Seldom,
}

/// Who asks, for the log.
struct Asker {
    address: IpAddr,
    subject: Option<String>,
}

/// What a request that is under way holds, until its handler is through.
struct Place {
    _slot: OwnedSemaphorePermit,
    _of_subject: Option<Share<String>>,
    _of_address: Option<Share<Source>>,
}

impl Edge {
    /// `handlers` tracks the requests under way: a stop waits for it.
    pub fn new(settings: EdgeSettings, authority: Arc<Authority>, handlers: TaskTracker) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(settings.in_flight_max)),
            subjects: Shares::new(settings.in_flight_per_subject_max),
            addresses: Shares::new(settings.in_flight_per_address_max),
            settings,
            authority,
            handlers,
            shed: Seldom::default(),
            limited: Seldom::default(),
            refused: Seldom::default(),
        }
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

async fn pass(State(edge): State<Edge>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let traceparent = request.headers().get("traceparent").and_then(|v| v.to_str().ok());
    let trace = Trace::from_header(traceparent);
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |p| p.as_str().to_owned());

    let (asker, response) = trace.clone().scope(edge.answer(request, next)).await;

    let sent_away = response.extensions().get::<SentAway>().is_some();
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
    if sent_away {
        return response;
    }
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        edge.tell_refused(status, &asker, &route);
    }
    tracing::info!(
        target: "http",
        traceparent = trace.traceparent(),
        %method,
        route,
        status = status.as_u16(),
        subject = asker.subject,
        address = %asker.address,
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

/// Marks the answer to a request that was not let in because there are too many: it has no log line
/// of its own.
#[derive(Clone, Copy)]
struct SentAway;

fn sent_away(problem: Problem) -> Response {
    let mut response = problem.into_response();
    response.extensions_mut().insert(SentAway);
    response
}

impl Edge {
    async fn answer(&self, mut request: Request, next: Next) -> (Asker, Response) {
        let connection = request.extensions().get::<Arc<Connection>>().cloned();
        // Without a listener there is no address.
        let peer = connection.as_ref().map_or_else(|| Ipv4Addr::UNSPECIFIED.into(), |c| c.address);
        let address = client_of(peer, request.headers(), &self.settings.trusted_proxies);
        let mut asker = Asker { address, subject: None };
        if let Err(problem) = refuse_ambiguous(&request, connection.as_deref()) {
            return (asker, problem.into_response());
        }
        let identity = Identity::of(request.headers(), &self.authority).await;
        asker.subject = identity.0.as_ref().ok().map(|actor| actor.subject.clone());
        let response = match self.admit(&mut request, &identity, &asker, connection).await {
            Ok(place) => {
                request.extensions_mut().insert(identity);
                self.handle(place, request, next).await
            }
            Err(response) => response,
        };
        (asker, response)
    }

    /// Lets a request in: with a share of its subject's and its address's, its body, and a place
    /// among those under way.
    ///
    /// The subject's share is taken first, so that one who sends slowly has so many requests in the
    /// making and no more. The place and the address's share, for which others wait, are taken when
    /// the body is there.
    async fn admit(
        &self,
        request: &mut Request,
        identity: &Identity,
        asker: &Asker,
        connection: Option<Arc<Connection>>,
    ) -> Result<Place, Response> {
        let (max, settings) = (self.settings.in_flight_max, &self.settings);
        // Services ask each other for everybody, and hold themselves back.
        let is_service = identity.0.as_ref().is_ok_and(|actor| actor.roles.contains(Role::Service));
        let subject = asker.subject.as_ref();
        let subject = subject.filter(|_| !is_service && settings.in_flight_per_subject_max < max);
        let of_subject = match subject {
            Some(subject) => match self.subjects.take(subject) {
                None => return Err(self.send_away("subject", asker)),
                share => share,
            },
            None => None,
        };
        self.take_body_in(request, identity, asker).await?;
        if let Some(connection) = connection {
            connection.working();
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            return Err(self.shed());
        };
        let of_address = if !is_service && settings.in_flight_per_address_max < max {
            match self.addresses.take(&Source::of(asker.address)) {
                None => return Err(self.send_away("address", asker)),
                share => share,
            }
        } else {
            None
        };
        Ok(Place { _slot: slot, _of_subject: of_subject, _of_address: of_address })
    }

    /// Reads the body of a request that has one, if it is known who sends it and for what.
    async fn take_body_in(
        &self,
        request: &mut Request,
        Identity(identity): &Identity,
        asker: &Asker,
    ) -> Result<(), Response> {
        let is_wanted = request.extensions().get::<MatchedPath>().is_some();
        if request.body().is_end_stream() || !is_wanted {
            return Ok(());
        }
        if let Err(unknown) = identity {
            return Err(unknown.clone().into_response());
        }
        let body = std::mem::take(request.body_mut());
        let bytes = receive(body, self.settings.body).await.map_err(|problem| {
            if problem.status() == 408 {
                self.tell_limited("rate", asker);
            }
            problem.into_response()
        })?;
        *request.body_mut() = Body::from(bytes);
        Ok(())
    }

    fn shed(&self) -> Response {
        metrics::counter!("http_requests_shed_total").increment(1);
        self.shed.note(|count| {
            tracing::warn!(
                target: "http",
                count,
                "too many requests are under way: some are told to come again"
            );
        });
        let detail = "Too many requests are under way. Come again in a moment.";
        sent_away(Problem::new(503, "overloaded", detail).retry_after(1))
    }

    fn send_away(&self, by: &'static str, asker: &Asker) -> Response {
        self.tell_limited(by, asker);
        let detail = "Too many requests of yours are under way. Come again in a moment.";
        sent_away(Problem::new(429, "too-many-requests", detail).retry_after(1))
    }

    fn tell_limited(&self, by: &'static str, asker: &Asker) {
        metrics::counter!("http_requests_limited_total", "by" => by).increment(1);
        self.limited.note(|count| {
            tracing::warn!(
                target: "http",
                count,
                by,
                subject = asker.subject,
                address = %asker.address,
                "one caller takes too much: some of its requests are sent away"
            );
        });
    }

    fn tell_refused(&self, status: StatusCode, asker: &Asker, route: &str) {
        self.refused.note(|count| {
            tracing::warn!(
                target: "http",
                count,
                status = status.as_u16(),
                subject = asker.subject,
                address = %asker.address,
                route,
                "not allowed"
            );
        });
    }

    /// Runs the handler in a task of its own, so that a client that goes away does not cancel a
    /// transaction half-way.
    ///
    /// A handler that is not through in time keeps its place until it is: it still has its
    /// connection to the database, and nothing in it waits for its client any more.
    async fn handle(&self, place: Place, request: Request, next: Next) -> Response {
        let trace = super::current_trace();
        let handler = self.handlers.spawn(async move {
            let response = match trace {
                Some(trace) => trace.scope(next.run(request)).await,
                None => next.run(request).await,
            };
            drop(place);
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

/// Refuses what two readers could understand in two ways: whose request it is, and where it ends.
fn refuse_ambiguous(request: &Request, connection: Option<&Connection>) -> Result<(), Problem> {
    let headers = request.headers();
    if headers.get_all(header::AUTHORIZATION).iter().nth(1).is_some() {
        let detail = "There are two Authorization headers. Send one.";
        return Err(Problem::new(400, "authorization-repeated", detail));
    }
    let is_chunked = headers.contains_key(header::TRANSFER_ENCODING);
    let gives_length = || {
        headers.contains_key(header::CONTENT_LENGTH)
            || connection.is_some_and(|c| c.gives_length(request.method(), request.uri()))
    };
    if is_chunked && gives_length() {
        let detail = "Content-Length and Transfer-Encoding say two things. Send one of them.";
        return Err(Problem::new(400, "length-ambiguous", detail).closing());
    }
    Ok(())
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

#[cfg(test)]
mod tests;
