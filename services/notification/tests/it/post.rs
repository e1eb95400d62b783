//! A running notification service, a patient service that it asks, and events to tell it.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hospital_contracts::{
    DomainEvent,
    appointment::{AppointmentBooked, AppointmentFacts},
    billing::{BillFacts, PaymentFacts, PaymentMethod},
    patient::{PatientFacts, PatientRegistered, PatientStatus},
};
use hospital_kit::{config::Config, http::ANSWERED_BY};
use hospital_testkit::{TestApp, eventually};
use hospital_types::{
    AppointmentId, BillId, Currency, Money, PatientId, PaymentId, PractitionerId, Role,
};
use serde_json::{Value, json};

/// A version and an address.
type Known = (i32, Option<String>);

/// Patients as the patient service would tell of them: version and address.
#[derive(Clone, Default)]
pub(crate) struct Patients {
    known: Arc<Mutex<HashMap<PatientId, Known>>>,
    down: Arc<AtomicBool>,
    /// Whether another service answers at its address.
    misdirected: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
}

impl Patients {
    async fn listen(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().route("/patients/{id}", get(answer)).with_state(self.clone());
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, routes).await });
        url
    }

    pub(crate) fn set(&self, patient: PatientId, version: i32, email: Option<&str>) {
        let entry = (version, email.map(ToOwned::to_owned));
        self.known.lock().unwrap().insert(patient, entry);
    }

    pub(crate) fn forget(&self, patient: PatientId) {
        self.known.lock().unwrap().remove(&patient);
    }

    pub(crate) fn misdirect(&self, misdirected: bool) {
        self.misdirected.store(misdirected, Ordering::Relaxed);
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn fail(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }
}

async fn answer(State(patients): State<Patients>, Path(id): Path<PatientId>) -> Response {
    patients.asked.fetch_add(1, Ordering::Relaxed);
    if patients.misdirected.load(Ordering::Relaxed) {
        return not_found("billing");
    }
    if patients.down.load(Ordering::Relaxed) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let found = patients.known.lock().unwrap().get(&id).cloned();
    match found {
        Some((version, email)) => Json(json!({
            "id": id, "version": version, "status": "active", "givenName": "Zoe", "familyName": "Canary", "gender": "female",
            "birthDate": "1980-01-01", "email": email, "phone": null, "language": null, "address": null, "identifiers": [],
            "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
        }))
        .into_response(),
        None => not_found("patient"),
    }
}

/// As the service of this name says that there is no such thing.
fn not_found(service: &'static str) -> Response {
    let kind = (header::CONTENT_TYPE, "application/problem+json");
    let by = (HeaderName::from_static(ANSWERED_BY), service);
    let problem = json!({"status": 404, "code": "not-found"}).to_string();
    (StatusCode::NOT_FOUND, [kind, by], problem).into_response()
}

/// Practitioners as the appointment service would tell of them.
#[derive(Clone, Default)]
pub(crate) struct Practitioners {
    known: Arc<Mutex<HashMap<PractitionerId, &'static str>>>,
    silent: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
}

impl Practitioners {
    async fn listen(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().route("/practitioners/{id}", get(name)).with_state(self.clone());
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, routes).await });
        url
    }

    pub(crate) fn register(&self, name: &'static str) -> PractitionerId {
        let id = PractitionerId::new();
        self.known.lock().unwrap().insert(id, name);
        id
    }

    /// Takes requests and never answers, or answers again.
    pub(crate) fn fall_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn name(State(of): State<Practitioners>, Path(id): Path<PractitionerId>) -> Response {
    of.asked.fetch_add(1, Ordering::Relaxed);
    if of.silent.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    let found = of.known.lock().unwrap().get(&id).copied();
    match found {
        Some(name) => Json(json!({"id": id, "version": 1, "name": name, "specialty": "oncology"}))
            .into_response(),
        None => not_found("appointment"),
    }
}

pub(crate) struct Post {
    pub(crate) app: TestApp,
    pub(crate) patients: Patients,
    pub(crate) practitioners: Practitioners,
    pub(crate) desk: String,
}

impl Post {
    pub(crate) async fn open() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(configure: impl FnOnce(&mut Config)) -> Self {
        hospital_kit::client::install_tls_provider();
        let patients = Patients::default();
        let url = patients.listen().await;
        let practitioners = Practitioners::default();
        let appointment_url = practitioners.listen().await;
        let app = TestApp::start(
            hospital_notification::schema(),
            hospital_notification::service,
            |config| {
                config.notification.patient_url = url;
                config.notification.appointment_url = appointment_url;
                config.facility.address = Some("211 Park Street, Attleboro".to_owned());
                config.facility.phone = Some("+1 508-555-0100".to_owned());
                config.facility.name = "Sturdy Memorial".to_owned();
                config.facility.zone = "America/New_York".to_owned();
                configure(config);
            },
        )
        .await;
        let desk = app.token(&[Role::FrontDesk]);
        Self { app, patients, practitioners, desk }
    }

    /// A registered patient with an address.
    pub(crate) async fn patient(&self, email: Option<&str>) -> PatientId {
        let id = PatientId::new();
        self.patients.set(id, 1, email);
        self.registered(id, 1).await;
        id
    }

    pub(crate) async fn registered(&self, patient_id: PatientId, version: i32) {
        let facts = PatientFacts { patient_id, version, status: PatientStatus::Active };
        self.app.publish(&PatientRegistered(facts)).await;
    }

    pub(crate) fn appointment(&self, patient: PatientId) -> AppointmentFacts {
        AppointmentFacts {
            appointment_id: AppointmentId::new(),
            version: 1,
            patient_id: patient,
            practitioner_id: PractitionerId::new(),
            start: "2035-05-17T13:30:00Z".parse().unwrap(),
            end: "2035-05-17T14:00:00Z".parse().unwrap(),
            service_type: "oncology".to_owned(),
            back_dated: false,
        }
    }

    pub(crate) async fn booked(&self, patient: PatientId) -> AppointmentFacts {
        let facts = self.appointment(patient);
        self.app.publish(&AppointmentBooked(facts.clone())).await;
        facts
    }

    pub(crate) fn bill(&self, patient: PatientId) -> BillFacts {
        BillFacts {
            bill_id: BillId::new(),
            version: 1,
            number: Some("2035-000007".to_owned()),
            appointment_id: AppointmentId::new(),
            patient_id: patient,
            total: usd(12_000),
            back_dated: false,
        }
    }

    pub(crate) fn payment(&self, patient: PatientId, outstanding: i64) -> PaymentFacts {
        PaymentFacts {
            payment_id: PaymentId::new(),
            bill_id: BillId::new(),
            version: 2,
            appointment_id: AppointmentId::new(),
            patient_id: patient,
            amount: usd(5000),
            method: PaymentMethod::Cash,
            outstanding: usd(outstanding),
            back_dated: false,
        }
    }

    pub(crate) async fn messages(&self, patient: PatientId) -> Vec<Value> {
        let reply = self.app.get(&format!("/notifications?patientId={patient}"), &self.desk).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.body["items"].as_array().unwrap().clone()
    }

    /// Waits until the patient's messages have these statuses, oldest first.
    pub(crate) async fn told(&self, patient: PatientId, statuses: &[&str]) -> Vec<Value> {
        eventually(&format!("messages that are {statuses:?}"), async || {
            let messages = self.messages(patient).await;
            let now: Vec<&str> = messages.iter().map(|m| m["status"].as_str().unwrap()).collect();
            (now == statuses).then_some(messages)
        })
        .await
    }

    /// The letters in the mailbox, by their `Message-ID`.
    pub(crate) fn mailbox(&self) -> HashMap<String, String> {
        let dir: PathBuf = self.app.context.config.notification.mailbox_dir.clone();
        let Ok(entries) = std::fs::read_dir(dir) else { return HashMap::new() };
        let folders = entries.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
        let folders: Vec<String> = folders.collect();
        let letters = folders.iter().flat_map(|folder| folder.split("From MAILER-DAEMON ").skip(1));
        let named = letters.map(|letter| {
            let id = letter.lines().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap();
            (id.to_owned(), letter.to_owned())
        });
        named.collect()
    }

    pub(crate) async fn consumed<E: DomainEvent>(&self, event: &E) {
        self.app.publish(event).await;
        self.app.consumed(E::TOPIC).await;
    }
}

pub(crate) fn usd(cents: i64) -> Money {
    Money::from_minor(cents, Currency::USD)
}
