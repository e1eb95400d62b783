//! What an import came to: counts, and every refused row with its reason.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use console::style;
use serde::Serialize;

use super::synthea::Place;
use crate::client::Answer;

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Created,
    /// It was there before and nothing was changed.
    Unchanged,
    Refused,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Counts {
    created: u64,
    unchanged: u64,
    refused: u64,
}

#[derive(Clone, Debug, Serialize)]
struct RefusedRow {
    #[serde(flatten)]
    place: Place,
    code: String,
    reason: String,
}

#[derive(Default)]
struct Inner {
    counts: BTreeMap<&'static str, Counts>,
    refused: Vec<RefusedRow>,
    notes: Vec<String>,
}

/// Collected from all workers.
#[derive(Default)]
pub(crate) struct Report(Mutex<Inner>);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    source: String,
    elapsed_ms: u128,
    changed: bool,
    counts: &'a BTreeMap<&'static str, Counts>,
    /// What was read in another way than usual.
    notes: &'a [String],
    refused: Vec<RefusedRow>,
}

impl Report {
    pub(crate) fn count(&self, kind: &'static str, end: End) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = inner.counts.entry(kind).or_default();
        match end {
            End::Created => counts.created += 1,
            End::Unchanged => counts.unchanged += 1,
            End::Refused => counts.refused += 1,
        }
    }

    pub(crate) fn note(&self, notes: &[String]) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.notes.extend_from_slice(notes);
    }

    pub(crate) fn refuse(&self, kind: &'static str, place: &Place, code: &str, reason: &str) {
        self.count(kind, End::Refused);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refused.push(RefusedRow {
            place: place.clone(),
            code: code.to_owned(),
            reason: reason.to_owned(),
        });
    }

    pub(crate) fn refuse_answer(&self, kind: &'static str, place: &Place, answer: &Answer) {
        let faults: Vec<&str> = answer.body["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|fault| fault["detail"].as_str())
            .collect();
        let reason = match faults.as_slice() {
            [] => answer.detail().to_owned(),
            faults => format!("{} ({})", answer.detail(), faults.join("; ")),
        };
        self.refuse(kind, place, answer.code(), &reason);
    }

    pub(crate) fn write(
        &self,
        path: &Path,
        source: &Path,
        elapsed: Duration,
    ) -> anyhow::Result<()> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut refused = inner.refused.clone();
        refused.sort_by(|a, b| (a.place.file, a.place.line).cmp(&(b.place.file, b.place.line)));
        let file = File {
            source: source.display().to_string(),
            elapsed_ms: elapsed.as_millis(),
            changed: inner.counts.values().any(|c| c.created > 0),
            counts: &inner.counts,
            notes: &inner.notes,
            refused,
        };
        std::fs::write(path, serde_json::to_vec_pretty(&file)?)?;
        Ok(())
    }

    #[expect(clippy::print_stdout, reason = "the command's result")]
    pub(crate) fn print(&self, path: &Path, elapsed: Duration) {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        println!("{:<14} {:>8} {:>10} {:>8}", "", "new", "unchanged", "refused");
        for (kind, counts) in &inner.counts {
            let refused = style(format!("{:>8}", counts.refused));
            let refused = if counts.refused > 0 { refused.yellow() } else { refused.dim() };
            println!("{kind:<14} {:>8} {:>10} {refused}", counts.created, counts.unchanged);
        }
        for note in &inner.notes {
            println!("{note}");
        }
        if inner.counts.values().all(|c| c.created == 0) {
            println!("Nothing changed: all of it was here before.");
        }
        println!(
            "Done in {:.1} s. Refused rows and their reasons: {}",
            elapsed.as_secs_f64(),
            path.display()
        );
    }
}
