//! Runs a consumer: a batch per poll, its effect and its inbox rows in one transaction, offsets committed after it.

use std::{sync::Arc, time::Duration};

use hospital_contracts::CloudEvent;
use jiff::Timestamp;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    bus::{BusError, Consumer, Received, SharedBus},
    db::Db,
    dead_letter::{self, BuryError, Failed, ONLY_FOR},
    inbox::{self, Arrival, Consume, Poison},
    outcome::{BrokenKind, Failure},
};

/// How a consumer paces itself.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerSettings {
    pub batch: usize,
    /// How long one poll waits for records.
    pub wait: Duration,
    /// How often an event that breaks the consumer by a defect is tried before it is put aside as poison. Trouble that passes, such as
    /// a database that is away, is waited out however long it takes.
    pub attempts: u32,
    /// How old an event may be so that the inbox still knows whether it was applied.
    pub remembers: Duration,
}

impl Default for ConsumerSettings {
    fn default() -> Self {
        Self {
            batch: 500,
            wait: Duration::from_millis(500),
            attempts: 5,
            remembers: Duration::from_secs(240 * 86_400),
        }
    }
}

/// Consumes until told to stop; survives the loss of the database and of the bus.
pub async fn run(
    db: Db,
    bus: SharedBus,
    consumer: Arc<dyn Consume>,
    settings: ConsumerSettings,
    stop: CancellationToken,
) {
    let mut pause = Pause::new(stop.clone());
    while !stop.is_cancelled() {
        let member = bus.subscribe(consumer.group(), consumer.topics()).await;
        let ended = match member {
            Ok(member) => {
                let mut member = Member {
                    db: &db,
                    bus: &bus,
                    consumer: &*consumer,
                    member,
                    settings,
                    pause: &mut pause,
                };
                member.consume(&stop).await
            }
            Err(e) => Err(e),
        };
        if let Err(e) = ended {
            tracing::warn!(group = consumer.group(), error = %e, "the consumer lost the bus; it joins again");
            pause.next().await;
        }
    }
}

/// Growing pauses that a stop cuts short: 50 ms, doubled up to 5 s.
struct Pause {
    count: u32,
    stop: CancellationToken,
}

impl Pause {
    const fn new(stop: CancellationToken) -> Self {
        Self { count: 0, stop }
    }

    async fn next(&mut self) {
        let time = Duration::from_millis(50) * 2u32.pow(self.count.min(7));
        self.count += 1;
        // Whether the pause is over or the stop came makes no difference here; the caller looks.
        let _ = timeout(time.min(Duration::from_secs(5)), self.stop.cancelled()).await;
    }
}

struct Member<'a> {
    db: &'a Db,
    bus: &'a SharedBus,
    consumer: &'a dyn Consume,
    member: Box<dyn Consumer>,
    settings: ConsumerSettings,
    pause: &'a mut Pause,
}

/// How a batch ended.
enum Applied {
    All,
    /// The stop came first; nothing may be committed.
    Stopped,
}

impl Member<'_> {
    async fn consume(&mut self, stop: &CancellationToken) -> Result<(), BusError> {
        while !stop.is_cancelled() {
            let batch = tokio::select! {
                batch = self.member.poll(self.settings.batch, self.settings.wait) => batch?,
                () = stop.cancelled() => return Ok(()),
            };
            if batch.is_empty() {
                continue;
            }
            match self.apply(&batch, stop).await? {
                Applied::All => self.commit(&batch).await?,
                Applied::Stopped => return Ok(()),
            }
            self.pause.count = 0;
        }
        Ok(())
    }

    async fn commit(&mut self, batch: &[Received]) -> Result<(), BusError> {
        match self.member.commit(batch).await {
            // Its records come again elsewhere, and the inbox knows them.
            Err(BusError::Revoked) => self.member.rewind().await,
            other => other,
        }
    }

    async fn apply(
        &mut self,
        batch: &[Received],
        stop: &CancellationToken,
    ) -> Result<Applied, BusError> {
        let group = self.consumer.group();
        let first_at = self.db.clock().now();
        let (mut events, mut forgotten) = (Vec::with_capacity(batch.len()), Vec::new());
        for record in batch.iter().filter(|r| r.header(ONLY_FOR).is_none_or(|only| only == group)) {
            match CloudEvent::from_record(&record.topic, &record.headers, record.value.clone()) {
                Ok(event) if self.is_forgotten(&event, first_at) => {
                    forgotten.push(Arrival { event, record });
                }
                Ok(event) => events.push(Arrival { event, record }),
                Err(e) => {
                    let reason = &e.to_string();
                    let failed = Failed { reason, attempts: 1, first_at, letter: None };
                    if let Applied::Stopped = self.bury(record, &failed, stop).await? {
                        return Ok(Applied::Stopped);
                    }
                }
            }
        }
        if let Applied::Stopped = self.set_forgotten_aside(&forgotten, first_at, stop).await? {
            return Ok(Applied::Stopped);
        }
        match self.settle(&events, stop).await {
            Settled::Done => return Ok(Applied::All),
            Settled::Stopped => return Ok(Applied::Stopped),
            Settled::Poison(_) => {}
        }
        // One of them is poison: one by one, so that the others are not held up. What follows it in its aggregate waits.
        for arrival in &events {
            match self.settle(std::slice::from_ref(arrival), stop).await {
                Settled::Done => {}
                Settled::Stopped => return Ok(Applied::Stopped),
                Settled::Poison((reason, attempts)) => {
                    let failed = Failed { reason: &reason.0, attempts, first_at, letter: None };
                    if let Applied::Stopped = self.bury(arrival.record, &failed, stop).await? {
                        return Ok(Applied::Stopped);
                    }
                }
            }
        }
        Ok(Applied::All)
    }

    /// Whether an event is so old that the inbox may have forgotten it.
    fn is_forgotten(&self, event: &CloudEvent, now: Timestamp) -> bool {
        let remembered = now.checked_sub(self.settings.remembers);
        event.time.zip(remembered.ok()).is_some_and(|(time, since)| time < since)
    }

    /// Events that came again after the inbox may have forgotten them are not applied, since that
    /// could be the second time: somebody has to decide. Those that it still knows are done.
    async fn set_forgotten_aside(
        &mut self,
        events: &[Arrival<'_>],
        first_at: Timestamp,
        stop: &CancellationToken,
    ) -> Result<Applied, BusError> {
        if events.is_empty() {
            return Ok(Applied::All);
        }
        let group = self.consumer.group();
        let known = loop {
            match inbox::known(self.db, group, events).await {
                Ok(known) => break known,
                Err(e) => tracing::warn!(group, error = %e, "events wait in the bus"),
            }
            self.pause.next().await;
            if stop.is_cancelled() {
                return Ok(Applied::Stopped);
            }
        };
        for arrival in events.iter().filter(|arrival| !known.contains(&arrival.event.id.uuid())) {
            let days = self.settings.remembers.as_secs() / 86_400;
            let reason = format!(
                "it is older than {days} days, so whether it was applied before is not known"
            );
            let failed = Failed { reason: &reason, attempts: 0, first_at, letter: None };
            if let Applied::Stopped = self.bury(arrival.record, &failed, stop).await? {
                return Ok(Applied::Stopped);
            }
        }
        Ok(Applied::All)
    }

    /// Applies events in one transaction; waits out what passes.
    async fn settle(&mut self, events: &[Arrival<'_>], stop: &CancellationToken) -> Settled {
        let mut defects = 0;
        loop {
            let started = std::time::Instant::now();
            let group = self.consumer.group();
            match inbox::once(self.db, self.consumer, events).await {
                Ok(fresh) => {
                    metrics::histogram!("consumer_batch_seconds", "group" => group)
                        .record(started.elapsed());
                    metrics::counter!("consumer_events_total", "group" => group, "end" => "applied")
                        .increment(fresh as u64);
                    metrics::counter!("consumer_events_total", "group" => group, "end" => "duplicate")
                        .increment((events.len() - fresh) as u64);
                    return Settled::Done;
                }
                Err(Failure::Refused(poison)) => return Settled::Poison((poison, defects + 1)),
                Err(Failure::Broken(e)) if e.kind() != BrokenKind::Defect => {
                    tracing::warn!(group, error = %e, "events wait in the bus; the consumer tries again");
                }
                Err(Failure::Broken(e)) => {
                    tracing::error!(group, error = %e, "an event breaks the consumer");
                    defects += 1;
                    // In a batch, find out whose fault it is before trying again.
                    if events.len() > 1 || defects >= self.settings.attempts {
                        return Settled::Poison((Poison(e.to_string()), defects));
                    }
                }
            }
            self.pause.next().await;
            if stop.is_cancelled() {
                return Settled::Stopped;
            }
        }
    }

    /// Puts a record aside; waits until the ledger takes it.
    async fn bury(
        &mut self,
        record: &Received,
        failed: &Failed<'_>,
        stop: &CancellationToken,
    ) -> Result<Applied, BusError> {
        let group = self.consumer.group();
        loop {
            match dead_letter::bury(self.db, self.bus, group, record, failed).await {
                Ok(()) => return Ok(Applied::All),
                Err(BuryError::Bus(e)) => return Err(e),
                Err(BuryError::Database(e)) => {
                    tracing::warn!(group, error = %e, "a dead letter waits for the database");
                }
            }
            self.pause.next().await;
            if stop.is_cancelled() {
                return Ok(Applied::Stopped);
            }
        }
    }
}

enum Settled {
    Done,
    Stopped,
    Poison((Poison, u32)),
}
