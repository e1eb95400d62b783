//! Runs a baseline by `pgbench`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use hospital_cluster::Installation;

use crate::{
    load::{histogram, record},
    processor::{Meter, Used, between},
};

/// A baseline's script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Baseline {
    pub(crate) name: &'static str,
    sql: &'static str,
}

macro_rules! baseline {
    ($name:literal) => {
        Baseline { name: $name, sql: include_str!(concat!("../baseline/", $name, ".sql")) }
    };
}

pub(crate) const SAME_ROWS: Baseline = baseline!("same-rows-booking");
pub(crate) const LEAN: Baseline = baseline!("lean-booking");
pub(crate) const FIVE_STATEMENTS: Baseline = baseline!("five-statement-booking");
pub(crate) const PAYMENT: Baseline = baseline!("payment-function");
pub(crate) const HOT_BILL: Baseline = baseline!("hot-bill-seven-statements");

/// What a run of a baseline gave.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Transactions a second, without the time to connect.
    pub(crate) rate: f64,
    pub(crate) latency: Histogram<u64>,
    pub(crate) transactions: f64,
    pub(crate) used: Used,
}

/// How a baseline is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) connections: usize,
    pub(crate) length: Duration,
    /// Transactions a second; as many as it can without.
    pub(crate) rate: Option<f64>,
}

/// The settings that our services' sessions have, so that the baseline is planned as well as they are.
const SESSION: &str = "-c jit=off -c plan_cache_mode=force_generic_plan -c timezone=UTC";

/// Runs a baseline. One whose random times met by chance is run again: the rate of the others would be that of fewer clients.
pub(crate) async fn run(
    baseline: Baseline,
    url: &str,
    plan: Plan,
    meter: &Meter,
) -> anyhow::Result<Measured> {
    let mut tries = 1;
    loop {
        match once(baseline, url, plan, meter).await {
            Err(e) if tries < 4 && e.to_string().contains("violates exclusion constraint") => {
                tries += 1;
            }
            other => return other,
        }
    }
}

async fn once(
    baseline: Baseline,
    url: &str,
    plan: Plan,
    meter: &Meter,
) -> anyhow::Result<Measured> {
    let dir = tempfile::tempdir()?;
    let script = dir.path().join("script.sql");
    fs::write(&script, baseline.sql)?;
    let seconds = plan.length.as_secs().max(1).to_string();
    let mut command = Command::new(program("pgbench")?);
    command
        .args(["-n", "-M", "prepared", "-j", "2", "-T", &seconds])
        .args(["-c", &plan.connections.to_string()])
        .arg("-f")
        .arg(&script)
        .args(["-l", "--log-prefix"])
        .arg(dir.path().join("log"))
        .arg(url)
        .env("PGOPTIONS", SESSION)
        .stdin(Stdio::null());
    match plan.rate {
        Some(rate) => command.arg("-R").arg(format!("{rate:.1}")),
        // Enough for percentiles; writing every line would slow the baseline down.
        None => command.arg("--sampling-rate=0.1"),
    };
    let before = meter.read();
    let child = tokio::process::Command::from(command).kill_on_drop(true).output();
    let output = child.await.context("running pgbench")?;
    let used = between(&before, &meter.read());
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("pgbench {}: {text}{}", baseline.name, String::from_utf8_lossy(&output.stderr));
    }
    let failed = number_behind(&text, "number of failed transactions: ").unwrap_or(0.0);
    if failed > 0.0 {
        bail!("pgbench {}: {failed} transactions failed", baseline.name);
    }
    let rate = number_behind(&text, "tps = ").context("pgbench printed no rate")?;
    let transactions =
        number_behind(&text, "actually processed: ").context("pgbench printed no count")?;
    Ok(Measured { rate, transactions, latency: latencies(dir.path())?, used })
}

fn number_behind(text: &str, words: &str) -> Option<f64> {
    let (_, behind) = text.split_once(words)?;
    behind.split(|c: char| c != '.' && !c.is_ascii_digit()).next()?.parse().ok()
}

/// Reads the logs: client, transaction, microseconds, and more that does not matter here. With a rate, the time counts from when the
/// transaction was due.
fn latencies(dir: &Path) -> anyhow::Result<Histogram<u64>> {
    let mut all = histogram();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log")) {
            for line in fs::read_to_string(&path)?.lines() {
                let us = line.split(' ').nth(2).and_then(|text| text.parse().ok());
                record(&mut all, Duration::from_micros(us.context("a line of pgbench's log")?));
            }
        }
    }
    Ok(all)
}

/// Runs a file of SQL, statement by statement: some of it, such as VACUUM, does not go within a transaction.
pub(crate) fn sql(url: &str, text: &str) -> anyhow::Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), text)?;
    let mut command = Command::new(program("psql")?);
    command
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(file.path())
        .arg(url)
        .env("PGOPTIONS", "-c client_min_messages=warning");
    let output = command.stdin(Stdio::null()).output().context("running psql")?;
    if !output.status.success() {
        bail!("psql: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// A program that is installed with the server.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let server = Installation::find().context("PostgreSQL is not installed")?;
    let path = server.bin().join(name);
    if !path.exists() {
        bail!("{} is missing; on Debian: apt-get install postgresql-contrib", path.display());
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_from_what_pgbench_prints() {
        let text = "number of failed transactions: 0 (0.000%)\ntps = 8123.456 (without initial connection time)\n";
        assert_eq!(number_behind(text, "tps = "), Some(8123.456));
        assert_eq!(number_behind(text, "number of failed transactions: "), Some(0.0));
        assert_eq!(number_behind(text, "latency = "), None);
    }
}
