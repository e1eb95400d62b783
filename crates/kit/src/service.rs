//! A service as the platform runs it: its schema, routes, consumers and tasks, started and stopped in the right order.

use std::{future::Future, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use axum::Router;
use hospital_contracts::TOPICS;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use utoipa::openapi::OpenApi;

use crate::{
    auth::{Authority, TokenSource},
    bus::{SharedBus, TopicSpec, kafka::KafkaBus, postgres::PostgresBus},
    clock::Clock,
    config::{BusConfig, BusKind, Config, Secret},
    consumer::{self, ConsumerSettings, dead_letter_topic},
    db::{Db, DbSettings},
    http::{Check, Edge, EdgeSettings, Health, ServerSettings, serve},
    idempotency,
    inbox::Consume,
    migrate::{self, Schema},
    outcome::{Broken, BrokenKind},
    relay::{self, RelaySettings},
    telemetry,
};

/// What every service is made from, built once.
#[derive(Clone)]
pub struct Context {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub db: Db,
    pub bus: SharedBus,
    pub authority: Arc<Authority>,
    /// Makes the tokens with which this service asks others.
    pub tokens: Arc<TokenSource>,
}

/// A background task: runs until the token is cancelled, then finishes what it holds and returns.
pub type Task =
    Box<dyn FnOnce(CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Boxes an async function as a [`Task`].
pub fn task<F>(run: impl FnOnce(CancellationToken) -> F + Send + 'static) -> Task
where
    F: Future<Output = ()> + Send + 'static,
{
    Box::new(move |stop| Box::pin(run(stop)))
}

/// One of the platform's services.
pub struct Service {
    pub schema: Schema,
    /// Its routes, state included, without health, metrics and documents, which every service has alike.
    pub routes: Router,
    pub openapi: OpenApi,
    pub consumers: Vec<Arc<dyn Consume>>,
    pub tasks: Vec<(&'static str, Task)>,
}

/// Makes a service from its context.
pub type Build = fn(&Context) -> Result<Service, Broken>;

impl Context {
    /// Builds the context of a service. Nothing is connected yet.
    pub fn new(config: Arc<Config>, schema: &'static str, clock: Clock) -> Result<Self, Broken> {
        let url = config
            .database_url_of(schema)
            .map_err(|e| Broken::defect("reading the settings", e))?;
        let mut settings = DbSettings::new(url, schema);
        settings.pool_size = config.pool_size_of(schema);
        let tokens = TokenSource::new(&config.auth, &clock, schema)?;
        Ok(Self {
            db: Db::new(&settings, clock.clone())?,
            bus: bus(&config, schema)?,
            authority: Arc::new(Authority::new(&config.auth, clock.clone())?),
            tokens: Arc::new(tokens),
            clock,
            config,
        })
    }
}

/// The bus that the settings name, as one service uses it.
pub fn bus(config: &Config, service: &str) -> Result<SharedBus, Broken> {
    let made: Result<SharedBus, _> = match config.bus.kind {
        BusKind::Kafka => {
            KafkaBus::new(&config.bus, &format!("hospital-{service}")).map(|b| Arc::new(b) as _)
        }
        BusKind::Postgres => {
            let own = config.bus.url.as_ref().map(Secret::expose);
            let url = own.map_or_else(|| config.database_url_of(service), Ok);
            let url = url.map_err(|e| Broken::defect("reading the settings", e))?;
            let role = migrate::role(service);
            PostgresBus::new(url, &format!("hospital-{service}-bus"), Some(&role))
                .map(|b| Arc::new(b) as _)
        }
    };
    made.map_err(|e| Broken::defect("making the bus", e))
}

/// The platform's topics, with the dead-letter topics of the given consumers' groups.
pub fn topics(bus: &BusConfig, consumers: &[Arc<dyn Consume>]) -> Vec<TopicSpec> {
    let retention = Some(Duration::from_secs(90 * 86_400));
    let dead = consumers.iter().flat_map(|c| {
        c.topics().iter().map(|topic| (dead_letter_topic(topic, c.group()), 1, None))
    });
    let live = TOPICS.iter().map(|topic| ((*topic).to_owned(), bus.partitions, retention));
    live.chain(dead)
        .map(|(name, partitions, retention)| TopicSpec { name, partitions, retention })
        .collect()
}

/// Runs a service on a listener until told to stop, then stops it politely: not ready, accept nothing new, drain requests, finish
/// batches, publish what is committed, close.
pub async fn run(
    context: Context,
    build: Build,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), Broken> {
    let service = build(&context)?;
    telemetry::announce(service.schema.name);
    await_schema(&service.schema, &context.db, &stop).await?;
    let http = context.config.http;
    let health = health(&context, &service.schema);
    let (handlers, background) = (TaskTracker::new(), TaskTracker::new());
    let edge_settings =
        EdgeSettings { handler_timeout: http.handler_timeout(), in_flight_max: http.in_flight_max };
    let edge = Edge::new(edge_settings, Arc::clone(&context.authority), handlers.clone());
    let routes = edge.around(service.routes, &service.openapi, health.clone());

    let (accepting, working) = (CancellationToken::new(), CancellationToken::new());
    let relaying = CancellationToken::new();
    let topics = topics(&context.config.bus, &service.consumers);
    background.spawn(ensure_topics(SharedBus::clone(&context.bus), topics, working.clone()));
    for consumer in service.consumers {
        let (db, bus) = (context.db.clone(), SharedBus::clone(&context.bus));
        background.spawn(consumer::run(
            db,
            bus,
            consumer,
            ConsumerSettings::default(),
            working.clone(),
        ));
    }
    for (name, task) in service.tasks {
        tracing::debug!(name, "task started");
        background.spawn(task(working.clone()));
    }
    background.spawn(forget(context.db.clone(), SharedBus::clone(&context.bus), working.clone()));
    let relays = TaskTracker::new();
    relays.spawn(relay_of(&context, relaying.clone()));
    let server_settings = ServerSettings {
        header_timeout: Duration::from_millis(http.header_timeout_ms),
        connections_max: http.connections_max,
        drain: Duration::from_millis(http.drain_ms),
    };
    tracing::info!(service = context.db.schema(), address = ?listener.local_addr().ok(), "serving");
    let server = serve(listener, routes, server_settings, accepting.clone());
    tokio::pin!(server);
    let served = tokio::select! {
        served = &mut server => served,
        () = stop.cancelled() => {
            health.begin_stopping();
            tokio::select! {
                served = &mut server => served,
                () = tokio::time::sleep(Duration::from_millis(http.unready_ms)) => {
                    accepting.cancel();
                    server.await
                }
            }
        }
    };
    handlers.close();
    finish("requests", &handlers, Duration::from_millis(http.drain_ms)).await;
    working.cancel();
    background.close();
    finish("background work", &background, Duration::from_secs(10)).await;
    relaying.cancel();
    relays.close();
    finish("the relay", &relays, Duration::from_secs(10)).await;
    context.db.close();
    tracing::info!(service = context.db.schema(), "stopped");
    served.map_err(|e| Broken::defect("serving", e))
}

fn relay_of(context: &Context, stop: CancellationToken) -> impl Future<Output = ()> + use<> {
    let retention_days = context.config.outbox.retention_days;
    let settings = RelaySettings { retention_days, ..RelaySettings::default() };
    relay::run(context.db.clone(), SharedBus::clone(&context.bus), settings, stop)
}

async fn finish(what: &str, tasks: &TaskTracker, patience: Duration) {
    if tokio::time::timeout(patience, tasks.wait()).await.is_err() {
        tracing::warn!(what, left = tasks.len(), "did not finish in time");
    }
}

/// Waits for the database; refuses a schema that this program does not know.
async fn await_schema(schema: &Schema, db: &Db, stop: &CancellationToken) -> Result<(), Broken> {
    loop {
        match schema.check(db).await {
            Err(e) if e.kind() == BrokenKind::Unavailable && !stop.is_cancelled() => {
                tracing::warn!(error = %e, "waiting for the database");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            other => return other,
        }
    }
}

fn health(context: &Context, schema: &Schema) -> Health {
    fn check<F>(look: impl Fn() -> F + Send + Sync + 'static) -> Check
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Arc::new(move || Box::pin(look()))
    }
    let (db, schema_db, bus) =
        (context.db.clone(), context.db.clone(), SharedBus::clone(&context.bus));
    let schema = schema.clone();
    Health::new(vec![
        (
            "database",
            check(move || {
                let db = db.clone();
                async move { db.ready().await.map_err(|_| "cannot be reached".to_owned()) }
            }),
        ),
        (
            "schema",
            check(move || {
                let (schema, db) = (schema.clone(), schema_db.clone());
                async move { schema.check(&db).await.map_err(|e| e.to_string()) }
            }),
        ),
        (
            "bus",
            check(move || {
                let bus = SharedBus::clone(&bus);
                async move { bus.ready().await.map_err(|e| e.to_string()) }
            }),
        ),
    ])
}

async fn ensure_topics(bus: SharedBus, topics: Vec<TopicSpec>, stop: CancellationToken) {
    while let Err(e) = bus.ensure_topics(&topics).await {
        tracing::warn!(error = %e, "the topics are not as they should be; looking again");
        // Whether the pause ends or the stop comes is looked at next.
        let _ = tokio::time::timeout(Duration::from_secs(1), stop.cancelled()).await;
        if stop.is_cancelled() {
            return;
        }
    }
}

/// Forgets old idempotency keys, and what is past the bus's retention, now and then.
async fn forget(db: Db, bus: SharedBus, stop: CancellationToken) {
    while tokio::time::timeout(Duration::from_secs(600), stop.cancelled()).await.is_err() {
        while matches!(idempotency::forget_old(&db).await, Ok(n) if n > 0) {}
        if let Err(e) = bus.maintain().await {
            tracing::warn!(error = %e, "the bus keeps what is past its retention for the moment");
        }
    }
}

/// The `main` of a service's own executable: settings from `--config FILE` and the environment, until SIGTERM or Ctrl-C.
pub fn main(schema: &'static str, build: Build) -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1);
    let file = match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => None,
        (Some("--config"), Some(path)) => Some(PathBuf::from(path)),
        _ => return fail(&"the only argument is --config FILE"),
    };
    let config = match Config::load(file.as_deref()) {
        Ok(config) => Arc::new(config),
        Err(e) => return fail(&e),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(&e),
    };
    match runtime.block_on(run_until_signal(config, schema, build)) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => fail(&e),
    }
}

#[expect(clippy::print_stderr, reason = "said before logging has started, or as the last word")]
fn fail(e: &dyn std::fmt::Display) -> std::process::ExitCode {
    eprintln!("{e}");
    std::process::ExitCode::FAILURE
}

/// Runs a service in this process until SIGTERM or Ctrl-C.
pub async fn run_until_signal(
    config: Arc<Config>,
    schema: &'static str,
    build: Build,
) -> Result<(), Broken> {
    telemetry::init(&config.log);
    let context = Context::new(Arc::clone(&config), schema, Clock::system())?;
    let address = config.listen_of(schema);
    let listener = TcpListener::bind(address).await.map_err(|e| {
        Broken::defect("listening", format!("{address}: {e}: is something else on this port?"))
    })?;
    let stop = CancellationToken::new();
    let run = run(context, build, listener, stop.clone());
    tokio::pin!(run);
    let failed = |e| Broken::defect("waiting for a signal", e);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(failed)?;
    tokio::select! {
        ended = &mut run => return ended,
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(failed)?,
    }
    stop.cancel();
    run.await
}
