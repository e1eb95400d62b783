//! A run: round after round, on a platform that is made anew now and then.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::json;

use crate::{
    Bus, Defect,
    client::Client,
    day::{CANARY, PRICES},
    oracle::Violation,
    platform::{Platform, build::Programs},
    round::{Report, Town, play},
    summary::Summary,
    world::World,
};

/// Hospital days with faults against the real platform, and every invariant after each round
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "hospital-simulation")]
pub struct Args {
    /// How many rounds
    #[arg(long, default_value_t = 20)]
    pub rounds: u64,

    /// The seed of the first round; each later one has the next number
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Which bus
    #[arg(long, value_enum, default_value_t = Bus::Postgres)]
    pub bus: Bus,

    /// Breaks the services on purpose: the run is expected to end with a violation
    #[arg(long, value_enum)]
    pub defect: Option<Defect>,

    /// Writes the summary there, as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,

    /// After how many rounds the platform is made anew, so that a look at everything stays short
    #[arg(long, default_value_t = 25)]
    pub fresh: u64,
}

impl Args {
    /// The command that plays one round again.
    fn again(&self, seed: u64) -> String {
        let defect =
            self.defect.map_or_else(String::new, |defect| format!(" --defect {}", defect.name()));
        format!(
            "cargo run --release -p hospital-simulation -- --rounds 1 --seed {seed} --bus {}{defect}",
            self.bus.name()
        )
    }
}

/// Plays the rounds; stops at the first violation.
///
/// # Errors
/// When the simulation itself cannot go on.
pub async fn run(args: &Args) -> anyhow::Result<Summary> {
    let programs = Programs::find(args.defect)?;
    let mut summary = Summary::default();
    let mut left = args.rounds;
    let mut seed = args.seed;
    while left > 0 && summary.violations.is_empty() {
        let rounds = left.min(args.fresh.max(1));
        let started = Instant::now();
        let platform = Platform::start(args.bus, programs.clone()).await?;
        let mut town = open(&platform).await?;
        say(format_args!(
            "a platform on {} is up in {:.1} s",
            args.bus.name(),
            started.elapsed().as_secs_f64()
        ));
        for _ in 0..rounds {
            let report = play(&platform, &mut town, seed)
                .await
                .with_context(|| format!("round {seed}: {}", args.again(seed)))?;
            tell(&report);
            summary.add(&report);
            if !report.violations.is_empty() {
                keep(&platform, &town, args, seed)?;
                return Ok(summary);
            }
            seed += 1;
        }
        left -= rounds;
        let last = close(&platform).await?;
        if !last.is_empty() {
            keep(&platform, &town, args, seed - 1)?;
            summary.violations.extend(last);
        }
    }
    Ok(summary)
}

/// A price list, practitioners, and a first patient.
async fn open(platform: &Platform) -> anyhow::Result<Town> {
    let client = Client::new(&platform.key, "simulation", platform.bases())?;
    for (code, cents) in PRICES {
        let price =
            json!({ "amount": format!("{}.{:02}", cents / 100, cents % 100), "currency": "USD" });
        client
            .put(2, &format!("/service-types/{code}"), &json!({ "name": code, "price": price }))
            .await?;
    }
    let mut world = World::default();
    for number in 0..5 {
        let body = json!({ "name": format!("Practitioner {number}") });
        let made = client.post(1, "/practitioners", &body).await?;
        let id = made["id"].as_str().and_then(|id| id.parse().ok());
        world.practitioners.push(id.context("a practitioner without an id")?);
    }
    Ok(Town { client, world, log: Vec::new() })
}

/// What can be seen only when there has been time: every payment settled, every message out, nothing of the patients in a log.
async fn close(platform: &Platform) -> anyhow::Result<Vec<Violation>> {
    const STILL: &str = "
        SELECT 'payment ' || id || ' is still ' || status FROM billing.payment WHERE status IN ('pending', 'unknown')
        UNION ALL
        SELECT 'message ' || id || ' is still ' || status || ' after ' || attempts || ' attempts: ' || coalesce(error, '')
        FROM notification.message WHERE status IN ('pending', 'dead')";
    let client = platform.database.connect().await?;
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut found: Vec<Violation> = loop {
        let rows = client.query(STILL, &[]).await?;
        if rows.is_empty() || Instant::now() > deadline {
            break rows.iter().map(|row| Violation::new("I12", row.get::<_, String>(0))).collect();
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    };
    let sent = client
        .query("SELECT id::text FROM notification.message WHERE status = 'sent'", &[])
        .await?;
    for row in &sent {
        let id: String = row.get(0);
        if platform.mail.times(&format!("<{id}@hospital.example>")) == 0 {
            found.push(Violation::new(
                "I13",
                format!("message {id} is sent, and the mail server never saw it"),
            ));
        }
    }
    for path in platform.logs()? {
        let log = std::fs::read_to_string(&path).unwrap_or_default();
        if let Some(line) = log.lines().find(|line| line.contains(CANARY)) {
            found.push(Violation::new("I18", format!("{} says {line}", path.display())));
        }
    }
    Ok(found)
}

/// Leaves the logs where they can be looked at, and says how to play the round again.
fn keep(platform: &Platform, town: &Town, args: &Args, seed: u64) -> anyhow::Result<()> {
    let kept = std::env::temp_dir().join(format!("hospital-simulation-failed-{seed}"));
    std::fs::create_dir_all(&kept)?;
    let log: Vec<String> = town.log.iter().map(|(_, request)| format!("{request:?}")).collect();
    std::fs::write(kept.join("requests.txt"), log.join("\n"))?;
    for path in platform.logs()? {
        std::fs::copy(&path, kept.join(path.file_name().unwrap_or_default()))?;
    }
    say(format_args!("logs and requests are kept in {}", kept.display()));
    say(format_args!("again: {}", args.again(seed)));
    Ok(())
}

fn tell(report: &Report) {
    let faults: Vec<String> = report
        .faults
        .iter()
        .map(
            |(name, detail)| {
                if detail.is_empty() { name.clone() } else { format!("{name} ({detail})") }
            },
        )
        .collect();
    let recovery = report.recovery.map_or_else(String::new, |(_, requests, events)| {
        format!(", as before after {requests:.2} s (events {events:.2} s)")
    });
    say(format_args!(
        "round {}: {}; {} answers{recovery}; quiet and checked in {:.1} of {:.1} s",
        report.seed,
        faults.join(" + "),
        report.operations.values().sum::<u64>(),
        report.quiet_s,
        report.took_s
    ));
    for violation in &report.violations {
        say(format_args!("  {} violated: {}", violation.invariant, violation.what));
    }
}

#[expect(clippy::print_stderr, reason = "progress")]
fn say(what: std::fmt::Arguments<'_>) {
    eprintln!("{what}");
}
