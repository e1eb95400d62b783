//! A patient service that answers as it is told to.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};
use hospital_kit::http::ANSWERED_BY;
use hospital_types::PatientId;
use serde_json::{Value, json};

/// How the service behaves, whoever is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// Takes the request and never answers.
    Silent,
    Html,
    /// JSON that is no patient.
    Puzzling,
    Redirecting,
    Failing,
    /// As an overloaded service does.
    Shedding,
    /// A server of something else altogether, which knows no such address.
    Lost,
    /// Another of the platform's services, which does not know the patient either.
    Misdirected,
    /// As a service does that does not know this one's token.
    Distrustful,
}

#[derive(Clone)]
pub(crate) struct FakePatients {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    known: Mutex<HashMap<PatientId, &'static str>>,
    mood: Mutex<Mood>,
    asked: AtomicU32,
}

impl FakePatients {
    pub(crate) async fn start() -> Self {
        let inner = Arc::new(Inner {
            known: Mutex::default(),
            mood: Mutex::new(Mood::Well),
            asked: AtomicU32::new(0),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new()
            .route("/patients/{id}", get(answer))
            .route("/patients/standing", get(answer_for_several))
            .with_state(Arc::clone(&inner));
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { address, inner }
    }

    pub(crate) fn active(&self) -> PatientId {
        self.register("active")
    }

    pub(crate) fn inactive(&self) -> PatientId {
        self.register("inactive")
    }

    fn register(&self, status: &'static str) -> PatientId {
        let id = PatientId::new();
        self.inner.known.lock().unwrap().insert(id, status);
        id
    }

    pub(crate) fn deactivate(&self, id: PatientId) {
        self.inner.known.lock().unwrap().insert(id, "inactive");
    }

    pub(crate) fn behave(&self, mood: Mood) {
        *self.inner.mood.lock().unwrap() = mood;
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u32 {
        self.inner.asked.load(Ordering::Relaxed)
    }
}

async fn answer(
    State(inner): State<Arc<Inner>>,
    headers: HeaderMap,
    Path(id): Path<PatientId>,
) -> Response {
    if let Some(trouble) = trouble(&inner, &headers).await {
        return trouble;
    }
    let status = inner.known.lock().unwrap().get(&id).copied();
    match status {
        Some(status) => {
            Json(json!({"id": id, "version": 1, "status": status, "givenName": "Grace"}))
                .into_response()
        }
        None => not_found("patient"),
    }
}

/// As the service of this name says that there is no such thing.
fn not_found(service: &'static str) -> Response {
    let kind = (header::CONTENT_TYPE, "application/problem+json");
    let by = (HeaderName::from_static(ANSWERED_BY), service);
    let problem = json!({"status": 404, "code": "not-found"}).to_string();
    (StatusCode::NOT_FOUND, [kind, by], problem).into_response()
}

async fn answer_for_several(
    State(inner): State<Arc<Inner>>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if let Some(trouble) = trouble(&inner, &headers).await {
        return trouble;
    }
    assert!(!headers.contains_key("traceparent"), "a call for several is of nobody's trace");
    let known = inner.known.lock().unwrap();
    let found: Vec<Value> = query["ids"]
        .split(',')
        .filter_map(|id| {
            let id: PatientId = id.parse().unwrap();
            known.get(&id).map(|status| json!({"id": id, "status": status}))
        })
        .collect();
    Json(found).into_response()
}

/// What the service answers when it is not well.
async fn trouble(inner: &Inner, headers: &HeaderMap) -> Option<Response> {
    inner.asked.fetch_add(1, Ordering::Relaxed);
    assert!(headers.contains_key(header::AUTHORIZATION), "services identify themselves");
    let mood = *inner.mood.lock().unwrap();
    Some(match mood {
        Mood::Well => return None,
        Mood::Silent => std::future::pending().await,
        Mood::Html => Html("<h1>Welcome to the guest network</h1>").into_response(),
        Mood::Puzzling => Json(json!({"status": "dormant"})).into_response(),
        Mood::Redirecting => Redirect::temporary("/login").into_response(),
        Mood::Failing => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mood::Shedding => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Mood::Lost => (StatusCode::NOT_FOUND, Html("<h1>404</h1>")).into_response(),
        Mood::Misdirected => not_found("billing"),
        Mood::Distrustful => StatusCode::UNAUTHORIZED.into_response(),
    })
}
