//! Redriving and dropping: letter by letter, each in one transaction with the row that says who did it and why.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use console::style;
use serde_json::json;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{ActArgs, letters, letters::Letter, print};
use crate::{
    platform::PlatformArgs,
    stores::{Stores, os_user},
};

/// After so many redrives a letter is left alone: what failed as often fails again.
const REDRIVES_MAX: i32 = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Redrive,
    Drop,
}

impl Act {
    const fn done(self) -> &'static str {
        match self {
            Self::Redrive => "redriven",
            Self::Drop => "dropped",
        }
    }
}

pub(super) async fn run(
    args: &ActArgs,
    act: Act,
    place: &PlatformArgs,
) -> anyhow::Result<ExitCode> {
    if args.ids.is_empty() && args.filter.is_empty() && !args.all {
        bail!("say which: ids, a filter such as --topic or --because, or --all");
    }
    let reason = args.reason.as_deref().unwrap_or_default().trim();
    if !args.dry_run && reason.is_empty() {
        bail!("say why with --reason: it is kept, and the next one on call will read it");
    }
    let stores = args.stores.open(place, "hospital-dlq").await?;
    let (chosen, tired) = choose(&stores.client, args, act).await?;
    if !args.json {
        print::plan(&chosen, &tired, act.done(), args.dry_run);
    }
    if args.dry_run || chosen.is_empty() {
        if args.json {
            print::json(&json!({ "dryRun": args.dry_run, "chosen": chosen, "left": tired }))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut acted = Vec::new();
    let bar = print::bar(chosen.len());
    let mut next = Instant::now();
    for letter in &chosen {
        tokio::time::sleep_until(next.into()).await;
        next = next.max(Instant::now()) + Duration::from_secs(1) / args.rate;
        if apply(&stores.client, act, letter, (&args.by.who, reason)).await? {
            acted.push(letter.clone());
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let ended = match act {
        Act::Drop => Ended { applied: 0, dead: Vec::new(), due: 0 },
        Act::Redrive => await_end(&stores, &acted, Duration::from_secs(args.wait)).await?,
    };
    report(args, act, &acted, &tired, &ended)
}

/// Those to act on, and those that were redriven too often.
async fn choose(
    client: &Client,
    args: &ActArgs,
    act: Act,
) -> anyhow::Result<(Vec<Letter>, Vec<Letter>)> {
    let mut found = if args.ids.is_empty() {
        letters::find(client, &args.filter, false).await?
    } else {
        let found = letters::by_ids(client, &args.ids).await?;
        if let Some(id) = args.ids.iter().find(|id| !found.iter().any(|l| l.id == **id)) {
            bail!("there is no dead letter {id}");
        }
        let group = args.filter.group.as_ref();
        found.into_iter().filter(|l| group.is_none_or(|group| l.group == *group)).collect()
    };
    // What waits is not for redriving: it follows. Somebody may give it up by its id, though.
    let may = |state: &str| match act {
        Act::Redrive => state == "dead",
        Act::Drop => matches!(state, "dead" | "waiting" | "due"),
    };
    found.retain(|letter| may(&letter.state));
    let tired = |l: &Letter| act == Act::Redrive && !args.force && l.redrives >= REDRIVES_MAX;
    let (tired, chosen) = found.into_iter().partition(tired);
    Ok((chosen, tired))
}

/// Acts on one letter, unless it changed meanwhile.
async fn apply(
    client: &Client,
    act: Act,
    letter: &Letter,
    (who, why): (&str, &str),
) -> anyhow::Result<bool> {
    // The group's name is its schema's, from the ledger itself.
    let schema = &letter.group;
    let change = match act {
        Act::Redrive => format!(
            "acted AS (UPDATE {schema}.dead_letter SET state = 'due', redrives = redrives + 1
                       WHERE consumer = $1 AND id = $2 AND state = 'dead' RETURNING *)"
        ),
        // An event that is given up counts as received, so that no replay brings it back.
        Act::Drop => format!(
            "acted AS (UPDATE {schema}.dead_letter SET state = 'dropped', closed_at = now()
                       WHERE consumer = $1 AND id = $2 AND closed_at IS NULL RETURNING *),
             received AS (INSERT INTO {schema}.inbox (consumer, event_id, topic) SELECT consumer, id, topic FROM acted
                          WHERE headers @> jsonb_build_array(jsonb_build_array('ce_id', id::text)) ON CONFLICT DO NOTHING)"
        ),
    };
    let act = if act == Act::Redrive { "redrive" } else { "drop" };
    let sql = format!(
        "WITH {change} INSERT INTO {schema}.intervention (actor, os_user, act, reason, consumer, letter, detail)
         SELECT $3, $6, $4, $5, consumer, id, jsonb_build_object('topic', topic, 'partition', partition, 'offset', \"offset\",
                'key', key, 'redrives', redrives, 'because', reason) FROM acted"
    );
    let written = client
        .execute(&sql, &[&letter.group, &letter.id, &who, &act, &why, &os_user()])
        .await
        .with_context(|| format!("acting on {}", letter.id))?;
    Ok(written > 0)
}

/// What became of the redriven.
pub(super) struct Ended {
    pub(super) applied: usize,
    pub(super) dead: Vec<Letter>,
    pub(super) due: usize,
}

async fn await_end(stores: &Stores, acted: &[Letter], patience: Duration) -> anyhow::Result<Ended> {
    let ids: Vec<Uuid> = acted.iter().map(|l| l.id).collect();
    let ours = |l: &Letter| acted.iter().any(|a| a.id == l.id && a.group == l.group);
    let started = Instant::now();
    loop {
        let now: Vec<Letter> =
            letters::by_ids(&stores.client, &ids).await?.into_iter().filter(ours).collect();
        let due = now.iter().filter(|l| l.state == "due").count();
        if due == 0 || started.elapsed() > patience {
            let applied = now.iter().filter(|l| l.state == "applied").count();
            let dead = now.into_iter().filter(|l| l.state == "dead").collect();
            return Ok(Ended { applied, dead, due });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn report(
    args: &ActArgs,
    act: Act,
    acted: &[Letter],
    tired: &[Letter],
    ended: &Ended,
) -> anyhow::Result<ExitCode> {
    let good = act == Act::Drop || (ended.dead.is_empty() && ended.due == 0);
    if args.json {
        print::json(&json!({
            act.done(): acted.len(), "applied": ended.applied, "deadAgain": ended.dead, "stillDue": ended.due,
            "left": tired.len(),
        }))?;
    } else {
        print::say(&format!("{} {}", style(acted.len()).bold(), act.done()));
        if act == Act::Redrive {
            print::say(&format!("{} applied", style(ended.applied).green()));
        }
        for letter in &ended.dead {
            print::say(&format!(
                "{} {} died again: {}",
                style("✗").red(),
                letter.id,
                letter.reason
            ));
        }
        if ended.due > 0 {
            print::say(&format!(
                "{} {} are still due: is the service running?",
                style("✗").red(),
                ended.due
            ));
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
