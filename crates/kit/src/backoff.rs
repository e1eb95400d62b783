//! Growing pauses between attempts.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// Pauses that double up to a maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub max: Duration,
}

impl Backoff {
    /// From a second up to five minutes.
    pub const DEFAULT: Self = Self { first: Duration::from_secs(1), max: Duration::from_secs(300) };

    /// While something that is needed, such as the database or the bus, cannot be reached.
    pub const UNREACHABLE: Self =
        Self { first: Duration::from_millis(50), max: Duration::from_secs(2) };

    /// The pause after so many attempts.
    pub fn pause(self, attempts: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1).min(30));
        self.first.saturating_mul(doubled).min(self.max)
    }
}

/// A pause of up to a tenth more, so that what failed together does not come back together. It is
/// always the same for a key and an attempt.
pub fn jittered(pause: Duration, key: &str, attempts: u32) -> Duration {
    let mut hasher = DefaultHasher::new();
    (key, attempts).hash(&mut hasher);
    let thousandths = u32::try_from(hasher.finish() % 101).unwrap_or(0);
    pause.saturating_add(pause.saturating_mul(thousandths) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_maximum() {
        let backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(60) };
        let pauses = [1, 2, 3, 8, 9, u32::MAX].map(|n| backoff.pause(n).as_millis());
        assert_eq!(pauses, [500, 1000, 2000, 60_000, 60_000, 60_000]);
        assert_eq!(backoff.pause(0), backoff.first);
    }

    #[test]
    fn jitter_adds_a_tenth_at_most_and_tells_jobs_apart() {
        let pause = Duration::from_secs(100);
        let all: Vec<Duration> =
            (0..100).map(|n| jittered(pause, &format!("job {n}"), 1)).collect();
        assert!(all.iter().all(|p| *p >= pause && *p <= pause + pause / 10), "{all:?}");
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert!(different.len() > 20, "{different:?}");
        assert_eq!(jittered(pause, "a", 1), jittered(pause, "a", 1));
    }
}
