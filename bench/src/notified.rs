//! How long after a booking its patient is told, at a given rate.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::Context;
use hdrhistogram::Histogram;
use uuid::Uuid;

use crate::{
    database, flow,
    load::{self, Outcome, Plan, Shape, histogram, record},
    processor::Meter,
    scenario::Effort,
    setup,
    stage::Open,
    workload::{Book, Pen, SLOTS, Seen, Service, Workload},
};

/// Appointments, and when their bookings were due.
type Booked = Rc<RefCell<Vec<(Uuid, Instant)>>>;

/// How long a message may take before it counts as never sent.
const PATIENCE: Duration = Duration::from_secs(60);

/// Books and remembers.
struct Remembering {
    book: Book,
    booked: Booked,
}

impl Workload for Remembering {
    fn next(&mut self, request: &mut Vec<u8>) -> Service {
        self.book.next(request)
    }

    fn seen(&mut self, seen: Seen<'_>) {
        if let (Outcome::Done, Ok(id)) = (seen.outcome, flow::id(seen.body)) {
            self.booked.borrow_mut().push((id, seen.due));
        }
    }
}

/// Books at a rate, and gives how long it took from when each booking was due until its message was sent.
pub(crate) async fn run(
    open: &Open,
    effort: Effort,
    rate: f64,
    meter: &Meter,
) -> anyhow::Result<Histogram<u64>> {
    let world = Rc::new(open.world.for_another_run());
    let booked = Booked::default();
    let workload = Remembering {
        book: Book { pen: Pen::new(&world), within: SLOTS },
        booked: Rc::clone(&booked),
    };
    let plan = Plan {
        shape: Shape::Open { rate },
        connections: effort.connections,
        warmup: effort.warmup,
        length: effort.length,
    };
    let from = Instant::now() + effort.warmup;
    load::run(open.addresses, Box::new(workload), plan, meter).await?;
    open.settle().await?;

    let booked = booked.take();
    let counted: Vec<&(Uuid, Instant)> = booked.iter().filter(|(_, due)| *due >= from).collect();
    let ids: Vec<Uuid> = counted.iter().map(|(id, _)| *id).collect();
    // One clock: the services, PostgreSQL and this run on one machine.
    let (now, wall) = (Instant::now(), setup::now());
    let sent = all_sent(open, &ids).await?;
    let mut all = histogram();
    for (id, due) in counted {
        let sent = sent.get(id).with_context(|| format!("nobody was told of appointment {id}"))?;
        let due = wall.as_microsecond() - i64::try_from((now - *due).as_micros())?;
        record(&mut all, Duration::from_micros(u64::try_from(sent - due).unwrap_or(0)));
    }
    Ok(all)
}

/// When each appointment's patient was told, in microseconds since the epoch. Waits for those that are late: quiet processors may be waiting
/// themselves.
async fn all_sent(open: &Open, ids: &[Uuid]) -> anyhow::Result<HashMap<Uuid, i64>> {
    let client = database::connect(&open.url).await?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sent: HashMap<Uuid, i64> = client
            .query(
                "SELECT appointment_id, (extract(epoch FROM sent_at) * 1000000)::bigint FROM notification.message
                 WHERE appointment_id = ANY ($1) AND kind = 'appointment-booked' AND sent_at IS NOT NULL",
                &[&ids],
            )
            .await?
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect();
        if sent.len() >= ids.len() || Instant::now() > deadline {
            return Ok(sent);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
