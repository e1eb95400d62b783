//! What arrives on a real listener, byte by byte: good requests, bad ones, slow ones, and half ones.

use std::time::{Duration, Instant};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};
use hospital_kit::{
    http::{Body, Problem},
    migrate::Schema,
    outcome::Broken,
    service::{Context, Service},
};
use hospital_testkit::{TestApp, eventually};
use hospital_types::Role;
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Thing {
    #[serde(default)]
    name: Option<String>,
}

async fn make(body: Body<Thing>) -> Result<String, Problem> {
    let thing = body.parse()?;
    Ok(thing.name.unwrap_or_default())
}

async fn panics() -> &'static str {
    panic!("Zoe Canary, +15550100")
}

fn things(_: &Context) -> Result<Service, Broken> {
    let slow = async || {
        tokio::time::sleep(Duration::from_millis(700)).await;
        "done"
    };
    let routes = Router::new()
        .route("/things", get(async || "things").post(make))
        .route("/slow", get(slow))
        .route("/stuck", post(async || std::future::pending::<()>().await))
        .route("/panic", get(panics))
        .layer(DefaultBodyLimit::max(65_536));
    Ok(Service {
        schema: schema(),
        routes,
        openapi: hospital_kit::http::with_docs(
            utoipa_axum::router::OpenApiRouter::<()>::new(),
            "Things",
            "Things.",
        )
        .1,
        consumers: Vec::new(),
        jobs: Vec::new(),
        tasks: Vec::new(),
        prunes: Vec::new(),
    })
}

fn schema() -> Schema {
    Schema { name: "kit", migrations: Vec::new(), rights: &[] }
}

async fn start() -> TestApp {
    TestApp::start(schema(), things, |config| {
        config.http.header_timeout_ms = 700;
        config.http.handler_timeout_ms = 1000;
    })
    .await
}

async fn connect(app: &TestApp) -> TcpStream {
    TcpStream::connect(app.base.trim_start_matches("http://")).await.unwrap()
}

/// Sends bytes and reads until the server closes, or until it has been silent for as long as no test waits.
async fn talk(app: &TestApp, request: &[u8]) -> String {
    let mut stream = connect(app).await;
    // A server that has heard enough may close before the last byte.
    let _ = stream.write_all(request).await;
    read(&mut stream).await
}

async fn read(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 16_384];
    // The rest of an answer is lost when the server resets a connection that it has not read to the end; what came is the answer.
    while let Ok(Ok(n)) =
        tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await
    {
        if n == 0 {
            break;
        }
        bytes.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn post_of(app: &TestApp, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /things HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}{kind}Content-Length: {}\r\n\r\n",
        bearer(app),
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Nobody's body is read of whom it is not known who sends it.
fn bearer(app: &TestApp) -> String {
    format!("Authorization: Bearer {}\r\n", app.token(&[Role::FrontDesk]))
}

const JSON: &str = "Content-Type: application/json\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_answered_for_what_they_are_and_the_next_good_one_works() {
    let app = start().await;
    let deep = "[".repeat(30_000);
    let long = format!("{{\"name\": \"{}\"}}", "x".repeat(65_536 - 12));
    let longer = format!("{{\"name\": \"{}\"}}", "x".repeat(65_536 - 11));
    let get = |head: &str| {
        format!("GET /things HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n").into_bytes()
    };
    let line = |line: &str| format!("{line}\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes();
    for (what, request, status) in [
        ("a good one", post_of(&app, JSON, br#"{"name": "a"}"#), 200),
        ("the longest body", post_of(&app, JSON, long.as_bytes()), 200),
        ("one byte more", post_of(&app, JSON, longer.as_bytes()), 413),
        ("no body", post_of(&app, JSON, b""), 400),
        ("null", post_of(&app, JSON, b"null"), 400),
        ("a list", post_of(&app, JSON, b"[]"), 400),
        ("a text", post_of(&app, JSON, b"\"x\""), 400),
        ("half an object", post_of(&app, JSON, br#"{"name": "a"#), 400),
        ("trailing garbage", post_of(&app, JSON, br#"{"name": "a"} x"#), 400),
        ("invalid UTF-8", post_of(&app, JSON, b"{\"name\": \"\xff\xfe\"}"), 400),
        ("a byte order mark", post_of(&app, JSON, b"\xef\xbb\xbf{}"), 400),
        ("a member twice", post_of(&app, JSON, br#"{"name": "a", "name": "b"}"#), 400),
        ("an unknown member", post_of(&app, JSON, br#"{"admin": true}"#), 400),
        ("deep nesting", post_of(&app, JSON, deep.as_bytes()), 400),
        ("nesting 100 000 deep", post_of(&app, JSON, "[".repeat(100_000).as_bytes()), 413),
        ("NUL outside of a text", post_of(&app, JSON, b"{}\0"), 400),
        ("no content type", post_of(&app, "", b"{}"), 415),
        ("another content type", post_of(&app, "Content-Type: text/plain\r\n", b"{}"), 415),
        (
            "a form",
            post_of(&app, "Content-Type: application/x-www-form-urlencoded\r\n", b"name=a"),
            415,
        ),
        ("a header of 64 KiB", get(&format!("X: {}\r\n", "x".repeat(65_536))), 431),
        ("a thousand headers", get(&"X: x\r\n".repeat(1000)), 431),
        ("an unknown address", line("GET /nowhere HTTP/1.1"), 404),
        ("a method that the address does not take", line("DELETE /things HTTP/1.1"), 405),
        ("a method that nobody knows", line("BREW /things HTTP/1.1"), 405),
        ("no HTTP at all", b"hello there\r\n\r\n".to_vec(), 400),
        ("another protocol", line("GET /things SMTP/1.0"), 400),
    ] {
        let answer = talk(&app, &request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{what}: {}",
            &answer[..answer.len().min(300)]
        );
        let lower = answer.to_lowercase();
        if (400..500).contains(&status)
            && !matches!(what, "no HTTP at all" | "another protocol")
            && status != 431
        {
            assert!(lower.contains("content-type: application/problem+json"), "{what}: {answer}");
            assert!(
                answer.contains(r#""code":""#) && answer.contains(r#""traceId":""#),
                "{what}: {answer}"
            );
        }
        if status == 405 {
            assert!(lower.contains("\r\nallow: "), "{what}: {answer}");
        }
        assert!(
            talk(&app, &post_of(&app, JSON, br#"{"name": "still here"}"#))
                .await
                .ends_with("still here"),
            "after {what}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_is_measured_too() {
    let app = start().await;
    let head = format!(
        "POST /things HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}{JSON}Transfer-Encoding: chunked\r\n\r\n",
        bearer(&app)
    );
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let answer = talk(&app, format!("{head}{chunk}{chunk}0\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let answer =
        talk(&app, format!("{head}d\r\n{{\"name\": \"a\"}}\r\n0\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_come_drop_by_drop_are_not_waited_for() {
    let app = start().await;
    let mut stream = connect(&app).await;
    let started = Instant::now();
    stream.write_all(b"GET /things HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    for _ in 0..1000 {
        if stream.write_all(b"X").await.is_err() {
            break;
        }
        let mut byte = [0];
        // Silence means that it still listens.
        if let Ok(closed) =
            tokio::time::timeout(Duration::from_millis(50), stream.read(&mut byte)).await
        {
            assert!(!matches!(closed, Ok(1..) if started.elapsed() < Duration::from_millis(600)));
            break;
        }
    }
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let app = TestApp::start(schema(), things, |config| {
        config.http.body_timeout_ms = 700;
    })
    .await;
    let half = format!(
        "POST /things HTTP/1.1\r\nHost: x\r\n{}{JSON}Content-Length: 100\r\n\r\n{{",
        bearer(&app)
    );
    let mut stream = connect(&app).await;
    let started = Instant::now();
    stream.write_all(half.as_bytes()).await.unwrap();
    let answer = read(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body-too-slow"), "{answer}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());

    // One that says that no more will come is answered at once.
    let mut stream = connect(&app).await;
    stream.write_all(half.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = read(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("body-incomplete"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_understood_in_two_ways_is_refused() {
    let app = start().await;
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (what, headers, body, closes) in [
        (
            "the length first",
            format!("Content-Length: 2\r\n{chunked}"),
            "2\r\n{}\r\n0\r\n\r\n",
            true,
        ),
        (
            "the length last",
            format!("{chunked}content-length: 2\r\n"),
            "2\r\n{}\r\n0\r\n\r\n",
            true,
        ),
        ("two tokens", format!("{}Content-Length: 2\r\n", bearer(&app)), "{}", false),
        ("two schemes", "Authorization: Basic YTpi\r\nContent-Length: 2\r\n".into(), "{}", false),
    ] {
        let mut stream = connect(&app).await;
        let request = format!(
            "POST /things HTTP/1.1\r\nHost: x\r\n{}{JSON}{headers}\r\n{body}",
            bearer(&app)
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let next = b"GET /things HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        // A connection that is closed takes no other request.
        let _ = stream.write_all(next).await;
        let answer = read(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{what}: {answer}");
        assert!(answer.contains("application/problem+json"), "{what}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            if closes { 1 } else { 2 },
            "{what}: {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_nobody_is_not_read() {
    let app = start().await;
    let head = "POST /things HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n{";
    let started = Instant::now();
    let answer = talk(&app, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("token-missing"), "{answer}");
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_is_answered_in_time() {
    let app = start().await;
    let started = Instant::now();
    let answer = talk(
        &app,
        b"POST /stuck HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.to_lowercase().contains("retry-after: 1"),
        "{answer}"
    );
    assert!((1..4).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_one_answer_and_tells_nothing() {
    let app = start().await;
    let answer = talk(&app, b"GET /panic HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 500") && answer.contains(r#""code":"internal""#),
        "{answer}"
    );
    assert!(!answer.contains("Zoe") && !answer.contains("5550100"), "{answer}");
    assert!(talk(&app, &post_of(&app, JSON, br#"{"name": "b"}"#)).await.ends_with('b'));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_a_row_on_one_connection_are_answered_in_their_order() {
    let app = start().await;
    let request = |name: &str| {
        format!(
            "POST /things HTTP/1.1\r\nHost: x\r\n{}{JSON}Content-Length: {}\r\n\r\n{{\"name\": \"{name}\"}}",
            bearer(&app),
            name.len() + 12
        )
    };
    let last = "GET /things HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer =
        talk(&app, format!("{}{}{last}", request("first"), request("second")).as_bytes()).await;
    let place = |word: &str| answer.find(word).unwrap_or_else(|| panic!("{word} in {answer}"));
    assert!(place("first") < place("second") && place("second") < place("things"));
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_taken_or_made_and_answered() {
    let app = start().await;
    let given = "4bf92f3577b34da6a3ce929d0e0e4736";
    let get = |head: &str| {
        format!("GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n").into_bytes()
    };
    let answer =
        talk(&app, &get(&format!("traceparent: 00-{given}-00f067aa0ba902b7-01\r\n"))).await;
    assert!(answer.contains(&format!("x-request-id: {given}")), "{answer}");
    assert!(answer.contains(&format!("traceparent: 00-{given}-")), "{answer}");
    assert!(answer.contains(&format!(r#""traceId":"{given}""#)), "{answer}");
    for bad in [
        "",
        "traceparent: x\r\n",
        "traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01\r\n",
    ] {
        let answer = talk(&app, &get(bad)).await;
        let id = answer.split("x-request-id: ").nth(1).unwrap().split("\r\n").next().unwrap();
        assert!(id.len() == 32 && id != given && id.bytes().any(|b| b != b'0'), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_does_not_stop_the_server() {
    let app = start().await;
    for wait in [0, 1, 5, 20] {
        let mut stream = connect(&app).await;
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(wait)).await;
        drop(stream);
    }
    assert!(talk(&app, &post_of(&app, JSON, br#"{"name": "c"}"#)).await.ends_with('c'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_what_is_under_way_finish_and_takes_nothing_new() {
    let mut app = start().await;
    let mut stream = connect(&app).await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Half a request must not hold the stop up.
    let mut half = connect(&app).await;
    half.write_all(b"GET /things HTTP/1.1\r\nHo").await.unwrap();
    let started = Instant::now();
    app.stop().await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let answer = read(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    let address = app.base.trim_start_matches("http://").to_owned();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_what_is_wrong() {
    let app = start().await;
    let live = app.get("/health/live", "").await;
    assert_eq!((live.status, &live.body["status"]), (200, &"live".into()));
    eventually("readiness", async || {
        (app.get("/health/ready", "").await.status == 200).then_some(())
    })
    .await;
    let name = app.db.name();
    let away = format!(
        "ALTER DATABASE {name} ALLOW_CONNECTIONS false;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    );
    let postgres = app.db.owner_url().replace(&format!("/{name}"), "/postgres");
    let (client, connection) =
        tokio_postgres::connect(&postgres, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&away).await.unwrap();
    let told = eventually("the lack of a database", async || {
        let reply = app.get("/health/ready", "").await;
        (reply.status == 503).then_some(reply)
    })
    .await;
    assert!(told.text.contains("database"), "{}", told.text);
    assert_eq!(
        app.get("/health/live", "").await.status,
        200,
        "what lives and cannot work is not restarted"
    );
    client.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await.unwrap();
    eventually("recovery", async || {
        (app.get("/health/ready", "").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_prometheus_text() {
    let app = start().await;
    app.get("/things", "").await;
    let text = app.get("/metrics", "").await.text;
    assert!(text.contains("http_request_duration_seconds_bucket"), "{text}");
    assert!(
        text.contains(r#"route="/things""#) && text.contains(r#"service_info{service="kit""#),
        "{text}"
    );
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}
