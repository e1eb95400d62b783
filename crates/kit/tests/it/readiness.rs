//! Readiness while the bus is away, which a service that has started does without. Its bus is in another database than its own here.

use std::sync::Arc;

use async_trait::async_trait;
use axum::{Router, routing::get};
use hospital_contracts::CloudEvent;
use hospital_kit::{
    db::Tx,
    inbox::{Consume, Poison},
    migrate::Schema,
    outcome::{Broken, Outcome},
    service::{Context, Service},
};
use hospital_testkit::{Response, TestApp, bus_apart, eventually};

/// Hears of patients, as the group of its service, and does nothing.
struct Idle;

#[async_trait]
impl Consume for Idle {
    fn group(&self) -> &'static str {
        "patient"
    }
    fn topics(&self) -> &'static [&'static str] {
        &["patient.registered"]
    }
    async fn apply(&self, _: &mut Tx<Poison>, _: &[&CloudEvent]) -> Outcome<(), Poison> {
        Ok(())
    }
}

fn nothing(_: &Context) -> Result<Service, Broken> {
    Ok(Service {
        schema: schema(),
        routes: Router::new().route("/things", get(async || "things")),
        openapi: hospital_kit::http::with_docs(
            utoipa_axum::router::OpenApiRouter::<()>::new(),
            "Things",
            "Things.",
        )
        .1,
        consumers: vec![Arc::new(Idle)],
        jobs: Vec::new(),
        tasks: Vec::new(),
        prunes: Vec::new(),
    })
}

/// Called as the service whose events these are: nobody else may publish them.
fn schema() -> Schema {
    Schema { name: "patient", migrations: Vec::new(), rights: &[] }
}

async fn ready(base: &str) -> Response {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    hospital_testkit::read(http.get(format!("{base}/health/ready"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_starts_only_with_the_bus_and_then_stays_ready_without_it() {
    let (bus, url) = bus_apart(&schema()).await;
    let app = TestApp::start(schema(), nothing, |config| config.bus.url = Some(url)).await;
    let told = async |base: &str, status: u16, word: &str| {
        eventually(&format!("{status} {word}"), async || {
            let answer = ready(base).await;
            (answer.status == status && answer.body["status"] == word).then_some(answer)
        })
        .await
    };
    told(&app.base, 200, "ready").await;
    bus.shut().await.unwrap();
    let degraded = told(&app.base, 200, "degraded").await;
    assert_ne!(degraded.body["checks"]["bus"], "ok");
    assert_eq!(degraded.body["checks"]["database"], "ok");
    assert_eq!(app.get("/things", "").await.status, 200, "requests are served meanwhile");

    // One that has never seen the bus does not know whether its settings are right.
    let fresh = app.replica(nothing).await;
    let not_ready = told(&fresh.base, 503, "not-ready").await;
    assert_ne!(not_ready.body["checks"]["topics"], "ok");

    bus.open().await.unwrap();
    told(&app.base, 200, "ready").await;
    told(&fresh.base, 200, "ready").await;
    fresh.stop().await;
}

/// What `/metrics` says of a name.
async fn metric(base: &str, name: &str) -> Option<f64> {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let text = hospital_testkit::read(http.get(format!("{base}/metrics"))).await.text;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_do_not_flow_degrade_readiness_and_are_told() {
    let (bus, url) = bus_apart(&schema()).await;
    let app = TestApp::start(schema(), nothing, |config| config.bus.url = Some(url)).await;
    eventually("it to be ready", async || {
        (ready(&app.base).await.body["status"] == "ready").then_some(())
    })
    .await;
    eventually("the lag to be told", async || {
        let lag = "consumer_lag_records{group=\"patient\",topic=\"patient.registered\"}";
        (metric(&app.base, lag).await == Some(0.0)).then_some(())
    })
    .await;
    eventually("maintenance to be told", async || {
        let done = metric(&app.base, "maintenance_last_time_seconds{end=\"done\"}").await;
        (done > Some(1e9)).then_some(())
    })
    .await;

    bus.shut().await.unwrap();
    app.db
        .execute(
            "INSERT INTO patient.outbox (event_id, topic, event_type, aggregate, version, subject, payload, unit, actor, created_at)
             VALUES (gen_random_uuid(), 'patient.registered', 'patient.registered.v1', gen_random_uuid(), 1, gen_random_uuid(), '{}',
                     'test', 'test', now() - interval '10 minutes')",
        )
        .await
        .unwrap();
    let told = eventually("the event to be missed", async || {
        let answer = ready(&app.base).await;
        (answer.body["checks"]["events"] != "ok").then_some(answer)
    })
    .await;
    assert_eq!((told.status, &told.body["status"]), (200, &"degraded".into()), "{}", told.text);
    let why = told.body["checks"]["events"].as_str().unwrap();
    assert!(why.starts_with("the oldest unpublished event is 6"), "{why}");
    // Other tests' services measure themselves in this process too.
    eventually("its age to be measured", async || {
        let age = metric(&app.base, "outbox_oldest_unpublished_seconds").await;
        (age >= Some(600.0)).then_some(())
    })
    .await;

    bus.open().await.unwrap();
    eventually("events to flow", async || {
        (ready(&app.base).await.body["status"] == "ready").then_some(())
    })
    .await;
}
