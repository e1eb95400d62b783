//! A circuit breaker: what fails again and again is left alone for a while.

use std::time::{Duration, Instant};

/// How many failures in a row open it.
const FAILURES: u32 = 5;
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// Whoever is back is noticed after this at the latest: a service that restarts counts on two seconds.
const PAUSE_LONGEST: Duration = Duration::from_secs(2);

/// Closed until calls fail in a row; then open for a pause that grows; then one probe decides.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    pause: Duration,
    probing: bool,
}

impl Breaker {
    /// Whether a call may be made now. After a pause one is let through, and the others wait for what it finds.
    pub fn admit(&mut self, now: Instant) -> bool {
        match &mut self.open {
            None => true,
            Some(open) if now < open.until || open.probing => {
                // A probe that never came back, because its task was dropped, must not block for ever.
                if open.probing && now >= open.until + PAUSE_LONGEST {
                    open.until = now;
                    return true;
                }
                false
            }
            Some(open) => {
                open.probing = true;
                true
            }
        }
    }

    /// What became of an admitted call.
    pub fn record(&mut self, answered: bool, now: Instant) {
        if answered {
            *self = Self::default();
            return;
        }
        self.failures += 1;
        if self.failures >= FAILURES {
            let pause = match &self.open {
                Some(open) if !open.probing => return,
                Some(open) => (open.pause * 2).min(PAUSE_LONGEST),
                None => PAUSE_FIRST,
            };
            self.open = Some(Open { until: now + pause, pause, probing: false });
        }
    }

    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_probes_and_closes() {
        let mut breaker = Breaker::default();
        let start = Instant::now();
        for _ in 0..FAILURES {
            assert!(breaker.admit(start));
            breaker.record(false, start);
        }
        assert!(!breaker.admit(start));
        let later = start + PAUSE_FIRST;
        assert!(breaker.admit(later), "one probe");
        assert!(!breaker.admit(later), "and only one");
        breaker.record(false, later);
        assert!(!breaker.admit(later + PAUSE_FIRST), "the pause has grown");
        assert!(breaker.admit(later + PAUSE_FIRST * 2));
        breaker.record(true, later);
        assert!(breaker.admit(later) && breaker.admit(later));
    }

    #[test]
    fn pauses_grow_and_end_at_the_longest() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES {
            breaker.record(false, now);
        }
        for pause_s in [1, 2, 2, 2] {
            let pause = Duration::from_secs(pause_s);
            assert!(!breaker.admit(now + pause - Duration::from_millis(1)), "{pause_s}");
            now += pause;
            assert!(breaker.admit(now), "{pause_s}");
            breaker.record(false, now);
        }
    }

    #[test]
    fn what_was_asked_before_it_opened_does_not_prolong_the_pause() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..4 * FAILURES {
            breaker.record(false, now);
        }
        assert!(breaker.admit(now + PAUSE_FIRST));
    }

    #[test]
    fn a_probe_that_never_comes_back_is_followed_by_another() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES {
            breaker.record(false, now);
        }
        let probed = now + PAUSE_FIRST;
        assert!(breaker.admit(probed));
        assert!(!breaker.admit(probed + PAUSE_LONGEST - Duration::from_millis(1)));
        assert!(breaker.admit(probed + PAUSE_LONGEST));
        assert!(!breaker.admit(probed + PAUSE_LONGEST), "and only one");
    }

    #[test]
    fn a_success_in_between_keeps_it_closed() {
        let mut breaker = Breaker::default();
        let now = Instant::now();
        for _ in 0..20 {
            breaker.record(false, now);
            breaker.record(false, now);
            breaker.record(true, now);
        }
        assert!(breaker.admit(now));
    }
}
