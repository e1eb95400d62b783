//! Shows letters and acts.

use console::style;
use hospital_kit::clock::Clock;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::letters::{Done, Letter};

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    say(&serde_json::to_string(value)?);
    Ok(())
}

/// A bar on the standard error, where that is a terminal.
pub(crate) fn bar(length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    let shape = ProgressStyle::with_template("{bar:40.cyan} {pos} of {len}  {per_sec}  {eta} left");
    bar.with_style(shape.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// How long ago, in its largest unit.
pub(crate) fn ago(at: Timestamp) -> String {
    let seconds = Clock::system().now().as_second() - at.as_second();
    match seconds {
        ..60 => format!("{} s", seconds.max(0)),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn place(letter: &Letter) -> String {
    format!("{}-{}@{}", letter.topic, letter.partition, letter.offset)
}

fn state(letter: &Letter) -> String {
    match letter.state.as_str() {
        "dead" => style("dead").red().to_string(),
        "due" => style("due").yellow().to_string(),
        "applied" => style("applied").green().to_string(),
        other => style(other).dim().to_string(),
    }
}

fn line(letter: &Letter) {
    let behind = if letter.waiting > 0 {
        format!("  {}", style(format!("+{} behind it", letter.waiting)).yellow())
    } else {
        String::new()
    };
    let tries = if letter.attempts == 1 { "try" } else { "tries" };
    say(&format!(
        "{}  {}  {:<12} {}  {}{behind}",
        style(letter.id).bold(),
        state(letter),
        letter.group,
        place(letter),
        style(format!(
            "{} ago, {} {tries}, redriven {}×",
            ago(letter.last_at),
            letter.attempts,
            letter.redrives
        ))
        .dim(),
    ));
    say(&format!("    {}", letter.reason));
}

pub(super) fn list(letters: &[Letter], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return json(&letters);
    }
    letters.iter().for_each(line);
    let open = letters.iter().filter(|l| l.closed_at.is_none()).count();
    let waiting: i64 = letters.iter().map(|l| l.waiting).sum();
    if !letters.is_empty() {
        say("");
    }
    say(&match (open, waiting) {
        (0, _) => style("No open dead letters.").green().to_string(),
        (open, 0) => format!("{} open", style(open).red().bold()),
        (open, waiting) => {
            format!("{} open, {} events wait behind them", style(open).red().bold(), waiting)
        }
    });
    Ok(())
}

pub(super) fn show(
    letter: &Letter,
    behind: &[Letter],
    acts: &[Done],
    as_json: bool,
) -> anyhow::Result<()> {
    let payload = match serde_json::from_slice::<Value>(&letter.value) {
        Ok(value) => value,
        Err(_) => Value::String(String::from_utf8_lossy(&letter.value).into_owned()),
    };
    if as_json {
        return json(
            &json!({ "letter": letter, "payload": payload, "behind": behind, "done": acts }),
        );
    }
    line(letter);
    say(&format!("    first tried {}, last {}", letter.first_at, letter.last_at));
    if let Some(key) = &letter.key {
        say(&format!("    key {key}, version {}", letter.version));
    }
    say("");
    for (name, value) in &letter.headers {
        say(&format!("    {} {value}", style(format!("{name:<16}")).dim()));
    }
    say("");
    let text = match &payload {
        Value::String(text) => text.chars().take(4000).collect(),
        value => serde_json::to_string_pretty(value)?,
    };
    text.lines().for_each(|line| say(&format!("    {line}")));
    if !behind.is_empty() {
        say("");
        say(&style("Waiting behind it, in this order").bold().to_string());
        for letter in behind {
            say(&format!("    {}  {}  version {}", letter.id, place(letter), letter.version));
        }
    }
    if !acts.is_empty() {
        say("");
        say(&style("What was done about it").bold().to_string());
        acts.iter().for_each(act);
    }
    say("");
    Ok(())
}

pub(super) fn plan(chosen: &[Letter], tired: &[Letter], done: &str, dry_run: bool) {
    if dry_run {
        chosen.iter().for_each(line);
    }
    for letter in tired {
        line(letter);
        say(&format!(
            "    {}",
            style("left alone: it was redriven so often already; --force does it all the same")
                .yellow()
        ));
    }
    if chosen.is_empty() {
        say("No open dead letter is meant.");
    } else if dry_run {
        let behind: i64 = chosen.iter().map(|l| l.waiting).sum();
        say("");
        say(&format!(
            "{} would be {done}; {behind} events wait behind them",
            style(chosen.len()).bold()
        ));
    }
}

pub(crate) fn act(done: &Done) {
    let text = |name: &str| done.detail[name].as_str();
    let what = match (done.letter, text("log"), text("topic")) {
        _ if text("job").is_some() => {
            format!("{} {}", text("kind").unwrap_or("?"), text("job").unwrap_or("?"))
        }
        (Some(letter), ..) => format!("{letter} of {}", text("topic").unwrap_or("?")),
        (None, Some(log), _) => format!("{} events of the {log} log", done.detail["events"]),
        (None, None, Some(topic)) => format!("{} events of {topic}", done.detail["events"]),
        (None, None, None) => {
            format!(
                "{} events of {}",
                done.detail["events"],
                text("aggregate").unwrap_or("all topics")
            )
        }
    };
    let group = done.group.as_deref().map_or_else(String::new, |group| format!("for {group} "));
    say(&format!(
        "{}  {:<8} {what} {}by {}",
        style(format!("{:.3}", done.at)).dim(),
        style(&done.act).cyan(),
        style(group).dim(),
        style(&done.by).bold(),
    ));
    if let (Some(user), Some(login)) = (&done.os_user, &done.database_user) {
        let ran = format!("    run by {user}, in the database as {login}");
        say(&style(ran).dim().to_string());
    }
    if !done.reason.is_empty() {
        say(&format!("    {}", done.reason));
    }
}

pub(super) fn audit(acts: &[Done], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return json(&acts);
    }
    if acts.is_empty() {
        say("Nobody has done anything yet.");
    }
    acts.iter().for_each(act);
    Ok(())
}
