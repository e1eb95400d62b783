//! Joins calls that come at the same time: whoever comes while a shuttle is free rides at once, with those who come at the same moment;
//! whoever comes while all are out waits, and the next one that returns takes everybody who waits, up to its seats.
//!
//! There is no timer: nobody waits for company, only for a way that is busy anyway. So a single call pays nothing, and under load the
//! costs of a call (a round trip, a flush of the log) are shared by as many as came meanwhile.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

/// Carries calls of one kind. `I` is what a call brings, `O` what it gets.
pub struct Shuttle<I, O> {
    name: &'static str,
    seats: usize,
    /// How many may be out at a time.
    shuttles: usize,
    apart: fn(&I, &I) -> bool,
    ride: Box<Ride<I, O>>,
    stop: Mutex<Stop<I, O>>,
}

type Ride<I, O> = dyn Fn(Vec<I>) -> BoxFuture<'static, Vec<O>> + Send + Sync;

struct Stop<I, O> {
    waiting: VecDeque<Passenger<I, O>>,
    out: usize,
}

struct Passenger<I, O> {
    item: I,
    answer: oneshot::Sender<O>,
}

/// Why a call was not carried.
#[derive(Debug, PartialEq, Eq)]
pub enum NotCarried<I> {
    /// Somebody waits with whom it may not ride: it goes by itself.
    Apart(I),
    /// The ride did not end: its task panicked. What it did is not known.
    Lost,
}

impl<I: Send + 'static, O: Send + 'static> Shuttle<I, O> {
    /// `ride` is given whoever rides together, in the order in which they came, and answers each in the same order. Two calls that are
    /// `apart` never ride together.
    pub fn new(
        name: &'static str,
        shuttles: usize,
        seats: usize,
        apart: fn(&I, &I) -> bool,
        ride: impl Fn(Vec<I>) -> BoxFuture<'static, Vec<O>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let stop = Mutex::new(Stop { waiting: VecDeque::new(), out: 0 });
        Arc::new(Self { name, seats, shuttles, apart, ride: Box::new(ride), stop })
    }

    /// Rides, alone or with others, and gives this call's answer.
    pub async fn call(self: &Arc<Self>, item: I) -> Result<O, NotCarried<I>> {
        let (answer, free) = self.board(item)?;
        if let Some(out) = free {
            out.leave();
        }
        answer.await.map_err(|_| NotCarried::Lost)
    }

    /// Takes a place among those who wait, and a free shuttle if there is one.
    #[expect(clippy::type_complexity, reason = "two parts of one answer")]
    fn board(
        self: &Arc<Self>,
        item: I,
    ) -> Result<(oneshot::Receiver<O>, Option<Out<I, O>>), NotCarried<I>> {
        let mut stop = self.stop();
        if stop.waiting.iter().any(|other| (self.apart)(&other.item, &item)) {
            return Err(NotCarried::Apart(item));
        }
        let (answer, waiting) = oneshot::channel();
        stop.waiting.push_back(Passenger { item, answer });
        let free = (stop.out < self.shuttles).then(|| {
            stop.out += 1;
            Out::new(self)
        });
        Ok((waiting, free))
    }

    fn stop(&self) -> MutexGuard<'_, Stop<I, O>> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A shuttle is back: it leaves with those who wait, or stays.
    fn back(self: &Arc<Self>) {
        let mut stop = self.stop();
        if stop.waiting.is_empty() {
            stop.out -= 1;
            return;
        }
        drop(stop);
        Out::new(self).leave();
    }

    /// A shuttle could not leave, for nothing begins any more: those who wait are told, by the loss of what they wait for.
    fn close(&self) {
        let waiting = {
            let mut stop = self.stop();
            stop.out -= 1;
            std::mem::take(&mut stop.waiting)
        };
        drop(waiting);
    }

    fn take(&self) -> (Vec<I>, Vec<oneshot::Sender<O>>) {
        let mut stop = self.stop();
        let riders = stop.waiting.len().min(self.seats);
        stop.waiting.drain(..riders).map(|p| (p.item, p.answer)).unzip()
    }

    fn count(&self, riders: usize) {
        metrics::counter!("shuttle_rides_total", "shuttle" => self.name).increment(1);
        metrics::counter!("shuttle_riders_total", "shuttle" => self.name).increment(riders as u64);
    }
}

/// A shuttle that is out. However the ride ends, it comes back.
struct Out<I: Send + 'static, O: Send + 'static> {
    shuttle: Arc<Shuttle<I, O>>,
    /// Whether its ride began. At the end of a runtime one is dropped before it does.
    began: bool,
}

impl<I: Send + 'static, O: Send + 'static> Out<I, O> {
    fn new(shuttle: &Arc<Shuttle<I, O>>) -> Self {
        Self { shuttle: Arc::clone(shuttle), began: false }
    }

    fn leave(mut self) {
        #[expect(
            clippy::disallowed_methods,
            reason = "every rider waits for it, in a task that is tracked"
        )]
        tokio::spawn(async move {
            self.began = true;
            // Those who are at the stop already, but have not had their turn to board, do it now.
            tokio::task::yield_now().await;
            let (items, answers) = self.shuttle.take();
            if items.is_empty() {
                return;
            }
            self.shuttle.count(items.len());
            let done = (self.shuttle.ride)(items).await;
            for (answer, done) in answers.into_iter().zip(done) {
                // Whoever does not wait any more needs no answer.
                let _ = answer.send(done);
            }
        });
    }
}

impl<I: Send + 'static, O: Send + 'static> Drop for Out<I, O> {
    fn drop(&mut self) {
        if self.began {
            self.shuttle.back();
        } else {
            self.shuttle.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    /// A shuttle, what lets its rides go, and who rode together.
    type Doubling = (Arc<Shuttle<u32, u32>>, Arc<Semaphore>, mpsc::UnboundedReceiver<Vec<u32>>);

    /// A shuttle that doubles numbers, and whose rides wait for a permit each.
    fn doubling(shuttles: usize, seats: usize) -> Doubling {
        let permits = Arc::new(Semaphore::new(0));
        let (tell, rides) = mpsc::unbounded_channel();
        let gate = Arc::clone(&permits);
        let ride = move |numbers: Vec<u32>| {
            let (gate, tell) = (Arc::clone(&gate), tell.clone());
            let doubled: BoxFuture<'static, Vec<u32>> = Box::pin(async move {
                tell.send(numbers.clone()).unwrap();
                gate.acquire().await.unwrap().forget();
                assert!(!numbers.contains(&13), "an unlucky ride");
                numbers.iter().map(|n| n * 2).collect()
            });
            doubled
        };
        let apart = |a: &u32, b: &u32| a == b;
        (Shuttle::new("test", shuttles, seats, apart, ride), permits, rides)
    }

    async fn call(shuttle: &Arc<Shuttle<u32, u32>>, n: u32) -> Result<u32, NotCarried<u32>> {
        shuttle.call(n).await
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "awaited below")]
    async fn whoever_finds_one_free_rides_at_once_and_the_others_together() {
        let (shuttle, permits, mut rides) = doubling(1, 3);
        let first = tokio::spawn({
            let shuttle = Arc::clone(&shuttle);
            async move { call(&shuttle, 1).await }
        });
        assert_eq!(rides.recv().await.unwrap(), [1]);
        let calls = join_all((2..=5).map(|n| call(&shuttle, n)));
        let open = async { permits.add_permits(3) };
        let (answers, ()) = tokio::join!(calls, open);
        assert_eq!(first.await.unwrap(), Ok(2));
        assert_eq!(answers, [Ok(4), Ok(6), Ok(8), Ok(10)]);
        assert_eq!(rides.recv().await.unwrap(), [2, 3, 4], "as many as there are seats");
        assert_eq!(rides.recv().await.unwrap(), [5]);
        while shuttle.stop().out > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn those_who_come_at_the_same_moment_share_the_first_ride() {
        let (shuttle, permits, mut rides) = doubling(2, 8);
        permits.add_permits(2);
        let answers = join_all((1..=3).map(|n| call(&shuttle, n))).await;
        assert_eq!(answers, [Ok(2), Ok(4), Ok(6)]);
        assert_eq!(rides.recv().await.unwrap(), [1, 2, 3]);
    }

    #[tokio::test]
    async fn whoever_may_not_ride_with_one_who_waits_is_told_so() {
        let (shuttle, permits, mut rides) = doubling(1, 3);
        permits.add_permits(1);
        let answers = join_all([7, 7].map(|n| call(&shuttle, n))).await;
        assert_eq!(answers, [Ok(14), Err(NotCarried::Apart(7))]);
        assert_eq!(rides.recv().await.unwrap(), [7]);
    }

    #[tokio::test]
    async fn a_ride_that_panics_loses_its_riders_and_nobody_else() {
        let (shuttle, permits, _rides) = doubling(1, 2);
        permits.add_permits(3);
        let answers = join_all([1, 2, 13, 3, 4].map(|n| call(&shuttle, n))).await;
        let lost = || Err(NotCarried::Lost);
        assert_eq!(answers, [Ok(2), Ok(4), lost(), lost(), Ok(8)]);
    }

    #[tokio::test]
    async fn a_rider_who_does_not_wait_any_more_stops_nothing() {
        let (shuttle, permits, mut rides) = doubling(1, 2);
        let gone = Arc::clone(&shuttle);
        tokio::select! {
            _ = gone.call(1) => panic!("nobody opened"),
            _ = rides.recv() => {}
        }
        permits.add_permits(2);
        assert_eq!(shuttle.call(4).await, Ok(8));
    }

    #[test]
    fn a_runtime_that_ends_with_calls_that_wait_ends() {
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let (shuttle, _permits, mut rides) = doubling(1, 1);
        for n in 0..3 {
            let shuttle = Arc::clone(&shuttle);
            runtime.spawn(async move { call(&shuttle, n).await });
        }
        runtime.block_on(rides.recv());
        drop(runtime);
        assert!(shuttle.stop().waiting.is_empty());
    }
}
