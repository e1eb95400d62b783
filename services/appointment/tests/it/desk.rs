//! A running appointment service with its own database, and a short way to ask it things.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use hospital_kit::{cause::Cause, config::Config, db::Db, sql};
use hospital_testkit::{Commits, TestApp, TestDb};
use hospital_types::{AppointmentId, PatientId, PractitionerId, Role};
use jiff::{Timestamp, ToSpan, civil, tz::TimeZone};
use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::fake_patients::FakePatients;

/// An instant on the day that the tests book on.
pub(crate) fn at(time: &str) -> Timestamp {
    let time: civil::Time = time.parse().unwrap();
    civil::date(2035, 5, 17).to_datetime(time).to_zoned(TimeZone::UTC).unwrap().timestamp()
}

pub(crate) struct Desk {
    pub(crate) patients: FakePatients,
    pub(crate) db: Db,
    app: TestApp,
    /// Signing one takes a debug build longer than the request does.
    tokens: Mutex<HashMap<Who, String>>,
}

impl Desk {
    /// With all the time in the world for the patient service: a debug build on a busy machine is no hospital.
    pub(crate) async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    /// The same, with some settings of its own.
    pub(crate) async fn open_with(configure: impl FnOnce(&mut Config)) -> Self {
        Self::with(|config, patients| {
            config.appointment.patient_url = format!("http://{}", patients.address);
            config.appointment.patient_check_timeout_ms = 3000;
            configure(config);
        })
        .await
    }

    /// On a database whose commits take long enough to be met while at it.
    pub(crate) async fn open_with_slow_commits() -> Self {
        Self::on(Commits::Slow, |config, patients| {
            config.appointment.patient_url = format!("http://{}", patients.address);
            config.appointment.patient_check_timeout_ms = 3000;
        })
        .await
    }

    /// With the deadline for the patient service that a hospital has.
    pub(crate) async fn open_in_a_hurry() -> Self {
        Self::with(|config, patients| {
            config.appointment.patient_url = format!("http://{}", patients.address);
        })
        .await
    }

    pub(crate) async fn open_without_patient_service() -> Self {
        // A port that was free a moment ago and that nobody listens on.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::with(|config, _| config.appointment.patient_url = format!("http://127.0.0.1:{port}"))
            .await
    }

    async fn with(configure: impl FnOnce(&mut Config, &FakePatients)) -> Self {
        Self::on(Commits::Fast, configure).await
    }

    async fn on(commits: Commits, configure: impl FnOnce(&mut Config, &FakePatients)) -> Self {
        hospital_kit::client::install_tls_provider();
        let patients = FakePatients::start().await;
        let app = TestApp::start_on(
            commits,
            hospital_appointment::schema(),
            hospital_appointment::service,
            |config| configure(config, &patients),
        )
        .await;
        Self { patients, db: app.context.db.clone(), app, tokens: Mutex::default() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.app.clock().now()
    }

    /// Lets time pass for the service.
    pub(crate) fn pass(&self, minutes: u64) {
        self.app.clock().advance(Duration::from_secs(minutes * 60));
    }

    pub(crate) fn database(&self) -> &TestDb {
        &self.app.db
    }

    pub(crate) fn get(&self, path: &str) -> Request<'_> {
        self.request(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> Request<'_> {
        self.request(Method::POST, path)
    }

    fn request(&self, method: Method, path: &str) -> Request<'_> {
        Request {
            desk: self,
            request: self.app.request(method, path),
            who: Who::Role(Role::FrontDesk),
        }
    }

    fn token(&self, who: Who) -> Option<String> {
        let mut tokens = self.tokens.lock().unwrap();
        let made = || match who {
            Who::Nobody => String::new(),
            Who::Role(role) => self.app.sign(&format!("test-{}", role.as_str()), &[role], None),
            Who::Patient(id) => self.app.sign("test-patient", &[Role::Patient], Some(id)),
            Who::Practitioner(id) => self.app.practitioner_token(id),
        };
        let token = tokens.entry(who).or_insert_with(made).clone();
        (who != Who::Nobody).then_some(token)
    }

    pub(crate) async fn practitioner(&self) -> PractitionerId {
        let reply = self
            .post("/practitioners")
            .role(Role::Admin)
            .body(&json!({"name": "Grace Hopper"}))
            .send()
            .await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        reply.id().parse().unwrap()
    }

    /// The body of a booking.
    pub(crate) fn booking(
        &self,
        patient: PatientId,
        practitioner: PractitionerId,
        start: Timestamp,
        minutes: i64,
    ) -> Value {
        json!({
            "patientId": patient, "practitionerId": practitioner, "serviceType": "visit",
            "start": start, "end": start + minutes.minutes(),
        })
    }

    pub(crate) async fn book(
        &self,
        patient: PatientId,
        practitioner: PractitionerId,
        start: Timestamp,
        minutes: i64,
    ) -> Reply {
        let body = self.booking(patient, practitioner, start, minutes);
        self.post("/appointments").body(&body).send().await
    }

    /// Books what must succeed, and gives the appointment's id.
    pub(crate) async fn booked(
        &self,
        patient: PatientId,
        practitioner: PractitionerId,
        start: Timestamp,
        minutes: i64,
    ) -> String {
        let reply = self.book(patient, practitioner, start, minutes).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        reply.id()
    }

    /// A record of an appointment of half an hour that began in the past.
    pub(crate) async fn back_dated(&self, start: Timestamp) -> String {
        let mut body = self.booking(self.patients.active(), self.practitioner().await, start, 30);
        body["backDated"] = json!(true);
        let reply = self.post("/appointments").role(Role::Admin).body(&body).send().await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        reply.id()
    }

    pub(crate) async fn cancel(&self, id: &str) -> Reply {
        let body = json!({"reason": "changed plans", "by": "hospital"});
        self.post(&format!("/appointments/{id}/cancel")).body(&body).send().await
    }

    pub(crate) async fn reschedule(&self, id: &str, start: Timestamp, minutes: i64) -> Reply {
        let body = json!({"start": start, "end": start + minutes.minutes()});
        self.post(&format!("/appointments/{id}/reschedule")).body(&body).send().await
    }

    pub(crate) fn step(&self, id: &str, verb: &str) -> Request<'_> {
        self.post(&format!("/appointments/{id}/{verb}"))
    }

    /// Runs SQL as the database's owner.
    pub(crate) async fn execute(&self, sql: &str) {
        self.app.db.execute(sql).await.unwrap();
    }

    /// Counts the rows of what follows `FROM`.
    pub(crate) async fn count(&self, from: &str) -> i64 {
        let sql: &'static str = format!("SELECT count(*) FROM {from}").leak();
        self.db.reader(&Cause::system("test")).read(sql!(sql)).await.unwrap()[0].get(0)
    }

    /// Rows of everything that a booking or a step writes.
    pub(crate) async fn rows(&self) -> i64 {
        let mut rows = 0;
        for table in ["appointment", "appointment_identifier", "reservation", "history", "outbox"] {
            rows += self.count(table).await;
        }
        rows
    }

    /// What was told of an appointment: topic, version and payload, in order.
    pub(crate) async fn events(&self, id: &str) -> Vec<(String, i32, Value)> {
        let id: AppointmentId = id.parse().unwrap();
        let sql = "SELECT topic, version, payload FROM outbox WHERE aggregate = $1 ORDER BY seq";
        let rows = self.db.reader(&Cause::system("test")).read(sql!(sql, id)).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }
}

/// Whose token a request has.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Nobody,
    Role(Role),
    Patient(PatientId),
    Practitioner(PractitionerId),
}

/// A request of the front desk's, unless it is made somebody else's.
pub(crate) struct Request<'a> {
    desk: &'a Desk,
    request: reqwest::RequestBuilder,
    who: Who,
}

impl Request<'_> {
    pub(crate) fn role(self, role: Role) -> Self {
        Self { who: Who::Role(role), ..self }
    }

    pub(crate) fn patient(self, patient: PatientId) -> Self {
        Self { who: Who::Patient(patient), ..self }
    }

    /// A practitioner whose token says who they are.
    pub(crate) fn practitioner(self, practitioner: PractitionerId) -> Self {
        Self { who: Who::Practitioner(practitioner), ..self }
    }

    pub(crate) fn anonymous(self) -> Self {
        Self { who: Who::Nobody, ..self }
    }

    pub(crate) fn key(self, key: &str) -> Self {
        Self { request: self.request.header("idempotency-key", key), ..self }
    }

    pub(crate) fn if_match(self, etag: &str) -> Self {
        Self { request: self.request.header(header::IF_MATCH, etag), ..self }
    }

    pub(crate) fn trace(self, traceparent: &str) -> Self {
        Self { request: self.request.header("traceparent", traceparent), ..self }
    }

    pub(crate) fn body(self, body: &Value) -> Self {
        Self { request: self.request.json(body), ..self }
    }

    pub(crate) fn raw(self, content_type: &str, body: &str) -> Self {
        let request = self.request.header(header::CONTENT_TYPE, content_type).body(body.to_owned());
        Self { request, ..self }
    }

    pub(crate) async fn send(self) -> Reply {
        let request = match self.desk.token(self.who) {
            None => self.request,
            Some(token) => self.request.bearer_auth(token),
        };
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.unwrap();
        Reply { status, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null) }
    }
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
    headers: header::HeaderMap,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// The problem's code, empty for a success.
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub(crate) fn id(&self) -> String {
        self.body["id"].as_str().unwrap().to_owned()
    }

    /// The ids of a page's items.
    pub(crate) fn ids(&self) -> Vec<String> {
        let items = self.body["items"].as_array().unwrap();
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    }
}
