//! A running billing service, and a short way to make bills and pay them.

use hospital_contracts::appointment::{
    AppointmentBooked, AppointmentCancelled, AppointmentFacts, CancelledBy,
};
use hospital_kit::config::Config;
use hospital_testkit::{Response, TestApp, eventually, read};
use hospital_types::{AppointmentId, PatientId, PractitionerId, Role};
use reqwest::Method;
use serde_json::{Value, json};

pub(crate) struct Till {
    pub(crate) app: TestApp,
    /// May do everything with money.
    pub(crate) cashier: String,
}

impl Till {
    pub(crate) async fn open() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let app = TestApp::start(hospital_billing::schema(), hospital_billing::service, |config| {
            config.billing.gateway_timeout_ms = 300;
            config.billing.reconcile_after_s = [0, 0, 0];
            configure(config);
        })
        .await;
        let cashier = app.token(&[Role::Cashier, Role::BillingManager]);
        let till = Self { app, cashier };
        till.price("consultation", "120.00").await;
        till
    }

    pub(crate) async fn price(&self, code: &str, amount: &str) {
        let body = json!({"name": code, "price": {"amount": amount, "currency": "USD"}});
        let reply = self.app.put(&format!("/service-types/{code}"), &self.cashier, &body).await;
        assert!(matches!(reply.status, 200 | 201), "{}", reply.text);
    }

    pub(crate) fn facts(&self, service_type: &str) -> AppointmentFacts {
        let start = self.app.clock().now();
        AppointmentFacts {
            appointment_id: AppointmentId::new(),
            version: 1,
            patient_id: PatientId::new(),
            practitioner_id: PractitionerId::new(),
            start,
            end: start,
            service_type: service_type.to_owned(),
            back_dated: false,
        }
    }

    /// The bill of an appointment, once there is one.
    pub(crate) async fn bill_of(&self, appointment: AppointmentId) -> Value {
        let path = format!("/bills?appointmentId={appointment}");
        eventually("the bill", async || {
            let reply = self.app.get(&path, &self.cashier).await;
            assert_eq!(reply.status, 200, "{}", reply.text);
            let bills = reply.body["items"].as_array().unwrap();
            assert!(bills.len() <= 1, "{}", reply.text);
            bills.first().cloned()
        })
        .await
    }

    /// Books, as the appointment service would tell, and gives the bill.
    pub(crate) async fn booked(&self, service_type: &str) -> Value {
        let facts = self.facts(service_type);
        let id = facts.appointment_id;
        self.app.publish(&AppointmentBooked(facts)).await;
        self.bill_of(id).await
    }

    pub(crate) async fn cancelled(&self, bill: &Value) {
        let facts = AppointmentFacts {
            appointment_id: bill["appointmentId"].as_str().unwrap().parse().unwrap(),
            patient_id: bill["patientId"].as_str().unwrap().parse().unwrap(),
            version: 2,
            ..self.facts("consultation")
        };
        self.app.publish(&AppointmentCancelled { facts, by: CancelledBy::Patient }).await;
        self.app.consumed("appointment.cancelled").await;
    }

    pub(crate) async fn bill(&self, bill: &Value) -> Value {
        let path = format!("/bills/{}", bill["id"].as_str().unwrap());
        let reply = self.app.get(&path, &self.cashier).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.body
    }

    pub(crate) async fn pay(&self, key: &str, body: &Value) -> Response {
        self.app.post_keyed("/payments", &self.cashier, key, body).await
    }

    /// Asserts a bill's status and amounts, in cents.
    pub(crate) async fn assert_bill(&self, bill: &Value, status: &str, paid: i64, reserved: i64) {
        let now = self.bill(bill).await;
        let total = cents(&now["total"]);
        assert_eq!(now["status"], status, "{now}");
        let amounts = (cents(&now["paid"]), cents(&now["reserved"]), cents(&now["outstanding"]));
        assert_eq!(amounts, (paid, reserved, total - paid - reserved), "{now}");
    }

    /// Waits until the payment has a status.
    pub(crate) async fn settled(&self, payment: &str, status: &str) {
        eventually(&format!("a payment that {status}"), async || {
            let reply = self.app.get(&format!("/payments/{payment}"), &self.cashier).await;
            (reply.body["status"] == status).then_some(())
        })
        .await;
    }

    pub(crate) async fn step(&self, path: &str, etag: Option<&str>) -> Response {
        let mut request = self.app.request(Method::POST, path).bearer_auth(&self.cashier);
        if let Some(etag) = etag {
            request = request.header("if-match", etag);
        }
        read(request).await
    }

    /// How many charges the sandbox gateway has made.
    pub(crate) async fn charges(&self) -> i64 {
        let sql = "SELECT count(*) FROM billing.sandbox_charge WHERE outcome = 'charged'";
        self.app.db.value(sql).await.unwrap()
    }
}

pub(crate) fn cash(bill: &Value, amount: &str) -> Value {
    json!({"billId": bill["id"], "amount": {"amount": amount, "currency": "USD"}, "method": "cash"})
}

pub(crate) fn card(bill: &Value, amount: &str, token: &str) -> Value {
    let mut body = cash(bill, amount);
    body["method"] = "card".into();
    body["cardToken"] = token.into();
    body
}

pub(crate) fn cents(money: &Value) -> i64 {
    money["amount"].as_str().unwrap().replace('.', "").parse().unwrap()
}

pub(crate) fn id(value: &Value) -> &str {
    value["id"].as_str().unwrap()
}
