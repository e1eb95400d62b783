//! Runs concurrent calls in batches (micro-batching). A call that finds a free worker starts at once;
//! calls that arrive while all workers are busy wait, and the next free one takes them together.
//!
//! There is no timer, so a single call pays nothing. Under load the cost of a batch (a round trip, a
//! flush of the log) is shared by all calls in it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

/// Batches calls of one kind. `I` is a call's input, `O` its output.
pub struct Batcher<I, O> {
    name: &'static str,
    /// How many calls a batch may have.
    batch_max: usize,
    /// How many batches may run at a time.
    concurrency: usize,
    conflicts: fn(&I, &I) -> bool,
    run: Box<RunBatch<I, O>>,
    state: Mutex<State<I, O>>,
}

type RunBatch<I, O> = dyn Fn(Vec<I>) -> BoxFuture<'static, Vec<O>> + Send + Sync;

struct State<I, O> {
    waiting: VecDeque<Waiting<I, O>>,
    running: usize,
}

struct Waiting<I, O> {
    input: I,
    reply: oneshot::Sender<O>,
}

/// Why a call was not run in a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum NotBatched<I> {
    /// It conflicts with a call that is waiting: run it by itself.
    Conflicts(I),
    /// Its batch panicked. What the batch did is not known.
    Panicked,
}

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    /// `run` gets the inputs of a batch in the order of their arrival and returns an output for each,
    /// in the same order. Two calls for which `conflicts` is true are never in one batch.
    pub fn new(
        name: &'static str,
        concurrency: usize,
        batch_max: usize,
        conflicts: fn(&I, &I) -> bool,
        run: impl Fn(Vec<I>) -> BoxFuture<'static, Vec<O>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let state = Mutex::new(State { waiting: VecDeque::new(), running: 0 });
        Arc::new(Self { name, batch_max, concurrency, conflicts, run: Box::new(run), state })
    }

    /// Runs the call, alone or with others, and returns its output.
    pub async fn call(self: &Arc<Self>, input: I) -> Result<O, NotBatched<I>> {
        let (reply, worker) = self.enqueue(input)?;
        if let Some(worker) = worker {
            worker.spawn();
        }
        reply.await.map_err(|_| NotBatched::Panicked)
    }

    /// Queues the call and reserves a worker if one is free.
    #[expect(clippy::type_complexity, reason = "two parts of one result")]
    fn enqueue(
        self: &Arc<Self>,
        input: I,
    ) -> Result<(oneshot::Receiver<O>, Option<Worker<I, O>>), NotBatched<I>> {
        let mut state = self.state();
        if state.waiting.iter().any(|other| (self.conflicts)(&other.input, &input)) {
            return Err(NotBatched::Conflicts(input));
        }
        let (reply, receiver) = oneshot::channel();
        state.waiting.push_back(Waiting { input, reply });
        let worker = (state.running < self.concurrency).then(|| {
            state.running += 1;
            Worker::new(self)
        });
        Ok((receiver, worker))
    }

    fn state(&self) -> MutexGuard<'_, State<I, O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker is done: it goes on with the calls that wait, if there are any.
    fn finish(self: &Arc<Self>) {
        let mut state = self.state();
        if state.waiting.is_empty() {
            state.running -= 1;
            return;
        }
        drop(state);
        Worker::new(self).spawn();
    }

    /// A worker never started because the runtime is ending: the calls that wait end as panicked.
    fn close(&self) {
        let waiting = {
            let mut state = self.state();
            state.running -= 1;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
    }

    fn take_batch(&self) -> (Vec<I>, Vec<oneshot::Sender<O>>) {
        let mut state = self.state();
        let count = state.waiting.len().min(self.batch_max);
        state.waiting.drain(..count).map(|w| (w.input, w.reply)).unzip()
    }

    fn count(&self, calls: usize) {
        metrics::counter!("batches_total", "batcher" => self.name).increment(1);
        metrics::counter!("batched_calls_total", "batcher" => self.name).increment(calls as u64);
    }
}

/// One of the batcher's workers. It is given back when it is dropped, however its batch ended.
struct Worker<I: Send + 'static, O: Send + 'static> {
    batcher: Arc<Batcher<I, O>>,
    /// Whether its task began. A runtime that ends drops tasks before they do.
    started: bool,
}

impl<I: Send + 'static, O: Send + 'static> Worker<I, O> {
    fn new(batcher: &Arc<Batcher<I, O>>) -> Self {
        Self { batcher: Arc::clone(batcher), started: false }
    }

    fn spawn(mut self) {
        #[expect(
            clippy::disallowed_methods,
            reason = "every caller waits for it, in a task that is tracked"
        )]
        tokio::spawn(async move {
            self.started = true;
            // Calls that are ready to be queued now are in the first batch, too.
            tokio::task::yield_now().await;
            let (inputs, replies) = self.batcher.take_batch();
            if inputs.is_empty() {
                return;
            }
            self.batcher.count(inputs.len());
            let outputs = (self.batcher.run)(inputs).await;
            for (reply, output) in replies.into_iter().zip(outputs) {
                // A caller that went away needs no reply.
                let _ = reply.send(output);
            }
        });
    }
}

impl<I: Send + 'static, O: Send + 'static> Drop for Worker<I, O> {
    fn drop(&mut self) {
        if self.started {
            self.batcher.finish();
        } else {
            self.batcher.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    /// A batcher, the permits that let its batches end, and the batches that began.
    type Doubling = (Arc<Batcher<u32, u32>>, Arc<Semaphore>, mpsc::UnboundedReceiver<Vec<u32>>);

    /// Doubles numbers. Each batch waits for a permit.
    fn doubling(concurrency: usize, batch_max: usize) -> Doubling {
        let permits = Arc::new(Semaphore::new(0));
        let (began, batches) = mpsc::unbounded_channel();
        let gate = Arc::clone(&permits);
        let run = move |numbers: Vec<u32>| {
            let (gate, began) = (Arc::clone(&gate), began.clone());
            let doubled: BoxFuture<'static, Vec<u32>> = Box::pin(async move {
                began.send(numbers.clone()).unwrap();
                gate.acquire().await.unwrap().forget();
                assert!(!numbers.contains(&13), "a batch that panics");
                numbers.iter().map(|n| n * 2).collect()
            });
            doubled
        };
        let same = |a: &u32, b: &u32| a == b;
        (Batcher::new("test", concurrency, batch_max, same, run), permits, batches)
    }

    async fn call(batcher: &Arc<Batcher<u32, u32>>, n: u32) -> Result<u32, NotBatched<u32>> {
        batcher.call(n).await
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "awaited below")]
    async fn a_call_that_finds_a_free_worker_starts_at_once_and_the_others_share_batches() {
        let (batcher, permits, mut batches) = doubling(1, 3);
        let first = tokio::spawn({
            let batcher = Arc::clone(&batcher);
            async move { call(&batcher, 1).await }
        });
        assert_eq!(batches.recv().await.unwrap(), [1]);
        let calls = join_all((2..=5).map(|n| call(&batcher, n)));
        let open = async { permits.add_permits(3) };
        let (outputs, ()) = tokio::join!(calls, open);
        assert_eq!(first.await.unwrap(), Ok(2));
        assert_eq!(outputs, [Ok(4), Ok(6), Ok(8), Ok(10)]);
        assert_eq!(batches.recv().await.unwrap(), [2, 3, 4], "as many as a batch may have");
        assert_eq!(batches.recv().await.unwrap(), [5]);
        while batcher.state().running > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn calls_of_the_same_moment_share_the_first_batch() {
        let (batcher, permits, mut batches) = doubling(2, 8);
        permits.add_permits(2);
        let outputs = join_all((1..=3).map(|n| call(&batcher, n))).await;
        assert_eq!(outputs, [Ok(2), Ok(4), Ok(6)]);
        assert_eq!(batches.recv().await.unwrap(), [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_call_that_conflicts_with_one_that_waits_is_handed_back() {
        let (batcher, permits, mut batches) = doubling(1, 3);
        permits.add_permits(1);
        let outputs = join_all([7, 7].map(|n| call(&batcher, n))).await;
        assert_eq!(outputs, [Ok(14), Err(NotBatched::Conflicts(7))]);
        assert_eq!(batches.recv().await.unwrap(), [7]);
    }

    #[tokio::test]
    async fn a_batch_that_panics_ends_its_own_calls_and_no_others() {
        let (batcher, permits, _batches) = doubling(1, 2);
        permits.add_permits(3);
        let outputs = join_all([1, 2, 13, 3, 4].map(|n| call(&batcher, n))).await;
        let panicked = || Err(NotBatched::Panicked);
        assert_eq!(outputs, [Ok(2), Ok(4), panicked(), panicked(), Ok(8)]);
    }

    #[tokio::test]
    async fn a_caller_that_went_away_stops_nothing() {
        let (batcher, permits, mut batches) = doubling(1, 2);
        let gone = Arc::clone(&batcher);
        tokio::select! {
            _ = gone.call(1) => panic!("there was no permit"),
            _ = batches.recv() => {}
        }
        permits.add_permits(2);
        assert_eq!(batcher.call(4).await, Ok(8));
    }

    #[test]
    fn a_runtime_that_ends_with_calls_that_wait_ends() {
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let (batcher, _permits, mut batches) = doubling(1, 1);
        for n in 0..3 {
            let batcher = Arc::clone(&batcher);
            runtime.spawn(async move { call(&batcher, n).await });
        }
        runtime.block_on(batches.recv());
        drop(runtime);
        assert!(batcher.state().waiting.is_empty());
    }
}
