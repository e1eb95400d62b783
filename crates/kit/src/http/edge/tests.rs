use std::{
    io::Write,
    sync::{Mutex, PoisonError},
};

use axum::routing::post;
use hospital_types::Roles;
use serde_json::Value;
use tower::ServiceExt;

use super::*;
use crate::{
    auth::{Claims, SigningKey},
    clock::Clock,
    config::{AuthConfig, LogConfig},
    http::{
        Allowed, FrontDesk,
        connections::{Connections, Held, Limits},
    },
};

struct Fixture {
    routes: Router,
    key: SigningKey,
    /// The connection that everything is sent on, from 192.0.2.7.
    held: Held,
    lines: Arc<Mutex<Vec<u8>>>,
    _logging: tracing::subscriber::DefaultGuard,
    _dir: tempfile::TempDir,
}

fn fixture(change: impl FnOnce(&mut EdgeSettings)) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let (key, path) = (SigningKey::generate().unwrap(), dir.path().join("key.pem"));
    key.save(&path).unwrap();
    let config = AuthConfig { signing_key_file: Some(path), ..AuthConfig::default() };
    let authority = Arc::new(Authority::new(&config, Clock::system()).unwrap());
    let mut settings = EdgeSettings {
        handler_timeout: Duration::from_secs(3),
        body: BodySettings::default(),
        in_flight_max: 8,
        in_flight_per_subject_max: 8,
        in_flight_per_address_max: 8,
        trusted_proxies: Arc::default(),
    };
    change(&mut settings);
    let routes = Router::new().route("/things", post(async |_: Allowed<FrontDesk>| "done"));
    let document = utoipa::openapi::OpenApiBuilder::new().build();
    let edge = Edge::new(settings, authority, TaskTracker::new());
    let all = Connections::new(Limits { all: 1, of_one_address: 1 });
    let lines = Arc::default();
    Fixture {
        routes: edge.around(routes, &document, Health::new(Vec::new())),
        key,
        held: all.admit(IpAddr::from([192, 0, 2, 7]), false).unwrap(),
        _logging: tracing::subscriber::set_default(crate::telemetry::subscriber(
            &LogConfig::default(),
            Log(Arc::clone(&lines)),
        )),
        lines,
        _dir: dir,
    }
}

#[derive(Clone)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Log {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Fixture {
    async fn ask(&self, headers: &[(&'static str, &str)]) -> u16 {
        let mut request = Request::builder().method("POST").uri("/things");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(Arc::clone(self.held.connection()));
        self.routes.clone().oneshot(request).await.unwrap().status().as_u16()
    }

    fn token(&self, subject: &str, role: Role) -> String {
        let claims = Claims {
            subject: subject.into(),
            roles: Roles::of(&[role]),
            patient: None,
            practitioner: None,
        };
        format!("Bearer {}", self.key.sign(&claims, Duration::from_secs(60)).unwrap())
    }

    fn lines(&self, message: &str) -> Vec<Value> {
        let text = String::from_utf8(self.lines.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &Value| line["message"] == message).collect()
    }
}

#[tokio::test]
async fn a_request_line_says_who_asked_and_from_where() {
    let f = fixture(|_| ());
    assert_eq!(f.ask(&[("authorization", &f.token("ann", Role::FrontDesk))]).await, 200);
    let lines = f.lines("request");
    assert_eq!((&lines[0]["subject"], &lines[0]["address"]), (&"ann".into(), &"192.0.2.7".into()));
}

#[tokio::test]
async fn what_is_not_allowed_is_told_with_its_source_once_a_second() {
    let f = fixture(|_| ());
    assert_eq!(f.ask(&[("authorization", &f.token("eve", Role::Cashier))]).await, 403);
    for _ in 0..5 {
        assert_eq!(f.ask(&[("authorization", "Bearer no-token")]).await, 401);
        assert_eq!(f.ask(&[]).await, 401);
    }
    let told = f.lines("not allowed");
    assert_eq!(told.len(), 1, "{told:?}");
    for (member, value) in [("level", "WARN"), ("subject", "eve"), ("address", "192.0.2.7")] {
        assert_eq!(told[0][member], value, "{told:?}");
    }
    assert_eq!((&told[0]["status"], &told[0]["route"]), (&403.into(), &"/things".into()));
    assert!(f.lines("request").iter().any(|l| l["status"] == 401 && l["subject"].is_null()));
}

#[tokio::test]
async fn only_a_trusted_proxy_is_asked_for_the_address() {
    let forwarded = ("x-forwarded-for", "203.0.113.9");
    let f = fixture(|_| ());
    f.ask(&[forwarded]).await;
    assert_eq!(f.lines("request")[0]["address"], "192.0.2.7");
    drop(f);
    let f = fixture(|settings| {
        settings.trusted_proxies = Arc::new(["192.0.2.0/24".parse().unwrap()]);
    });
    f.ask(&[forwarded]).await;
    assert_eq!(f.lines("request")[0]["address"], "203.0.113.9");
}

#[tokio::test]
async fn who_takes_too_much_is_named_once_a_second() {
    let f = fixture(|settings| settings.in_flight_per_subject_max = 0);
    let token = f.token("eve", Role::FrontDesk);
    for _ in 0..5 {
        assert_eq!(f.ask(&[("authorization", &token)]).await, 429);
    }
    let told = f.lines("one caller takes too much: some of its requests are sent away");
    assert_eq!(told.len(), 1, "{told:?}");
    for (member, value) in [("by", "subject"), ("subject", "eve"), ("address", "192.0.2.7")] {
        assert_eq!(told[0][member], value, "{told:?}");
    }
    assert!(f.lines("request").is_empty(), "a flood does not fill the log");
    assert_eq!(
        f.ask(&[("authorization", &f.token("patient", Role::Service))]).await,
        403,
        "a service asks for everybody"
    );
}
