//! `hospital serve`: one service, in this process.

use std::{path::PathBuf, sync::Arc};

use hospital_kit::{config::Config, service::run_until_signal};

use crate::{
    platform,
    services::{Entry, parse},
};

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
        () = platform::input_ended() => anyhow::bail!("the supervisor is gone"),
    }
}
