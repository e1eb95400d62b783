//! What a run gave, for people and for programs.

use std::{collections::BTreeMap, time::Duration};

use console::style;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    load::{Outcome, Run},
    pgbench::Measured,
    processor::Used,
};

/// Numbers of one run, of ours or of a baseline's.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figures {
    pub(crate) name: String,
    pub(crate) connections: usize,
    pub(crate) seconds: f64,
    /// Done a second.
    pub(crate) rate: f64,
    pub(crate) latency_us: Latency,
    /// Answers by status; 0 is none.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Sent away with `Retry-After`, a second.
    pub(crate) shed_rate: f64,
    pub(crate) broken: u64,
    /// Warm-up included.
    pub(crate) done_in_all: u64,
    /// Microseconds of processor for each that was done, by process.
    pub(crate) processor_us: BTreeMap<String, f64>,
    /// Done in each quarter of a second.
    pub(crate) slices: Vec<u64>,
    #[serde(skip)]
    pub(crate) histogram: Histogram<u64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) mean: f64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

impl Latency {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            mean: histogram.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
        }
    }
}

impl Figures {
    pub(crate) fn of_run(name: &str, connections: usize, run: Run) -> Self {
        let done = run.tally.count_of(Outcome::Done);
        let seconds = run.tally.length.as_secs_f64();
        Self {
            name: name.to_owned(),
            connections,
            seconds,
            rate: run.tally.rate(),
            latency_us: Latency::of(&run.tally.latency),
            shed_rate: run.tally.count_of(Outcome::Shed) as f64 / seconds,
            broken: run.tally.count_of(Outcome::Broken),
            done_in_all: run.tally.done_in_all,
            statuses: run.tally.statuses,
            processor_us: per_operation(&run.used, done as f64),
            slices: run.tally.slices,
            histogram: run.tally.latency,
        }
    }

    pub(crate) fn of_baseline(
        name: &str,
        connections: usize,
        length: Duration,
        measured: Measured,
    ) -> Self {
        Self {
            name: name.to_owned(),
            connections,
            seconds: length.as_secs_f64(),
            rate: measured.rate,
            latency_us: Latency::of(&measured.latency),
            statuses: BTreeMap::new(),
            shed_rate: 0.0,
            broken: 0,
            done_in_all: 0,
            processor_us: per_operation(&measured.used, measured.transactions),
            slices: Vec::new(),
            histogram: measured.latency,
        }
    }

    #[must_use]
    pub(crate) fn renamed(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Name and rate, for a plot.
    pub(crate) fn told(&self) -> String {
        format!("{}, {}/s", self.name, grouped(self.rate))
    }

    /// The processor time of our services, without PostgreSQL, the broker and the generator.
    pub(crate) fn services_us(&self) -> f64 {
        ["patient", "appointment", "billing", "notification", "supervisor"]
            .iter()
            .filter_map(|name| self.processor_us.get(*name))
            .sum()
    }
}

fn per_operation(used: &Used, operations: f64) -> BTreeMap<String, f64> {
    let each = |(name, used): (&String, &Duration)| {
        (name.clone(), used.as_secs_f64() * 1e6 / operations.max(1.0))
    };
    used.iter().map(each).collect()
}

/// One line of a table for each run, and what its operations cost.
#[expect(clippy::print_stdout, reason = "the command's result")]
pub(crate) fn print(figures: &Figures) {
    let l = figures.latency_us;
    let ms = |us: u64| us as f64 / 1000.0;
    println!(
        "{:<28} {:>9}/s   p50 {:>8.2} ms   p90 {:>8.2}   p99 {:>8.2}   p99.9 {:>8.2}   max {:>8.2}",
        style(&figures.name).bold(),
        style(grouped(figures.rate)).green().bold(),
        ms(l.p50),
        ms(l.p90),
        ms(l.p99),
        ms(l.p999),
        ms(l.max)
    );
    let spent: Vec<String> = figures
        .processor_us
        .iter()
        .filter(|(_, us)| **us >= 0.5)
        .map(|(name, us)| format!("{name} {us:.0}"))
        .collect();
    println!(
        "{}",
        style(format!(
            "    processor µs each: {}   (services {:.0})",
            spent.join("  "),
            figures.services_us()
        ))
        .dim()
    );
    let odd: Vec<String> = figures
        .statuses
        .iter()
        .filter(|(status, _)| !(200..300).contains(*status))
        .map(|(s, n)| format!("{s} × {n}"))
        .collect();
    if !odd.is_empty() {
        println!("{}", style(format!("    also answered: {}", odd.join("  "))).yellow());
    }
}

/// A rate with its thousands apart.
pub(crate) fn grouped(rate: f64) -> String {
    if rate < 100.0 {
        return format!("{rate:.1}");
    }
    let digits = format!("{rate:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
