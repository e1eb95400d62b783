//! The simulation as a program.

use std::process::ExitCode;

use clap::Parser;
use hospital_simulation::{
    run::{Args, run},
    summary::Summary,
};

fn main() -> ExitCode {
    let args = Args::parse();
    let ran = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(&args)));
    match ran.and_then(|summary| end(&args, &summary)) {
        Ok(code) => code,
        Err(e) => fail(&e),
    }
}

#[expect(clippy::print_stdout, reason = "the result")]
fn end(args: &Args, summary: &Summary) -> anyhow::Result<ExitCode> {
    println!("{}", summary.table());
    for violation in &summary.violations {
        println!("{} violated: {}", violation.invariant, violation.what);
    }
    for slow in summary.too_slow() {
        println!("slower than promised: {slow}");
    }
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&summary.json())?)?;
    }
    Ok(if summary.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

#[expect(clippy::print_stderr, reason = "the last word")]
fn fail(e: &anyhow::Error) -> ExitCode {
    eprintln!("error: {e:#}");
    ExitCode::from(2)
}
