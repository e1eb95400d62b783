//! `hospital migrate`: brings the four schemas and the PostgreSQL bus up to date.

use std::path::PathBuf;

use anyhow::Context as _;
use hospital_kit::{
    bus::postgres,
    config::{BusKind, Secret},
};

use crate::{platform, services};

/// Brings the schemas up to date, as the database's owner; run it before a roll-out
#[derive(clap::Args)]
pub(crate) struct MigrateArgs {
    /// The owner's URL of the database [default: DATABASE_URL]
    #[arg(long, env = "HOSPITAL_ADMIN_DATABASE_URL", hide_env_values = true)]
    owner_url: Option<String>,

    /// The configuration file; the environment goes before it
    #[arg(long, env = "HOSPITAL_CONFIG")]
    config: Option<PathBuf>,
}

#[expect(clippy::print_stderr, reason = "progress")]
pub(crate) async fn run(args: &MigrateArgs) -> anyhow::Result<()> {
    let config = platform::settings(args.config.as_deref())?;
    let given =
        args.owner_url.as_deref().or_else(|| config.database_url.as_ref().map(Secret::expose));
    let owner = given.context("say who owns the database: --owner-url or DATABASE_URL")?;
    for entry in services::ALL {
        let schema = (entry.schema)();
        let password =
            config.database_url_of(entry.name).ok().and_then(|url| schema.password_in(url));
        schema.migrate(owner, password.as_deref()).await?;
        eprintln!("schema {:<12} is at version {}", entry.name, schema.version());
    }
    if config.bus.kind == BusKind::Postgres {
        let roles: Vec<String> = services::ALL.iter().map(|e| (e.schema)().role()).collect();
        let url = config.bus.url.as_ref().map_or(owner, Secret::expose);
        postgres::install(url, &roles).await?;
        eprintln!("the PostgreSQL bus is installed");
    }
    Ok(())
}
