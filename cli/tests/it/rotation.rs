//! A service's database password is changed as `docs/deploy.md` says: in its URL, and by migrating.

use std::process::Command;

use hospital_cluster::{Cluster, Options};
use tokio::task::block_in_place;
use tokio_postgres::{Client, NoTls, error::SqlState};

use crate::HOSPITAL;

const SERVICES: [&str; 4] = ["patient", "appointment", "billing", "notification"];

/// A server of the test's own: roles are the whole server's.
fn server(dir: &tempfile::TempDir) -> Cluster {
    let options = Options { dir: dir.path().join("postgres"), durable: true, ..Options::default() };
    block_in_place(|| Cluster::open(&options).unwrap())
}

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    #[expect(clippy::disallowed_methods, reason = "ends with the client")]
    tokio::spawn(connection);
    Ok(client)
}

fn migration(server: &Cluster, database: &str, passwords: [&str; 4]) -> Command {
    let mut migrate = Command::new(HOSPITAL);
    migrate.arg("migrate");
    migrate.env("HOSPITAL_ADMIN_DATABASE_URL", server.owner_url(database));
    for (service, password) in SERVICES.into_iter().zip(passwords) {
        // What a URL cannot hold as it is stands escaped in it.
        let password = password.replace('%', "%25").replace('\'', "%27").replace('@', "%40");
        let url = server.url(&format!("hospital_{service}"), &password, database);
        migrate.env(format!("HOSPITAL_{}__DATABASE_URL", service.to_uppercase()), url);
    }
    migrate
}

fn must(migrate: &mut Command) {
    let output = block_in_place(|| migrate.output().unwrap());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What PostgreSQL stores of the roles' passwords.
async fn stored(owner: &Client) -> Vec<String> {
    let sql = "SELECT rolname || ' ' || rolpassword FROM pg_authid WHERE rolname ^@ 'hospital_' AND NOT rolsuper ORDER BY rolname";
    owner.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_changed_by_changing_the_url_and_migrating() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let was = ["first"; 4];
    must(&mut migration(&server, "postgres", was));
    let owner = connect(&server.owner_url("postgres")).await.unwrap();
    let first = stored(&owner).await;
    assert_eq!(first.len(), 4, "{first:?}");
    let at_work = connect(&server.url("hospital_billing", "first", "postgres")).await.unwrap();

    // Unchanged, it is left alone to the byte: a pooler may hold what is stored.
    must(&mut migration(&server, "postgres", was));
    assert_eq!(stored(&owner).await, first);

    must(&mut migration(&server, "postgres", ["first", "first", "it's %new@", "first"]));
    let refused = connect(&server.url("hospital_billing", "first", "postgres")).await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD), "{refused:?}");
    connect(&server.url("hospital_billing", "it%27s %25new%40", "postgres")).await.unwrap();
    // Who is at work works on, and nobody else's password has changed.
    at_work.batch_execute("SELECT count(*) FROM billing.bill").await.unwrap();
    let second = stored(&owner).await;
    let changed: Vec<_> = first.iter().zip(&second).filter(|(a, b)| a != b).collect();
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert!(second.iter().all(|line| line.contains(" SCRAM-SHA-256$")), "{second:?}");
    let log = std::fs::read_to_string(server.log()).unwrap();
    assert!(!log.contains("%new@"), "the password is in no log");
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_of_one_server_are_migrated_at_once_with_a_new_password() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir);
    let owner = connect(&server.owner_url("postgres")).await.unwrap();
    let databases = ["one", "two", "three", "four"];
    for name in databases {
        owner.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    }
    for passwords in [["old"; 4], ["new"; 4]] {
        let running: Vec<_> = databases
            .into_iter()
            .map(|name| {
                let mut migrate = migration(&server, name, passwords);
                migrate.stderr(std::process::Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for child in running {
            let output = block_in_place(|| child.wait_with_output().unwrap());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        for service in SERVICES {
            for name in databases {
                connect(&server.url(&format!("hospital_{service}"), passwords[0], name))
                    .await
                    .unwrap();
            }
        }
    }
    let refused = connect(&server.url("hospital_patient", "old", "one")).await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD), "{refused:?}");
}
