//! Retrying and cancelling: job by job, each in one transaction with the row that says who did it and why.

use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::json;
use tokio_postgres::Client;

use super::{
    ActArgs, print,
    rows::{self, Filter, Job, State},
};
use crate::{platform::PlatformArgs, stores::os_user};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Retry,
    Cancel,
}

impl Act {
    const fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Cancel => "cancel",
        }
    }

    pub(super) const fn done(self) -> &'static str {
        match self {
            Self::Retry => "retried",
            Self::Cancel => "cancelled",
        }
    }

    /// What is done to a job of this schema that nobody works on.
    fn sql(self, schema: &str) -> String {
        let change = match self {
            Self::Retry => format!(
                "UPDATE {schema}.job j SET due_at = NULL, held_until = now(), lease = NULL,
                        attempts = 0, died_at = NULL
                 FROM was WHERE j.kind = was.kind AND j.key = was.key RETURNING was.*"
            ),
            Self::Cancel => format!(
                "DELETE FROM {schema}.job j USING was
                 WHERE j.kind = was.kind AND j.key = was.key RETURNING was.*"
            ),
        };
        format!(
            "WITH was AS MATERIALIZED (
                 SELECT * FROM {schema}.job WHERE kind = $1 AND key = $2
                   AND (lease IS NULL OR held_until <= now()) FOR UPDATE
             ), acted AS ({change})
             INSERT INTO {schema}.intervention (actor, os_user, act, reason, detail)
             SELECT $3, $4, $5, $6, jsonb_build_object('kind', kind, 'job', key,
                    'attempts', attempts, 'because', reason, 'payload', payload) FROM acted"
        )
    }
}

pub(super) async fn run(
    args: &ActArgs,
    act: Act,
    place: &PlatformArgs,
) -> anyhow::Result<ExitCode> {
    if args.keys.is_empty() && args.filter.is_empty() && !args.all {
        bail!("say which: keys, a filter such as --kind or --because, or --all");
    }
    let reason = args.reason.as_deref().unwrap_or_default().trim();
    if !args.dry_run && reason.is_empty() {
        bail!("say why with --reason: it is kept, and the next one on call will read it");
    }
    let stores = args.stores.open(place, "hospital-jobs").await?;
    let (chosen, mut left) = choose(&stores.client, args).await?;
    let mut acted = Vec::new();
    if args.dry_run {
        acted.clone_from(&chosen);
    } else {
        for job in chosen {
            if apply(&stores.client, act, &job, (&args.by.who, reason)).await? {
                acted.push(job);
            } else {
                // Somebody has begun it, or is done with it, meanwhile.
                left.push(job);
            }
        }
    }
    if args.json {
        let said = json!({ "dryRun": args.dry_run, act.done(): acted, "left": left });
        crate::dlq::print::json(&said)?;
    } else {
        print::acted(&acted, &left, act.done(), args.dry_run);
    }
    Ok(if left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Those to act on, and those that are worked on just now.
async fn choose(client: &Client, args: &ActArgs) -> anyhow::Result<(Vec<Job>, Vec<Job>)> {
    let found = if args.keys.is_empty() {
        // What only waits is left alone unless somebody says so.
        let state = Some(args.filter.state.unwrap_or(State::Dead));
        let filter = Filter { state, ..args.filter.clone() };
        rows::find(client, &filter, None, i64::MAX).await?
    } else {
        let found = rows::find(client, &args.filter, Some(&args.keys), i64::MAX).await?;
        if let Some(key) = args.keys.iter().find(|key| !found.iter().any(|job| job.key == **key)) {
            bail!("there is no such job {key}");
        }
        found
    };
    Ok(found.into_iter().partition(|job| job.state != State::Running))
}

/// Acts on one, unless somebody works on it or it is gone.
async fn apply(
    client: &Client,
    act: Act,
    job: &Job,
    (who, why): (&str, &str),
) -> anyhow::Result<bool> {
    let written = client
        .execute(
            &act.sql(&job.service),
            &[&job.kind, &job.key, &who, &os_user(), &act.name(), &why],
        )
        .await
        .with_context(|| format!("acting on {} {}", job.kind, job.key))?;
    Ok(written > 0)
}
