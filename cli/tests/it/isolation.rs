use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use hospital_testkit::{PATIENCE, Running, TestDb, empty_database, output};
use tokio_postgres::{Client, NoTls, error::SqlState};

use crate::HOSPITAL;

pub(crate) const SERVICES: [&str; 4] = ["patient", "appointment", "billing", "notification"];

/// A database with all four schemas and the bus, made as a roll-out makes them.
pub(crate) async fn migrated() -> TestDb {
    let db = empty_database().await.unwrap();
    migrate(&db);
    db
}

pub(crate) fn migrate(db: &TestDb) {
    let mut migrate = Command::new(HOSPITAL);
    migrate.args(["migrate", "--owner-url", &db.owner_url()]);
    for service in SERVICES {
        let key = format!("HOSPITAL_{}__DATABASE_URL", service.to_uppercase());
        migrate.env(key, db.url_as(&format!("hospital_{service}"), "secret"));
    }
    let output = output(&mut migrate);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) async fn connect(db: &TestDb, service: &str) -> Client {
    let url = db.url_as(&format!("hospital_{service}"), "secret");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "ends with the client")]
    tokio::spawn(connection);
    client
}

async fn is_refused(client: &Client, sql: &str) -> bool {
    match client.batch_execute(sql).await {
        Ok(()) => false,
        Err(e) => {
            assert_eq!(e.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}: {e:?}");
            true
        }
    }
}

#[tokio::test]
async fn a_service_s_role_can_touch_nothing_of_another() {
    let db = migrated().await;
    let owner = connect_owner(&db).await;
    for service in SERVICES {
        let client = connect(&db, service).await;
        for other in SERVICES.into_iter().filter(|other| *other != service) {
            let tables = owner
                .query("SELECT tablename FROM pg_tables WHERE schemaname = $1", &[&other])
                .await
                .unwrap();
            assert!(tables.len() >= 4, "{other} has tables");
            for row in tables {
                let table = format!("{other}.{}", row.get::<_, String>(0));
                for sql in [
                    format!("SELECT 1 FROM {table}"),
                    format!("DELETE FROM {table}"),
                    format!("INSERT INTO {table} DEFAULT VALUES"),
                    format!("TRUNCATE {table}"),
                    format!("DROP TABLE {table}"),
                ] {
                    assert!(is_refused(&client, &sql).await, "{service} may {sql}");
                }
            }
            assert!(is_refused(&client, &format!("CREATE TABLE {other}.x ()")).await);
            assert!(is_refused(&client, &format!("SET ROLE hospital_{other}")).await);
        }
    }
}

#[tokio::test]
async fn a_service_s_role_may_work_on_its_rows_and_not_on_its_schema() {
    let db = migrated().await;
    for service in SERVICES {
        let client = connect(&db, service).await;
        for sql in [
            "CREATE ROLE intruder",
            "CREATE DATABASE other",
            "CREATE SCHEMA other",
            "CREATE TABLE public.x ()",
            &format!("CREATE TABLE {service}.x ()"),
            &format!("DROP TABLE {service}.inbox"),
            &format!("ALTER TABLE {service}.inbox ADD x text"),
            &format!("UPDATE {service}.outbox SET topic = 'x'"),
            &format!("DELETE FROM {service}.outbox"),
            &format!("TRUNCATE {service}.outbox"),
            &format!(
                "INSERT INTO {service}.intervention (actor, act, reason, detail) VALUES ('x', 'drop', 'x', '{{}}')"
            ),
            &format!("UPDATE {service}.intervention SET reason = 'x'"),
            &format!("DELETE FROM {service}.intervention"),
            &format!("TRUNCATE {service}.intervention"),
        ] {
            assert!(is_refused(&client, sql).await, "{service} may {sql}");
        }
        client.query(&format!("SELECT 1 FROM {service}.outbox"), &[]).await.unwrap();
    }
}

#[tokio::test]
async fn what_people_did_cannot_be_changed_even_by_the_owner() {
    let db = migrated().await;
    let owner = connect_owner(&db).await;
    owner
        .batch_execute("INSERT INTO billing.intervention (actor, act, reason, detail) VALUES ('x', 'drop', 'x', '{}')")
        .await
        .unwrap();
    for sql in [
        "UPDATE billing.intervention SET reason = 'y'",
        "DELETE FROM billing.intervention",
        "TRUNCATE billing.intervention",
    ] {
        assert!(is_refused(&owner, sql).await, "{sql}");
    }
}

#[tokio::test]
async fn migrating_again_changes_nothing_and_a_service_waits_for_the_schema_that_it_needs() {
    let db = migrated().await;
    let mut again = Command::new(HOSPITAL);
    let again = output(again.args(["migrate", "--owner-url", &db.owner_url()]));
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    let owner = connect_owner(&db).await;
    owner.batch_execute("DELETE FROM patient.migration_history").await.unwrap();
    let keys = tempfile::tempdir().unwrap();
    let mut serve = Command::new(HOSPITAL);
    serve
        .args(["serve", "patient"])
        .env("HOSPITAL_PATIENT__DATABASE_URL", db.url_as("hospital_patient", "secret"))
        .env("HOSPITAL_PATIENT__LISTEN", "127.0.0.1:0")
        .env("HOSPITAL_AUTH__SIGNING_KEY_FILE", signing_key(&keys))
        .stderr(Stdio::piped());
    let mut served = Running::start(&mut serve);
    let log = BufReader::new(served.child().stderr.take().unwrap());
    let waiting = |line: &String| line.contains("hospital migrate");
    let found =
        tokio::task::spawn_blocking(move || log.lines().map_while(Result::ok).find(waiting));
    let first = tokio::time::timeout(PATIENCE, found).await.expect("it says what it waits for");
    let first = first.unwrap().unwrap_or_default();
    drop(served);
    assert!(first.contains("schema patient is at version 0"), "{first}");
}

/// Makes a key in a directory of the test's own.
pub(crate) fn signing_key(dir: &tempfile::TempDir) -> std::path::PathBuf {
    let path = dir.path().join("key.pem");
    hospital_kit::auth::SigningKey::generate().unwrap().save(&path).unwrap();
    path
}

pub(crate) async fn connect_owner(db: &TestDb) -> Client {
    let (client, connection) = tokio_postgres::connect(&db.owner_url(), NoTls).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "ends with the client")]
    tokio::spawn(connection);
    client
}
