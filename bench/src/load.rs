//! Drives requests: as fast as answers come (closed), or by a clock (open).

mod tally;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::SocketAddr,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{sync::Notify, time::Instant};

pub(crate) use self::tally::{Outcome, SLICE, Tally, histogram, record};
use crate::{
    http::Connection,
    processor::{Meter, Used, between},
    ticker::Ticker,
    workload::{Seen, Workload},
};

/// Who decides when the next request is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Each connection sends when it has its answer: finds the peak rate, and hides stalls.
    Closed,
    /// A clock, so many times a second at random gaps; latency counts from when a request was due, whether or not a connection was free.
    Open { rate: f64 },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    pub(crate) connections: usize,
    /// Not counted.
    pub(crate) warmup: Duration,
    pub(crate) length: Duration,
}

/// What a run gave.
pub(crate) struct Run {
    pub(crate) tally: Tally,
    pub(crate) used: Used,
}

struct Field {
    addresses: [SocketAddr; 4],
    workload: RefCell<Box<dyn Workload>>,
    tally: RefCell<Tally>,
    from: Instant,
    until: Instant,
    by_clock: bool,
    ended: Cell<bool>,
    /// Requests that are due and not yet sent, by when they were due.
    due: RefCell<VecDeque<Instant>>,
    arrived: Notify,
}

/// Runs a workload. Everything happens on this thread; that is what makes it cheap.
pub(crate) async fn run(
    addresses: [SocketAddr; 4],
    workload: Box<dyn Workload>,
    plan: Plan,
    meter: &Meter,
) -> anyhow::Result<Run> {
    let from = Instant::now() + plan.warmup;
    let field = Field {
        addresses,
        workload: RefCell::new(workload),
        tally: RefCell::new(Tally::new(plan.length)),
        from,
        until: from + plan.length,
        by_clock: plan.shape != Shape::Closed,
        ended: Cell::new(false),
        due: RefCell::default(),
        arrived: Notify::new(),
    };
    let workers = join_all((0..plan.connections).map(|_| match plan.shape {
        Shape::Closed => futures_util::future::Either::Left(closed(&field)),
        Shape::Open { .. } => futures_util::future::Either::Right(open(&field)),
    }));
    let clock = async {
        if let Shape::Open { rate } = plan.shape { arrive(&field, rate).await } else { Ok(()) }
    };
    let watch = async {
        tokio::time::sleep_until(field.from).await;
        let before = meter.read();
        tokio::time::sleep_until(field.until).await;
        between(&before, &meter.read())
    };
    let (_, arrived, used) = tokio::join!(workers, clock, watch);
    arrived?;
    Ok(Run { tally: field.tally.into_inner(), used })
}

/// One connection to each service, opened when it is needed first.
struct Worker<'a> {
    field: &'a Field,
    connections: [Option<Connection>; 4],
    request: Vec<u8>,
}

impl<'a> Worker<'a> {
    fn new(field: &'a Field) -> Self {
        Self { field, connections: [const { None }; 4], request: Vec::with_capacity(2048) }
    }

    /// Sends the workload's next request. `due` is when it should have been sent; now, unless a clock says so.
    async fn send(&mut self, due: Instant) {
        self.request.clear();
        let service = self.field.workload.borrow_mut().next(&mut self.request);
        let address = self.field.addresses[service.place()];
        let connection =
            self.connections[service.place()].get_or_insert_with(|| Connection::new(address));
        let answer = connection.exchange(&self.request).await;
        let now = Instant::now();
        let outcome = match &answer {
            Ok(answer) => Outcome::of(answer.status, answer.retry_after),
            Err(_) => Outcome::Broken,
        };
        let field = self.field;
        let answered_at = now.checked_duration_since(field.from).filter(|_| now < field.until);
        // By when it was due where a clock decides, so that what a stall delayed beyond the end counts too.
        let decides = if field.by_clock { due } else { now };
        let latency = (field.from..field.until).contains(&decides).then(|| now - due);
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        field.tally.borrow_mut().count(outcome, status, latency, answered_at);
        let body = answer.as_ref().map_or(&[][..], |answer| connection.body(answer));
        field.workload.borrow_mut().seen(Seen { outcome, body, due: due.into_std() });
    }
}

async fn closed(field: &Field) {
    let mut worker = Worker::new(field);
    loop {
        let now = Instant::now();
        if now >= field.until {
            return;
        }
        worker.send(now).await;
    }
}

async fn open(field: &Field) {
    let mut worker = Worker::new(field);
    loop {
        let next = field.due.borrow_mut().pop_front();
        match next {
            Some(due) => worker.send(due).await,
            None if field.ended.get() => return,
            None => field.arrived.notified().await,
        }
    }
}

/// Lets requests fall due, as a Poisson process: the gaps that independent clients leave.
async fn arrive(field: &Field, rate: f64) -> std::io::Result<()> {
    let ticker = Ticker::new()?;
    let mut due = Instant::now();
    while due < field.until {
        ticker.until(due).await?;
        field.due.borrow_mut().push_back(due);
        field.arrived.notify_one();
        due += Duration::from_secs_f64(-(1.0 - fastrand::f64()).ln() / rate);
    }
    field.ended.set(true);
    field.arrived.notify_waiters();
    Ok(())
}
