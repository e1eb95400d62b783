//! Brings a service's schema up to date: forward only, under a lock, as the database's owner.
//!
//! The owner makes the schema, the service's role and its rights; the role itself may only use what is in its schema.

mod rights;
mod role;

use refinery::{Migration, Runner};
use tokio_postgres::{Client, NoTls};

pub use self::rights::Rights;
use crate::{cause::Cause, db::Db, outcome::Broken, sql};

/// A service's schema as its code knows it.
#[derive(Clone)]
pub struct Schema {
    /// The schema's name, which is also the service's; its role is `hospital_<name>`.
    pub name: &'static str,
    /// The service's own migrations, in order.
    pub migrations: Vec<Migration>,
    /// What the service may do with its tables beyond reading them and adding to them.
    pub rights: Rights,
}

/// What every schema has beside its service's own tables, in order.
const PLUMBING: [(&str, &str); 6] = [
    ("V1__plumbing", include_str!("../migrations/plumbing.sql")),
    ("V2__dead_letters", include_str!("../migrations/dead_letters.sql")),
    ("V3__flow", include_str!("../migrations/flow.sql")),
    ("V4__who_really", include_str!("../migrations/who_really.sql")),
    ("V5__expect_rows", include_str!("../migrations/expect_rows.sql")),
    ("V6__jobs", include_str!("../migrations/jobs.sql")),
];

const VERSIONS: &str = "
    SELECT (SELECT coalesce(max(version), 0)::int FROM migration_history),
           (SELECT coalesce(max(version), 0)::int FROM plumbing_history)";

impl Schema {
    /// The number of the newest migration.
    pub fn version(&self) -> i32 {
        self.migrations.iter().map(Migration::version).max().unwrap_or(0)
    }

    pub fn role(&self) -> String {
        role(self.name)
    }

    /// The password in a service's own URL, if its role is who logs in with it.
    pub fn password_in(&self, url: &str) -> Option<String> {
        let config: tokio_postgres::Config = url.parse().ok()?;
        let password =
            config.get_password().filter(|_| config.get_user() == Some(self.role().as_str()))?;
        String::from_utf8(password.to_vec()).ok()
    }

    /// Brings the schema up to date. Safe to run again and by several at once. With a password the
    /// role may log in by itself, with that one from now on; without one, whoever logs in must be
    /// a member of it.
    pub async fn migrate(
        &self,
        owner_url: &str,
        role_password: Option<&str>,
    ) -> Result<(), Broken> {
        let mut client = connect(owner_url).await?;
        let schema = self.name;
        let failed = |e| Broken::defect("migrating a schema", e);
        // One at a time in this database.
        client
            .batch_execute("SELECT pg_advisory_lock(hashtextextended('hospital migrate', 0))")
            .await
            .map_err(failed)?;
        role::ensure(&client, &role(schema), owner_url, role_password).await?;
        client
            .batch_execute(&format!(
                "CREATE EXTENSION IF NOT EXISTS btree_gist;
                 CREATE SCHEMA IF NOT EXISTS {schema};
                 GRANT USAGE ON SCHEMA {schema} TO hospital_{schema};
                 SET search_path = {schema}, public"
            ))
            .await
            .map_err(failed)?;
        rights::set_defaults(&client, schema).await.map_err(failed)?;
        let plumbing: Result<Vec<Migration>, _> =
            PLUMBING.iter().map(|(name, sql)| Migration::unapplied(name, sql)).collect();
        let plumbing =
            plumbing.map_err(|e| Broken::defect("reading the plumbing's migrations", e))?;
        run(&mut client, &plumbing, "plumbing_history").await?;
        run(&mut client, &self.migrations, "migration_history").await?;
        let (found, plumbing_found) = versions(&client).await.map_err(failed)?;
        // A newer version knows more tables, and has said what may be done with them.
        if found <= self.version() && plumbing_found <= plumbing_version(&plumbing) {
            rights::apply(&client, schema, self.rights).await.map_err(failed)?;
        }
        client
            .batch_execute("SELECT pg_advisory_unlock(hashtextextended('hospital migrate', 0))")
            .await
            .map_err(failed)
    }

    /// Answers whether the schema is the one that this code knows. A newer one is accepted, so that old and new replicas run side by side
    /// during a roll-out: migrations keep the version before working.
    pub async fn check(&self, db: &Db) -> Result<(), Broken> {
        let rows = db.reader(&Cause::system("migrate")).read(sql!(VERSIONS)).await?;
        let (found, plumbing): (i32, i32) = rows.first().map_or((0, 0), |r| (r.get(0), r.get(1)));
        if usize::try_from(plumbing).is_ok_and(|plumbing| plumbing < PLUMBING.len()) {
            return Err(Broken::unavailable(
                "checking the schema",
                format!("schema {} has old plumbing: run `hospital migrate`", self.name),
            ));
        }
        if found < self.version() {
            return Err(Broken::unavailable(
                "checking the schema",
                format!(
                    "schema {} is at version {found} and this program needs {}: run `hospital migrate`",
                    self.name,
                    self.version()
                ),
            ));
        }
        Ok(())
    }
}

/// The database role of a service.
pub fn role(schema: &str) -> String {
    format!("hospital_{schema}")
}

async fn connect(url: &str) -> Result<Client, Broken> {
    let config: tokio_postgres::Config = url
        .parse()
        .map_err(|_| Broken::defect("reading the database URL", "it is not a PostgreSQL URL"))?;
    let (client, connection) =
        config.connect(NoTls).await.map_err(|e| Broken::unavailable("connecting to migrate", e))?;
    #[expect(clippy::disallowed_methods, reason = "ends with the client, which the caller holds")]
    tokio::spawn(async move {
        // The client's next call reports what broke.
        let _ = connection.await;
    });
    Ok(client)
}

/// The newest migrations that a schema has: its own, and of the plumbing.
async fn versions(client: &Client) -> Result<(i32, i32), tokio_postgres::Error> {
    let row = client.query_one(VERSIONS, &[]).await?;
    Ok((row.get(0), row.get(1)))
}

fn plumbing_version(plumbing: &[Migration]) -> i32 {
    plumbing.iter().map(Migration::version).max().unwrap_or(0)
}

async fn run(client: &mut Client, migrations: &[Migration], table: &str) -> Result<(), Broken> {
    let mut runner = Runner::new(migrations);
    runner.set_migration_table_name(table);
    runner.run_async(client).await.map(|_| ()).map_err(|e| Broken::defect("migrating a schema", e))
}
