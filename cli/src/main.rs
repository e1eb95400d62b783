//! `hospital`: starts the platform, looks after it, and talks to it.

mod asyncapi;
mod client;
mod demo;
mod dlq;
mod doctor;
mod documents;
mod import;
mod jobs;
mod journey;
mod migrate;
mod platform;
mod replay;
mod serve;
mod services;
mod stores;
mod token;
mod up;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use crate::platform::PlatformArgs;

/// A fault-tolerant hospital appointment and billing platform
#[derive(Parser)]
#[command(name = "hospital", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    platform: PlatformArgs,

    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Up(up::UpArgs),
    Serve(serve::ServeArgs),
    Migrate(migrate::MigrateArgs),
    Token(token::TokenArgs),
    Import(import::ImportArgs),
    Verify(verify::VerifyArgs),
    Journey(journey::JourneyArgs),
    Dlq(dlq::DlqArgs),
    Jobs(jobs::JobsArgs),
    Replay(replay::ReplayArgs),
    Demo(demo::DemoArgs),
    Doctor(doctor::DoctorArgs),
    Openapi(documents::OpenapiArgs),
    Asyncapi(documents::AsyncapiArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match hospital_kit::service::runtime() {
        Ok(runtime) => runtime,
        Err(e) => return report(&e.into()),
    };
    let done = runtime.block_on(run(cli));
    // What still blocks, such as a read of the terminal, must not hold the exit up.
    runtime.shutdown_timeout(std::time::Duration::from_millis(100));
    match done {
        Ok(code) => code,
        Err(e) => report(&e),
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let platform = &cli.platform;
    match cli.command {
        Command::Up(args) => up::run(args, platform).await?,
        Command::Serve(args) => serve::run(args).await?,
        Command::Migrate(args) => migrate::run(&args).await?,
        Command::Token(args) => token::run(&args, platform).await?,
        Command::Import(args) => import::run(args, platform).await?,
        Command::Demo(args) => demo::run(&args, platform).await?,
        Command::Openapi(args) => documents::openapi(&args)?,
        Command::Asyncapi(_) => documents::asyncapi()?,
        Command::Replay(args) => return replay::run(&args, platform).await,
        Command::Journey(args) => return journey::run(&args, platform).await,
        Command::Dlq(args) => return dlq::run(args, platform).await,
        Command::Jobs(args) => return jobs::run(args, platform).await,
        Command::Verify(args) => return verify::run(&args, platform).await,
        Command::Doctor(args) => return Ok(doctor::run(&args, platform)),
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stderr, reason = "the command's last word")]
fn report(e: &anyhow::Error) -> ExitCode {
    eprintln!("{} {e:#}", console::style("error:").red().bold().for_stderr());
    ExitCode::from(2)
}
