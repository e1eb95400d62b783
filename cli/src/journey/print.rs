//! Tells a journey on a terminal.

use console::{StyledObject, style};
use jiff::{Timestamp, tz::TimeZone};

use super::{Entry, Journey, Kind};
use crate::dlq::print::say;

pub(super) fn journey(journey: &Journey) {
    say("");
    if let Some(appointment) = &journey.appointment {
        let time =
            |at: Timestamp, pattern: &str| at.to_zoned(TimeZone::UTC).strftime(pattern).to_string();
        say(&format!(
            "{}   {}  {}",
            style("Appointment").bold(),
            appointment.id,
            state(&appointment.status)
        ));
        say(&format!(
            "              {}–{} UTC, {}",
            time(appointment.start, "%Y-%m-%d %H:%M"),
            time(appointment.end, "%H:%M"),
            appointment.service_type
        ));
        say(&format!("Patient       {}", style(appointment.patient_id).dim()));
        say(&format!("Practitioner  {}", style(appointment.practitioner_id).dim()));
    }
    if let Some(bill) = &journey.bill {
        say(&format!("{}          {}  {}", style("Bill").bold(), bill.id, state(&bill.status)));
        let number = bill.number.as_deref().map_or_else(String::new, |n| format!("{n}, "));
        let reserved = if bill.reserved.chars().any(|c| c.is_ascii_digit() && c != '0') {
            format!(", {} reserved", bill.reserved)
        } else {
            String::new()
        };
        say(&format!(
            "              {number}{} {}, {} paid{reserved}",
            bill.total, bill.currency, bill.paid
        ));
    } else {
        say(&format!("{}          {}", style("Bill").bold(), style("none").yellow()));
    }
    for trace in &journey.traces {
        say(&format!("Trace         {}", style(trace).dim()));
    }
    say("");
    timeline(&journey.timeline);
    say("");
    if let Some(e) = &journey.bus {
        say(&style(format!("Where the events are in their topics is not known: {e}"))
            .yellow()
            .to_string());
    }
    let took = match (journey.timeline.first(), journey.timeline.last()) {
        (Some(first), Some(last)) => lasted(last.at.as_millisecond() - first.at.as_millisecond()),
        _ => "no time".to_owned(),
    };
    say(&format!("{} steps in {took}", style(journey.timeline.len()).bold()));
    for id in &journey.open {
        say(&format!("{} open: hospital dlq show {id}", style("✗").red().bold()));
    }
}

fn state(status: &str) -> StyledObject<String> {
    let text = style(status.to_owned());
    match status {
        "cancelled" | "noshow" | "entered-in-error" => text.yellow(),
        "paid" | "completed" => text.green(),
        _ => text.cyan(),
    }
}

fn timeline(entries: &[Entry]) {
    let (mut day, mut last) = (String::new(), None::<Timestamp>);
    for entry in entries {
        let at = entry.at.to_zoned(TimeZone::UTC);
        let today = at.strftime("%Y-%m-%d").to_string();
        if today != day {
            say(&format!("{}", style(&today).bold()));
            day = today;
        }
        let since = last.map_or_else(String::new, |last| {
            format!("+{}", lasted(entry.at.as_millisecond() - last.as_millisecond()))
        });
        last = Some(entry.at);
        let padded = format!("{:<12}", entry.service);
        let service = match entry.service.as_str() {
            "appointment" => style(padded).cyan(),
            "billing" => style(padded).yellow(),
            "notification" => style(padded).magenta(),
            _ => style(padded).dim(),
        };
        let line = format!(
            "  {} {} {service} {} {}  {}",
            style(at.strftime("%H:%M:%S%.3f")).dim(),
            style(format!("{since:>13}")).dim(),
            mark(entry.kind),
            told(entry),
            style(entry.note.lines().next().unwrap_or_default()).dim(),
        );
        say(line.trim_end());
    }
}

fn mark(kind: Kind) -> StyledObject<&'static str> {
    match kind {
        Kind::Request => style("⇢").bold(),
        Kind::Step | Kind::Bill | Kind::Payment => style("●").green(),
        Kind::Event => style("▸").magenta(),
        Kind::Published => style("→").dim(),
        Kind::Received => style("←").dim(),
        Kind::Message => style("✉").blue(),
        Kind::DeadLetter => style("✗").red().bold(),
        Kind::Waiting => style("…").yellow(),
        Kind::Intervention => style("✎").yellow().bold(),
    }
}

fn told(entry: &Entry) -> String {
    match entry.kind {
        Kind::Event => format!("{} happened", style(&entry.what).magenta()),
        Kind::Published => format!("published as {}", entry.what),
        Kind::Received => format!("acted on {}", entry.what),
        Kind::DeadLetter => format!("could not apply {}", style(&entry.what).red()),
        Kind::Waiting => format!("{} waits", entry.what),
        Kind::Request | Kind::Step | Kind::Bill | Kind::Payment => {
            style(&entry.what).bold().to_string()
        }
        Kind::Message | Kind::Intervention => entry.what.clone(),
    }
}

/// A stretch of time as people say it.
fn lasted(ms: i64) -> String {
    match ms {
        ..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms / 1000 % 60),
        3_600_000..86_400_000 => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
        _ => format!("{} d {} h", ms / 86_400_000, ms / 3_600_000 % 24),
    }
}
