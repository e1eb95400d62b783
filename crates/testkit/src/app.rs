//! A service in this process, on a database of its own and the PostgreSQL bus.

use std::{sync::Arc, time::Duration};

use hospital_contracts::DomainEvent;
use hospital_kit::{
    auth::{Claims, SigningKey},
    bus::{Position, Received, Record, SharedBus, postgres},
    clock::Clock,
    config::{Config, Secret},
    migrate::Schema,
    service::{self, Build, Context, Listeners},
    telemetry,
};
use hospital_types::{EventId, PatientId, PractitionerId, Role, Roles};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Commits, TestDb, database::owner_url_of, database_from, empty_database_with, eventually,
    make_topics,
};

/// The password of every service's role in tests.
const PASSWORD: &str = "secret";

/// A database with the PostgreSQL bus and nothing else, so that the bus can be away while the service's own database is there; and the
/// setting with which a service uses it.
///
/// # Panics
/// When it cannot be made.
pub async fn bus_apart(schema: &Schema) -> (TestDb, Secret) {
    let db = database_from(&format!("bus of {}", schema.name), async |url| {
        // It makes the role, which is the whole cluster's, if nobody has yet.
        schema.migrate(&url, Some(PASSWORD)).await?;
        postgres::install(&url, &[schema.role()]).await?;
        Ok(())
    })
    .await
    .expect("the bus's database can be made");
    let url = Secret::new(db.url_as(&schema.role(), PASSWORD));
    (db, url)
}

/// A database with a service's schema and the PostgreSQL bus.
async fn database(commits: Commits, schema: &Schema) -> anyhow::Result<TestDb> {
    let fill = async |url: String| {
        schema.migrate(&url, Some(PASSWORD)).await?;
        postgres::install(&url, &[schema.role()]).await?;
        Ok(())
    };
    if commits == Commits::Slow {
        let db = empty_database_with(commits).await?;
        fill(db.owner_url()).await?;
        return Ok(db);
    }
    // Not the bare name: a suite may have a template of its own called after the schema, without the bus.
    database_from(&format!("app {}", schema.name), fill).await
}

/// A running service and a client of it.
pub struct TestApp {
    pub db: TestDb,
    pub context: Context,
    pub base: String,
    outside: SharedBus,
    /// Where it is probed.
    pub probes: String,
    key: SigningKey,
    http: reqwest::Client,
    stop: CancellationToken,
    run: Option<JoinHandle<()>>,
    group: &'static str,
    _dir: tempfile::TempDir,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Response {
    /// The problem's code, or nothing.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// The resource's id.
    ///
    /// # Panics
    /// When there is none.
    pub fn id(&self) -> &str {
        self.body["id"].as_str().unwrap_or_else(|| panic!("no id in {}", self.text))
    }
}

/// A second process of a service; see [`TestApp::replica`].
pub struct Replica {
    pub base: String,
    stop: DropGuard,
    run: JoinHandle<()>,
}

impl Replica {
    /// Stops it politely and waits for its end.
    ///
    /// # Panics
    /// When it does not end in ten seconds.
    pub async fn stop(self) {
        drop(self.stop);
        let ended = tokio::time::timeout(Duration::from_secs(10), self.run).await;
        assert!(ended.is_ok(), "the replica did not stop in ten seconds");
    }
}

impl TestApp {
    /// Starts a service; `configure` may change its settings.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(schema: Schema, build: Build, configure: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(Commits::Fast, schema, build, configure).await
    }

    /// Starts a service whose database commits like this.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_on(
        commits: Commits,
        schema: Schema,
        build: Build,
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let made = async {
            let db = database(commits, &schema).await?;
            Self::try_start(db, schema, build, configure).await
        };
        made.await.expect("the service starts")
    }

    async fn try_start(
        db: TestDb,
        schema: Schema,
        build: Build,
        configure: impl FnOnce(&mut Config),
    ) -> anyhow::Result<Self> {
        hospital_kit::client::install_tls_provider();
        let name = schema.name;
        let dir = tempfile::tempdir()?;
        let key_path = dir.path().join("key.pem");
        let key = SigningKey::generate()?;
        key.save(&key_path)?;
        let mut config = Config {
            database_url: Some(Secret::new(db.url_as(&schema.role(), PASSWORD))),
            ..Config::default()
        };
        config.auth.signing_key_file = Some(key_path);
        config.notification.mailbox_dir = dir.path().join("mailbox");
        config.log.level = "warn".to_owned();
        config.http.drain_ms = 500;
        // Crowds are let in: a machine that does much else would shed some of them.
        config.http.in_flight_max = 1000;
        configure(&mut config);
        telemetry::init(&config.log);
        let clock = Clock::system();
        let bus_url = match &config.bus.url {
            Some(url) => owner_url_of(url.expose())?,
            None => db.owner_url(),
        };
        let outside = Arc::new(postgres::PostgresBus::new(&bus_url, "test-bus", None)?);
        let context = Context::new(Arc::new(config), name, clock)?;
        let mut app = Self {
            db,
            context,
            base: String::new(),
            outside,
            probes: String::new(),
            key,
            http: reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .build()?,
            stop: CancellationToken::new(),
            run: None,
            group: name,
            _dir: dir,
        };
        app.launch(build).await?;
        Ok(app)
    }

    async fn launch(&mut self, build: Build) -> anyhow::Result<()> {
        let listeners = listeners().await?;
        self.base = format!("http://{}", listeners.requests.local_addr()?);
        self.probes = format!("http://{}", listeners.probes.local_addr()?);
        let (context, stop) = (self.context.clone(), self.stop.clone());
        let consumers = build(&context)?.consumers;
        let topics = service::topics(&context.config.bus, &consumers);
        make_topics(&*self.context.bus, &topics).await;
        #[expect(clippy::disallowed_methods, reason = "stopped when the app is dropped")]
        let run = tokio::spawn(async move {
            if let Err(e) = service::run(context, build, listeners, stop).await {
                tracing::error!(error = %e, "the service ended");
            }
        });
        self.run = Some(run);
        Ok(())
    }

    /// Stops the service politely and waits for its end.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(run) = self.run.take() {
            let ended = tokio::time::timeout(Duration::from_secs(10), run).await;
            assert!(ended.is_ok(), "the service did not stop in ten seconds");
        }
    }

    /// Another process of the same service, as far as the database and the bus can tell. It ends when it is dropped.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn replica(&self, build: Build) -> Replica {
        let (stop, config) = (CancellationToken::new(), Arc::clone(&self.context.config));
        let context = Context::new(config, self.group, Clock::system())
            .expect("the settings are the first's");
        let listeners = listeners().await.expect("ports are free");
        let base = format!("http://{}", listeners.requests.local_addr().expect("it is bound"));
        let until = stop.clone();
        #[expect(clippy::disallowed_methods, reason = "stopped when the replica is dropped")]
        let run = tokio::spawn(async move {
            if let Err(e) = service::run(context, build, listeners, until).await {
                tracing::error!(error = %e, "the replica ended");
            }
        });
        Replica { base, stop: stop.drop_guard(), run }
    }

    pub fn clock(&self) -> &Clock {
        &self.context.clock
    }

    /// A token with these roles.
    pub fn token(&self, roles: &[Role]) -> String {
        let subject = roles.first().map_or("nobody", |role| role.as_str());
        self.sign(subject, roles, None)
    }

    /// A patient's own token.
    pub fn patient_token(&self, patient: PatientId) -> String {
        self.sign(&format!("patient-{patient}"), &[Role::Patient], Some(patient))
    }

    /// A token for a named subject.
    pub fn sign(&self, subject: &str, roles: &[Role], patient: Option<PatientId>) -> String {
        self.sign_claims(&Claims {
            subject: subject.to_owned(),
            roles: Roles::of(roles),
            patient,
            practitioner: None,
        })
    }

    /// A practitioner's own token.
    pub fn practitioner_token(&self, practitioner: PractitionerId) -> String {
        self.sign_claims(&Claims {
            subject: format!("practitioner-{practitioner}"),
            roles: Roles::of(&[Role::Practitioner]),
            patient: None,
            practitioner: Some(practitioner),
        })
    }

    fn sign_claims(&self, claims: &Claims) -> String {
        self.key.sign(claims, Duration::from_secs(3600)).expect("the key signs")
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub async fn get(&self, path: &str, token: &str) -> Response {
        read(self.request(Method::GET, path).bearer_auth(token)).await
    }

    pub async fn post(&self, path: &str, token: &str, body: &Value) -> Response {
        read(self.request(Method::POST, path).bearer_auth(token).json(body)).await
    }

    /// Posts without a body.
    pub async fn post_empty(&self, path: &str, token: &str) -> Response {
        read(self.request(Method::POST, path).bearer_auth(token)).await
    }

    pub async fn post_keyed(&self, path: &str, token: &str, key: &str, body: &Value) -> Response {
        let request = self.request(Method::POST, path).bearer_auth(token);
        read(request.header("idempotency-key", key).json(body)).await
    }

    pub async fn patch(&self, path: &str, token: &str, body: &Value) -> Response {
        read(self.request(Method::PATCH, path).bearer_auth(token).json(body)).await
    }

    pub async fn put(&self, path: &str, token: &str, body: &Value) -> Response {
        read(self.request(Method::PUT, path).bearer_auth(token).json(body)).await
    }

    /// Sends a body as it is, with a content type.
    pub async fn post_raw(
        &self,
        path: &str,
        token: &str,
        kind: &str,
        body: impl Into<reqwest::Body>,
    ) -> Response {
        let request =
            self.request(Method::POST, path).bearer_auth(token).header("content-type", kind);
        read(request.header("idempotency-key", "raw").body(body)).await
    }

    /// Publishes an event as another service would; gives its id.
    pub async fn publish<E: DomainEvent>(&self, event: &E) -> EventId {
        let id = EventId::new();
        self.publish_as(event, id).await;
        id
    }

    /// Publishes an event under an id: for duplicates.
    ///
    /// # Panics
    /// When the bus does not take it.
    pub async fn publish_as<E: DomainEvent>(&self, event: &E, id: EventId) {
        let value = serde_json::to_vec(event).expect("events are plain data");
        let headers = [
            ("ce_specversion", "1.0".to_owned()),
            ("ce_id", id.to_string()),
            ("ce_type", E::cloud_type()),
            ("ce_source", format!("urn:hospital:{}", E::SOURCE)),
            ("ce_subject", event.subject().to_string()),
        ];
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        self.publish_raw(E::TOPIC, &event.aggregate().to_string(), headers, value).await;
    }

    /// Publishes any record.
    ///
    /// # Panics
    /// When the bus does not take it.
    pub async fn publish_raw(
        &self,
        topic: &str,
        key: &str,
        headers: Vec<(String, String)>,
        value: Vec<u8>,
    ) {
        let record = Record { topic: topic.to_owned(), key: key.to_owned(), headers, value };
        self.bus().publish(vec![record]).await.expect("the bus takes it");
    }

    /// The bus as its owner has it, who may publish what other services do.
    pub fn bus(&self) -> &SharedBus {
        &self.outside
    }

    /// Everything in a topic.
    ///
    /// # Panics
    /// When the bus cannot be read.
    pub async fn topic(&self, topic: &str) -> Vec<Received> {
        self.bus().read(topic, Position::Beginning).await.expect("the bus can be read")
    }

    /// Waits until a topic holds at least so many records.
    pub async fn topic_of(&self, topic: &str, count: usize) -> Vec<Received> {
        eventually(&format!("{count} records in {topic}"), async || {
            let records = self.topic(topic).await;
            (records.len() >= count).then_some(records)
        })
        .await
    }

    /// Waits until the service has consumed everything in a topic.
    ///
    /// # Panics
    /// When the bus cannot be read.
    pub async fn consumed(&self, topic: &str) {
        eventually(&format!("{topic} to be consumed"), async || {
            let lag = self.bus().lag(self.group, topic).await.expect("the bus can be read");
            lag.values().all(|n| *n == 0).then_some(())
        })
        .await;
    }

    /// How many rows a table of the service has.
    ///
    /// # Panics
    /// When there is no such table.
    pub async fn rows(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {}.{table}", self.group);
        self.db.value(&sql).await.expect("the table can be counted")
    }
}

async fn listeners() -> std::io::Result<Listeners> {
    Ok(Listeners {
        requests: TcpListener::bind("127.0.0.1:0").await?,
        probes: TcpListener::bind("127.0.0.1:0").await?,
    })
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Sends a request and reads the answer whole.
///
/// # Panics
/// When there is no answer.
pub async fn read(request: reqwest::RequestBuilder) -> Response {
    let response = request.send().await.expect("the service answers");
    let (status, headers): (StatusCode, _) = (response.status(), response.headers().clone());
    let text = response.text().await.expect("the answer is whole");
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Response { status: status.as_u16(), headers, body, text }
}
