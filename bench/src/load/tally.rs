use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

/// How a request ended, as the bench counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Accepted and done.
    Done,
    /// Refused by a rule: a taken slot, an overpayment.
    Refused,
    /// Sent away for a moment: 429 or 503 with `Retry-After`.
    Shed,
    /// Anything else.
    Broken,
}

impl Outcome {
    pub(crate) const fn of(status: u16, retry_after: bool) -> Self {
        match status {
            200..300 => Self::Done,
            429 | 503 if retry_after => Self::Shed,
            400..500 => Self::Refused,
            _ => Self::Broken,
        }
    }
}

/// How finely the rate over time is kept.
pub(crate) const SLICE: Duration = Duration::from_millis(250);

/// What the requests of a run gave.
pub(crate) struct Tally {
    /// Latency of what was done, in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// Answers by outcome within the run, for rates.
    pub(crate) answered: BTreeMap<Outcome, u64>,
    /// The same by status; 0 is no answer.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// How many were done in each [`SLICE`].
    pub(crate) slices: Vec<u64>,
    pub(crate) length: Duration,
    /// Done at any time, in the warm-up and after the end too.
    pub(crate) done_in_all: u64,
}

/// Latencies of more than a minute count as a minute.
const LATENCY_US_MAX: u64 = 60_000_000;

impl Tally {
    pub(crate) fn new(length: Duration) -> Self {
        let slices = length.as_millis().div_ceil(SLICE.as_millis());
        Self {
            latency: histogram(),
            answered: BTreeMap::new(),
            statuses: BTreeMap::new(),
            slices: vec![0; usize::try_from(slices).unwrap_or(0)],
            length,
            done_in_all: 0,
        }
    }

    /// `latency` is there when it counts, `answered_at` when the answer came within the run.
    pub(crate) fn count(
        &mut self,
        outcome: Outcome,
        status: u16,
        latency: Option<Duration>,
        answered_at: Option<Duration>,
    ) {
        self.done_in_all += u64::from(outcome == Outcome::Done);
        if let Some(at) = answered_at {
            *self.answered.entry(outcome).or_default() += 1;
            *self.statuses.entry(status).or_default() += 1;
            if outcome == Outcome::Done {
                let slice =
                    usize::try_from(at.as_millis() / SLICE.as_millis()).unwrap_or(usize::MAX);
                if let Some(slice) = self.slices.get_mut(slice) {
                    *slice += 1;
                }
            }
        }
        if let (Outcome::Done, Some(latency)) = (outcome, latency) {
            record(&mut self.latency, latency);
        }
    }

    pub(crate) fn count_of(&self, outcome: Outcome) -> u64 {
        self.answered.get(&outcome).copied().unwrap_or(0)
    }

    /// Done a second.
    pub(crate) fn rate(&self) -> f64 {
        self.count_of(Outcome::Done) as f64 / self.length.as_secs_f64()
    }
}

pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are good")
}

pub(crate) fn record(into: &mut Histogram<u64>, latency: Duration) {
    into.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sheds_are_told_from_refusals_and_faults() {
        assert_eq!(Outcome::of(201, false), Outcome::Done);
        assert_eq!(Outcome::of(409, false), Outcome::Refused);
        assert_eq!(Outcome::of(409, true), Outcome::Refused);
        assert_eq!(Outcome::of(503, true), Outcome::Shed);
        assert_eq!(Outcome::of(429, true), Outcome::Shed);
        assert_eq!(Outcome::of(503, false), Outcome::Broken);
        assert_eq!(Outcome::of(0, false), Outcome::Broken);
    }

    #[test]
    fn what_is_answered_after_the_end_has_a_latency_and_no_rate() {
        let mut tally = Tally::new(Duration::from_secs(1));
        let ms = Duration::from_millis;
        tally.count(Outcome::Done, 201, Some(ms(3)), Some(ms(600)));
        tally.count(Outcome::Done, 201, Some(ms(900)), None);
        tally.count(Outcome::Shed, 503, Some(ms(1)), Some(ms(700)));
        assert_eq!((tally.latency.len(), tally.count_of(Outcome::Done)), (2, 1));
        assert!(tally.latency.max() >= 899_000);
        assert_eq!(tally.slices, [0, 0, 1, 0]);
    }
}
