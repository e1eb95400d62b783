//! `hospital-bench score`: everything that has a target, and whether it is met.

mod measure;
mod row;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

use self::row::Row;
use crate::{
    kafka::Kafka,
    load::Shape,
    medium::{Kind, Medium},
    pgbench::Baseline,
    plot::{self, Curve},
    report::{self, Figures},
    runs::note,
    scenario::{Effort, Scenario},
    series::{self, Series},
    setup::Size,
    stage::{Open, Stage},
};

/// Measures everything that has a target, each scenario between its baselines (A B B A), and prints the score.
///
/// A scenario whose baseline drifts by more than 20 % between its runs gets no verdict: something else was at work. After every series
/// `hospital verify` proves the invariants; a violation voids it. Exits 0 when every target is met, 1 when one is missed or void.
#[derive(clap::Args)]
pub(crate) struct ScoreArgs {
    /// About two minutes instead of half an hour: short runs, little history, no Kafka; for noticing what breaks, not for figures
    #[arg(long)]
    quick: bool,

    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,

    /// Connections of the generator and of pgbench
    #[arg(short, long, default_value_t = 32)]
    connections: usize,

    /// How long each run lasts [default: 10, or 3 with --quick]
    #[arg(short, long)]
    seconds: Option<u64>,

    /// How many past appointments ten years of history have [default: 10000000, or 50000 with --quick]
    #[arg(long)]
    history: Option<u64>,

    /// After how many requests memory is looked at again [default: 1000000, or 20000 with --quick]
    #[arg(long)]
    requests: Option<u64>,

    /// Where score.json and the plots go
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,

    /// A directory on a real disk [default: the system's for temporary files]
    #[arg(long)]
    disk_dir: Option<PathBuf>,

    /// The `hospital` program [default: the one beside this]
    #[arg(long)]
    hospital: Option<PathBuf>,

    /// A setting of the PostgreSQL server beyond the platform's own, such as shared_buffers=1GB; repeat it for more
    #[arg(long = "setting", value_parser = crate::runs::parse_setting)]
    settings: Vec<(String, String)>,
}

/// What the score is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Bookings against the three baselines, and their processor time
    Book,
    /// Latency at half of the peak against pgbench at the same share
    Half,
    /// Booked to notified at 30 % of the peak
    Notified,
    /// Payments on many bills
    Pay,
    /// Payments on one bill
    PayHot,
    /// Whole flows
    Flow,
    /// Three times the peak
    Overload,
    /// Bookings with a thousand slow clients beside them
    Slow,
    /// The storm of one key, and reads: no target
    Others,
    /// Memory, idle and after many requests
    Memory,
    /// Start to ready
    Start,
    /// Ten years of history
    History,
    /// Bookings on a real disk
    Disk,
    /// Bookings, flows and messages on real Kafka
    Kafka,
}

impl Part {
    const fn medium(self) -> Kind {
        match self {
            Self::Disk => Kind::Disk,
            _ => Kind::Tmpfs,
        }
    }
}

/// All that was measured.
#[derive(Serialize)]
struct Score<'a> {
    processors: usize,
    quick: bool,
    seconds: u64,
    rows: &'a [Row],
    runs: &'a [Figures],
}

/// A score in the making.
pub(crate) struct Scoring<'a> {
    args: &'a ScoreArgs,
    effort: Effort,
    rows: Vec<Row>,
    runs: Vec<Figures>,
    /// Bookings a second at the peak, their p99 there in microseconds, and the baseline's peak.
    peak: Option<Peak>,
}

#[derive(Clone, Copy)]
struct Peak {
    rate: f64,
    p99_us: u64,
    baseline: f64,
}

const VERIFY_PATIENCE: Duration = Duration::from_secs(300);

pub(crate) async fn run(args: &ScoreArgs) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make {}", args.out.display()))?;
    let seconds = args.seconds.unwrap_or(if args.quick { 3 } else { 10 });
    let warmup = Duration::from_secs(if args.quick { 1 } else { 2 });
    let effort =
        Effort { connections: args.connections, warmup, length: Duration::from_secs(seconds) };
    let mut scoring = Scoring { args, effort, rows: Vec::new(), runs: Vec::new(), peak: None };
    let asked = |part| {
        if args.only.is_empty() {
            !(args.quick && part == Part::Kafka)
        } else {
            args.only.contains(&part)
        }
    };
    // These are shares of the peak.
    let needs_peak = [Part::Half, Part::Notified, Part::Overload].into_iter().any(asked);
    let wants = |part| asked(part) || (part == Part::Book && needs_peak);
    scoring.on(Kind::Tmpfs, &wants).await?;
    scoring.on(Kind::Disk, &wants).await?;
    row::print(&scoring.rows);
    let score = Score {
        processors: std::thread::available_parallelism().map_or(1, Into::into),
        quick: args.quick,
        seconds,
        rows: &scoring.rows,
        runs: &scoring.runs,
    };
    let path = args.out.join("score.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&score)?)?;
    note(&format!("{} and the plots beside it have the rest", path.display()));
    let met = scoring.rows.iter().all(Row::is_met);
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Scoring<'_> {
    /// Does the parts that are wanted, in order. One that cannot be done is a row without a verdict; the others go on.
    async fn on(&mut self, kind: Kind, wants: &dyn Fn(Part) -> bool) -> anyhow::Result<()> {
        let mut parts = Part::value_variants()
            .iter()
            .filter(|part| wants(**part) && part.medium() == kind)
            .peekable();
        if parts.peek().is_none() {
            return Ok(());
        }
        let stage = self.stage(kind).await?;
        for part in parts {
            if let Err(e) = self.part(&stage, *part).await {
                note(&format!("{part:?} could not be done: {e:#}"));
                self.rows.push(Row::not_done(&format!("{part:?}"), &format!("{e:#}")));
            }
        }
        Ok(())
    }

    async fn part(&mut self, stage: &Stage, part: Part) -> anyhow::Result<()> {
        match part {
            Part::Book => self.book(stage).await,
            Part::Half => self.half(stage).await,
            Part::Notified => self.notified(stage).await,
            Part::Pay => self.pay(stage).await,
            Part::PayHot => self.pay_hot(stage).await,
            Part::Flow => self.flow(stage).await,
            Part::Overload => self.overload(stage).await,
            Part::Slow => self.slow(stage).await,
            Part::Others => self.others(stage).await,
            Part::Memory => self.memory(stage).await,
            Part::Start => self.start(stage).await,
            Part::History => self.history(stage).await,
            Part::Disk => self.disk(stage).await,
            Part::Kafka => {
                let kafka = Kafka::start().context("the score on real Kafka")?;
                self.kafka(stage, &kafka).await
            }
        }
    }

    async fn stage(&self, kind: Kind) -> anyhow::Result<Stage> {
        note("setting up PostgreSQL and a platform");
        let medium = Medium::new(kind, self.args.disk_dir.as_deref())?;
        let size = if self.args.quick { Size::QUICK } else { Size::FULL };
        Stage::set(&medium, self.args.hospital.as_deref(), &self.args.settings, size).await
    }

    /// Runs a series on an open platform and draws it.
    async fn series(
        &mut self,
        stage: &Stage,
        open: &Open,
        scenario: Scenario,
        name: &str,
    ) -> anyhow::Result<Series> {
        self.series_against(stage, open, scenario, scenario.baselines(), name).await
    }

    async fn series_against(
        &mut self,
        stage: &Stage,
        open: &Open,
        scenario: Scenario,
        baselines: &[Baseline],
        name: &str,
    ) -> anyhow::Result<Series> {
        let series = series::abba(
            stage,
            open,
            scenario,
            baselines,
            self.effort,
            Shape::Closed,
            &report::print,
        )
        .await?;
        self.draw(name, &series.ours, series.baselines.iter().flat_map(|(_, runs)| runs))?;
        self.runs.extend(series.ours.iter().cloned().map(|figures| figures.renamed(name)));
        self.runs.extend(series.baselines.iter().flat_map(|(_, runs)| runs).cloned());
        Ok(series)
    }

    fn draw<'f>(
        &self,
        name: &str,
        ours: &'f [Figures],
        baselines: impl Iterator<Item = &'f Figures>,
    ) -> anyhow::Result<()> {
        let curve = |figures: &'f Figures| Curve {
            name: figures.told(),
            of: &figures.name,
            latency: &figures.histogram,
        };
        let curves: Vec<Curve<'_>> = ours.iter().chain(baselines).map(curve).collect();
        let connections = self.effort.connections;
        plot::latency(
            &self.out(name, "latency"),
            &format!("{name}: latency, {connections} connections"),
            &curves,
        )?;
        let ours: Vec<&Figures> = ours.iter().collect();
        plot::rate(&self.out(name, "rate"), &format!("{name}: rate over time"), &ours)
    }

    fn out(&self, name: &str, what: &str) -> PathBuf {
        Path::new(&self.args.out).join(format!("{name}-{what}.svg"))
    }

    /// Ends a series: proves the invariants, or voids the rows that it gave.
    async fn conclude(&mut self, open: Open, rows_before: usize) -> anyhow::Result<()> {
        open.settle().await?;
        note("verifying the invariants");
        if let Err(e) = open.platform.verify(VERIFY_PATIENCE) {
            note(&format!("void: {e:#}"));
            for row in &mut self.rows[rows_before..] {
                row.void("an invariant is violated");
            }
        }
        open.platform.stop()
    }
}
