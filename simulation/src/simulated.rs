//! The services with clocks that can be put off and with defects on purpose, started as `hospital
//! serve SERVICE` is. Only the simulation builds and starts this.

use std::{process::ExitCode, sync::Arc};

use hospital_kit::{
    config::Config,
    service::{Build, run_until_signal},
};

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&e),
    }
}

fn serve() -> anyhow::Result<()> {
    let name = std::env::args().nth(2).unwrap_or_default();
    let (name, build): (&'static str, Build) = match name.as_str() {
        "patient" => ("patient", hospital_patient::service),
        "appointment" => ("appointment", hospital_appointment::service),
        "billing" => ("billing", hospital_billing::service),
        "notification" => ("notification", hospital_notification::service),
        _ => anyhow::bail!("serve patient, appointment, billing or notification"),
    };
    let config = Arc::new(Config::load(None)?);
    let runtime = tokio::runtime::Runtime::new()?;
    let ended = runtime.block_on(async {
        let (mut input, mut sink) = (tokio::io::stdin(), tokio::io::sink());
        tokio::select! {
            ended = run_until_signal(config, name, build) => Ok(ended?),
            // Whoever started it is gone.
            _ = tokio::io::copy(&mut input, &mut sink) => std::process::exit(1),
        }
    });
    // The read of the input still blocks and must not hold the exit up.
    runtime.shutdown_timeout(std::time::Duration::from_millis(100));
    ended
}

#[expect(clippy::print_stderr, reason = "the last word")]
fn fail(e: &anyhow::Error) -> ExitCode {
    eprintln!("{e:#}");
    ExitCode::FAILURE
}
