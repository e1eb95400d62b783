//! `hospital import synthea`: a hospital's records, taken in through the public APIs as a client would.
//!
//! Nothing is read from or written to a database. Every request carries a key made from the row and its content, and what exists already is
//! known by the identifiers that rows leave on it; so the import can be repeated, and can go on after anything died half-way.

mod money;
mod people;
mod plan;
mod report;
mod schedule;
pub(crate) mod synthea;

use std::{path::PathBuf, sync::Arc};

use anyhow::bail;
use hospital_types::Role;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sha2::{Digest, Sha256};

use self::{report::Report, synthea::Folder};
use crate::{client::Client, platform::PlatformArgs, token};

/// Takes a folder of records in through the public APIs
#[derive(clap::Args)]
pub(crate) struct ImportArgs {
    #[command(subcommand)]
    source: Source,
}

#[derive(clap::Subcommand)]
enum Source {
    /// A folder of Synthea's CSV files
    Synthea(SyntheaArgs),
}

#[derive(clap::Args)]
struct SyntheaArgs {
    /// The folder with patients.csv, encounters.csv and, if there are any, providers.csv and
    /// claims_transactions.csv
    folder: PathBuf,

    /// How many requests are under way at once; the result does not depend on it
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,

    /// Where the report goes: counts, what was read in another way than usual, and each refused row
    /// with its reason
    #[arg(long, default_value = "import-report.json")]
    report: PathBuf,

    /// The currency of the folder's amounts
    #[arg(long, default_value = "USD")]
    currency: String,
}

/// The importer's hands: what every part of it needs.
#[derive(Clone)]
struct Import {
    client: Client,
    report: Arc<Report>,
    workers: usize,
    currency: String,
    bars: MultiProgress,
}

pub(crate) async fn run(args: ImportArgs, platform: &PlatformArgs) -> anyhow::Result<()> {
    let Source::Synthea(args) = args.source;
    let platform = platform.find_serving().await?;
    let folder = Folder::read(&args.folder)?;
    let roles = [Role::Admin, Role::FrontDesk, Role::BillingManager, Role::Cashier];
    let token = token::sign(&platform.signing_key, "import", &roles, None)?;
    let import = Import {
        client: Client::new(&platform, token)?,
        report: Arc::default(),
        workers: args.workers.into(),
        currency: args.currency,
        bars: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
    };
    import.report.note(&folder.notes);
    let started = std::time::Instant::now();
    let people = import.people(&folder).await?;
    let booked = import.schedule(&folder, &people).await?;
    import.bills(&folder, &booked).await?;
    let elapsed = started.elapsed();
    import.report.write(&args.report, &args.folder, elapsed)?;
    import.report.print(&args.report, elapsed);
    Ok(())
}

impl Import {
    fn bar(&self, what: &'static str, length: usize) -> ProgressBar {
        let style =
            ProgressStyle::with_template("{msg:14} {bar:40.cyan/dim} {pos:>6}/{len:<6} {elapsed}")
                .expect("the template is well-formed")
                .progress_chars("━━─");
        let bar =
            self.bars.add(ProgressBar::new(length as u64).with_style(style).with_message(what));
        bar.tick();
        bar
    }
}

/// The key of a row's request: the same for the same content, another for another.
fn key(kind: &str, id: &str, body: &serde_json::Value) -> String {
    let digest = Sha256::digest(body.to_string().as_bytes());
    let short: String = digest.iter().take(6).map(|b| format!("{b:02x}")).collect();
    format!("synthea-{kind}-{id}-{short}")
}

/// The name under which the platform remembers a row.
fn system(kind: &str) -> String {
    format!("urn:synthea:{kind}")
}

fn expect_known<T>(known: Option<T>, what: &str, id: &str) -> anyhow::Result<T> {
    match known {
        Some(known) => Ok(known),
        None => bail!("the platform says that {what} {id} exists, and does not find it"),
    }
}
