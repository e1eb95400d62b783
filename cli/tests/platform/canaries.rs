//! What belongs to a person stays where it belongs (docs/rules.md, S1 and I18). Names, addresses,
//! tokens and card numbers that nothing else looks like are put into every request that takes text,
//! good ones and bad ones, while the services log all they can; then everything that they wrote,
//! except good answers and letters, is searched.

use hospital_testkit::mail_server::{MailServer, Mood};
use serde_json::{Value, json};

use crate::{
    apart::{Apart, SERVICES, Wishes},
    down::desk,
    running::{client, url},
};

const GIVEN: &str = "Zqxgiven";
const FAMILY: &str = "Zqxfamily";
const PHONE: &str = "+15550142857";
const EMAIL: &str = "zqxmail@example.org";
const STREET: &str = "Zqxstreet 7";
const RECORD: &str = "ZQX-MRN-1";
const REASON: &str = "Zqxreason";
const CARD: &str = "4111111111111111";
const CARD_SPACED: &str = "5555 5555 5555 4444";
const CARD_TOKEN: &str = "tok_zqxsecret";
const PASSWORD: &str = "zqxpassword";

const CANARIES: [&str; 13] = [
    GIVEN,
    FAMILY,
    PHONE,
    "15550142857",
    EMAIL,
    STREET,
    RECORD,
    REASON,
    CARD,
    CARD_SPACED,
    "5555555555554444",
    CARD_TOKEN,
    PASSWORD,
];

/// Asks, and keeps what nobody's data may be in: headers, and the bodies of errors.
struct Snoop {
    base_port: u16,
    token: String,
    kept: String,
}

impl Snoop {
    async fn ask(&mut self, method: &str, service: &str, path: &str, body: &Value) -> (u16, Value) {
        let raw = if body.is_null() { String::new() } else { body.to_string() };
        self.raw(method, service, path, &raw, "snoop").await
    }

    async fn raw(
        &mut self,
        method: &str,
        service: &str,
        path: &str,
        body: &str,
        key: &str,
    ) -> (u16, Value) {
        let url = format!("{}{path}", url(self.base_port, service));
        let request = client()
            .request(method.parse().unwrap(), url)
            .bearer_auth(&self.token)
            .header("content-type", "application/json")
            .header("idempotency-key", format!("{key} {}", self.kept.len()))
            .body(body.to_owned());
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        self.kept += &format!("{method} {service}: {status} {:?}\n", answer.headers());
        let text = answer.text().await.unwrap();
        assert_ne!(status, 500, "{path}: {text}");
        if status >= 400 {
            self.kept += &text;
        }
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

fn person() -> Value {
    json!({
        "givenName": GIVEN, "familyName": FAMILY, "birthDate": "1971-03-09", "gender": "female", "phone": PHONE, "email": EMAIL,
        "address": {"line": STREET, "city": FAMILY}, "identifiers": [{"system": "urn:mrn", "value": RECORD}],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn nobodys_data_is_in_a_log_a_header_a_metric_an_error_or_an_event() {
    let mail = MailServer::start(&[Mood::Busy, Mood::Refuses, Mood::Accepts]).await;
    let settings = format!(
        "log.level = \"trace\"\nnotification.retry_after_s = [0, 0]\n\
         notification.smtp = {{ host = \"127.0.0.1\", port = {}, tls = \"none\" }}\n",
        mail.address.port()
    );
    let apart = Apart::start(Wishes { settings, ..Wishes::default() }).await;
    let token = desk(&apart).await.token().to_owned();
    let mut snoop = Snoop { base_port: apart.base_port, token, kept: String::new() };
    let patient = people(&mut snoop).await;
    let bill = visits(&mut snoop, &patient, &apart).await;
    money(&mut snoop, &bill).await;
    tokens(&mut snoop).await;
    apart.verify();

    let mut wrote = vec![("headers and errors".to_owned(), snoop.kept.clone())];
    for service in SERVICES {
        let log = std::fs::read_to_string(apart.log(service)).unwrap();
        wrote.push((format!("the log of {service}"), log));
        let figures = client().get(format!("{}/metrics", apart.url(service))).send().await;
        wrote.push((format!("the metrics of {service}"), figures.unwrap().text().await.unwrap()));
    }
    assert!(
        wrote.iter().any(|(_, text)| text.contains("\"level\":\"DEBUG\"")),
        "they log all they can"
    );
    wrote.push(("events".to_owned(), events(&apart).await));
    let token_end = snoop.token.rsplit('.').next().unwrap();
    for (what, text) in wrote {
        assert!(!text.is_empty(), "{what}");
        for canary in CANARIES.into_iter().chain([token_end]) {
            if let Some(at) = text.find(canary) {
                let around: String = text[..at].chars().rev().take(300).collect();
                panic!("{canary} is in {what}, after {}", around.chars().rev().collect::<String>());
            }
        }
    }
}

/// Everything on the bus, headers and payloads, and dead letters among it.
async fn events(apart: &Apart) -> String {
    let (client, connection) =
        tokio_postgres::connect(&apart.owner_url("bus"), tokio_postgres::NoTls).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "ends with the client")]
    tokio::spawn(connection);
    let sql = "SELECT topic || headers::text || key || encode(value, 'escape') FROM bus.message";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0)).collect()
}

async fn people(snoop: &mut Snoop) -> String {
    let (status, patient) = snoop.ask("POST", "patient", "/patients", &person()).await;
    assert_eq!(status, 201);
    let id = patient["id"].as_str().unwrap().to_owned();
    // The same person and the same identifier again.
    assert_eq!(snoop.ask("POST", "patient", "/patients", &person()).await.0, 409);
    let mut same = person();
    same["identifiers"] = json!([]);
    assert_eq!(snoop.ask("POST", "patient", "/patients", &same).await.0, 409);
    for member in ["givenName", "familyName", "birthDate", "gender", "phone", "email", "language"] {
        for wrong in [json!(format!("{FAMILY}\u{0}")), json!({ "is": EMAIL }), json!([PHONE])] {
            let mut body = person();
            body[member] = wrong;
            let (status, _) = snoop.ask("POST", "patient", "/patients", &body).await;
            assert!(matches!(status, 400 | 422), "{member}: {status}");
        }
    }
    let mut unknown = person();
    unknown["nickname"] = json!(GIVEN);
    snoop.ask("POST", "patient", "/patients", &unknown).await;
    for body in [
        &format!("{{\"givenName\": \"{GIVEN}\", "),
        &format!("\"{FAMILY}\""),
        CARD,
        &format!("{GIVEN} {PHONE}"),
    ] {
        assert_eq!(snoop.raw("POST", "patient", "/patients", body, "k").await.0, 400, "{body}");
    }
    for path in [
        format!("/patients?name={FAMILY}"),
        format!("/patients?phone={}", PHONE.replace('+', "%2B")),
        format!("/patients?email={EMAIL}"),
        format!("/patients?limit={FAMILY}"),
        format!("/patients?cursor={FAMILY}"),
        format!("/patients?nickname={GIVEN}"),
        format!("/patients?birthDate={FAMILY}"),
        format!("/patients/{FAMILY}"),
        format!("/{FAMILY}/{GIVEN}"),
    ] {
        snoop.ask("GET", "patient", &path, &Value::Null).await;
    }
    let patch = json!({"email": format!("{EMAIL}.x\u{0}"), "familyName": FAMILY});
    assert_eq!(snoop.ask("PATCH", "patient", &format!("/patients/{id}"), &patch).await.0, 422);
    id
}

async fn visits(snoop: &mut Snoop, patient: &str, apart: &Apart) -> String {
    let practitioner = json!({"name": format!("Dr. {FAMILY}"), "specialty": "Oncology"});
    let (_, practitioner) = snoop.ask("POST", "appointment", "/practitioners", &practitioner).await;
    let price = json!({"name": "Visit", "price": {"amount": "120.00", "currency": "USD"}});
    let (status, _) = snoop.ask("PUT", "billing", "/service-types/traffic", &price).await;
    assert_eq!(status, 201);
    let mut body = crate::traffic::Desk::new(apart.base_port, "").booking(
        patient,
        practitioner["id"].as_str().unwrap(),
        0,
    );
    body["reason"] = json!(REASON);
    let (status, booked) = snoop.ask("POST", "appointment", "/appointments", &body).await;
    assert_eq!(status, 201, "{booked}");
    // Taken, and told so.
    assert_eq!(snoop.ask("POST", "appointment", "/appointments", &body).await.0, 409);
    for (member, wrong) in [
        ("reason", json!(format!("{REASON}\u{0}"))),
        ("reason", json!({ "is": REASON })),
        ("start", json!(REASON)),
        ("patientId", json!(FAMILY)),
        ("serviceType", json!(REASON)),
        // The name of a member is the client's programmer's, and may be repeated; its value may not.
        ("nickname", json!(GIVEN)),
    ] {
        let mut bad = body.clone();
        bad[member] = wrong;
        let (status, _) = snoop.ask("POST", "appointment", "/appointments", &bad).await;
        assert!(matches!(status, 400 | 422), "{member}: {status}");
    }
    for query in ["status", "date", "patientId", "practitionerId", "identifier", "limit"] {
        let path = format!("/appointments?{query}={REASON}");
        snoop.ask("GET", "appointment", &path, &Value::Null).await;
    }
    let id = booked["id"].as_str().unwrap();
    let desk = crate::traffic::Desk::new(apart.base_port, &snoop.token);
    let bill = desk.bill_of(id).await["id"].as_str().unwrap().to_owned();
    for body in
        [json!({"reason": REASON, "by": REASON}), json!({"reason": REASON, "by": "patient"})]
    {
        snoop.ask("POST", "appointment", &format!("/appointments/{id}/cancel"), &body).await;
    }
    // A second one, of which the bill stays.
    let mut later = body.clone();
    let other = desk.booking(patient, practitioner["id"].as_str().unwrap(), 8);
    (later["start"], later["end"]) = (other["start"].clone(), other["end"].clone());
    let (status, booked) = snoop.ask("POST", "appointment", "/appointments", &later).await;
    assert_eq!(status, 201, "{booked}");
    let second = desk.bill_of(booked["id"].as_str().unwrap()).await;
    assert_ne!(second["id"], bill.as_str());
    second["id"].as_str().unwrap().to_owned()
}

async fn money(snoop: &mut Snoop, bill: &str) {
    let good = crate::traffic::payment(bill, "10.00");
    for (member, value) in [
        ("reference", json!(CARD)),
        ("reference", json!(CARD_SPACED)),
        ("cardToken", json!(CARD)),
        ("cardToken", json!(CARD_SPACED)),
        ("billId", json!(CARD)),
        ("method", json!(CARD)),
        ("cardNumber", json!(CARD)),
        ("amount", json!({"amount": CARD_TOKEN, "currency": FAMILY})),
    ] {
        let mut body = good.clone();
        if member == "cardToken" {
            body["method"] = json!("card");
        }
        body[member] = value;
        let (status, _) = snoop.ask("POST", "billing", "/payments", &body).await;
        assert!(matches!(status, 400 | 422), "{member}: {status}");
    }
    let mut card = good.clone();
    (card["method"], card["cardToken"]) = (json!("card"), json!(CARD_TOKEN));
    assert_eq!(snoop.ask("POST", "billing", "/payments", &card).await.0, 402, "declined");
    let key = format!("{CARD} {PASSWORD}");
    snoop.raw("POST", "billing", "/payments", &good.to_string(), &key).await;
    for path in [
        "/payments?reference=",
        "/payments?status=",
        "/bills?status=",
        "/bills?patientId=",
        "/service-types/",
        "/payments/",
    ] {
        snoop.ask("GET", "billing", &format!("{path}{CARD}"), &Value::Null).await;
    }
}

/// Tokens that are refused are not repeated either.
async fn tokens(snoop: &mut Snoop) {
    let good = snoop.token.clone();
    for bad in [
        PASSWORD.to_owned(),
        format!("{good}{PASSWORD}"),
        format!("{PASSWORD}.{PASSWORD}.{PASSWORD}"),
    ] {
        snoop.token = bad;
        for (service, path) in
            [("patient", "/patients"), ("appointment", "/appointments"), ("billing", "/bills")]
        {
            let (status, _) = snoop.ask("GET", service, path, &Value::Null).await;
            assert_eq!(status, 401, "{service}");
        }
    }
    snoop.token = good;
}
