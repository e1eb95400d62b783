//! The platform's database: a private cluster or a given server, with the schemas of this version.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;
use hospital_cluster::{Cluster, Options};
use hospital_kit::bus::postgres;
use tokio_postgres::NoTls;

use crate::{platform::write_private, services};

/// A database that the services can work on.
pub(crate) struct Database {
    /// The private cluster, unless a server was given.
    pub(crate) cluster: Option<Cluster>,
    pub(crate) owner_url: String,
    /// Each service's own URL.
    pub(crate) service_urls: BTreeMap<String, String>,
}

/// The name of the platform's database in a private cluster.
const NAME: &str = "hospital";

pub(crate) async fn prepare(
    dir: &Path,
    given: Option<&str>,
    with_bus: bool,
) -> anyhow::Result<Database> {
    let (cluster, owner_url) = match given {
        Some(url) => (None, url.to_owned()),
        None => {
            hospital_cluster::make_private(&dir.join("postgres"))?;
            let options =
                Options { dir: dir.join("postgres"), durable: true, ..Options::default() };
            let cluster = tokio::task::block_in_place(|| Cluster::open(&options))?;
            create_database(&cluster.owner_url("postgres")).await?;
            let url = cluster.owner_url(NAME);
            (Some(cluster), url)
        }
    };
    let passwords = passwords(&dir.join("passwords.json"))?;
    let mut service_urls = BTreeMap::new();
    for entry in services::ALL {
        let schema = (entry.schema)();
        let password = &passwords[entry.name];
        schema.migrate(&owner_url, Some(password)).await?;
        service_urls.insert(entry.name.to_owned(), url_as(&owner_url, &schema.role(), password)?);
    }
    if with_bus {
        let roles: Vec<String> = services::ALL.iter().map(|e| (e.schema)().role()).collect();
        postgres::install(&owner_url, &roles).await?;
    }
    Ok(Database { cluster, owner_url, service_urls })
}

async fn create_database(url: &str) -> anyhow::Result<()> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.context("connecting to PostgreSQL")?;
    #[expect(clippy::disallowed_methods, reason = "ends with the client")]
    tokio::spawn(connection);
    let found = client.query("SELECT 1 FROM pg_database WHERE datname = $1", &[&NAME]).await?;
    if found.is_empty() {
        client
            .batch_execute(&format!("CREATE DATABASE {NAME}"))
            .await
            .context("making the database")?;
    }
    Ok(())
}

/// The services' passwords: made once, kept for their owner's eyes only.
fn passwords(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    if let Ok(bytes) = std::fs::read(path) {
        return serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged", path.display()));
    }
    let mut all = BTreeMap::new();
    for entry in services::ALL {
        let mut bytes = [0_u8; 18];
        std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
        all.insert(entry.name.to_owned(), bytes.iter().map(|b| format!("{b:02x}")).collect());
    }
    write_private(path, &serde_json::to_vec_pretty(&all)?)?;
    Ok(all)
}

/// The same database for another role.
fn url_as(owner_url: &str, role: &str, password: &str) -> anyhow::Result<String> {
    let mut url = reqwest::Url::parse(owner_url).context("DATABASE_URL is not a URL")?;
    let set = url.set_username(role).and_then(|()| url.set_password(Some(password)));
    set.map_err(|()| anyhow::anyhow!("DATABASE_URL names no host"))?;
    Ok(url.into())
}
