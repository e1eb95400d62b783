//! Shows jobs.

use console::style;
use hospital_kit::clock::Clock;
use serde_json::json;

use super::rows::{Job, State};
use crate::dlq::{
    letters::Done,
    print::{act, ago, json as as_json_line, say},
};

fn state(job: &Job) -> String {
    let text = format!("{:<7}", job.state.as_str());
    match job.state {
        State::Dead => style(text).red().to_string(),
        State::Due => style(text).yellow().to_string(),
        State::Running => style(text).green().to_string(),
        State::Waiting => style(text).dim().to_string(),
    }
}

/// When it is due, as seen from now.
fn when(job: &Job) -> String {
    if let Some(died_at) = job.died_at {
        return format!("dead for {}", ago(died_at));
    }
    let seconds = job.due_at.as_second() - Clock::system().now().as_second();
    let word = if job.state == State::Running { "its lease ends" } else { "due" };
    if seconds > 0 {
        format!("{word} in {seconds} s")
    } else {
        format!("{word} since {}", ago(job.due_at))
    }
}

fn line(job: &Job) {
    let tries = if job.attempts == 1 { "try" } else { "tries" };
    say(&format!(
        "{}  {:<12} {}  {}  {}",
        state(job),
        job.service,
        job.kind,
        style(&job.key).bold(),
        style(format!("{}, {} {tries}", when(job), job.attempts)).dim(),
    ));
    if let Some(reason) = &job.reason {
        say(&format!("    {reason}"));
    }
}

pub(super) fn list(jobs: &[Job], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return as_json_line(&jobs);
    }
    jobs.iter().for_each(line);
    if !jobs.is_empty() {
        say("");
    }
    let dead = jobs.iter().filter(|job| job.state == State::Dead).count();
    say(&match (jobs.len(), dead) {
        (0, _) => style("No jobs.").green().to_string(),
        (all, 0) => format!("{all} jobs, none of them dead"),
        (all, dead) => format!("{all} jobs, {} of them dead", style(dead).red().bold()),
    });
    Ok(())
}

pub(super) fn show(jobs: &[Job], acts: &[Done], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return as_json_line(&json!({ "jobs": jobs, "done": acts }));
    }
    for job in jobs {
        line(job);
        say(&format!("    enqueued first {}, due {}", job.created_at, job.due_at));
        if let Some(traceparent) = &job.traceparent {
            say(&format!("    traceparent {traceparent}"));
        }
        for line in serde_json::to_string_pretty(&job.payload)?.lines() {
            say(&format!("    {line}"));
        }
    }
    if jobs.is_empty() {
        say("There is no such job any more.");
    }
    if !acts.is_empty() {
        say("");
        say(&style("What was done about it").bold().to_string());
        acts.iter().for_each(act);
    }
    Ok(())
}

pub(super) fn acted(acted: &[Job], left: &[Job], done: &str, dry_run: bool) {
    if dry_run {
        acted.iter().for_each(line);
    }
    for job in left {
        line(job);
        say(&format!("    {}", style("left alone: somebody works on it").yellow()));
    }
    let count = style(acted.len()).bold();
    say(&if dry_run { format!("{count} would be {done}") } else { format!("{count} {done}") });
}
