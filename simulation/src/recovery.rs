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
}
