//! Does what the menu says.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context;
use hospital_kit::bus::{Position, Record};

use crate::{
    menu::{Fault, SERVICES},
    platform::Platform,
    proxy::{Line, Proxy},
    seed::Rng,
};

/// What clients do for the moment.
#[derive(Default)]
pub struct Mood {
    /// They leave 0 to 20 ms into a request.
    pub leaves: AtomicBool,
    /// Their cards' gateway gives no answer, mostly after it has charged.
    pub gateway_silent: AtomicBool,
}

/// A fault that is over.
#[derive(Clone, Debug)]
pub struct Injected {
    pub fault: Fault,
    /// Where, and how much.
    pub detail: String,
    /// From when on recovery counts.
    pub counts_from: Instant,
}

pub struct Injector<'a> {
    pub platform: &'a Platform,
    pub mood: &'a Mood,
    pub rng: Rng,
}

/// What each consumer group reads.
pub const GROUPS: [(usize, &str, &[&str]); 2] = [
    (2, "billing", &["appointment.booked", "appointment.cancelled"]),
    (
        3,
        "notification",
        &[
            "patient.registered",
            "patient.updated",
            "appointment.booked",
            "appointment.rescheduled",
            "appointment.cancelled",
            "bill.generated",
            "payment.completed",
            "payment.failed",
        ],
    ),
];

impl Injector<'_> {
    /// Does it, and returns when it is over.
    ///
    /// # Errors
    /// When it could not be done; the round is then worth nothing.
    pub async fn inject(&mut self, fault: Fault) -> anyhow::Result<Injected> {
        let began = Instant::now();
        let detail = match fault {
            Fault::Kill(service) => {
                self.platform.services[service].kill();
                String::new()
            }
            Fault::PostgresRestart => {
                self.platform.database.restart().await?;
                format!("{} ms until it took connections", began.elapsed().as_millis())
            }
            Fault::BackendsTerminated => self.terminate_backends().await?,
            Fault::CommitsTerminated => self.terminate_commits().await?,
            Fault::BrokerKilled => self.kill_broker().await?,
            Fault::OffsetsDeleted => self.delete_offsets().await?,
            Fault::RecordsRepeated => self.repeat_records().await?,
            Fault::ClockHourOff => {
                let seconds = if self.rng.percent(50) { 3600 } else { -3600 };
                self.clock(&[seconds]).await?
            }
            Fault::ClockStepsBack => self.clock(&[45, -15, -90]).await?,
            Fault::DiskFull => self.fill_disk().await?,
            Fault::NoDatabaseConnection => self.no_connection().await?,
            Fault::SecondInstance => self.second_instance().await?,
            Fault::FewDescriptors => {
                let service = &self.platform.services[self.service()];
                service.limit_descriptors(Some(64))?;
                let detail = self.a_while(500, 1500).await;
                service.limit_descriptors(None)?;
                format!("{}, {detail}", service.name())
            }
            _ => self.for_a_while(fault).await,
        };
        // What dies is measured from its death on, its own start included; Kafka's start is Kafka's.
        let from_its_death = matches!(fault, Fault::Kill(_) | Fault::PostgresRestart);
        let counts_from = if from_its_death { began } else { Instant::now() };
        Ok(Injected { fault, detail, counts_from })
    }

    /// What begins, lasts, and is over.
    async fn for_a_while(&mut self, fault: Fault) -> String {
        let (platform, mood) = (self.platform, self.mood);
        match fault {
            Fault::LineHalfOpen => return self.line(Line::HalfOpen).await,
            Fault::LineSlow => {
                let by = Duration::from_millis(self.rng.between(20, 300));
                return self.line(Line::Slow(by)).await;
            }
            Fault::LineNarrow => {
                let bytes_per_s = self.rng.between(5_000, 50_000);
                return self.line(Line::Narrow(bytes_per_s)).await;
            }
            Fault::LineCut => return self.line(Line::Cut).await,
            Fault::SlowConsumer => {
                let (service, ..) = self.group();
                let bytes_per_s = self.rng.between(2_000, 8_000);
                let line = &platform.lines.buses[service];
                line.set(Line::Narrow(bytes_per_s));
                let detail = self.a_while(1000, 2000).await;
                line.set(Line::Good);
                return format!("{} reads {bytes_per_s} bytes/s, {detail}", SERVICES[service]);
            }
            _ => {}
        }
        let turn = |on: bool| match fault {
            Fault::Freeze(service) if on => platform.services[service].freeze(),
            Fault::Freeze(service) => platform.services[service].thaw(),
            Fault::ClientsLeave => mood.leaves.store(on, Ordering::Relaxed),
            Fault::GatewaySilent => mood.gateway_silent.store(on, Ordering::Relaxed),
            _ => platform.mail.drop_the_line(on),
        };
        turn(true);
        let detail = self.a_while(400, 1500).await;
        turn(false);
        detail
    }

    async fn a_while(&mut self, least_ms: u64, most_ms: u64) -> String {
        let ms = self.rng.between(least_ms, most_ms);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        format!("{ms} ms")
    }

    fn service(&mut self) -> usize {
        usize::try_from(self.rng.below(4)).unwrap_or(0)
    }

    fn group(&mut self) -> (usize, &'static str, &'static [&'static str]) {
        GROUPS[usize::from(self.rng.percent(50))]
    }

    async fn line(&mut self, how: Line) -> String {
        let lines = &self.platform.lines;
        let service = self.service();
        let (name, proxy): (String, &Proxy) = match self.rng.below(5) {
            0 => (format!("clients-{}", SERVICES[service]), &lines.clients[service]),
            1 => (format!("{}-postgres", SERVICES[service]), &lines.databases[service]),
            2 => (format!("{}-bus", SERVICES[service]), &lines.buses[service]),
            3 if service < 2 => ("appointment-patient".to_owned(), &lines.patients[0]),
            3 if service == 2 => ("notification-patient".to_owned(), &lines.patients[1]),
            3 => ("notification-appointment".to_owned(), &lines.practitioners),
            _ => ("notification-mail".to_owned(), &lines.mail),
        };
        proxy.set(how);
        let detail = self.a_while(300, 1500).await;
        proxy.set(Line::Good);
        format!("{name} {how:?}, {detail}")
    }

    /// Ends a third of the services' sessions, several times.
    async fn terminate_backends(&mut self) -> anyhow::Result<String> {
        let client = self.platform.database.connect().await?;
        let mut ended = 0_i64;
        for _ in 0..self.rng.between(2, 5) {
            let salt = self.rng.next().to_string();
            let rows = client
                .query(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE usename LIKE 'hospital\\_%' AND usename <> current_user
                       AND ('x' || left(md5(pid || $1), 4))::bit(16)::integer % 3 = 0",
                    &[&salt],
                )
                .await;
            // The server may be restarting beside this.
            if let Ok(rows) = rows {
                ended += rows.first().map_or(0, |row| row.get::<_, i64>(0));
            }
            self.a_while(50, 250).await;
        }
        Ok(format!("{ended} sessions"))
    }

    /// Ends the services' sessions whose query is `COMMIT`. Commits take longer meanwhile, or few would be met at it.
    async fn terminate_commits(&mut self) -> anyhow::Result<String> {
        self.set_server("commit_siblings = 0").await?;
        self.set_server("commit_delay = 15000").await?;
        let client = self.platform.database.connect().await?;
        let until = Instant::now() + Duration::from_millis(self.rng.between(800, 2000));
        let mut ended = 0_i64;
        while Instant::now() < until {
            let rows = client
                .query(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE usename LIKE 'hospital\\_%' AND usename <> current_user
                       AND state = 'active' AND query = 'COMMIT'",
                    &[],
                )
                .await;
            // The server may be restarting beside this.
            if let Ok(rows) = rows {
                ended += rows.first().map_or(0, |row| row.get::<_, i64>(0));
            }
            // Others get through.
            self.a_while(20, 60).await;
        }
        self.set_server("commit_delay = 0").await?;
        self.set_server("commit_siblings = 5").await?;
        Ok(format!("{ended} commits"))
    }

    /// Changes a setting of the server that runs.
    async fn set_server(&self, setting: &str) -> anyhow::Result<()> {
        self.as_owner(&format!("ALTER SYSTEM SET {setting}")).await?;
        self.as_owner("SELECT pg_reload_conf()").await
    }

    async fn kill_broker(&mut self) -> anyhow::Result<String> {
        let Some(kafka) = &self.platform.kafka else {
            let client = self.platform.database.connect().await?;
            let ended = client
                .query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'hospital-%-bus'",
                    &[],
                )
                .await
                .map_or(0, |rows| rows.len());
            return Ok(format!("{ended} sessions of the bus"));
        };
        let mut kafka = kafka.lock().await;
        let began = Instant::now();
        let command = kafka.kill(1)?;
        let reached = || async { tokio::net::TcpStream::connect(kafka.servers()).await.is_ok() };
        while reached().await {
            // It is still dying.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.a_while(0, 800).await;
        kafka.revive(&command)?;
        let deadline = began + Duration::from_secs(90);
        while tokio::net::TcpStream::connect(kafka.servers()).await.is_err() {
            anyhow::ensure!(Instant::now() < deadline, "the broker does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(format!("{} ms until it took connections", began.elapsed().as_millis()))
    }

    /// The partitions are shared anew twice: when it comes, and when it goes.
    async fn second_instance(&mut self) -> anyhow::Result<String> {
        let (service, ..) = self.group();
        let second = self.platform.second(service)?;
        let detail = self.a_while(1500, 4000).await;
        // Here it would show that it had ended by itself.
        second.look_after()?;
        let end = if self.rng.percent(50) {
            second.hold().await?;
            "stopped"
        } else {
            second.kill();
            "killed"
        };
        let surprises = second.surprises();
        anyhow::ensure!(surprises.is_empty(), "the second: {}", surprises.join(", "));
        Ok(format!("{}, {end} after {detail}", SERVICES[service]))
    }

    async fn delete_offsets(&mut self) -> anyhow::Result<String> {
        let (service, group, topics) = self.group();
        let consumer = &self.platform.services[service];
        // A group can lose its offsets only while nobody is in it.
        consumer.hold().await?;
        let deleted = self.delete_offsets_of(group, topics).await;
        consumer.release();
        deleted?;
        Ok(group.to_owned())
    }

    async fn delete_offsets_of(&self, group: &str, topics: &[&str]) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(90);
        let bus = self.platform.direct_bus()?;
        for topic in topics {
            // The server or the broker may be restarting beside this.
            while let Err(e) = bus.reset(group, topic, None, Position::Beginning).await {
                anyhow::ensure!(Instant::now() < deadline, "deleting the offsets of {group}: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    async fn repeat_records(&mut self) -> anyhow::Result<String> {
        let bus = self.platform.direct_bus()?;
        let topics = GROUPS[1].2;
        let mut count = 0;
        for _ in 0..3 {
            let topic = self.rng.pick(topics).copied().context("there are topics")?;
            let Ok(mut found) = bus.read(topic, Position::Beginning).await else { continue };
            self.rng.shuffle(&mut found);
            found.truncate(80);
            let records = found.into_iter().map(|r| Record {
                topic: r.topic,
                key: r.key.unwrap_or_default(),
                headers: r.headers,
                value: r.value,
            });
            let records: Vec<Record> = records.collect();
            count += records.len();
            // If the bus is away, some of them may be there all the same.
            let _ = bus.publish(records).await;
        }
        Ok(format!("{count} records"))
    }

    /// Puts the clocks of some services off, by one number of seconds after the other, and right again.
    async fn clock(&mut self, offsets_s: &[i64]) -> anyhow::Result<String> {
        let mask = self.rng.between(1, 15);
        let off: Vec<usize> = (0..4).filter(|service| mask & (1 << service) != 0).collect();
        let set = |seconds: i64| {
            off.iter().try_for_each(|service| {
                std::fs::write(self.platform.clock_file(*service), seconds.to_string())
            })
        };
        for seconds in offsets_s {
            set(*seconds)?;
            let ms = 900 / u64::try_from(offsets_s.len()).unwrap_or(1);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        set(0)?;
        let names: Vec<&str> = off.iter().map(|service| SERVICES[*service]).collect();
        Ok(format!("{offsets_s:?} s at {}", names.join(", ")))
    }

    async fn fill_disk(&mut self) -> anyhow::Result<String> {
        if !self.platform.database.own_disk {
            return Ok("not possible here: only root can give PostgreSQL a disk of its own".into());
        }
        let database = self.platform.database.clone();
        let filler = tokio::task::spawn_blocking(move || database.fill_disk()).await??;
        let detail = self.a_while(500, 1200).await;
        drop(filler);
        Ok(detail)
    }

    /// A service's role may have no session for a while.
    async fn no_connection(&mut self) -> anyhow::Result<String> {
        let name = SERVICES[self.service()];
        let limit = |count: i32| format!("ALTER ROLE hospital_{name} CONNECTION LIMIT {count}");
        self.as_owner(&format!(
            "{}; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'hospital_{name}'",
            limit(0)
        ))
        .await?;
        let detail = self.a_while(500, 1200).await;
        self.as_owner(&limit(-1)).await?;
        Ok(format!("{name}, {detail}"))
    }

    /// The server may be restarting beside this.
    async fn as_owner(&self, sql: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let done = async {
                self.platform.database.connect().await?.batch_execute(sql).await?;
                anyhow::Ok(())
            };
            match done.await {
                Ok(()) => return Ok(()),
                Err(e) if Instant::now() > deadline => return Err(e),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}
