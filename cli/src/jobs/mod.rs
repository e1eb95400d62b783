//! `hospital jobs`: what the services have still to do, and what they have given up.

mod act;
mod print;
mod rows;

use std::process::ExitCode;

use anyhow::bail;

use self::rows::Filter;
use crate::{
    platform::PlatformArgs,
    stores::{By, StoreArgs},
};

/// Jobs: lists them, shows one, has them begun anew, cancels them
#[derive(clap::Args)]
pub(crate) struct JobsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Lists jobs that are not done, the next first
    List(ListArgs),
    /// Shows one with its payload, its last failure and what was done about it
    Show(ShowArgs),
    /// Has them begun anew at once, with all of their attempts before them
    Retry(ActArgs),
    /// Gives them up: they are not done, and who decided so and why is kept
    Cancel(ActArgs),
}

#[derive(clap::Args)]
struct ListArgs {
    #[command(flatten)]
    filter: Filter,

    /// How many at most
    #[arg(long, default_value_t = 1000)]
    limit: i64,

    /// As JSON, for scripts
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    stores: StoreArgs,
}

#[derive(clap::Args)]
struct ShowArgs {
    /// The job's key, such as a payment's id
    key: String,

    #[command(flatten)]
    filter: Filter,

    /// As JSON, for scripts
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    stores: StoreArgs,
}

#[derive(clap::Args)]
struct ActArgs {
    /// Jobs by their keys
    keys: Vec<String>,

    #[command(flatten)]
    filter: Filter,

    /// All that are dead, where nothing else says which
    #[arg(long)]
    all: bool,

    /// Why; kept for ever
    #[arg(long, required_unless_present = "dry_run")]
    reason: Option<String>,

    /// Says what would be done, and does nothing
    #[arg(long)]
    dry_run: bool,

    /// As JSON, for scripts
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    by: By,

    #[command(flatten)]
    stores: StoreArgs,
}

pub(crate) async fn run(args: JobsArgs, place: &PlatformArgs) -> anyhow::Result<ExitCode> {
    const NAME: &str = "hospital-jobs";
    match args.command {
        Command::List(args) => {
            let stores = args.stores.open(place, NAME).await?;
            let jobs = rows::find(&stores.client, &args.filter, None, args.limit).await?;
            print::list(&jobs, args.json)?;
        }
        Command::Show(args) => {
            let stores = args.stores.open(place, NAME).await?;
            let keys = [args.key.clone()];
            let jobs = rows::find(&stores.client, &args.filter, Some(&keys), 100).await?;
            let acts = rows::acts(&stores.client, &args.key).await?;
            if jobs.is_empty() && acts.is_empty() {
                bail!("there is no job {}: `hospital jobs list` has them", args.key);
            }
            print::show(&jobs, &acts, args.json)?;
        }
        Command::Retry(args) => return act::run(&args, act::Act::Retry, place).await,
        Command::Cancel(args) => return act::run(&args, act::Act::Cancel, place).await,
    }
    Ok(ExitCode::SUCCESS)
}
