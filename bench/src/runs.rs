//! `hospital-bench run`: scenarios, each on a fresh platform.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use crate::{
    kafka::Kafka,
    load::Shape,
    medium::{Kind, Medium},
    processor::Meter,
    report::{self, Figures},
    scenario::{Effort, Scenario},
    series,
    setup::Size,
    stage::{Open, Stage},
};

/// What every command is told about the place.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Place {
    /// Where the databases are
    #[arg(long, value_enum, default_value = "tmpfs")]
    pub(crate) on: Kind,

    /// A directory on a real disk, for --on disk [default: the system's for temporary files]
    #[arg(long)]
    pub(crate) disk_dir: Option<PathBuf>,

    /// The `hospital` program [default: the one beside this]
    #[arg(long)]
    pub(crate) hospital: Option<PathBuf>,

    /// A setting of the PostgreSQL server beyond the platform's own, such as shared_buffers=1GB; repeat it for more
    #[arg(long = "setting", value_parser = parse_setting)]
    pub(crate) settings: Vec<(String, String)>,
}

pub(crate) fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs scenarios, each on a freshly set-up platform, and verifies the platform's invariants after each.
///
/// The services take their settings from the environment as always, such as HOSPITAL_APPOINTMENT__POOL_SIZE=8 or HOSPITAL_LOG__LEVEL=warn.
#[derive(clap::Args)]
pub(crate) struct RunArgs {
    /// Which
    #[arg(required = true, value_enum)]
    scenarios: Vec<Scenario>,

    /// Connections of the generator and of pgbench
    #[arg(short, long, default_value_t = 32)]
    connections: usize,

    /// How long each run lasts, after its warm-up
    #[arg(short, long, default_value_t = 10)]
    seconds: u64,

    /// Seconds of each run that are not counted
    #[arg(long, default_value_t = 2)]
    warmup: u64,

    /// Requests a second by a clock, latency counted from when each was due [default: as fast as answers come]
    #[arg(long)]
    rate: Option<f64>,

    /// Run the scenario's baselines by pgbench as well, in the order A B B A
    #[arg(long)]
    baseline: bool,

    /// Events travel through a real broker
    #[arg(long)]
    kafka: bool,

    /// A smaller set-up: 2,000 patients and 1,000 bills instead of 10,000 each
    #[arg(long)]
    quick: bool,

    /// Leave `hospital verify` out
    #[arg(long)]
    no_verify: bool,

    /// As JSON, for scripts
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    place: Place,
}

pub(crate) async fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let medium = Medium::new(args.place.on, args.place.disk_dir.as_deref())?;
    let size = if args.quick { Size::QUICK } else { Size::FULL };
    note("setting up PostgreSQL and a platform");
    let stage =
        Stage::set(&medium, args.place.hospital.as_deref(), &args.place.settings, size).await?;
    let effort = Effort {
        connections: args.connections,
        warmup: Duration::from_secs(args.warmup),
        length: Duration::from_secs(args.seconds),
    };
    let shape = args.rate.map_or(Shape::Closed, |rate| Shape::Open { rate });
    let mut all = Vec::new();
    let mut good = true;
    for scenario in &args.scenarios {
        // A new one each time: topics and tables must agree.
        let kafka = if args.kafka { Some(Kafka::start()?) } else { None };
        let open = stage.open(kafka.as_ref()).await?;
        let baselines = if args.baseline { scenario.baselines() } else { &[] };
        let show = |figures: &Figures| {
            if !args.json {
                report::print(figures);
            }
        };
        let series =
            series::abba(&stage, &open, *scenario, baselines, effort, shape, &show).await?;
        all.extend(series.all());
        if !args.no_verify {
            note("verifying the invariants");
            if let Err(e) = open.platform.verify(Duration::from_secs(120)) {
                note(&format!("{} is void: {e:#}", scenario.name()));
                good = false;
            }
        }
        open.platform.stop()?;
    }
    if args.json {
        print_json(&all)?;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn print_json(all: &[Figures]) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(all)?);
    Ok(())
}

/// Progress.
#[expect(clippy::print_stderr, reason = "progress")]
pub(crate) fn note(what: &str) {
    eprintln!("{}", console::style(format!("· {what}")).dim().for_stderr());
}

impl Stage {
    /// Watches everything that works for a platform.
    pub(crate) fn meter(&self, open: &Open) -> Meter {
        let mut meter = Meter::default();
        open.platform.watch(&mut meter);
        meter.watch_tree("PostgreSQL", self.cluster.pid());
        meter.watch("generator", std::process::id());
        if let Some(pid) = open.kafka {
            meter.watch("Kafka", pid);
        }
        meter
    }
}
