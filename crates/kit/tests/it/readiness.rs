//! Readiness while the bus is away, which a service that has started does without. Its bus is in another database than its own here.

use axum::{Router, routing::get};
use hospital_kit::{
    bus::postgres,
    config::Secret,
    migrate::Schema,
    outcome::Broken,
    service::{Context, Service},
};
use hospital_testkit::{Response, TestApp, TestDb, database_from, eventually};
use tokio_postgres::{Client, NoTls};

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

async fn session(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Lets nobody into a database and puts out who is in, or lets them in again.
async fn open(db: &TestDb, open: bool) {
    let name = db.name();
    let admin = session(&db.owner_url().replace(&format!("/{name}"), "/postgres")).await;
    let sql = format!(
        "ALTER DATABASE {name} ALLOW_CONNECTIONS {open};
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND NOT {open}"
    );
    admin.batch_execute(&sql).await.unwrap();
}

async fn ready(base: &str) -> Response {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    hospital_testkit::read(http.get(format!("{base}/health/ready"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_starts_only_with_the_bus_and_then_stays_ready_without_it() {
    // The role belongs to the whole cluster, and this makes it if no other test did.
    let bus = database_from("a bus alone", async |url| {
        schema().migrate(&url, Some("secret")).await?;
        postgres::install(&url, &[schema().role()]).await?;
        Ok(())
    })
    .await
    .unwrap();
    let app = TestApp::start(schema(), nothing, |config| {
        config.bus.url = Some(Secret::new(bus.url_as("hospital_kit", "secret")));
    })
    .await;
    let told = async |base: &str, status: u16, word: &str| {
        eventually(&format!("{status} {word}"), async || {
            let answer = ready(base).await;
            (answer.status == status && answer.body["status"] == word).then_some(answer)
        })
        .await
    };
    told(&app.base, 200, "ready").await;
    open(&bus, false).await;
    let degraded = told(&app.base, 200, "degraded").await;
    assert_ne!(degraded.body["checks"]["bus"], "ok");
    assert_eq!(degraded.body["checks"]["database"], "ok");
    assert_eq!(app.get("/things", "").await.status, 200, "requests are served meanwhile");

    // One that has never seen the bus does not know whether its settings are right.
    let fresh = app.replica(nothing).await;
    let not_ready = told(&fresh.base, 503, "not-ready").await;
    assert_ne!(not_ready.body["checks"]["topics"], "ok");

    open(&bus, true).await;
    told(&app.base, 200, "ready").await;
    told(&fresh.base, 200, "ready").await;
    fresh.stop().await;
}
