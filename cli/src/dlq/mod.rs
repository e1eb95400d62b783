//! `hospital dlq`: what consumers could not apply, and what is to become of it.

mod act;
pub(crate) mod letters;
pub(crate) mod print;

use std::process::ExitCode;

use anyhow::bail;
use uuid::Uuid;

use self::letters::Filter;
use crate::{
    platform::PlatformArgs,
    stores::{By, StoreArgs},
};

/// Dead letters: lists them, shows one, applies them again, drops them
#[derive(clap::Args)]
pub(crate) struct DlqArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Lists open dead letters, oldest first
    List(ListArgs),
    /// Shows one with its headers, its payload, what waits behind it and what was done about it
    Show(ShowArgs),
    /// Gives them to the group that failed, once more; what waits behind them follows
    Redrive(ActArgs),
    /// Gives them up: they count as received, and what waits behind them goes on
    Drop(ActArgs),
    /// Lists who did what to dead letters and event logs, and why
    Audit(AuditArgs),
}

#[derive(clap::Args)]
struct ListArgs {
    #[command(flatten)]
    filter: Filter,

    /// Those that are applied or dropped, too
    #[arg(long)]
    closed: bool,

    /// As JSON, for scripts
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    stores: StoreArgs,
}

#[derive(clap::Args)]
struct ShowArgs {
    /// The letter's id, which is its event's
    id: Uuid,

    /// As JSON, for scripts
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    stores: StoreArgs,
}

#[derive(clap::Args)]
struct ActArgs {
    /// Letters by their ids
    ids: Vec<Uuid>,

    #[command(flatten)]
    filter: Filter,

    /// All of them, where nothing else says which
    #[arg(long)]
    all: bool,

    /// Why; kept for ever
    #[arg(long, required_unless_present = "dry_run")]
    reason: Option<String>,

    /// Says what would be done, and does nothing
    #[arg(long)]
    dry_run: bool,

    /// How many a second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,

    /// Those, too, that were redriven three times already
    #[arg(long)]
    force: bool,

    /// How many seconds to wait for what becomes of them
    #[arg(long, default_value_t = 30)]
    wait: u64,

    /// As JSON, for scripts
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    by: By,

    #[command(flatten)]
    stores: StoreArgs,
}

#[derive(clap::Args)]
struct AuditArgs {
    /// How many of the newest
    #[arg(long, default_value_t = 100)]
    limit: i64,

    /// As JSON, for scripts
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    stores: StoreArgs,
}

pub(crate) async fn run(args: DlqArgs, place: &PlatformArgs) -> anyhow::Result<ExitCode> {
    const NAME: &str = "hospital-dlq";
    match args.command {
        Command::List(args) => {
            let stores = args.stores.open(place, NAME).await?;
            let letters = letters::find(&stores.client, &args.filter, args.closed).await?;
            print::list(&letters, args.json)?;
        }
        Command::Show(args) => {
            let stores = args.stores.open(place, NAME).await?;
            let found = letters::by_ids(&stores.client, &[args.id]).await?;
            if found.is_empty() {
                bail!("there is no dead letter {}: `hospital dlq list` has them", args.id);
            }
            for letter in &found {
                let behind = letters::behind(&stores.client, letter).await?;
                let acts = letters::acts(&stores.client, Some(letter.id), 100).await?;
                print::show(letter, &behind, &acts, args.json)?;
            }
        }
        Command::Redrive(args) => return act::run(&args, act::Act::Redrive, place).await,
        Command::Drop(args) => return act::run(&args, act::Act::Drop, place).await,
        Command::Audit(args) => {
            let stores = args.stores.open(place, NAME).await?;
            print::audit(&letters::acts(&stores.client, None, args.limit).await?, args.json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
