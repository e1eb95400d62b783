//! Messages on their way from the consumer, which wrote them, to the sender, in one process: claimed in the database and due nowhere else for
//! a minute. What is lost here with the process is found there.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, futures::Notified};

use crate::store::Claimed;

/// How many may wait: what a mail server takes in some seconds.
const ROOM: usize = 1000;
/// A claim that is older is left to itself: its minute may be over before the message has left.
const FRESH: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(crate) struct Tray {
    state: Mutex<State>,
    due: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Instant, Claimed)>,
    /// Transactions under way that may put something here.
    promised: usize,
    closed: bool,
}

impl Tray {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it can panic halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for what a transaction claims.
    pub(crate) fn promise(self: &Arc<Self>) -> Promise {
        let mut state = self.state();
        state.promised += 1;
        let room = if state.closed { 0 } else { ROOM.saturating_sub(state.waiting.len()) };
        Promise { tray: Arc::clone(self), room }
    }

    /// Takes up to so many, oldest first.
    pub(crate) fn take(&self, max: usize) -> Vec<Claimed> {
        let mut state = self.state();
        let count = max.min(state.waiting.len());
        let taken = state.waiting.drain(..count);
        taken.filter(|(since, _)| since.elapsed() < FRESH).map(|(_, one)| one).collect()
    }

    /// Takes nothing more, waits for transactions that have been promised a place, and gives what is left.
    pub(crate) async fn close(&self) -> Vec<Claimed> {
        self.state().closed = true;
        while self.state().promised > 0 {
            self.woken().await;
        }
        self.take(usize::MAX)
    }

    pub(crate) fn wake(&self) {
        self.due.notify_one();
    }

    pub(crate) fn woken(&self) -> Notified<'_> {
        self.due.notified()
    }
}

/// A transaction's place in the tray, for up to `room` messages.
pub(crate) struct Promise {
    tray: Arc<Tray>,
    pub(crate) room: usize,
}

impl Promise {
    /// Puts messages here, and wakes the sender in any case: others may be due in the database.
    pub(crate) fn keep(self, claimed: Vec<Claimed>) {
        let now = Instant::now();
        self.tray.state().waiting.extend(claimed.into_iter().map(|one| (now, one)));
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.tray.state().promised -= 1;
        self.tray.wake();
    }
}

#[cfg(test)]
mod tests {
    use hospital_types::NotificationId;

    use super::*;

    fn claimed() -> Claimed {
        let text = String::new;
        let (id, created_at) = (NotificationId::new(), jiff::Timestamp::UNIX_EPOCH);
        Claimed { id, recipient: None, subject: text(), body: text(), attempts: 1, created_at }
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "awaited below")]
    async fn what_was_promised_before_it_closed_is_not_left_behind() {
        let tray = Arc::new(Tray::default());
        let (kept, given_up) = (tray.promise(), tray.promise());
        let closing = tokio::spawn({
            let tray = Arc::clone(&tray);
            async move { tray.close().await.len() }
        });
        while tray.promise().room > 0 {
            tokio::task::yield_now().await;
        }
        drop(given_up);
        tokio::task::yield_now().await;
        assert!(!closing.is_finished(), "one may still come");
        kept.keep(vec![claimed(), claimed()]);
        assert_eq!(closing.await.unwrap(), 2);
    }

    #[test]
    fn there_is_an_end_to_its_room() {
        let tray = Arc::new(Tray::default());
        tray.promise().keep((0..ROOM).map(|_| claimed()).collect());
        assert_eq!(tray.promise().room, 0);
        assert_eq!(tray.take(3).len(), 3);
        assert_eq!(tray.promise().room, 3);
    }
}
