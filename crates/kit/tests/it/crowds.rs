//! Clients that take more than their part, by malice or by mistake: everybody else is served
//! meanwhile.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, routing::post};
use futures_util::future::join_all;
use hospital_kit::{
    http::{Allowed, AnyRole, Body, Problem},
    migrate::Schema,
    outcome::Broken,
    service::{Context, Service, raise_descriptors},
};
use hospital_testkit::{Response, TestApp, eventually};
use hospital_types::Role;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
};

/// What those wait for who are let in, a test each.
static BY_SUBJECT: Semaphore = Semaphore::const_new(0);
static BY_ADDRESS: Semaphore = Semaphore::const_new(0);

async fn pass(gate: &Semaphore) -> &'static str {
    gate.acquire().await.unwrap().forget();
    "done"
}

async fn make(_: Allowed<AnyRole>, body: Body<Value>) -> Result<&'static str, Problem> {
    body.parse()?;
    Ok("made")
}

fn things(_: &Context) -> Result<Service, Broken> {
    let by_subject = async |_: Allowed<AnyRole>| pass(&BY_SUBJECT).await;
    let by_address = async |_: Allowed<AnyRole>| pass(&BY_ADDRESS).await;
    let routes = Router::new()
        .route("/things", post(make))
        .route("/by-subject", post(by_subject))
        .route("/by-address", post(by_address))
        .route("/for-ever", post(async |_: Allowed<AnyRole>| std::future::pending::<()>().await));
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

async fn connect(base: &str) -> TcpStream {
    TcpStream::connect(base.trim_start_matches("http://")).await.unwrap()
}

/// What the server sends until it closes.
async fn read(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset ends it as well as a close does; what came is the answer.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Everybody else, over connections of their own: served, and soon.
async fn others_are_served(app: &TestApp) {
    let ann = app.sign("ann", &[Role::FrontDesk], None);
    // A client that keeps no connection: each of these is a new one.
    let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
    let http = http.timeout(Duration::from_secs(10)).build().unwrap();
    let made = http.post(format!("{}/things", app.base)).bearer_auth(&ann).json(&json!({}));
    let made = hospital_testkit::read(made).await;
    assert_eq!(made.status, 200, "{}", made.text);
    for base in [&app.base, &app.probes] {
        for path in ["/health/live", "/health/ready", "/metrics"] {
            let looked = hospital_testkit::read(http.get(format!("{base}{path}"))).await;
            assert_eq!(looked.status, 200, "{base}{path}: {}", looked.text);
        }
    }
}

async fn ready(app: &TestApp) {
    eventually("readiness", async || {
        (app.get("/health/ready", "").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_keep_nobody_else_out_and_are_not_waited_for() {
    let app = TestApp::start(schema(), things, |config| {
        config.http.in_flight_max = 16;
        // Those that drip are fast enough, and still have to come to an end.
        config.http.body_bytes_per_s_min = 1;
    })
    .await;
    ready(&app).await;
    let mallory = app.sign("mallory", &[Role::Patient], None);
    let mut slow = JoinSet::new();
    for n in 0..24 {
        let mut stream = connect(&app.base).await;
        let head = format!(
            "POST /things HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {mallory}\r\n\
             Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.spawn(async move {
            let started = Instant::now();
            let (mut from, mut to) = stream.split();
            let drip = async {
                // Half of them in silence, half of them a byte each half second.
                while n % 2 == 0 || to.write_all(b" ").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                std::future::pending::<()>().await;
            };
            let mut answer = [0; 4096];
            let heard = tokio::select! {
                heard = from.read(&mut answer) => heard.unwrap(),
                () = drip => 0,
            };
            (String::from_utf8_lossy(&answer[..heard]).into_owned(), started.elapsed())
        });
    }
    let mut rounds = 0;
    let mut ended = Vec::new();
    while !slow.is_empty() {
        others_are_served(&app).await;
        rounds += 1;
        while let Some(one) = slow.try_join_next() {
            ended.push(one.unwrap());
        }
    }
    assert!(rounds > 1, "they were served once only");
    // Fourteen of sixteen are one subject's share.
    let count = |status: &str| ended.iter().filter(|(text, _)| text.starts_with(status)).count();
    assert_eq!((count("HTTP/1.1 408"), count("HTTP/1.1 429")), (14, 10), "{ended:?}");
    for (answer, took) in &ended {
        assert!(*took < Duration::from_secs(20), "{took:?}: {answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    let told = app.get("/metrics", "").await.text;
    for by in ["rate", "subject"] {
        assert!(told.contains(&format!("http_requests_limited_total{{by=\"{by}\"}}")), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_heads_keep_nobody_else_out_however_often_they_are_renewed() {
    const HALF_SENT: usize = 1300;
    raise_descriptors();
    // So long that only room for others ends one of them.
    let app = TestApp::start(schema(), things, |c| c.http.header_timeout_ms = 60_000).await;
    ready(&app).await;
    let (mut attack, arrived) = (JoinSet::new(), Arc::new(Semaphore::new(0)));
    for _ in 0..HALF_SENT {
        let (base, arrived) = (app.base.clone(), Arc::clone(&arrived));
        attack.spawn(async move {
            loop {
                let mut stream = connect(&base).await;
                // One that was closed at once is renewed like the others.
                let _ = stream.write_all(b"POST /things HTTP/1.1\r\nHo").await;
                arrived.add_permits(1);
                read(&mut stream).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }
    let all = u32::try_from(HALF_SENT).unwrap();
    let reached = tokio::time::timeout(Duration::from_secs(60), arrived.acquire_many(all)).await;
    assert!(
        reached.is_ok(),
        "the half-sent ones are not accepted: {}",
        arrived.available_permits()
    );
    for _ in 0..10 {
        others_are_served(&app).await;
    }
    let told = app.get("/metrics", "").await.text;
    assert!(told.contains("http_connections_limited_total"), "{told}");
    attack.shutdown().await;
}

fn count(answers: &[Response], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_subjects_requests_leave_room_for_others() {
    let app = TestApp::start(schema(), things, |config| {
        config.http.in_flight_max = 128;
        config.http.handler_timeout_ms = 60_000;
    })
    .await;
    ready(&app).await;
    let mallory = app.sign("mallory", &[Role::Patient], None);
    let storm = join_all((0..130).map(|_| app.post_empty("/by-subject", &mallory)));
    let others = async {
        eventually("the storm's excess to be sent away", async || {
            let told = app.get("/metrics", "").await.text;
            told.contains("http_requests_limited_total{by=\"subject\"} 18").then_some(())
        })
        .await;
        for _ in 0..5 {
            others_are_served(&app).await;
        }
        BY_SUBJECT.add_permits(112);
    };
    let (answers, ()) = tokio::join!(storm, others);
    assert_eq!((count(&answers, 200), count(&answers, 429)), (112, 18));
    for answer in answers.iter().filter(|answer| answer.status == 429) {
        assert_eq!(
            (answer.code(), &answer.headers["retry-after"]),
            ("too-many-requests", &"1".parse().unwrap())
        );
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    BY_SUBJECT.add_permits(1);
    assert_eq!(
        app.post_empty("/by-subject", &mallory).await.status,
        200,
        "the share is free again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_leaves_room_for_others() {
    let app = TestApp::start(schema(), things, |config| {
        config.http.in_flight_max = 16;
        config.http.handler_timeout_ms = 60_000;
    })
    .await;
    let tokens: Vec<_> =
        (0..20).map(|n| app.sign(&format!("m{n}"), &[Role::Patient], None)).collect();
    let storm = join_all(tokens.iter().map(|token| app.post_empty("/by-address", token)));
    let others = async {
        eventually("the storm's excess to be sent away", async || {
            let told = app.get("/metrics", "").await.text;
            told.contains("http_requests_limited_total{by=\"address\"} 5").then_some(())
        })
        .await;
        let ann = app.sign("ann", &[Role::FrontDesk], None);
        let from = async |last: u8, token: &str| {
            let address = IpAddr::from([127, 0, 0, last]);
            let http = reqwest::Client::builder().no_proxy().local_address(address);
            let made = http.build().unwrap().post(format!("{}/things", app.base));
            hospital_testkit::read(made.bearer_auth(token).json(&json!({}))).await.status
        };
        assert_eq!((from(1, &ann).await, from(2, &ann).await), (429, 200));
        let service = app.sign("system:appointment", &[Role::Service], None);
        assert_eq!(from(1, &service).await, 200, "a service asks for everybody");
        BY_ADDRESS.add_permits(15);
    };
    let (answers, ()) = tokio::join!(storm, others);
    assert_eq!((count(&answers, 200), count(&answers, 429)), (15, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered_to_the_end() {
    let mut app = TestApp::start(schema(), things, |config| {
        config.http.handler_timeout_ms = 2000;
        config.http.drain_ms = 2000;
    })
    .await;
    ready(&app).await;
    let ann = app.sign("ann", &[Role::FrontDesk], None);
    // Under way until its deadline, and in the way of a stop until then.
    let mut stream = connect(&app.base).await;
    let request = format!(
        "POST /for-ever HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ann}\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let (base, probes) = (app.base.clone(), app.probes.clone());
    let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    let looks = async {
        eventually("the listener to close", async || {
            TcpStream::connect(base.trim_start_matches("http://")).await.is_err().then_some(())
        })
        .await;
        let live = hospital_testkit::read(http.get(format!("{probes}/health/live"))).await;
        let ready = hospital_testkit::read(http.get(format!("{probes}/health/ready"))).await;
        (live.status, ready.status, ready.body["status"].clone())
    };
    let ((), looked) = tokio::join!(app.stop(), looks);
    assert_eq!(looked, (200, 503, "stopping".into()));
}
