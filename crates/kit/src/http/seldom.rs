//! What may happen thousands of times a second and is told once in a second.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Counts what happens and tells of it at most once a second: a line for each would cost those that
/// are let in a tenth of their processor, and whoever floods a service would fill its log.
#[derive(Clone, Default)]
pub(super) struct Seldom(Arc<Mutex<Untold>>);

#[derive(Default)]
struct Untold {
    count: u64,
    told: Option<Instant>,
}

impl Seldom {
    /// `tell` is given how often it happened since it was last told.
    pub(super) fn note(&self, tell: impl FnOnce(u64)) {
        // Nothing that holds it can panic halfway.
        let mut untold = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        untold.count += 1;
        if untold.told.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
            untold.told = Some(Instant::now());
            let count = std::mem::take(&mut untold.count);
            drop(untold);
            tell(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line() {
        let (seldom, mut told) = (Seldom::default(), Vec::new());
        for _ in 0..1000 {
            seldom.note(|count| told.push(count));
        }
        assert_eq!(told, [1]);
    }
}
