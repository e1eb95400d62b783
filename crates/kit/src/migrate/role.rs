//! A service's database role and its password.

use std::time::Duration;

use postgres_protocol::password::scram_sha_256;
use tokio_postgres::{Client, NoTls, error::SqlState};

use crate::outcome::Broken;

/// Makes the role if it is not there, and lets it in with this password.
pub(super) async fn ensure(
    client: &Client,
    role: &str,
    owner_url: &str,
    password: Option<&str>,
) -> Result<(), Broken> {
    // Two databases of one server may get here at once, and CREATE ROLE has no IF NOT EXISTS.
    let create = format!(
        "DO $$ BEGIN CREATE ROLE {role} NOSUPERUSER NOCREATEDB NOCREATEROLE; \
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    );
    alter(client, &create).await?;
    let Some(password) = password else { return Ok(()) };
    // A role that is in use is left alone: a pooler may hold what its password was stored as.
    if is_let_in(owner_url, role, password).await {
        return Ok(());
    }
    // What is sent is what PostgreSQL stores, so that the password is in no log of statements.
    let stored = scram_sha_256(password.as_bytes());
    alter(client, &format!("ALTER ROLE {role} LOGIN PASSWORD '{stored}'")).await
}

/// Roles belong to the server: a migration of another of its databases may alter this one at the
/// same moment, and PostgreSQL then fails one of the two.
async fn alter(client: &Client, sql: &str) -> Result<(), Broken> {
    let mut tries = 0;
    loop {
        match client.batch_execute(sql).await {
            Err(e) if e.code() == Some(&SqlState::INTERNAL_ERROR) && tries < 50 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            ended => return ended.map_err(|e| Broken::defect("setting up a service's role", e)),
        }
    }
}

/// Whether the server lets the role in with this password, and not whatever the password is.
async fn is_let_in(owner_url: &str, role: &str, password: &str) -> bool {
    let Ok(owner) = owner_url.parse::<tokio_postgres::Config>() else { return false };
    let mut config = tokio_postgres::Config::new();
    for host in owner.get_hosts() {
        match host {
            tokio_postgres::config::Host::Tcp(name) => config.host(name),
            tokio_postgres::config::Host::Unix(path) => config.host_path(path),
        };
    }
    for port in owner.get_ports() {
        config.port(*port);
    }
    config.user(role).connect_timeout(Duration::from_secs(5));
    if let Some(name) = owner.get_dbname() {
        config.dbname(name);
    }
    // Without a password the client gives up when it is asked for one: where it is not asked,
    // being let in says nothing.
    if config.connect(NoTls).await.is_ok() {
        return false;
    }
    config.password(password).connect(NoTls).await.is_ok()
}
