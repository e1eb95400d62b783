//! The bus was lost with its data: the services' event logs fill its topics again.
//!
//! The relays do it themselves. Their saved snapshots are set back, so that they publish their whole logs again, in order, and new events come
//! behind the old ones of their aggregates. What groups have not acted on by then, whatever their offsets say, is published once more for them.

use std::{
    collections::{BTreeMap, HashSet},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use console::style;
use hospital_contracts::TOPICS;
use hospital_kit::{
    bus::{Position, TopicSpec},
    config::BusConfig,
    dead_letter::dead_letter_topic,
    relay, service,
};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{ReplayArgs, await_quiet, id_of, publish};
use crate::{
    dlq::print::{self, say},
    platform::SERVICES,
    stores::{CONSUMED, Stores, os_user, outbox},
};

/// How often what a group has not acted on is published for it again.
const ROUNDS_MAX: u32 = 5;
/// How many events are looked for at a time.
const GIVEN_MAX: usize = 1_000_000;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct InTopic {
    topic: String,
    /// In the logs.
    logged: usize,
    /// In the logs and not in the topic.
    missing: usize,
}

pub(super) async fn run(args: &ReplayArgs, stores: &Stores) -> anyhow::Result<ExitCode> {
    let before = compare(stores).await?;
    let missing: usize = before.iter().map(|topic| topic.missing).sum();
    if !args.json {
        show(&before);
    }
    if args.dry_run || (missing == 0 && !args.force) {
        if args.json {
            print::json(&json!({ "dryRun": args.dry_run, "missing": missing, "topics": before }))?;
        } else if missing == 0 {
            say(
                "The topics have every event of the logs; --force publishes them again all the same.",
            );
        } else {
            say(&style("Nothing was done.").dim().to_string());
        }
        return Ok(ExitCode::SUCCESS);
    }
    stores.ensure_topics(&topics(&stores.bus_config)).await?;
    set_back(args, stores).await?;
    let logged = before.iter().map(|topic| topic.logged).sum();
    await_relays(stores, logged).await?;
    let mut quiet = await_quiet(stores, Duration::from_secs(args.wait)).await?;
    let mut given = 0;
    for _ in 0..ROUNDS_MAX {
        let again = give_what_is_left(args, stores).await?;
        if again == 0 {
            break;
        }
        given += again;
        quiet = await_quiet(stores, Duration::from_secs(args.wait)).await?;
    }
    let mut left = 0;
    for (group, topics) in CONSUMED {
        left +=
            crate::verify::never_received(&stores.client, group, topics, GIVEN_MAX).await?.len();
    }
    let after: usize = compare(stores).await?.iter().map(|topic| topic.missing).sum();
    let good = quiet && left == 0 && after == 0;
    if args.json {
        print::json(&json!({
            "missing": missing, "missingNow": after, "publishedForGroups": given, "notReceived": left, "quiet": quiet
        }))?;
    } else {
        say("");
        say(&format!("{} events were missing, {} are now", missing, style(after).bold()));
        say(&format!("{given} were given to groups whose offsets had passed them"));
        say(&match (good, left) {
            (true, _) => style("Every group has acted on every event.").green().to_string(),
            (_, 0) => style("Not everything is worked off yet.").red().to_string(),
            _ => style(format!("{left} events were not acted on.")).red().to_string(),
        });
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The platform's topics, with every group's dead-letter topics.
fn topics(config: &BusConfig) -> Vec<TopicSpec> {
    let dead = CONSUMED.iter().flat_map(|(group, topics)| {
        topics.iter().map(|topic| TopicSpec {
            name: dead_letter_topic(topic, group),
            partitions: 1,
            retention: Some(config.retention()),
        })
    });
    service::topics(config, &[]).into_iter().chain(dead).collect()
}

/// What the logs have and the topics do not.
async fn compare(stores: &Stores) -> anyhow::Result<Vec<InTopic>> {
    let rows = stores
        .client
        .query(
            &format!(
                concat!("SELECT o.topic, o.event_id, {} AS old FROM ", outbox!(), " o"),
                crate::verify::OLD_IN_TOPIC
            ),
            &[&stores.bus_config.retention_days],
        )
        .await
        .context("reading the event logs")?;
    // The topics have forgotten what is past their retention, as they should.
    let mut logged: BTreeMap<String, Vec<Uuid>> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.get::<_, bool>("old")) {
        logged.entry(row.get(0)).or_default().push(row.get(1));
    }
    let mut all = Vec::new();
    for (topic, ids) in logged {
        let read = stores.read(&topic, Position::Beginning).await?;
        let there: HashSet<Uuid> =
            read.iter().filter_map(|r| r.header("ce_id").and_then(|id| id.parse().ok())).collect();
        let missing = ids.iter().filter(|id| !there.contains(*id)).count();
        all.push(InTopic { topic, logged: ids.len(), missing });
    }
    Ok(all)
}

fn show(topics: &[InTopic]) {
    for topic in topics {
        let missing = match topic.missing {
            0 => style("all there".to_owned()).dim(),
            n => style(format!("{n} missing")).red(),
        };
        say(&format!("{:<26} {:>8} in the log  {missing}", topic.topic, topic.logged));
    }
}

/// Has every relay publish its whole log again, and writes down who wanted it.
async fn set_back(args: &ReplayArgs, stores: &Stores) -> anyhow::Result<()> {
    for schema in SERVICES {
        let sql = format!(
            "WITH back AS (UPDATE {schema}.outbox_relay SET snapshot = '1:1:' RETURNING 1)
             INSERT INTO {schema}.intervention (actor, os_user, act, reason, detail)
             SELECT $1, $3, 'refill', $2, jsonb_build_object('log', '{schema}', 'events', (SELECT count(*) FROM {schema}.outbox)) FROM back"
        );
        let set = stores.client.execute(&sql, &[&args.by.who, &args.reason, &os_user()]).await;
        set.with_context(|| format!("setting back the relay of {schema}"))?;
    }
    Ok(())
}

/// Waits while the relays get on; gives up when they do not.
async fn await_relays(stores: &Stores, logged: usize) -> anyhow::Result<()> {
    const STANDSTILL: Duration = Duration::from_secs(60);
    let bar = print::bar(logged);
    let (mut most, mut moved) = (0, Instant::now());
    loop {
        let mut waiting = 0;
        for schema in SERVICES {
            let sql = format!(
                "SELECT count(*) FROM {schema}.outbox o, {schema}.outbox_relay r WHERE NOT pg_visible_in_snapshot(o.xid, r.snapshot)"
            );
            waiting += stores.client.query_one(&sql, &[]).await?.get::<_, i64>(0);
        }
        if waiting == 0 {
            bar.finish_and_clear();
            return Ok(());
        }
        // How many records there are: what a group that never was has still to do.
        let mut records = 0;
        for topic in TOPICS {
            records += stores.lag("hospital-replay", topic).await?;
        }
        if records > most {
            (most, moved) = (records, Instant::now());
        }
        bar.set_position(u64::try_from(records)?);
        if moved.elapsed() > STANDSTILL {
            bail!(
                "{waiting} events are not published yet and nothing moves: are the services running?"
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Publishes for each group what it has not acted on; gives how many events that were.
async fn give_what_is_left(args: &ReplayArgs, stores: &Stores) -> anyhow::Result<usize> {
    let mut given = 0;
    for (group, topics) in CONSUMED {
        let left = crate::verify::never_received(&stores.client, group, topics, GIVEN_MAX).await?;
        let ids: Vec<Uuid> = left.into_iter().map(|(_, id)| id).collect();
        if ids.is_empty() {
            continue;
        }
        let rows = stores
            .client
            .query(
                concat!(
                    "SELECT o.service, o.event_id, o.topic, o.event_type, o.aggregate, o.subject, o.payload::text AS payload,
                            o.traceparent, o.created_at FROM ",
                    outbox!(),
                    " o WHERE o.event_id = ANY ($1) ORDER BY o.service, o.seq"
                ),
                &[&ids],
            )
            .await?;
        let records: Vec<_> =
            rows.iter().map(|row| relay::record(row.get("service"), row)).collect();
        given += records.iter().filter_map(id_of).count();
        publish(stores, records, Some(group), args.rate).await?;
    }
    Ok(given)
}
