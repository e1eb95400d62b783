//! `hospital serve`: one service, in this process.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use hospital_kit::{
    auth::SigningKey,
    clock::Clock,
    config::{Config, Secret},
    service::{Context, run_until_signal},
};

use crate::services::{Entry, parse};

/// Runs one service until SIGTERM or Ctrl-C
#[derive(clap::Args)]
pub(crate) struct ServeArgs {
    /// patient, appointment, billing or notification
    #[arg(value_parser = parse)]
    service: Entry,

    /// The configuration file; the environment goes before it
    #[arg(long, env = "HOSPITAL_CONFIG")]
    config: Option<PathBuf>,

    /// Stop when standard input ends, which is when the supervisor does
    #[arg(long, hide = true)]
    supervised: bool,
}

pub(crate) async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let config = Arc::new(Config::load(args.config.as_deref())?);
    let service = run_until_signal(config, args.service.name, args.service.build);
    if !args.supervised {
        return Ok(service.await?);
    }
    tokio::select! {
        ended = service => Ok(ended?),
        () = supervisor_gone() => anyhow::bail!("the supervisor is gone"),
    }
}

/// Resolves when standard input ends. What was under way is as safe as in any crash.
async fn supervisor_gone() {
    let mut sink = tokio::io::sink();
    // An unreadable input means the same as one that has ended.
    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut sink).await;
}

/// Prints a service's OpenAPI document, as it is checked in under `api/`
#[derive(clap::Args)]
pub(crate) struct OpenapiArgs {
    /// patient, appointment, billing or notification
    #[arg(value_parser = parse)]
    service: Entry,
}

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(crate) fn openapi(args: &OpenapiArgs) -> anyhow::Result<()> {
    println!("{}", document(args.service)?);
    Ok(())
}

/// A service's document. Nothing is connected for it.
pub(crate) fn document(service: Entry) -> anyhow::Result<String> {
    let dir = std::env::temp_dir().join(format!(
        "hospital-openapi-{}-{}",
        service.name,
        std::process::id()
    ));
    std::fs::create_dir_all(&dir)?;
    let key = dir.join("key.pem");
    SigningKey::generate()?.save(&key)?;
    let mut config = Config {
        database_url: Some(Secret::new("postgresql://nobody@127.0.0.1:1/nothing")),
        ..Config::default()
    };
    config.auth.signing_key_file = Some(key);
    config.notification.mailbox_dir = dir.join("mailbox");
    let context = Context::new(Arc::new(config), service.name, Clock::system())?;
    let document = (service.build)(&context)?.openapi;
    std::fs::remove_dir_all(&dir)?;
    // By way of a value, so that members stand in one order.
    let value = serde_json::to_value(&document).context("the document is no JSON")?;
    Ok(serde_json::to_string_pretty(&value)?)
}
