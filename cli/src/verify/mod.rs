//! `hospital verify`: proves the platform's invariants (docs/rules.md, I1 to I20) on what is stored
//! and what was published.

mod bus;
mod checks;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use console::style;
use hospital_kit::bus::SharedBus;
use serde::Serialize;
use tokio_postgres::Client;

use crate::{
    platform::PlatformArgs,
    stores::{StoreArgs, Stores},
};

/// Proves that no event, slot or cent was lost: a line per invariant; exits 1 on a violation
#[derive(clap::Args)]
pub(crate) struct VerifyArgs {
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,

    /// How many seconds to wait until everything that was published has been worked off
    #[arg(long, default_value_t = 30)]
    wait: u64,

    #[command(flatten)]
    stores: StoreArgs,
}

pub(crate) use self::bus::{OLD_IN_TOPIC, never_received};

/// How long after a look that found something the second one is; less where `--wait` is less.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// How many violations of an invariant are collected.
const VIOLATIONS_MAX: usize = 1000;
/// How many of them are printed.
const SHOWN_MAX: usize = 5;

/// What came of one invariant.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    /// How many things were looked at.
    pub(crate) checked: i64,
    /// What violates it, up to [`VIOLATIONS_MAX`].
    pub(crate) violations: Vec<String>,
}

pub(crate) async fn run(args: &VerifyArgs, place: &PlatformArgs) -> anyhow::Result<ExitCode> {
    let stores = args.stores.open(place, "hospital-verify").await?;
    let patience = Duration::from_secs(args.wait);
    let mut verdicts = look(&stores, patience).await?;
    if verdicts.iter().any(|v| !v.violations.is_empty()) {
        // While people work, what was under way at the first look is done at the second. What stays is a violation.
        tokio::time::sleep(SECOND_LOOK.min(patience)).await;
        let again = look(&stores, patience).await?;
        for (verdict, again) in verdicts.iter_mut().zip(&again) {
            // What is not worked off changes its words as it is tried, and put aside in the end; the second look has waited for it again.
            if verdict.id == "I16" {
                verdict.violations.clone_from(&again.violations);
            }
            verdict.violations.retain(|violation| again.violations.contains(violation));
        }
    }
    let good = verdicts.iter().all(|v| v.violations.is_empty());
    print(args, &verdicts, good);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One look at everything, in the order of the invariants' numbers.
async fn look(stores: &Stores, patience: Duration) -> anyhow::Result<Vec<Verdict>> {
    let Stores { client, bus, bus_config } = stores;
    let quiet = await_quiet(client, bus, patience).await?;
    let mut verdicts = checks::all(client).await?;
    verdicts.extend(bus::all(client, bus, bus_config.retention_days).await?);
    verdicts.push(quiet);
    verdicts.sort_by_key(|v| v.id[1..].parse::<u32>().unwrap_or(u32::MAX));
    Ok(verdicts)
}

/// I16: what was committed is published and what was published is worked off.
async fn await_quiet(
    client: &Client,
    bus: &SharedBus,
    patience: Duration,
) -> anyhow::Result<Verdict> {
    let started = Instant::now();
    loop {
        let over = started.elapsed() > patience;
        match bus::unfinished(client, bus).await {
            Ok((checked, violations)) if violations.is_empty() || over => {
                let what = "everything published is worked off; nothing of ours is dead-lettered";
                return Ok(Verdict { id: "I16", what, checked, violations });
            }
            // A broker may have gone a moment ago, and its partitions have no new leader yet.
            Err(e) if over => return Err(e),
            Ok(_) | Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn print(args: &VerifyArgs, verdicts: &[Verdict], good: bool) {
    if args.json {
        println!("{}", serde_json::json!({ "good": good, "invariants": verdicts }));
        return;
    }
    for verdict in verdicts {
        let holds = verdict.violations.is_empty();
        let mark = if holds { style("✓").green() } else { style("✗").red().bold() };
        println!("{mark} {:<4} {:<76} {:>8}", verdict.id, verdict.what, verdict.checked);
        for violation in verdict.violations.iter().take(SHOWN_MAX) {
            println!("       {} {violation}", style("→").red());
        }
        let more = verdict.violations.len().saturating_sub(SHOWN_MAX);
        if more > 0 {
            println!("       {} and {more} more", style("→").red());
        }
    }
    println!();
    if good {
        println!("{}", style("Every invariant holds.").green());
    } else {
        let broken = verdicts.iter().filter(|v| !v.violations.is_empty()).count();
        println!("{}", style(format!("{broken} invariants are violated.")).red().bold());
    }
}
