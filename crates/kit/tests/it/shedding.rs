//! Overload: what is beyond the limit is refused at once, and what is accepted is as quick as ever.

use std::time::{Duration, Instant};

use axum::{Router, routing::post};
use futures_util::future::join_all;
use hospital_kit::{
    migrate::Schema,
    outcome::Broken,
    service::{Context, Service},
};
use hospital_testkit::{Response, TestApp, eventually};
use hospital_types::Role;
use serde_json::Value;

const SLOW: Duration = Duration::from_millis(150);
const DEADLINE: Duration = Duration::from_millis(1000);
const AT_ONCE: usize = 4;

fn slow(_: &Context) -> Result<Service, Broken> {
    let work = async || {
        tokio::time::sleep(SLOW).await;
        "done"
    };
    Ok(Service {
        schema: schema(),
        routes: Router::new().route("/slow", post(work)),
        openapi: hospital_kit::http::with_docs(
            utoipa_axum::router::OpenApiRouter::<()>::new(),
            "Slow",
            "Slow.",
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

async fn timed(app: &TestApp) -> (Response, Duration) {
    let started = Instant::now();
    let answer = app.post("/slow", &app.token(&[Role::FrontDesk]), &Value::Null).await;
    (answer, started.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_limit_requests_are_shed_and_the_accepted_ones_meet_their_deadline() {
    let app = TestApp::start(schema(), slow, |config| {
        config.http.in_flight_max = AT_ONCE;
        config.http.handler_timeout_ms = u64::try_from(DEADLINE.as_millis()).unwrap();
    })
    .await;
    for _ in 0..3 {
        let answers = join_all((0..64).map(|_| timed(&app))).await;
        let (done, shed): (Vec<_>, Vec<_>) = answers.iter().partition(|(a, _)| a.status == 200);
        // Those that came when the first were done may have been accepted too.
        assert!(done.len() >= AT_ONCE && shed.len() >= 32, "{} done", done.len());
        for (answer, took) in done {
            assert!(*took < DEADLINE, "{took:?} for {}", answer.text);
        }
        for (answer, _) in shed {
            assert_eq!((answer.status, answer.code()), (503, "overloaded"), "{}", answer.text);
            assert_eq!(answer.headers["retry-after"], "1");
        }
        let (answer, took) = timed(&app).await;
        assert_eq!(answer.status, 200, "after the storm: {}", answer.text);
        assert!(took < DEADLINE, "{took:?}");
    }
    let told = app.get("/metrics", "").await.text;
    assert!(told.contains("http_requests_shed_total"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_figures_are_answered_in_the_middle_of_an_overload() {
    let app = TestApp::start(schema(), slow, |config| config.http.in_flight_max = 1).await;
    eventually("readiness", async || {
        (app.get("/health/ready", "").await.status == 200).then_some(())
    })
    .await;
    let storm = join_all((0..16).map(|_| timed(&app)));
    let looks = async {
        for path in ["/health/live", "/health/ready", "/metrics"] {
            assert_eq!(app.get(path, "").await.status, 200, "{path}");
        }
    };
    let (answers, ()) = tokio::join!(storm, looks);
    assert!(answers.iter().any(|(answer, _)| answer.status == 503), "it was one");
}
