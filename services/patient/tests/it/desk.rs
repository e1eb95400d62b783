//! A running patient service with its own database, and a short way to ask it things.

use std::ops::Deref;

use hospital_testkit::{Response, TestApp, read};
use hospital_types::{PatientId, Role};
use reqwest::Method;
use serde_json::{Value, json};

/// The service, and the front desk's token.
pub(crate) struct Desk {
    pub(crate) app: TestApp,
    pub(crate) token: String,
}

impl Deref for Desk {
    type Target = TestApp;

    fn deref(&self) -> &TestApp {
        &self.app
    }
}

impl Desk {
    pub(crate) async fn open() -> Self {
        hospital_kit::client::install_tls_provider();
        let app =
            TestApp::start(hospital_patient::schema(), hospital_patient::service, |_| {}).await;
        let token = app.token(&[Role::FrontDesk]);
        Self { app, token }
    }

    pub(crate) async fn register(&self, body: &Value) -> Response {
        self.post("/patients", &self.token, body).await
    }

    /// Registers what must succeed, and gives the patient's id.
    pub(crate) async fn registered(&self, body: &Value) -> PatientId {
        let reply = self.register(body).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        reply.id().parse().unwrap()
    }

    pub(crate) async fn show(&self, id: PatientId) -> Value {
        let reply = self.get(&format!("/patients/{id}"), &self.token).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.body
    }

    pub(crate) async fn change(&self, id: PatientId, patch: &Value) -> Response {
        self.patch(&format!("/patients/{id}"), &self.token, patch).await
    }

    pub(crate) async fn step(&self, id: PatientId, verb: &str) -> Response {
        let body = json!({"reason": "asked for it"});
        self.post(&format!("/patients/{id}/{verb}"), &self.token, &body).await
    }

    /// Sends a change of the version that was seen.
    pub(crate) async fn change_seen(&self, id: PatientId, etag: &str, patch: &Value) -> Response {
        let request = self.request(Method::PATCH, &format!("/patients/{id}"));
        read(request.bearer_auth(&self.token).header("if-match", etag).json(patch)).await
    }

    /// The ids that a search finds, in order.
    pub(crate) async fn found(&self, query: &str) -> Vec<PatientId> {
        let reply = self.get(&format!("/patients?{query}"), &self.token).await;
        assert_eq!(reply.status, 200, "{query}: {}", reply.text);
        ids(&reply.body)
    }

    /// Rows of everything that a registration or a change writes.
    pub(crate) async fn rows_of_all(&self) -> i64 {
        let mut rows = 0;
        for table in ["patient", "patient_name", "patient_identifier", "patient_history", "outbox"]
        {
            rows += self.rows(table).await;
        }
        rows
    }

    /// What was told of a patient: topic and payload, in order, as one text.
    pub(crate) async fn told(&self, id: PatientId) -> Vec<(String, Value)> {
        let sql = format!(
            "SELECT coalesce(jsonb_agg(jsonb_build_array(topic, payload) ORDER BY seq), '[]')::text
             FROM patient.outbox WHERE aggregate = '{id}'"
        );
        let text: String = self.db.value(&sql).await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The history of a patient: version, actor, change and reason.
    pub(crate) async fn history(&self, id: PatientId) -> Value {
        let sql = format!(
            "SELECT jsonb_agg(jsonb_build_array(version, actor, change, reason) ORDER BY version)::text
             FROM patient.patient_history WHERE patient_id = '{id}'"
        );
        let text: String = self.db.value(&sql).await.unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

/// The body of a registration with nothing but what must be there.
pub(crate) fn person(given: &str, family: &str, birth_date: &str) -> Value {
    json!({"givenName": given, "familyName": family, "birthDate": birth_date, "gender": "unknown"})
}

/// The body of a registration with everything that can be there.
pub(crate) fn zoe() -> Value {
    json!({
        "givenName": "Zoë", "familyName": "Müller", "birthDate": "1990-01-02", "gender": "female",
        "phone": "+1 (617) 555-0100", "email": "zoe@example.org", "language": "pt-BR",
        "address": {"line": "1 Main Street", "city": "Boston", "postalCode": "02115"},
        "identifiers": [
            {"system": "urn:example:ssn", "value": "999-45-3308"},
            {"system": "urn:example:mrn", "value": "12345"},
        ],
    })
}

/// `body` with one member set.
pub(crate) fn with(mut body: Value, member: &str, value: Value) -> Value {
    body[member] = value;
    body
}

/// The ids of a page's items.
pub(crate) fn ids(page: &Value) -> Vec<PatientId> {
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| item["id"].as_str().unwrap().parse().unwrap()).collect()
}
