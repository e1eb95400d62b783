//! A rolling update: two versions of the service side by side on one schema, behind something that asks who is ready, as Kubernetes does.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    http::{HeaderValue, Response},
    middleware::map_response,
};
use futures_util::future::join_all;
use hospital_kit::{
    migrate::Schema,
    outcome::Broken,
    service::{Context, Service},
};
use hospital_testkit::{TestApp, eventually};
use hospital_types::Role;
use jiff::ToSpan;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{desk::at, fake_patients::FakePatients};

/// The schema as the next version would have it: with something added.
fn next_schema() -> Schema {
    let mut schema = hospital_appointment::schema();
    let added = refinery::Migration::unapplied(
        &format!("V{}__room", schema.version() + 1),
        "ALTER TABLE appointment ADD COLUMN room text",
    );
    schema.migrations.push(added.unwrap());
    schema
}

/// The next version: it needs its schema, and says in every answer that it is the next one.
fn next_version(context: &Context) -> Result<Service, Broken> {
    let service = hospital_appointment::service(context)?;
    let routes = service.routes.layer(map_response(async |mut answer: Response<_>| {
        answer.headers_mut().insert("x-version", HeaderValue::from_static("next"));
        answer
    }));
    Ok(Service { schema: next_schema(), routes, ..service })
}

/// Knows who is ready, and sends requests to nobody else.
#[derive(Default)]
struct Balancer {
    members: Mutex<Vec<String>>,
    ready: Mutex<Vec<String>>,
    turn: AtomicUsize,
}

impl Balancer {
    fn add(&self, base: &str) {
        self.members.lock().unwrap().push(base.to_owned());
    }

    async fn look(&self) {
        let members = self.members.lock().unwrap().clone();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let ready = join_all(members.iter().map(async |base| {
            let asked = http.get(format!("{base}/health/ready")).send().await;
            asked.is_ok_and(|answer| answer.status() == 200).then(|| base.clone())
        }))
        .await;
        *self.ready.lock().unwrap() = ready.into_iter().flatten().collect();
    }

    async fn keep_looking(self: Arc<Self>, over: Arc<AtomicBool>) {
        while !over.load(Ordering::Relaxed) {
            self.look().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn next(&self) -> String {
        let ready = self.ready.lock().unwrap();
        ready[self.turn.fetch_add(1, Ordering::Relaxed) % ready.len()].clone()
    }

    async fn knows(&self, base: &str, ready: bool) {
        eventually("the balancer to see who is ready", async || {
            (self.ready.lock().unwrap().iter().any(|member| member == base) == ready).then_some(())
        })
        .await;
    }
}

/// What came of the bookings while the roll-out went on.
#[derive(Default)]
struct Seen {
    booked: Mutex<BTreeMap<&'static str, HashSet<String>>>,
    failed: Mutex<Vec<String>>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_with_two_versions_on_one_schema_fails_no_request() {
    hospital_kit::client::install_tls_provider();
    let patients = FakePatients::start().await;
    let app =
        TestApp::start(hospital_appointment::schema(), hospital_appointment::service, |config| {
            config.appointment.patient_url = format!("http://{}", patients.address);
            config.appointment.patient_check_timeout_ms = 3000;
            config.http.unready_ms = 600;
            config.http.drain_ms = 5000;
        })
        .await;
    let balancer = Arc::new(Balancer::default());
    let over = Arc::new(AtomicBool::new(false));
    let looking = begin(Arc::clone(&balancer).keep_looking(Arc::clone(&over)));
    let old = app.replica(hospital_appointment::service).await;
    let other_old = app.replica(hospital_appointment::service).await;
    for base in [&old.base, &other_old.base] {
        balancer.add(base);
        balancer.knows(base, true).await;
    }

    let seen = Arc::new(Seen::default());
    let mut desks = Vec::new();
    for number in 0..4_usize {
        let admin = app.token(&[Role::Admin]);
        let practitioner = app
            .post_keyed("/practitioners", &admin, &format!("p{number}"), &json!({"name": "Ada"}))
            .await;
        let body = (patients.active(), practitioner.id().to_owned(), app.token(&[Role::FrontDesk]));
        let (balancer, over, seen) = (Arc::clone(&balancer), Arc::clone(&over), Arc::clone(&seen));
        desks.push(begin(async move { work(&balancer, &over, &seen, body).await }));
    }
    let booked = |version: &str| seen.booked.lock().unwrap().get(version).map_or(0, HashSet::len);
    let until = async |version: &str, count: usize| {
        eventually("bookings", async || (booked(version) >= count).then_some(())).await;
    };
    until("this", 20).await;

    // The migration goes first, under the old version's feet.
    next_schema().migrate(&app.db.owner_url(), None).await.unwrap();
    let after_migration = booked("this");
    until("this", after_migration + 20).await;
    let new = app.replica(next_version).await;
    balancer.add(&new.base);
    balancer.knows(&new.base, true).await;
    // Both versions work on the schema.
    let (this, next) = (booked("this"), booked("next"));
    until("next", next + 20).await;
    until("this", this + 20).await;
    old.stop().await;
    let other_new = app.replica(next_version).await;
    balancer.add(&other_new.base);
    balancer.knows(&other_new.base, true).await;
    other_old.stop().await;
    let next = booked("next");
    until("next", next + 20).await;
    over.store(true, Ordering::Relaxed);
    for desk in desks {
        desk.await.unwrap();
    }
    looking.await.unwrap();

    assert_eq!(*seen.failed.lock().unwrap(), Vec::<String>::new());
    let acknowledged = booked("this") + booked("next");
    assert_eq!(app.rows("appointment").await, i64::try_from(acknowledged).unwrap());
    let told = app.topic_of("appointment.booked", acknowledged).await;
    // A relay that hands over may publish once more what it had published; under the same id.
    let events: HashSet<_> = told.iter().map(|record| record.header("ce_id")).collect();
    assert_eq!(events.len(), acknowledged);
}

/// Begins what the test waits for at its end.
fn begin(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    #[expect(clippy::disallowed_methods, reason = "waited for at the end of the test")]
    tokio::spawn(work)
}

/// Books half hours one after another until it is over, without ever trying one again.
async fn work(
    balancer: &Balancer,
    over: &AtomicBool,
    seen: &Seen,
    (patient, practitioner, token): (hospital_types::PatientId, String, String),
) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut start = at("08:00");
    while !over.load(Ordering::Relaxed) {
        let end = start + 30.minutes();
        let booking = json!({
            "patientId": patient, "practitionerId": practitioner, "serviceType": "visit", "start": start, "end": end,
        });
        let asked = http
            .post(format!("{}/appointments", balancer.next()))
            .bearer_auth(&token)
            .header("idempotency-key", format!("{practitioner}-{start}"))
            .json(&booking)
            .send()
            .await;
        match asked {
            Ok(answer) if answer.status() == 201 => {
                let version =
                    if answer.headers().contains_key("x-version") { "next" } else { "this" };
                let body: serde_json::Value = answer.json().await.unwrap();
                let id = body["id"].as_str().unwrap().to_owned();
                assert!(seen.booked.lock().unwrap().entry(version).or_default().insert(id));
            }
            Ok(answer) => {
                let said = format!("{}: {}", answer.status(), answer.text().await.unwrap());
                seen.failed.lock().unwrap().push(said);
            }
            Err(e) => seen.failed.lock().unwrap().push(format!("{e:?}")),
        }
        start = end;
    }
}
