//! How long until everything goes as fast as before.

/// How long a stretch of time is looked at.
pub const WINDOW_S: f64 = 0.5;
/// What of the earlier rate is "as before".
const SHARE: f64 = 0.95;
const STEP_S: f64 = 0.02;

/// How many things a second happened in a stretch of time; `times` rise.
pub fn rate(times: &[f64], from: f64, to: f64) -> f64 {
    let before = |t: f64| times.partition_point(|time| *time < t);
    (before(to) - before(from)) as f64 / (to - from)
}

/// Seconds from `fault` to the moment from which on, for the length of a window, 95 % of the earlier rate was reached; `None` while no
/// such window is over.
pub fn recovered(times: &[f64], earlier: f64, fault: f64, now: f64) -> Option<f64> {
    let mut from = fault;
    while from + WINDOW_S <= now {
        if rate(times, from, from + WINDOW_S) >= earlier * SHARE {
            return Some(from - fault);
        }
        from += STEP_S;
    }
    None
}

/// An event: when it was committed, and how long after that its consumer applied it.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub committed: f64,
    pub took: Option<f64>,
}

/// How soon an event is applied when all is well.
const SOON_S: f64 = 0.5;

/// Seconds from `fault` to the moment from which on, for the length of a window, 95 % of the events were applied soon. Judged by their
/// delay and not by their rate, which a backlog makes high while much still waits.
pub fn flows(events: &[Flow], fault: f64, now: f64) -> Option<f64> {
    let mut from = fault;
    // What was committed just now may still come soon.
    while from + WINDOW_S + SOON_S <= now {
        let within = |e: &&Flow| e.committed >= from && e.committed < from + WINDOW_S;
        let all = events.iter().filter(within).count() as f64;
        let soon = |e: &&Flow| within(e) && e.took.is_some_and(|took| took <= SOON_S);
        if events.iter().filter(soon).count() as f64 >= all * SHARE {
            return Some(from - fault);
        }
        from += STEP_S;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred a second, without those between `from` and `to`.
    fn with_gap(from: f64, to: f64) -> Vec<f64> {
        (0..500).map(|n| f64::from(n) / 100.0).filter(|t| *t < from || *t >= to).collect()
    }

    #[test]
    fn recovery_is_when_the_rate_is_as_before() {
        let times = with_gap(1.0, 2.0);
        let earlier = rate(&times, 0.0, 1.0);
        assert!((earlier - 100.0).abs() < 1.5, "{earlier}");
        let after = recovered(&times, earlier, 1.0, 4.0).unwrap();
        assert!((0.9..=1.0).contains(&after), "{after}");
        assert_eq!(recovered(&times, earlier, 1.0, 2.3), None, "not yet");
        assert_eq!(recovered(&with_gap(9.0, 9.0), 100.0, 1.0, 2.0), Some(0.0), "nothing happened");
    }

    #[test]
    fn events_flow_again_when_they_are_applied_soon() {
        // One in ten waits for three seconds, as in a partition that nobody reads.
        let late = |n: i32| n % 10 == 0 && (100..400).contains(&n);
        let event = |n: i32| Flow {
            committed: f64::from(n) / 100.0,
            took: if late(n) { None } else { Some(0.02) },
        };
        let events: Vec<Flow> = (0..500).map(event).collect();
        let after = flows(&events, 1.0, 5.0).unwrap();
        assert!((2.5..=3.0).contains(&after), "{after}");
        assert_eq!(flows(&events, 1.0, 3.0), None, "not yet");
    }
}
