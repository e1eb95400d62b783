//! `hospital jobs`, on a database that no service works on.

use std::process::{Command, Output};

use hospital_testkit::{TestDb, output};
use serde_json::Value;

use crate::{
    HOSPITAL,
    isolation::{connect_owner, migrated},
};

/// One of each state.
const JOBS: &str = "
    INSERT INTO billing.job (kind, key, payload, held_until, lease, attempts, reason, died_at) VALUES
        ('payment.reconcile', 'waits', '{\"payment\": 1}', now() + interval '1 hour', NULL, 1, NULL, NULL),
        ('payment.reconcile', 'runs', '{}', now() + interval '1 minute', gen_random_uuid(), 1, NULL, NULL),
        ('payment.reconcile', 'died', '{}', now(), NULL, 9, 'the gateway is gone', now());
    INSERT INTO notification.job (kind, key, payload, held_until, lease) VALUES
        ('contact.sync', 'left', '{}', now() - interval '1 minute', gen_random_uuid());
    INSERT INTO notification.job (kind, key, payload, due_at) VALUES
        ('contact.sync', 'tomorrow', '{}', now() + interval '1 day')";

fn jobs(db: &TestDb, args: &[&str]) -> Output {
    let mut command = Command::new(HOSPITAL);
    command.args(["jobs"]).args(args).env("DATABASE_URL", db.owner_url());
    output(&mut command)
}

fn parsed(db: &TestDb, args: &[&str]) -> Value {
    let output = jobs(db, args);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {args:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// The keys that are listed, and how they stand.
fn listed(db: &TestDb, args: &[&str]) -> Vec<(String, String)> {
    let text = |job: &Value, name: &str| job[name].as_str().unwrap().to_owned();
    let jobs = parsed(db, &[&["list", "--json"], args].concat());
    let mut keys: Vec<_> =
        jobs.as_array().unwrap().iter().map(|job| (text(job, "key"), text(job, "state"))).collect();
    keys.sort();
    keys
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(key, state)| ((*key).to_owned(), (*state).to_owned())).collect()
}

async fn with_jobs() -> TestDb {
    let db = migrated().await;
    connect_owner(&db).await.batch_execute(JOBS).await.unwrap();
    db
}

#[tokio::test]
async fn jobs_are_listed_by_service_kind_and_state() {
    let db = with_jobs().await;
    let all = [
        ("died", "dead"),
        ("left", "due"),
        ("runs", "running"),
        ("tomorrow", "waiting"),
        ("waits", "waiting"),
    ];
    assert_eq!(listed(&db, &[]), pairs(&all));
    assert_eq!(listed(&db, &["--service", "notification"]), pairs(&[all[1], all[3]]));
    assert_eq!(listed(&db, &["--kind", "payment.reconcile", "--state", "dead"]), pairs(&[all[0]]));
    assert_eq!(listed(&db, &["--because", "GATEWAY"]), pairs(&[all[0]]));
    let text = String::from_utf8(jobs(&db, &["list"]).stdout).unwrap();
    assert!(
        text.contains("5 jobs, 1 of them dead") && text.contains("the gateway is gone"),
        "{text}"
    );
}

#[tokio::test]
async fn a_dead_job_is_retried_with_a_reason_that_is_kept() {
    let db = with_jobs().await;
    let owner = connect_owner(&db).await;
    assert_eq!(jobs(&db, &["retry", "--all"]).status.code(), Some(2), "it wants a reason");
    assert_eq!(jobs(&db, &["retry", "--reason", "why"]).status.code(), Some(2), "it wants some");
    let dry = parsed(&db, &["retry", "--all", "--dry-run", "--json"]);
    assert_eq!(dry["retried"][0]["key"], "died");
    assert_eq!(listed(&db, &["--state", "dead"]).len(), 1);
    let done = parsed(&db, &["retry", "--all", "--reason", "it is back", "--by", "anna", "--json"]);
    assert_eq!(
        (done["retried"].as_array().unwrap().len(), &done["left"]),
        (1, &Value::Array(vec![]))
    );
    assert_eq!(listed(&db, &["--state", "due"]), pairs(&[("died", "due"), ("left", "due")]));
    let kept = "SELECT concat_ws('|', actor, act, reason, detail ->> 'job', detail ->> 'attempts', detail ->> 'because',
                                 os_user IS NOT NULL)
                FROM billing.intervention";
    let kept: String = owner.query_one(kept, &[]).await.unwrap().get(0);
    assert_eq!(kept, "anna|retry|it is back|died|9|the gateway is gone|t");
    let shown = parsed(&db, &["show", "died", "--json"]);
    assert_eq!(
        (&shown["jobs"][0]["attempts"], &shown["done"][0]["by"]),
        (&0.into(), &"anna".into())
    );
    // By its key, also what waits is begun at once.
    assert!(jobs(&db, &["retry", "tomorrow", "--reason", "now"]).status.success());
    assert_eq!(listed(&db, &["--state", "due"]).len(), 3);
}

#[tokio::test]
async fn a_job_is_cancelled_with_a_reason_unless_somebody_works_on_it() {
    let db = with_jobs().await;
    let missing = jobs(&db, &["cancel", "nothing", "--reason", "why"]);
    assert_eq!(missing.status.code(), Some(2));
    let done = jobs(&db, &["cancel", "waits", "runs", "--reason", "paid in cash"]);
    assert_eq!(done.status.code(), Some(1), "one was left alone");
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(text.contains("1 cancelled") && text.contains("somebody works on it"), "{text}");
    let left = [("died", "dead"), ("left", "due"), ("runs", "running"), ("tomorrow", "waiting")];
    assert_eq!(listed(&db, &[]), pairs(&left));
    let shown = parsed(&db, &["show", "waits", "--json"]);
    assert_eq!(shown["done"][0]["detail"]["payload"]["payment"], 1);
    let audit = Command::new(HOSPITAL)
        .args(["dlq", "audit"])
        .env("DATABASE_URL", db.owner_url())
        .output()
        .unwrap();
    let text = String::from_utf8(audit.stdout).unwrap();
    assert!(text.contains("payment.reconcile waits") && text.contains("paid in cash"), "{text}");
}
