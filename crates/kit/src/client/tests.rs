use std::{
    future::IntoFuture,
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
};

use axum::{
    Json, Router,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{Html, IntoResponse, Redirect},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::{auth::SigningKey, clock::Clock, config::AuthConfig};

#[derive(Deserialize, Debug, PartialEq)]
struct Thing {
    id: u32,
}

async fn served(routes: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(axum::serve(listener, routes).into_future());
    address
}

fn client(address: SocketAddr, deadline: Duration) -> ServiceClient {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    SigningKey::generate().unwrap().save(&path).unwrap();
    let auth = AuthConfig { signing_key_file: Some(path), ..AuthConfig::default() };
    let tokens = Arc::new(TokenSource::new(&auth, &Clock::system(), "billing").unwrap());
    ServiceClient::new("patient", &format!("http://{address}/"), deadline, tokens).unwrap()
}

const PATIENT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn an_answer_is_here_or_missing_and_the_call_says_who_asks() {
    let routes = Router::new().route(
        "/things/1",
        get(async |headers: HeaderMap| {
            assert!(headers["authorization"].to_str().unwrap().starts_with("Bearer ey"));
            assert_eq!(headers["traceparent"], "00-aa-bb-01");
            Json(json!({"id": 1, "more": "is not minded"}))
        }),
    );
    let routes = routes.fallback(async || not_found("patient", "not-found"));
    let client = client(served(routes).await, PATIENT);
    let found = client.get::<Thing>("/things/1", Some("00-aa-bb-01")).await;
    assert_eq!(found, Ok(Found::Here(Thing { id: 1 })));
    assert_eq!(client.get::<Thing>("/things/2", None).await, Ok(Found::Missing));
}

fn not_found(by: &'static str, code: &str) -> axum::response::Response {
    let kind = (header::CONTENT_TYPE, "application/problem+json");
    let by = (HeaderName::from_static(ANSWERED_BY), by);
    (StatusCode::NOT_FOUND, [kind, by], json!({"code": code}).to_string()).into_response()
}

#[tokio::test]
async fn a_404_is_believed_only_of_the_service_that_was_asked() {
    let problem = [(header::CONTENT_TYPE, "application/problem+json")];
    let body = r#"{"status": 404, "code": "not-found"}"#;
    let routes = Router::new()
        .route("/own", get(async || not_found("patient", "not-found")))
        .route("/another", get(async || not_found("billing", "not-found")))
        .route("/coded", get(async || not_found("patient", "gone-fishing")))
        .route("/unsigned", get(async move || (StatusCode::NOT_FOUND, problem, body)))
        .route("/json", get(async || (StatusCode::NOT_FOUND, Json(json!({"code": "not-found"})))))
        .route("/bare", get(async || StatusCode::NOT_FOUND));
    let address = served(routes).await;
    let own = client(address, PATIENT).get::<Thing>("/own", None).await;
    assert_eq!(own, Ok(Found::Missing));
    for path in ["/another", "/coded", "/unsigned", "/json", "/bare"] {
        let answer = client(address, PATIENT).get::<Thing>(path, None).await;
        let said = "a 404 that is not the patient service's own";
        assert_eq!(answer, Err(Unavailable(said.into())), "{path}");
    }
}

#[tokio::test]
async fn whatever_else_comes_is_no_answer() {
    let moved = get(async || Redirect::temporary("/good"));
    let routes = Router::new()
        .route("/good", get(async || Json(json!({"id": 1}))))
        .route("/moved", moved)
        .route("/html", get(async || Html("<p>{\"id\": 1}</p>")))
        .route("/lost", get(async || (StatusCode::NOT_FOUND, Html("<p>no such page</p>"))))
        .route("/refused", get(async || (StatusCode::UNAUTHORIZED, Json(json!({"id": 1})))))
        .route("/forbidden", get(async || (StatusCode::FORBIDDEN, Json(json!({"id": 1})))))
        .route("/failing", get(async || (StatusCode::BAD_GATEWAY, Json(json!({"id": 1})))))
        .route("/odd", get(async || (StatusCode::ACCEPTED, Json(json!({"id": 1})))))
        .route("/other", get(async || Json(json!({"id": "Ann Secret"}))))
        .route("/half", get(async || ([(header::CONTENT_TYPE, "application/json")], "{\"id\": ")))
        .route("/large", get(async || Json(json!({"id": 1, "more": "a".repeat(BODY_BYTES_MAX)}))));
    let address = served(routes).await;
    for path in [
        "/moved",
        "/html",
        "/lost",
        "/refused",
        "/forbidden",
        "/failing",
        "/odd",
        "/other",
        "/half",
        "/large",
    ] {
        let Err(Unavailable(reason)) = client(address, PATIENT).get::<Thing>(path, None).await
        else {
            panic!("{path} was taken for an answer");
        };
        assert!(!reason.contains("Secret") && !reason.contains("127.0.0.1"), "{path}: {reason}");
    }
}

#[tokio::test]
async fn silence_ends_with_the_deadline() {
    let silent = get(async || std::future::pending::<StatusCode>().await);
    let client = client(served(Router::new().route("/", silent)).await, Duration::from_millis(50));
    let started = Instant::now();
    let answer = client.get::<Value>("/", None).await;
    assert_eq!(answer, Err(Unavailable("no answer within 50ms".into())));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_cut_connection_is_tried_once_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&connections);
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 1024]).await;
            // The first is closed without an answer, and so is every one after the second.
            if seen.fetch_add(1, Ordering::Relaxed) == 1 {
                let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n\
                              Content-Length: 8\r\nConnection: close\r\n\r\n{\"id\":1}";
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    let client = client(address, PATIENT);
    assert_eq!(client.get::<Thing>("/", None).await, Ok(Found::Here(Thing { id: 1 })));
    assert_eq!(connections.load(Ordering::Relaxed), 2);
    assert!(client.get::<Thing>("/", None).await.is_err());
    assert_eq!(connections.load(Ordering::Relaxed), 4, "twice, and no more");
}

#[tokio::test]
async fn what_keeps_failing_is_left_alone() {
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let failing = get(async move || {
        counted.fetch_add(1, Ordering::Relaxed);
        StatusCode::INTERNAL_SERVER_ERROR
    });
    let client = client(served(Router::new().route("/", failing)).await, PATIENT);
    for _ in 0..20 {
        assert!(client.get::<Value>("/", None).await.is_err());
    }
    // Five, and a probe or two if this machine is slow; an answer without JSON is not asked for twice.
    assert!((5..8).contains(&asked.load(Ordering::Relaxed)), "{asked:?}");
}

#[tokio::test]
async fn nobody_there_is_said_without_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let answer = client(address, PATIENT).get::<Value>("/patients/1", None).await;
    let Err(Unavailable(reason)) = answer else { panic!("somebody answered") };
    assert!(reason.contains("refused") && !reason.contains("patients/1"), "{reason}");
}

#[tokio::test]
async fn retries_stay_within_their_budget() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&connections);
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 1024]).await;
            // Of five in a row the last is answered, so that the breaker stays closed.
            if seen.fetch_add(1, Ordering::Relaxed) % 5 == 4 {
                let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                              Content-Length: 8\r\nConnection: close\r\n\r\n{\"id\":1}";
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    let client = client(address, PATIENT);
    for _ in 0..100 {
        let _ = client.get::<Thing>("/", None).await;
    }
    // A hundred first tries, ten retries that were saved up, and ten that the first tries earned; without a budget there were about 180.
    let tries = connections.load(Ordering::Relaxed);
    assert!((115..=121).contains(&tries), "{tries} tries");
}
