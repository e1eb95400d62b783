//! A service as the platform runs it: its schema, routes, consumers and tasks, started and stopped in the right order.

mod command;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderName, HeaderValue},
    middleware::map_response,
    response::Response,
};
use hospital_contracts::TOPICS;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use utoipa::openapi::OpenApi;

pub use self::command::{main, raise_descriptors, run_until_signal, runtime};

use crate::{
    auth::{Authority, TokenSource},
    bus::{SharedBus, TopicSpec, kafka::KafkaBus, postgres::PostgresBus},
    clock::Clock,
    config::{BusConfig, BusKind, Config, HttpConfig, Secret},
    consumer::{self, ConsumerSettings},
    db::{Db, DbSettings},
    dead_letter::{self, dead_letter_topic},
    flow::{self, Standstill},
    http::{
        ANSWERED_BY, BodySettings, Check, Edge, EdgeSettings, Health, Need, ServerSettings, serve,
    },
    idempotency,
    inbox::Consume,
    jobs,
    maintenance::{self, Keep, Prune},
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
    /// The kinds of job that it has, with who works on them.
    pub jobs: Vec<jobs::Worker>,
    pub tasks: Vec<(&'static str, Task)>,
    /// What of its own tables is forgotten some day.
    pub prunes: Vec<Prune>,
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

/// The platform's topics, with the dead-letter topics of the given consumers' groups. A dead
/// letter's copy is kept no longer than other records: the ledger has it until somebody decides.
pub fn topics(bus: &BusConfig, consumers: &[Arc<dyn Consume>]) -> Vec<TopicSpec> {
    let retention = Some(bus.retention());
    let dead = consumers
        .iter()
        .flat_map(|c| c.topics().iter().map(|topic| (dead_letter_topic(topic, c.group()), 1)));
    let live = TOPICS.iter().map(|topic| ((*topic).to_owned(), bus.partitions));
    live.chain(dead).map(|(name, partitions)| TopicSpec { name, partitions, retention }).collect()
}

/// Where a service is asked.
pub struct Listeners {
    pub requests: TcpListener,
    /// For health and metrics alone, which are answered however much is asked of the other.
    pub probes: TcpListener,
}

/// Runs a service on its listeners until told to stop, then stops it politely: not ready, accept
/// nothing new, drain requests, finish
/// batches, publish what is committed, close.
pub async fn run(
    context: Context,
    build: Build,
    listeners: Listeners,
    stop: CancellationToken,
) -> Result<(), Broken> {
    let service = build(&context)?;
    telemetry::announce(service.schema.name);
    let http = &context.config.http;
    let (topics_state, topics_seen) = watch::channel(Err("not looked at yet".to_owned()));
    let (flowing, flow_seen) = watch::channel(Standstill::default());
    let health = health(&context, &service.schema, topics_seen, &flow_seen);
    let (handlers, background) = (TaskTracker::new(), TaskTracker::new());
    let probed = TaskTracker::new();
    // Until the last moment: who asks hears that this one stops, or waits for its database.
    let _probing = probe(&probed, listeners.probes, &health);
    await_schema(&service.schema, &context.db, &stop).await?;
    let (edge_settings, server_settings) = limits(http)?;
    let edge = Edge::new(edge_settings, Arc::clone(&context.authority), handlers.clone());
    let routes = signed(service.routes, service.schema.name);
    let routes = edge.around(routes, &service.openapi, health.clone());

    let (accepting, working) = (CancellationToken::new(), CancellationToken::new());
    let relaying = CancellationToken::new();
    let (bus, topics) =
        (SharedBus::clone(&context.bus), topics(&context.config.bus, &service.consumers));
    background.spawn(ensure_topics(bus, topics, topics_state, working.clone()));
    background.spawn(flow::run(
        context.db.clone(),
        SharedBus::clone(&context.bus),
        service.consumers.clone(),
        flowing,
        working.clone(),
    ));
    let keep = Keep::from(&*context.config);
    background.spawn(maintenance::run(context.db.clone(), keep, service.prunes, working.clone()));
    for consumer in service.consumers {
        consume(&background, &context, consumer, &working);
    }
    work_on_jobs(&background, &context.db, service.jobs, &working);
    for (name, task) in service.tasks {
        tracing::debug!(name, "task started");
        background.spawn(task(working.clone()));
    }
    background.spawn(forget(context.db.clone(), SharedBus::clone(&context.bus), working.clone()));
    let relays = TaskTracker::new();
    relays.spawn(relay_of(&context, relaying.clone()));
    let address = listeners.requests.local_addr().ok();
    tracing::info!(service = context.db.schema(), ?address, "serving");
    let server = serve(listeners.requests, routes, server_settings, accepting.clone());
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

/// The limits of the edge and of its listener.
fn limits(http: &HttpConfig) -> Result<(EdgeSettings, ServerSettings), Broken> {
    let trusted = http.trusted_networks().map_err(|e| Broken::defect("reading the settings", e))?;
    let trusted_proxies: Arc<[_]> = trusted.into();
    let edge = EdgeSettings {
        handler_timeout: http.handler_timeout(),
        body: BodySettings {
            timeout: Duration::from_millis(http.body_timeout_ms),
            bytes_per_s_min: http.body_bytes_per_s_min,
            ..BodySettings::default()
        },
        in_flight_max: http.in_flight_max,
        in_flight_per_subject_max: http.in_flight_per_subject(),
        in_flight_per_address_max: http.in_flight_per_address(),
        trusted_proxies: Arc::clone(&trusted_proxies),
    };
    let server = ServerSettings {
        header_timeout: Duration::from_millis(http.header_timeout_ms),
        connections_max: http.connections_max,
        connections_per_address_max: http.connections_per_address(),
        trusted_proxies,
        drain: Duration::from_millis(http.drain_ms),
    };
    Ok((edge, server))
}

/// Answers probes until the guard is dropped.
fn probe(tasks: &TaskTracker, listener: TcpListener, health: &Health) -> DropGuard {
    let (stop, routes) = (CancellationToken::new(), health.clone().routes());
    let settings = ServerSettings {
        header_timeout: Duration::from_secs(2),
        connections_max: 64,
        connections_per_address_max: 64,
        drain: Duration::from_secs(1),
        ..ServerSettings::default()
    };
    let until = stop.clone();
    tasks.spawn(async move {
        if let Err(e) = serve(listener, routes, settings, until).await {
            tracing::error!(error = %e, "probes are not answered any more");
        }
    });
    stop.drop_guard()
}

/// A consumer, with the redelivery of its dead letters.
fn consume(
    background: &TaskTracker,
    context: &Context,
    consumer: Arc<dyn Consume>,
    stop: &CancellationToken,
) {
    let (db, bus) = (context.db.clone(), SharedBus::clone(&context.bus));
    let redelivered = Arc::clone(&consumer);
    background.spawn(dead_letter::run(
        db.clone(),
        SharedBus::clone(&bus),
        redelivered,
        stop.clone(),
    ));
    let settings = ConsumerSettings {
        remembers: context.config.retention.inbox_remembers(),
        ..ConsumerSettings::default()
    };
    background.spawn(consumer::run(db, bus, consumer, settings, stop.clone()));
}

/// Each kind has a worker of its own, so that none waits for another.
fn work_on_jobs(
    background: &TaskTracker,
    db: &Db,
    workers: Vec<jobs::Worker>,
    stop: &CancellationToken,
) {
    if workers.is_empty() {
        return;
    }
    let kinds = workers.iter().map(jobs::Worker::kind).collect();
    background.spawn(jobs::measure(db.clone(), kinds, stop.clone()));
    for worker in workers {
        background.spawn(jobs::run(db.clone(), worker, stop.clone()));
    }
}

fn relay_of(context: &Context, stop: CancellationToken) -> impl Future<Output = ()> + use<> {
    let bus = SharedBus::clone(&context.bus);
    relay::run(context.db.clone(), bus, RelaySettings::default(), stop)
}

/// Has every answer of these routes say whose it is. An address that is none of them stays
/// unsigned.
fn signed(routes: Router, name: &'static str) -> Router {
    if !routes.has_routes() {
        return routes;
    }
    routes.route_layer(map_response(move |mut answer: Response| {
        let by = HeaderName::from_static(ANSWERED_BY);
        answer.headers_mut().insert(by, HeaderValue::from_static(name));
        std::future::ready(answer)
    }))
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

/// What is known of the topics: as they should be, or what is wrong.
type TopicsState = Result<(), String>;

fn health(
    context: &Context,
    schema: &Schema,
    topics: watch::Receiver<TopicsState>,
    flow: &watch::Receiver<Standstill>,
) -> Health {
    fn check<F>(look: impl Fn() -> F + Send + Sync + 'static) -> Check
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Arc::new(move || Box::pin(look()))
    }
    let (db, schema_db, bus) =
        (context.db.clone(), context.db.clone(), SharedBus::clone(&context.bus));
    let schema = schema.clone();
    let database = check(move || {
        let db = db.clone();
        async move { db.ready().await.map_err(|_| "cannot be reached".to_owned()) }
    });
    let schema = check(move || {
        let (schema, db) = (schema.clone(), schema_db.clone());
        async move { schema.check(&db).await.map_err(|e| e.to_string()) }
    });
    let bus = check(move || {
        let bus = SharedBus::clone(&bus);
        async move { bus.ready().await.map_err(|e| e.to_string()) }
    });
    let topics = check(move || {
        let state = topics.borrow().clone();
        async move { state }
    });
    let flows = |what: fn(&Standstill) -> &Option<String>| {
        let flow = flow.clone();
        check(move || {
            let still = what(&flow.borrow()).clone();
            async move { still.map_or(Ok(()), Err) }
        })
    };
    let authority = Arc::clone(&context.authority);
    let keys = check(move || {
        let known = authority.keys_are_known();
        async move { known }
    });
    // Events wait in the outbox while the bus is away.
    Health::new(vec![
        ("database", Need::Always, database),
        ("schema", Need::Always, schema),
        ("bus", Need::ToStart, bus),
        ("topics", Need::ToStart, topics),
        ("events", Need::ForSome, flows(|still| &still.events)),
        ("consumers", Need::ForSome, flows(|still| &still.consumers)),
        ("maintenance", Need::ForSome, flows(|still| &still.maintenance)),
        ("keys", Need::ForSome, keys),
    ])
}

async fn ensure_topics(
    bus: SharedBus,
    topics: Vec<TopicSpec>,
    state: watch::Sender<TopicsState>,
    stop: CancellationToken,
) {
    while let Err(e) = bus.ensure_topics(&topics).await {
        tracing::warn!(error = %e, "the topics are not as they should be; looking again");
        drop(state.send_replace(Err(e.to_string())));
        // Whether the pause ends or the stop comes is looked at next.
        let _ = tokio::time::timeout(Duration::from_secs(1), stop.cancelled()).await;
        if stop.is_cancelled() {
            return;
        }
    }
    drop(state.send_replace(Ok(())));
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
