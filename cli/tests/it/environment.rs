use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::mpsc,
};

use hospital_testkit::{PATIENCE, Running};
use serde_json::Value;

use crate::{
    HOSPITAL,
    isolation::{migrated, signing_key},
};

/// How Services may be called in the namespace of a release of ours: as the chart calls them, and as others would.
const SERVICES: [&str; 9] = [
    "hospital",
    "hospital-patient",
    "hospital-appointment",
    "hospital-billing",
    "hospital-notification",
    "patient",
    "appointment",
    "billing",
    "notification",
];

/// What Kubernetes puts into every container of the namespace for a Service with two ports.
fn links(service: &str) -> Vec<(String, String)> {
    let x = service.to_uppercase().replace('-', "_");
    let address = "10.96.17.4";
    let mut links = vec![
        (format!("{x}_SERVICE_HOST"), address.to_owned()),
        (format!("{x}_SERVICE_PORT"), "8081".to_owned()),
        (format!("{x}_SERVICE_PORT_HTTP"), "8081".to_owned()),
        (format!("{x}_SERVICE_PORT_PROBES"), "9081".to_owned()),
        (format!("{x}_PORT"), format!("tcp://{address}:8081")),
    ];
    for (port, protocol) in [("8081", "tcp"), ("9081", "tcp"), ("9082", "udp"), ("9083", "sctp")] {
        let of = format!("{x}_PORT_{port}_{}", protocol.to_uppercase());
        links.push((of.clone(), format!("{protocol}://{address}:{port}")));
        links.push((format!("{of}_PROTO"), protocol.to_owned()));
        links.push((format!("{of}_PORT"), port.to_owned()));
        links.push((format!("{of}_ADDR"), address.to_owned()));
    }
    links
}

/// Starts a service with more in its environment, until it serves; gives its log to there.
fn log_until_serving(service: &str, url: &str, more: &[(String, String)]) -> Vec<Value> {
    let upper = service.to_uppercase();
    let keys = tempfile::tempdir().unwrap();
    let mut serve = Command::new(HOSPITAL);
    serve
        .args(["serve", service])
        .env(format!("HOSPITAL_{upper}__DATABASE_URL"), url)
        .env(format!("HOSPITAL_{upper}__LISTEN"), "127.0.0.1:0")
        .env("HOSPITAL_AUTH__SIGNING_KEY_FILE", signing_key(&keys))
        .envs(more.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut running = Running::start(&mut serve);
    let lines = BufReader::new(running.child().stderr.take().unwrap()).lines();
    let (said, heard) = mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| said.send(line)));
    let mut log = Vec::new();
    loop {
        let line =
            heard.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("{service}: {e}: {log:?}"));
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let serving = line["message"] == "serving";
        log.push(line);
        if serving {
            return log;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_starts_among_kubernetes_services_that_are_called_like_ours() {
    let db = migrated().await;
    let links: Vec<_> = SERVICES.into_iter().flat_map(links).collect();
    for service in ["patient", "appointment", "billing", "notification"] {
        let url = db.url_as(&format!("hospital_{service}"), "secret");
        let log = tokio::task::block_in_place(|| log_until_serving(service, &url, &links));
        let about = |line: &&Value| line["message"].as_str().unwrap().contains("no settings");
        assert_eq!(log.iter().find(about), None, "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_is_nobody_s_setting_is_one_warning_in_the_log() {
    let db = migrated().await;
    let url = db.url_as("hospital_billing", "secret");
    let more = [("HOSPITAL_BILLING_POOL_SIZE", "7"), ("HOSPITAL_WARD", "hunter2")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let log = tokio::task::block_in_place(|| log_until_serving("billing", &url, &more));
    let warnings: Vec<_> = log.iter().filter(|line| line["level"] == "WARN").collect();
    assert_eq!(warnings.len(), 1, "{log:?}");
    assert_eq!(
        warnings[0]["message"],
        "these variables are no settings and change nothing: HOSPITAL_BILLING_POOL_SIZE \
         (did you mean HOSPITAL_BILLING__POOL_SIZE?), HOSPITAL_WARD"
    );
    assert!(!format!("{log:?}").contains("hunter2"));
}
