//! `hospital replay`: gives consumers the history again.
//!
//! The same events are published again under the same ids, to the same keys: what a group has acted on it knows by its inbox, and what it has
//! not it acts on now. Offsets are not moved: a broker refuses that while the group runs, and a group need not be stopped for this.

mod choose;
mod refill;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::bail;
use console::style;
use hospital_kit::{bus::Record, dead_letter::ONLY_FOR};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    dlq::print::{self, say},
    platform::PlatformArgs,
    stores::{By, CONSUMED, StoreArgs, Stores, os_user, parse_time},
};

/// Publishes history again, under the same ids: nothing takes effect twice
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["topic", "aggregate", "from_outbox"]))]
pub(crate) struct ReplayArgs {
    /// Of this topic
    #[arg(long)]
    topic: Option<String>,

    /// Published at or after this time; or how long ago, such as 30m, 12h, 7d
    #[arg(long, value_parser = parse_time, conflicts_with_all = ["from_offset", "aggregate"], requires = "topic")]
    from_time: Option<Timestamp>,

    /// From this offset on, in each partition
    #[arg(long, conflicts_with = "aggregate", requires = "topic")]
    from_offset: Option<i64>,

    /// Of this appointment, bill or patient, out of the event logs; of all topics unless one is named
    #[arg(long)]
    aggregate: Option<Uuid>,

    /// For this consumer group only; the others pass it by
    #[arg(long)]
    group: Option<String>,

    /// Everything, out of the event logs, after the bus was lost with its data: makes the topics and has the relays publish their whole logs
    #[arg(long, conflicts_with_all = ["topic", "aggregate", "group"])]
    from_outbox: bool,

    /// Says what would be done, and does nothing
    #[arg(long)]
    dry_run: bool,

    /// How many events a second
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,

    /// Refills though nothing is missing in the topics
    #[arg(long, requires = "from_outbox")]
    force: bool,

    /// How many seconds to wait until what was published is worked off
    #[arg(long, default_value_t = 60)]
    wait: u64,

    /// Why; kept for ever
    #[arg(long, default_value = "")]
    reason: String,

    /// As JSON, for scripts
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    by: By,

    #[command(flatten)]
    stores: StoreArgs,
}

/// What became of the replayed events in one group.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct InGroup {
    group: &'static str,
    /// Those that it consumes.
    events: usize,
    /// Those that it had acted on before.
    known: usize,
    /// Those that it acts on because of this.
    fresh: usize,
    /// Those that it has not acted on yet: dead letters, and what waits.
    left: usize,
}

pub(crate) async fn run(args: &ReplayArgs, place: &PlatformArgs) -> anyhow::Result<ExitCode> {
    if let Some(group) = args.group.as_deref().filter(|g| !CONSUMED.iter().any(|(n, _)| n == g)) {
        let known: Vec<&str> = CONSUMED.iter().map(|(name, _)| *name).collect();
        bail!("there is no group {group}; the groups are {}", known.join(", "));
    }
    let stores = args.stores.open(place, "hospital-replay").await?;
    if args.from_outbox {
        return refill::run(args, &stores).await;
    }
    let chosen = choose::events(args, &stores).await?;
    let before = in_groups(args, &stores, &chosen.records).await?;
    if !args.json {
        announce(&chosen, &before, args.dry_run);
    }
    if args.dry_run || chosen.records.is_empty() {
        if args.json {
            print::json(&json!({
                "dryRun": args.dry_run, "events": chosen.records.len(), "skipped": chosen.skipped, "groups": before
            }))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    write_down(args, &stores, &chosen.records, &before).await?;
    publish(&stores, chosen.records.clone(), args.group.as_deref(), args.rate).await?;
    let quiet = await_quiet(&stores, Duration::from_secs(args.wait)).await?;
    let mut after = in_groups(args, &stores, &chosen.records).await?;
    for (now, then) in after.iter_mut().zip(&before) {
        now.left = now.events - now.known;
        now.fresh = now.known - then.known;
        now.known = then.known;
    }
    if args.json {
        let published = chosen.records.len();
        print::json(&json!({ "published": published, "quiet": quiet, "groups": after }))?;
    } else {
        summarize(chosen.records.len(), &after, quiet);
    }
    let good = quiet && after.iter().all(|group| group.left == 0);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn id_of(record: &Record) -> Option<Uuid> {
    record.headers.iter().find(|(name, _)| name == "ce_id").and_then(|(_, id)| id.parse().ok())
}

/// How many of the events each group consumes, and how many of them it has acted on.
async fn in_groups(
    args: &ReplayArgs,
    stores: &Stores,
    records: &[Record],
) -> anyhow::Result<Vec<InGroup>> {
    let mut all = Vec::new();
    for (group, topics) in CONSUMED {
        if args.group.as_deref().is_some_and(|only| only != group) {
            continue;
        }
        let ids: Vec<Uuid> = records
            .iter()
            .filter(|r| topics.contains(&r.topic.as_str()))
            .filter_map(id_of)
            .collect();
        if ids.is_empty() {
            continue;
        }
        let sql = format!(
            "SELECT count(*) FROM {group}.inbox WHERE consumer = '{group}' AND event_id = ANY ($1)"
        );
        let known: i64 = stores.client.query_one(&sql, &[&ids]).await?.get(0);
        let known = usize::try_from(known)?;
        all.push(InGroup { group, events: ids.len(), known, fresh: 0, left: ids.len() - known });
    }
    Ok(all)
}

fn announce(chosen: &choose::Chosen, groups: &[InGroup], dry_run: bool) {
    let mut topics: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &chosen.records {
        *topics.entry(&record.topic).or_default() += 1;
    }
    for (topic, events) in topics {
        say(&format!("{} {topic}", style(format!("{events:>8}")).bold()));
    }
    if chosen.skipped > 0 {
        say(&format!(
            "{:>8} records that are no events, or repeat one, are left out",
            chosen.skipped
        ));
    }
    for group in groups {
        say(&format!(
            "{} has acted on {} of {}, and will on {}",
            style(group.group).cyan(),
            group.known,
            group.events,
            style(group.left).bold()
        ));
    }
    if chosen.records.is_empty() {
        say("There is nothing to replay.");
    } else if groups.is_empty() {
        say("No group consumes these; other readers see them again.");
    }
    if dry_run {
        say(&style("Nothing was done: this is what would be.").dim().to_string());
    }
}

fn summarize(published: usize, groups: &[InGroup], quiet: bool) {
    say("");
    say(&format!("{} events published again", style(published).bold()));
    for group in groups {
        say(&format!(
            "{} knew {}, acted on {}{}",
            style(group.group).cyan(),
            group.known,
            style(group.fresh).green(),
            if group.left > 0 {
                style(format!(", has still to act on {}: see `hospital dlq list`", group.left))
                    .red()
                    .to_string()
            } else {
                String::new()
            }
        ));
    }
    if !quiet {
        say(&style("They are not worked off yet: are the services running?").red().to_string());
    }
}

/// Writes down who replays what and why, with every group that it is for.
async fn write_down(
    args: &ReplayArgs,
    stores: &Stores,
    records: &[Record],
    groups: &[InGroup],
) -> anyhow::Result<()> {
    let detail: Value = json!({
        "topic": args.topic, "aggregate": args.aggregate, "fromOffset": args.from_offset,
        "fromTime": args.from_time.map(|t| t.to_string()), "events": records.len(),
    });
    for group in groups {
        let sql = format!(
            "INSERT INTO {}.intervention (actor, os_user, act, reason, consumer, detail) VALUES ($1, $2, 'replay', $3, $4, $5)",
            group.group
        );
        let (who, user) = (&args.by.who, os_user());
        stores.client.execute(&sql, &[who, &user, &args.reason, &group.group, &detail]).await?;
    }
    Ok(())
}

/// Publishes records in order, at a rate, for one group or for all.
async fn publish(
    stores: &Stores,
    records: Vec<Record>,
    group: Option<&str>,
    rate: u32,
) -> anyhow::Result<()> {
    let bar = print::bar(records.len());
    // Twenty times a second, as many as the rate allows.
    let size = usize::try_from(rate / 20)?.clamp(1, 1000);
    let pause = Duration::from_secs_f64(f64::from(u32::try_from(size)?) / f64::from(rate));
    let mut next = Instant::now();
    for chunk in records.chunks(size) {
        tokio::time::sleep_until(next.into()).await;
        next = next.max(Instant::now()) + pause;
        let mut batch = chunk.to_vec();
        if let Some(group) = group {
            for record in &mut batch {
                record.headers.push((ONLY_FOR.to_owned(), group.to_owned()));
            }
        }
        stores.publish(batch).await?;
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Waits until no group has anything left to do in the topics; false when it still has.
async fn await_quiet(stores: &Stores, patience: Duration) -> anyhow::Result<bool> {
    let started = Instant::now();
    loop {
        let mut lag = 0;
        for (group, topics) in CONSUMED {
            for topic in topics {
                lag += stores.lag(group, topic).await?;
            }
        }
        if lag == 0 || started.elapsed() > patience {
            return Ok(lag == 0);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
