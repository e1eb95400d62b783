//! How many requests may be under way, and how long others wait for their turn.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// How long a request waits where half of the places were free a moment ago: a crowd that came at once, which is over soon.
const CROWD: Duration = Duration::from_millis(100);
/// How long it waits where that has not been so for [`CROWD`]: more comes than can be done, and whoever waits only makes it later for all.
/// (Controlled delay, as in Maurer, "Fail at Scale", ACM Queue 2015.)
const OVERLOAD: Duration = Duration::from_millis(5);
/// How many may wait for each that may be under way.
const WAITING: usize = 3;

pub(super) struct Gate {
    slots: Arc<Semaphore>,
    waiting: Semaphore,
    began: Instant,
    under_way: usize,
    /// When half of the places were free last, in milliseconds after the beginning. Single ones become free in an overload too, many at a
    /// time where requests are done together.
    had_room_at_ms: AtomicU64,
    crowd: Duration,
    overload: Duration,
}

impl Gate {
    pub(super) fn new(under_way: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(under_way)),
            waiting: Semaphore::new(under_way.saturating_mul(WAITING).min(Semaphore::MAX_PERMITS)),
            began: Instant::now(),
            under_way,
            had_room_at_ms: AtomicU64::new(0),
            crowd: CROWD,
            overload: OVERLOAD,
        }
    }

    /// A place among those under way, until it is dropped; none when the request is to be shed.
    pub(super) async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        // It does not overtake those who wait: while somebody does, there is nothing to take.
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            if self.slots.available_permits() >= self.under_way / 2 {
                self.had_room_at_ms.store(now_ms, Ordering::Relaxed);
            }
            return Some(slot);
        }
        let without_ms = now_ms.saturating_sub(self.had_room_at_ms.load(Ordering::Relaxed));
        let is_crowd = Duration::from_millis(without_ms) < self.crowd;
        let patience = if is_crowd { self.crowd } else { self.overload };
        let _waits = self.waiting.try_acquire().ok()?;
        tokio::time::timeout(patience, Arc::clone(&self.slots).acquire_owned()).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gate for one, whose times are far apart: the tests run on machines that do much else.
    fn gate() -> Gate {
        let (crowd, overload) = (Duration::from_secs(1), Duration::from_millis(5));
        Gate { crowd, overload, ..Gate::new(1) }
    }

    /// Whether one that comes now waits as a crowd does, and whether it gets in.
    async fn came(gate: &Gate) -> (bool, bool) {
        let at = Instant::now();
        let entered = gate.enter().await.is_some();
        (at.elapsed() >= gate.crowd, entered)
    }

    #[tokio::test]
    async fn a_crowd_waits_and_an_overload_is_told_soon() {
        let gate = gate();
        let inside = gate.enter().await.unwrap();
        assert_eq!(came(&gate).await, (true, false), "there was room just now");
        assert_eq!(came(&gate).await, (false, false), "there was none for a while");
        drop(inside);
        assert_eq!(came(&gate).await, (false, true));
        let inside = gate.enter().await.unwrap();
        assert_eq!(came(&gate).await, (true, false), "and there was room again");
        drop(inside);
    }

    #[tokio::test]
    async fn those_who_wait_get_in_as_others_leave_and_are_not_many() {
        let gate = gate();
        let inside = gate.enter().await.unwrap();
        let leaving = async {
            tokio::time::sleep(gate.overload).await;
            drop(inside);
        };
        let crowd = futures_util::future::join_all((0..5).map(|_| came(&gate)));
        let (came, ()) = tokio::join!(crowd, leaving);
        // Each leaves as soon as it has come in: all who had a place to wait do.
        let entered: Vec<bool> = came.iter().map(|(_, entered)| *entered).collect();
        assert_eq!(entered, [true, true, true, false, false]);
    }
}
