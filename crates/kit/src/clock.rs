//! The time, as one dependency of everything that asks for it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use jiff::Timestamp;

/// The service's clock: the machine's, or in tests one that is some time off. Clocks stamp records; they never order events,
/// which the database does.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    offset_us: Arc<AtomicI64>,
}

impl Clock {
    pub fn system() -> Self {
        Self::default()
    }

    /// The time in whole microseconds, which is what PostgreSQL keeps.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn now(&self) -> Timestamp {
        let now_us = Timestamp::now().as_microsecond() + self.offset_us.load(Ordering::Relaxed);
        Timestamp::from_microsecond(now_us).expect("a clock that is off by less than centuries")
    }

    /// Puts every copy of this clock so far off the machine's. For the simulation.
    #[cfg(feature = "simulation")]
    pub(crate) fn set_offset_us(&self, offset_us: i64) {
        self.offset_us.store(offset_us, Ordering::Relaxed);
    }

    /// Puts every copy of this clock further off. For tests.
    pub fn advance(&self, by: std::time::Duration) {
        let by_us = i64::try_from(by.as_micros()).expect("a test's step fits");
        self.offset_us.fetch_add(by_us, Ordering::Relaxed);
    }

    /// Sets every copy of this clock back. For tests.
    pub fn step_back(&self, by: std::time::Duration) {
        let by_us = i64::try_from(by.as_micros()).expect("a test's step fits");
        self.offset_us.fetch_sub(by_us, Ordering::Relaxed);
    }
}
