//! Dispatches on their way from the consumer, which wrote them, to the sender, in one process: due nowhere else for a minute. What is lost here
//! with the process is found in the database.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, futures::Notified};

use crate::store::Dispatch;

/// How many messages may wait: what a mail server takes in some seconds.
const ROOM: usize = 1000;
/// A dispatch that is older is left to itself: its minute may be over before it has left.
const FRESH: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(crate) struct Tray {
    state: Mutex<State>,
    due: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Instant, Dispatch)>,
    /// Messages of those that wait.
    messages: usize,
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
        let room = if state.closed { 0 } else { ROOM.saturating_sub(state.messages) };
        Promise { tray: Arc::clone(self), room }
    }

    /// Takes the oldest, and others with it as long as they are not more than `max` messages together.
    pub(crate) fn take(&self, max: usize) -> Vec<Dispatch> {
        let mut state = self.state();
        let (mut taken, mut messages) = (Vec::new(), 0);
        while let Some((since, dispatch)) = state.waiting.pop_front() {
            let count = dispatch.messages.len();
            if messages > 0 && messages + count > max {
                state.waiting.push_front((since, dispatch));
                break;
            }
            state.messages -= count;
            if since.elapsed() < FRESH {
                messages += count;
                taken.push(dispatch);
            }
        }
        taken
    }

    /// Takes nothing more, waits for transactions that have been promised a place, and gives what is left.
    pub(crate) async fn close(&self) -> Vec<Dispatch> {
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
    /// Puts dispatches here, and wakes the sender in any case: others may be due in the database.
    pub(crate) fn keep(self, dispatches: Vec<Dispatch>) {
        let now = Instant::now();
        let mut state = self.tray.state();
        state.messages += dispatches.iter().map(|d| d.messages.len()).sum::<usize>();
        state.waiting.extend(dispatches.into_iter().map(|dispatch| (now, dispatch)));
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
    use crate::store::{Claimed, DispatchId};

    fn dispatch(messages: usize) -> Dispatch {
        let text = String::new;
        let claimed = |_| Claimed {
            id: NotificationId::new(),
            recipient: None,
            stranger: false,
            subject: text(),
            body: text(),
            attempts: 1,
            created_at: jiff::Timestamp::UNIX_EPOCH,
        };
        Dispatch { id: DispatchId::new(), messages: (0..messages).map(claimed).collect() }
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
        kept.keep(vec![dispatch(1), dispatch(3)]);
        assert_eq!(closing.await.unwrap(), 2);
    }

    #[test]
    fn there_is_an_end_to_its_room() {
        let tray = Arc::new(Tray::default());
        tray.promise().keep(vec![dispatch(3), dispatch(ROOM - 3)]);
        assert_eq!(tray.promise().room, 0);
        assert_eq!(tray.take(3).len(), 1);
        assert_eq!(tray.promise().room, 3);
    }

    #[test]
    fn dispatches_leave_whole() {
        let tray = Arc::new(Tray::default());
        tray.promise().keep(vec![dispatch(5), dispatch(2), dispatch(2), dispatch(1)]);
        let sizes = || tray.take(4).iter().map(|d| d.messages.len()).collect::<Vec<_>>();
        assert_eq!(sizes(), [5]);
        assert_eq!(sizes(), [2, 2]);
        assert_eq!(sizes(), [1]);
        assert!(sizes().is_empty());
    }
}
