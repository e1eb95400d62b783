//! People at work: one registers, one books, one takes payments, one reads; each again and again, with a log of what they were answered.
//! Whoever gets no answer, or is told to come again, sends the same request under the same key until it is done.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hospital_testkit::eventually_within;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::running::{cents, client, url};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Register,
    Book,
    Pay,
    Read,
}

pub(crate) const WRITES: [What; 3] = [What::Register, What::Book, What::Pay];

/// One request and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) what: What,
    pub(crate) sent: Instant,
    pub(crate) took: Duration,
    /// 0 when there was no answer at all.
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) retry_after: bool,
}

impl Entry {
    pub(crate) const fn is_good(&self) -> bool {
        self.status == 200 || self.status == 201
    }
}

/// Somebody who may do everything, by HTTP alone.
#[derive(Clone)]
pub(crate) struct Desk {
    http: reqwest::Client,
    base_port: u16,
    token: String,
    /// When the first appointment can be.
    tomorrow: Timestamp,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn id(&self) -> String {
        self.body["id"]
            .as_str()
            .unwrap_or_else(|| panic!("{} {}", self.status, self.body))
            .to_owned()
    }

    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

impl Desk {
    pub(crate) fn new(base_port: u16, token: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "appointments are in the future")]
        let tomorrow = Timestamp::now().checked_add(24.hours()).unwrap();
        Self { http: client(), base_port, token: token.trim().to_owned(), tomorrow }
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) async fn post(&self, service: &str, path: &str, key: &str, body: &Value) -> Answer {
        let request = self.http.post(format!("{}{path}", url(self.base_port, service)));
        self.send(request.header("idempotency-key", key).json(body)).await
    }

    pub(crate) async fn get(&self, service: &str, path: &str) -> Answer {
        self.send(self.http.get(format!("{}{path}", url(self.base_port, service)))).await
    }

    pub(crate) async fn put(&self, service: &str, path: &str, body: &Value) -> Answer {
        self.send(self.http.put(format!("{}{path}", url(self.base_port, service))).json(body)).await
    }

    pub(crate) async fn text(&self, service: &str, path: &str) -> String {
        let request = self.http.get(format!("{}{path}", url(self.base_port, service)));
        request.bearer_auth(&self.token).send().await.unwrap().text().await.unwrap()
    }

    /// Every item of a list.
    pub(crate) async fn all(&self, service: &str, path: &str) -> Vec<Value> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.get(service, &format!("{path}{joint}limit=200{cursor}")).await;
            assert_eq!(page.status, 200, "{path}: {}", page.body);
            items.extend(page.body["items"].as_array().unwrap().iter().cloned());
            match page.body["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let none = || Answer { status: 0, retry_after: None, body: Value::Null };
        let Ok(response) = request.bearer_auth(&self.token).send().await else { return none() };
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after");
        let retry_after = retry_after.map(|v| v.to_str().unwrap().to_owned());
        // An answer that breaks off is none.
        let Ok(text) = response.text().await else { return none() };
        Answer { status, retry_after, body: serde_json::from_str(&text).unwrap_or(Value::Null) }
    }

    pub(crate) async fn patient(&self, key: &str) -> Answer {
        let body = json!({
            "givenName": "Pat", "familyName": format!("Traffic {key}"), "birthDate": "1980-02-03", "gender": "other",
            "email": format!("{}@example.org", key.replace(' ', "-")), "acceptDuplicate": true,
        });
        self.post("patient", "/patients", key, &body).await
    }

    pub(crate) async fn practitioner(&self, key: &str) -> Answer {
        let body = json!({"name": format!("Dr. {key}"), "specialty": "Surgery"});
        self.post("appointment", "/practitioners", key, &body).await
    }

    /// A booking `place` half-hours after the first that can be.
    pub(crate) fn booking(&self, patient: &str, practitioner: &str, place: i64) -> Value {
        let at = |minutes: i64| self.tomorrow.checked_add(minutes.minutes()).unwrap().to_string();
        json!({
            "patientId": patient, "practitionerId": practitioner, "serviceType": "traffic",
            "start": at(place * 30), "end": at(place * 30 + 20),
        })
    }

    pub(crate) async fn book(&self, key: &str, body: &Value) -> Answer {
        self.post("appointment", "/appointments", key, body).await
    }

    pub(crate) async fn pay(&self, key: &str, body: &Value) -> Answer {
        self.post("billing", "/payments", key, body).await
    }

    pub(crate) async fn price(&self, code: &str, amount: &str) {
        let body = json!({"name": code, "price": {"amount": amount, "currency": "USD"}});
        let answer = self.put("billing", &format!("/service-types/{code}"), &body).await;
        assert!(matches!(answer.status, 200 | 201), "{} {}", answer.status, answer.body);
    }

    /// The bill of an appointment, once there is one.
    pub(crate) async fn bill_of(&self, appointment: &str) -> Value {
        let path = format!("/bills?appointmentId={appointment}");
        eventually_within(PATIENCE, "the bill", async || {
            let answer = self.get("billing", &path).await;
            answer.body["items"].as_array()?.first().cloned()
        })
        .await
    }
}

pub(crate) fn payment(bill: &str, amount: &str) -> Value {
    json!({"billId": bill, "amount": {"amount": amount, "currency": "USD"}, "method": "cash"})
}

pub(crate) struct Traffic {
    pub(crate) desk: Desk,
    /// The bill that everybody pays on, a cent at a time.
    pub(crate) bill: String,
    patient: String,
    log: Arc<Mutex<Vec<Entry>>>,
    stop: CancellationToken,
    people: JoinSet<()>,
}

/// How long anything is waited for; how long it may take is said by who measures it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two requests of one person.
const PACE: Duration = Duration::from_millis(25);

impl Traffic {
    pub(crate) async fn begin(desk: Desk) -> Self {
        desk.price("traffic", "90000.00").await;
        let patient = desk.patient("the first").await.id();
        let practitioner = desk.practitioner("the first").await.id();
        let first = desk.book("the first", &desk.booking(&patient, &practitioner, -2)).await.id();
        let bill = desk.bill_of(&first).await["id"].as_str().unwrap().to_owned();
        let mut traffic = Self {
            desk,
            bill,
            patient: patient.clone(),
            log: Arc::default(),
            stop: CancellationToken::new(),
            people: JoinSet::new(),
        };
        for what in [What::Register, What::Book, What::Pay, What::Read] {
            let person = Person {
                what,
                desk: traffic.desk.clone(),
                bill: traffic.bill.clone(),
                patient: patient.clone(),
                practitioner: practitioner.clone(),
                log: Arc::clone(&traffic.log),
            };
            traffic.people.spawn(person.work(traffic.stop.clone()));
        }
        traffic.normal(&[What::Register, What::Book, What::Pay, What::Read]).await;
        traffic
    }

    pub(crate) fn log(&self) -> Vec<Entry> {
        self.log.lock().unwrap().clone()
    }

    /// The requests of a kind that were sent since an instant.
    pub(crate) fn since(&self, what: What, since: Instant) -> Vec<Entry> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|e| e.what == what && e.sent >= since).cloned().collect()
    }

    /// Waits until so many requests of a kind, all sent after an instant, have been answered.
    pub(crate) async fn answered(&self, what: What, since: Instant, count: usize) -> Vec<Entry> {
        eventually_within(PATIENCE, &format!("{count} answers to {what:?}"), async || {
            let entries = self.since(what, since);
            (entries.len() >= count).then_some(entries)
        })
        .await
    }

    /// Asserts that these kinds of request go on as if nothing had happened.
    pub(crate) async fn unharmed(&self, kinds: &[What], since: Instant) {
        for what in kinds {
            for entry in self.answered(*what, since, 10).await {
                assert!(entry.is_good(), "{entry:?}");
            }
        }
    }

    /// Waits until these kinds have succeeded twenty times in a row, and gives how long it took until the first of those succeeded.
    pub(crate) async fn normal(&self, kinds: &[What]) -> Duration {
        let (began, mut longest) = (Instant::now(), Duration::ZERO);
        for what in kinds {
            let first =
                eventually_within(PATIENCE, &format!("{what:?} to be normal"), async || {
                    let entries = self.since(*what, began);
                    let bad = entries.iter().rposition(|e| !e.is_good()).map_or(0, |at| at + 1);
                    let good = &entries[bad..];
                    (good.len() >= 20).then(|| good[0].clone())
                })
                .await;
            longest = longest.max(first.sent + first.took - began);
        }
        longest
    }

    /// To be called when everything works again, so that nobody stops in the middle. Everything that was acknowledged is there once, and
    /// nothing else; nobody got an answer other than a good one, none, or a refusal that says when to come again.
    pub(crate) async fn end(mut self) -> Vec<Entry> {
        self.stop.cancel();
        while let Some(ended) = self.people.join_next().await {
            ended.unwrap();
        }
        let log = self.log();
        for entry in &log {
            let come_again = entry.status == 503 || entry.code == "idempotency-key-in-progress";
            assert!(entry.is_good() || entry.status == 0 || come_again, "{entry:?}");
            assert_eq!(come_again, entry.retry_after, "{entry:?}");
        }
        let acked = |what| log.iter().filter(|e| e.what == what && e.is_good()).count();
        let path = format!("/payments?billId={}&status=succeeded", self.bill);
        let payments = self.desk.all("billing", &path).await.len();
        assert_eq!(payments, acked(What::Pay), "payments");
        let paid = self.desk.get("billing", &format!("/bills/{}", self.bill)).await.body;
        assert_eq!(usize::try_from(cents(&paid["paid"])).unwrap(), payments, "each is a cent");
        let registered = self.desk.all("patient", "/patients").await;
        let is_theirs = |patient: &&Value| {
            patient["familyName"].as_str().is_some_and(|n| n.starts_with("Traffic Register"))
        };
        assert_eq!(registered.iter().filter(is_theirs).count(), acked(What::Register), "patients");
        // The first was booked before.
        let wanted = acked(What::Book) + 1;
        for (service, list) in [("appointment", "/appointments"), ("billing", "/bills")] {
            let path = format!("{list}?patientId={}", self.patient);
            eventually_within(PATIENCE, &format!("{wanted} of {list}"), async || {
                (self.desk.all(service, &path).await.len() == wanted).then_some(())
            })
            .await;
        }
        log
    }
}

struct Person {
    what: What,
    desk: Desk,
    bill: String,
    patient: String,
    practitioner: String,
    log: Arc<Mutex<Vec<Entry>>>,
}

impl Person {
    async fn work(self, stop: CancellationToken) {
        let mut place = 0;
        while !stop.is_cancelled() {
            let sent = Instant::now();
            let answer = self.ask(place).await;
            let entry = Entry {
                what: self.what,
                sent,
                took: sent.elapsed(),
                status: answer.status,
                code: answer.code().to_owned(),
                retry_after: answer.retry_after.is_some(),
            };
            place += i64::from(entry.is_good());
            self.log.lock().unwrap().push(entry);
            tokio::time::sleep(PACE).await;
        }
    }

    async fn ask(&self, place: i64) -> Answer {
        let (desk, key) = (&self.desk, format!("{:?}-{place}", self.what));
        match self.what {
            What::Register => desk.patient(&key).await,
            What::Book => {
                let body = desk.booking(&self.patient, &self.practitioner, place);
                desk.book(&key, &body).await
            }
            What::Pay => desk.pay(&key, &payment(&self.bill, "0.01")).await,
            What::Read => desk.get("appointment", "/appointments?limit=1").await,
        }
    }
}
