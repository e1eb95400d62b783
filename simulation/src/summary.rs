//! What a run came to.

use std::{collections::BTreeMap, fmt::Write};

use serde_json::{Value, json};

use crate::{menu::Fault, oracle::Violation, round::Report};

/// How long recovery may take, in seconds, where the platform promises it.
pub const fn promised_s(fault: Fault) -> Option<f64> {
    match fault {
        Fault::Kill(_) => Some(2.0),
        Fault::PostgresRestart => Some(5.0),
        Fault::BrokerKilled => Some(10.0),
        _ => None,
    }
}

#[derive(Default)]
pub struct Summary {
    pub rounds: u64,
    pub operations: BTreeMap<String, BTreeMap<String, u64>>,
    pub faults: BTreeMap<String, u64>,
    /// By fault: how often it was measured, the worst for requests and for events.
    pub recovery: BTreeMap<Fault, (u64, f64, f64)>,
    pub quiet_worst_s: f64,
    pub took_s: f64,
    pub violations: Vec<Violation>,
}

impl Summary {
    pub fn add(&mut self, report: &Report) {
        self.rounds += 1;
        for ((kind, answer), count) in &report.operations {
            *self.operations.entry(kind.clone()).or_default().entry(answer.clone()).or_insert(0) +=
                count;
        }
        for (name, _) in &report.faults {
            *self.faults.entry(name.clone()).or_insert(0) += 1;
        }
        if let Some((fault, requests, events)) = report.recovery {
            let worst = self.recovery.entry(fault).or_insert((0, 0.0, 0.0));
            *worst = (worst.0 + 1, worst.1.max(requests), worst.2.max(events));
        }
        self.quiet_worst_s = self.quiet_worst_s.max(report.quiet_s);
        self.took_s += report.took_s;
        self.violations.extend(report.violations.iter().cloned());
    }

    /// Faults after which it took longer than promised.
    pub fn too_slow(&self) -> Vec<String> {
        self.recovery
            .iter()
            .filter_map(|(fault, (_, requests, events))| {
                let (worst, promised) = (requests.max(*events), promised_s(*fault)?);
                (worst > promised).then(|| {
                    format!("{}: {worst:.1} s, and {promised} s are promised", fault.name())
                })
            })
            .collect()
    }

    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |what: std::fmt::Arguments<'_>| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{what}");
        };
        line(format_args!(
            "{} rounds in {:.0} s, {} violations, longest until quiet and checked {:.1} s",
            self.rounds,
            self.took_s,
            self.violations.len(),
            self.quiet_worst_s
        ));
        line(format_args!("\n{:<12} answers", "operation"));
        for (kind, answers) in &self.operations {
            let all: Vec<String> =
                answers.iter().map(|(answer, count)| format!("{answer}: {count}")).collect();
            line(format_args!("{kind:<12} {}", all.join(", ")));
        }
        line(format_args!(
            "\n{:<22} {:>5} {:>9} {:>14} {:>12} {:>9}",
            "fault", "times", "measured", "requests, s", "events, s", "promised"
        ));
        let measured: BTreeMap<String, _> =
            self.recovery.iter().map(|(fault, worst)| (fault.name(), (*fault, *worst))).collect();
        for (name, times) in &self.faults {
            match measured.get(name) {
                Some((fault, (count, requests, events))) => {
                    let promised = promised_s(*fault)
                        .map_or_else(String::new, |promised| format!("{promised}"));
                    line(format_args!(
                        "{name:<22} {times:>5} {count:>9} {requests:>14.2} {events:>12.2} {promised:>9}"
                    ));
                }
                None => line(format_args!("{name:<22} {times:>5}")),
            }
        }
        text
    }

    pub fn json(&self) -> Value {
        let recovery: BTreeMap<String, Value> = self
            .recovery
            .iter()
            .map(|(fault, (count, requests, events))| {
                let one = json!({ "measured": count, "requestsWorstS": requests, "eventsWorstS": events, "promisedS": promised_s(*fault) });
                (fault.name(), one)
            })
            .collect();
        json!({
            "rounds": self.rounds, "tookS": self.took_s, "quietWorstS": self.quiet_worst_s,
            "operations": self.operations, "faults": self.faults, "recovery": recovery,
            "violations": self.violations,
        })
    }
}
