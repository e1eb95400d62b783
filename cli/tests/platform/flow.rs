use std::collections::BTreeMap;

use serde_json::Value;

use hospital_testkit::{PATIENCE, Running, output};

use crate::running::{Platform, cents, client, records};

#[tokio::test(flavor = "multi_thread")]
async fn an_import_ends_in_what_the_records_say_and_a_second_one_changes_nothing() {
    let mut platform = Platform::start();
    let imported = output(&mut platform.import(8));
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    platform.assert_imported().await;
    assert!(platform.verify().status.success(), "{}", platform.must(&["verify"]));
    let appointments = platform.all(2, "/appointments").await;
    assert!(appointments.iter().all(|a| a["status"] == "completed"));
    assert_eq!(platform.all(4, "/notifications").await, Vec::<Value>::new(), "back-dated");

    let before = everything(&platform).await;
    let again = output(&mut platform.import(3));
    assert!(String::from_utf8_lossy(&again.stdout).contains("Nothing changed"));
    assert_eq!(platform.report()["changed"], false);
    assert_eq!(everything(&platform).await, before);
    platform.assert_imported().await;

    let rows = platform.report()["refused"].as_array().unwrap().clone();
    let codes: Vec<&str> = rows.iter().map(|row| row["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["overpayment", "overpayment", "slot-unavailable", "slot-unavailable"]);
    assert!(rows.iter().all(|row| row["line"].as_u64() > Some(1) && row["reason"].is_string()));

    let took = platform.stop();
    assert!(took.as_secs() < 10, "stopping took {took:?}");
    assert!(!platform.data().join("platform.json").exists());
}

/// As people publish them: with the files of what happened, and without those of who is who.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_without_the_files_of_practitioners_ends_in_the_same_and_says_so() {
    let published = tempfile::tempdir().unwrap();
    for name in ["patients.csv", "encounters.csv", "claims_transactions.csv"] {
        std::fs::copy(records().join(name), published.path().join(name)).unwrap();
    }
    let platform = Platform::start();
    let imported = platform.import_of(published.path(), 8).output().unwrap();
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    platform.assert_imported().await;
    assert!(platform.verify().status.success(), "{}", platform.must(&["verify"]));
    let note = platform.report()["notes"][0].as_str().unwrap().to_owned();
    assert!(note.contains("no providers.csv: 10 practitioners"), "{note}");
    assert!(String::from_utf8_lossy(&imported.stdout).contains(&note));
    // The file comes after all: they are who they are.
    let again = platform.import(8).output().unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    let report = platform.report();
    assert_eq!((&report["changed"], &report["notes"]), (&false.into(), &serde_json::json!([])));
    platform.assert_imported().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_workers_does_not_matter() {
    let (one, many) = (Platform::start(), Platform::start());
    let imports = [one.import(1), many.import(16)].map(|mut import| Running::start(&mut import));
    for mut import in imports {
        assert!(import.wait(PATIENCE).success());
    }
    assert_eq!(by_identifier(&one).await, by_identifier(&many).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_tells_a_journey_and_leaves_a_platform_that_verifies() {
    let platform = Platform::start();
    let story = platform.must(&["demo", "--pause-ms", "0"]);
    for word in [
        "appointment.booked",
        "409 slot-unavailable",
        "bill.generated",
        "402 payment-declined",
        "409 overpayment",
        "the bill is paid",
    ] {
        assert!(story.contains(word), "{word}: {story}");
    }
    assert_eq!(platform.all(4, "/notifications").await.len(), 5);
    assert!(platform.verify().status.success());
    let days = std::fs::read_dir(platform.data().join("mailbox")).unwrap();
    let letters = days.map(|day| {
        let folder = std::fs::read_to_string(day.unwrap().path()).unwrap();
        folder.lines().filter(|line| line.starts_with("From ")).count()
    });
    assert_eq!(letters.sum::<usize>(), 5, "messages in the mailbox");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_tells_of_its_health_its_figures_and_its_api() {
    let platform = Platform::start();
    for port in 1..=4 {
        let base = format!("http://127.0.0.1:{}", platform.base_port + port);
        let probes = format!("http://127.0.0.1:{}", platform.base_port + 4 + port);
        for (base, path, word) in [
            (&base, "/health/live", ""),
            (&base, "/health/ready", "database"),
            (&base, "/metrics", "# type service_info gauge"),
            (&base, "/openapi.json", "\"openapi\":"),
            (&base, "/docs", "<html"),
            (&probes, "/health/live", ""),
            (&probes, "/health/ready", "database"),
            (&probes, "/metrics", "# type service_info gauge"),
        ] {
            let answer = client().get(format!("{base}{path}")).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{base}{path}");
            let body = answer.text().await.unwrap();
            assert!(body.to_lowercase().contains(word), "{base}{path}: {body}");
        }
    }
    let logs: String = std::fs::read_dir(platform.data().join("logs"))
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    assert!(
        logs.lines().count() >= 4 && logs.lines().all(|l| serde_json::from_str::<Value>(l).is_ok())
    );
}

/// What services ask each other.
const ASKED_BY_SERVICES: [&str; 3] = [
    "patient GET /patients/{id}",
    "patient GET /patients/standing",
    "appointment GET /practitioners/{id}",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_of_every_document_asks_who_is_there_and_never_breaks() {
    let platform = Platform::start();
    let nobodys = platform.must(&["token", "--role", "service"]);
    let everybodys = platform.must(&[
        "token",
        "--role",
        "admin",
        "--role",
        "cashier",
        "--role",
        "billing-manager",
        "--role",
        "practitioner",
    ]);
    let mut operations = 0;
    for (port, service) in (1..).zip(["patient", "appointment", "billing", "notification"]) {
        let base = format!("http://127.0.0.1:{}", platform.base_port + port);
        let document: Value = client()
            .get(format!("{base}/openapi.json"))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                operations += 1;
                let id = "018f4c5e-0000-7000-8000-000000000001";
                let url = format!("{base}{}", path.replace("{id}", id).replace("{code}", "x"));
                let method = method.to_uppercase().parse::<reqwest::Method>().unwrap();
                let what = format!("{service} {method} {path}");
                assert!(
                    operation["summary"].is_string() || operation["description"].is_string(),
                    "{what}"
                );
                let ask = async |token: &str, body: &'static str| {
                    let mut request =
                        client().request(method.clone(), &url).header("idempotency-key", "walk");
                    if !token.is_empty() {
                        request = request.bearer_auth(token.trim());
                    }
                    if method != reqwest::Method::GET {
                        request = request.header("content-type", "application/json").body(body);
                    }
                    let answer = request.send().await.unwrap();
                    let (status, kind) =
                        (answer.status().as_u16(), answer.headers()["content-type"].clone());
                    assert!(
                        status < 400 || kind == "application/problem+json",
                        "{what}: {status} as {kind:?}"
                    );
                    (status, answer.text().await.unwrap())
                };
                assert_eq!(ask("", "{}").await.0, 401, "{what}");
                let (status, _) = ask(&nobodys, "{}").await;
                assert!(status == 403 || ASKED_BY_SERVICES.contains(&&*what), "{what}: {status}");
                for body in ["{}", "[]", "null", "{\"id\": 1}"] {
                    let (status, text) = ask(&everybodys, body).await;
                    assert!(status < 500 && status != 401, "{what} with {body}: {status} {text}");
                    assert!(
                        method == reqwest::Method::GET || status >= 400,
                        "{what} with {body}: {text}"
                    );
                    assert_eq!(ask(&everybodys, body).await.0, status, "{what} with {body}, again");
                }
            }
        }
    }
    assert!(operations >= 25, "{operations} operations were walked");
    assert!(platform.verify().status.success());
}

/// All that is there, as it is answered.
async fn everything(platform: &Platform) -> Vec<Vec<Value>> {
    let mut all = Vec::new();
    for (port, path) in [
        (1, "/patients"),
        (2, "/practitioners"),
        (2, "/appointments"),
        (3, "/bills"),
        (3, "/payments"),
    ] {
        all.push(platform.all(port, path).await);
    }
    all
}

/// What became of each record, by the record's own id: ids and times of this platform left out.
async fn by_identifier(platform: &Platform) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let bills = platform.all(3, "/bills").await;
    let bill_of: BTreeMap<&str, &Value> =
        bills.iter().map(|bill| (bill["appointmentId"].as_str().unwrap(), bill)).collect();
    for appointment in platform.all(2, "/appointments").await {
        let bill = bill_of[appointment["id"].as_str().unwrap()];
        let lines: Vec<i64> =
            bill["lines"].as_array().unwrap().iter().map(|l| cents(&l["amount"])).collect();
        let told = format!(
            "{} {} {} {} {lines:?} {} {}",
            appointment["start"],
            appointment["end"],
            appointment["serviceType"],
            bill["status"],
            cents(&bill["total"]),
            cents(&bill["paid"])
        );
        all.insert(appointment["identifiers"][0]["value"].to_string(), told);
    }
    for payment in platform.all(3, "/payments").await {
        let told =
            format!("{} {} {}", payment["status"], payment["method"], cents(&payment["amount"]));
        all.insert(payment["reference"].to_string(), told);
    }
    for patient in platform.all(1, "/patients").await {
        all.insert(
            patient["identifiers"][0]["value"].to_string(),
            patient["birthDate"].to_string(),
        );
    }
    all
}
