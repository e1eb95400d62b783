//! Whole flows: booked, billed by the event, paid, and the patient told of all three.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use anyhow::bail;
use futures_util::future::try_join_all;
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use crate::{
    database,
    http::Connection,
    load::{Outcome, Run, Tally},
    processor::{Meter, between},
    scenario::Effort,
    stage::Open,
    workload::{Pen, SLOTS, Service},
};

/// How often the database is asked how far the flows are. The latency of a flow is known this finely; its cost is small.
const LOOK: Duration = Duration::from_millis(20);
/// Flows under way for each connection: most of a flow's time passes between its events, while no connection is busy.
const FLOWS_EACH: usize = 8;

struct Flows {
    addresses: [SocketAddr; 4],
    pen: RefCell<Pen>,
    places: Semaphore,
    /// Appointments without a bill as yet, by when they were booked.
    booked: RefCell<HashMap<Uuid, Instant>>,
    /// Bills to pay.
    billed: RefCell<VecDeque<Uuid>>,
    to_pay: Notify,
    /// Appointments whose patients have not been told everything.
    under_way: RefCell<HashMap<Uuid, Instant>>,
    tally: RefCell<Tally>,
    from: Instant,
    until: Instant,
    over: Cell<bool>,
}

pub(crate) async fn run(open: &Open, effort: Effort, meter: &Meter) -> anyhow::Result<Run> {
    let world = Rc::new(open.world.for_another_run());
    let from = Instant::now() + effort.warmup;
    let flows = Flows {
        pen: RefCell::new(Pen::new(&world)),
        addresses: open.addresses,
        places: Semaphore::new(effort.connections * FLOWS_EACH),
        booked: RefCell::default(),
        billed: RefCell::default(),
        to_pay: Notify::new(),
        under_way: RefCell::default(),
        tally: RefCell::new(Tally::new(effort.length)),
        from,
        until: from + effort.length,
        over: Cell::new(false),
    };
    let client = database::connect(&open.url).await?;
    let half = effort.connections.div_ceil(2);
    let watch = async {
        tokio::time::sleep_until(flows.from).await;
        let before = meter.read();
        tokio::time::sleep_until(flows.until).await;
        flows.over.set(true);
        flows.to_pay.notify_waiters();
        Ok(between(&before, &meter.read()))
    };
    let bookers = try_join_all((0..half).map(|_| flows.book()));
    let payers = try_join_all((0..half).map(|_| flows.pay()));
    let (_, _, (), used) = tokio::try_join!(bookers, payers, flows.look(&client), watch)?;
    Ok(Run { tally: flows.tally.into_inner(), used })
}

impl Flows {
    async fn book(&self) -> anyhow::Result<()> {
        let mut connection = Connection::new(self.addresses[Service::Appointment.place()]);
        let mut request = Vec::new();
        while !self.over.get() {
            let wait = tokio::time::timeout_at(self.until, self.places.acquire()).await;
            let Ok(place) = wait else { break };
            let started = Instant::now();
            request.clear();
            {
                let mut pen = self.pen.borrow_mut();
                let key = pen.next_key();
                pen.say_booking(fastrand::i64(0..SLOTS), "visit");
                pen.post(&mut request, "/appointments", key);
            }
            let answer = connection.exchange(&request).await?;
            match answer.status {
                201 => {
                    let id = id(connection.body(&answer))?;
                    self.booked.borrow_mut().insert(id, started);
                    self.under_way.borrow_mut().insert(id, started);
                    // It comes free when the patient has been told.
                    place?.forget();
                }
                409 | 503 => {}
                status => bail!(
                    "booking: {status}: {}",
                    String::from_utf8_lossy(connection.body(&answer))
                ),
            }
        }
        Ok(())
    }

    async fn pay(&self) -> anyhow::Result<()> {
        let mut connection = Connection::new(self.addresses[Service::Billing.place()]);
        let mut request = Vec::new();
        loop {
            let next = self.billed.borrow_mut().pop_front();
            let Some(bill) = next else {
                if self.over.get() {
                    return Ok(());
                }
                self.to_pay.notified().await;
                continue;
            };
            request.clear();
            {
                let mut pen = self.pen.borrow_mut();
                let key = pen.next_key();
                pen.say(format_args!(
                    r#"{{"billId":"{bill}","amount":{{"amount":"120.00","currency":"USD"}},"method":"cash"}}"#
                ));
                pen.post(&mut request, "/payments", key);
            }
            let answer = connection.exchange(&request).await?;
            match answer.status {
                201 => {}
                503 => self.billed.borrow_mut().push_back(bill),
                status => {
                    bail!("paying: {status}: {}", String::from_utf8_lossy(connection.body(&answer)))
                }
            }
        }
    }

    /// Asks for the bills of what is booked, and for what patients were told.
    async fn look(&self, client: &Client) -> anyhow::Result<()> {
        let bills = client
            .prepare("SELECT appointment_id, id FROM billing.bill WHERE appointment_id = ANY ($1) AND state = 'issued'")
            .await?;
        let told = client
            .prepare(
                "SELECT appointment_id FROM notification.message WHERE appointment_id = ANY ($1) AND status = 'sent'
                 GROUP BY appointment_id HAVING count(*) = 3",
            )
            .await?;
        while !self.over.get() {
            tokio::time::sleep(LOOK).await;
            self.look_for_bills(client, &bills).await?;
            self.look_for_messages(client, &told).await?;
        }
        Ok(())
    }

    async fn look_for_bills(&self, client: &Client, bills: &Statement) -> anyhow::Result<()> {
        let waiting: Vec<Uuid> = self.booked.borrow().keys().copied().collect();
        if waiting.is_empty() {
            return Ok(());
        }
        for row in client.query(bills, &[&waiting]).await? {
            self.booked.borrow_mut().remove(&row.get::<_, Uuid>(0));
            self.billed.borrow_mut().push_back(row.get(1));
            self.to_pay.notify_one();
        }
        Ok(())
    }

    async fn look_for_messages(&self, client: &Client, told: &Statement) -> anyhow::Result<()> {
        let waiting: Vec<Uuid> = self.under_way.borrow().keys().copied().collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let rows = client.query(told, &[&waiting]).await?;
        let now = Instant::now();
        for row in rows {
            let Some(started) = self.under_way.borrow_mut().remove(&row.get::<_, Uuid>(0)) else {
                continue;
            };
            self.places.add_permits(1);
            let within = (self.from..self.until).contains(&now);
            let at = within.then(|| now - self.from);
            self.tally.borrow_mut().count(Outcome::Done, 201, at.map(|_| now - started), at);
        }
        Ok(())
    }
}

/// The id of the resource that a body shows.
pub(crate) fn id(body: &[u8]) -> anyhow::Result<Uuid> {
    #[derive(serde::Deserialize)]
    struct Shown {
        id: Uuid,
    }
    Ok(serde_json::from_slice::<Shown>(body)?.id)
}
