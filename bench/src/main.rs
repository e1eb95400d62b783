//! `hospital-bench`: how fast the platform is, and how that compares with PostgreSQL itself.

mod database;
mod flow;
mod history;
mod http;
mod kafka;
mod load;
mod medium;
mod notified;
mod pgbench;
mod platform;
mod plot;
mod processor;
mod ready;
mod report;
mod runs;
mod scenario;
mod score;
mod series;
mod setup;
mod slow;
mod stage;
mod ticker;
mod workload;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures the platform against PostgreSQL itself.
///
/// Each command starts what it needs, a private PostgreSQL (with synchronous_commit, fsync and autovacuum on), the release build of the
/// four services, pgbench, in directories of its own on ports of its own, and removes it again. Run it on a machine with nothing else
/// to do: the generator, the services and PostgreSQL share its cores, and every figure suffers from what else runs. What suffers least
/// is the processor time of an operation, which is printed below each rate.
#[derive(Parser)]
#[command(name = "hospital-bench", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Score(score::ScoreArgs),
    Run(runs::RunArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One thread: the generator shares the cores with what it measures.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return report_failure(&e.into()),
    };
    let done = runtime.block_on(async {
        // What was started ends with what is dropped here.
        tokio::select! {
            done = run(cli.command) => done,
            stopped = stop_signal() => stopped.and_then(|()| anyhow::bail!("stopped by a signal")),
        }
    });
    match done {
        Ok(code) => code,
        Err(e) => report_failure(&e),
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Score(args) => score::run(&args).await,
        Command::Run(args) => runs::run(&args).await,
    }
}

async fn stop_signal() -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "the command's last word")]
fn report_failure(e: &anyhow::Error) -> ExitCode {
    eprintln!("{} {e:#}", console::style("error:").red().bold().for_stderr());
    ExitCode::from(2)
}
