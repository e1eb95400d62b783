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
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};
use hospital_types::PatientId;
use serde_json::json;

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
        let routes =
            Router::new().route("/patients/{id}", get(answer)).with_state(Arc::clone(&inner));
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
    inner.asked.fetch_add(1, Ordering::Relaxed);
    assert!(headers.contains_key(header::AUTHORIZATION), "services identify themselves");
    let mood = *inner.mood.lock().unwrap();
    match mood {
        Mood::Well => {}
        Mood::Silent => std::future::pending().await,
        Mood::Html => return Html("<h1>Welcome to the guest network</h1>").into_response(),
        Mood::Puzzling => return Json(json!({"status": "dormant"})).into_response(),
        Mood::Redirecting => return Redirect::temporary("/login").into_response(),
        Mood::Failing => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mood::Shedding => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Mood::Lost => return (StatusCode::NOT_FOUND, Html("<h1>404</h1>")).into_response(),
        Mood::Distrustful => return StatusCode::UNAUTHORIZED.into_response(),
    }
    let status = inner.known.lock().unwrap().get(&id).copied();
    match status {
        Some(status) => {
            Json(json!({"id": id, "version": 1, "status": status, "givenName": "Grace"}))
                .into_response()
        }
        None => {
            let problem = json!({"status": 404, "code": "not-found"}).to_string();
            (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "application/problem+json")], problem)
                .into_response()
        }
    }
}
