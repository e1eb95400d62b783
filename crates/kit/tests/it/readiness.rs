//! Readiness while the bus is away, which a service that has started does without. Its bus is in another database than its own here.

use axum::{Router, routing::get};
use hospital_kit::{
    migrate::Schema,
    outcome::Broken,
    service::{Context, Service},
};
use hospital_testkit::{Response, TestApp, bus_apart, eventually};

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
        consumers: Vec::new(),
        tasks: Vec::new(),
    })
}

fn schema() -> Schema {
    Schema { name: "kit", migrations: Vec::new() }
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
