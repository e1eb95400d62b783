//! Starts the services, restarts what crashes, stops them in order.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use console::style;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    child::{Recipe, Running, pause},
    database::Database,
};
use crate::platform::{BusEntry, PlatformFile, SERVICES, ServiceEntry, probe_port, write_private};

/// How often it looks after its children.
const TICK: Duration = Duration::from_millis(20);
/// A service that lived this long and then crashes is not one that cannot start.
const SETTLED: Duration = Duration::from_secs(10);
/// How long services may take to be ready, on a machine that does much else.
const READY_PATIENCE: Duration = Duration::from_secs(180);

pub(crate) struct Supervisor {
    dir: PathBuf,
    base_port: u16,
    database: Database,
    kafka: Option<String>,
    recipes: Vec<Recipe>,
    running: BTreeMap<&'static str, Running>,
    /// When what crashed is started again, and how often it crashed.
    resting: BTreeMap<&'static str, (Instant, u32)>,
    /// Whether every service has been ready once.
    ready: bool,
}

impl Supervisor {
    /// `kafka` is its servers, and the name by which this platform's consumers are known there.
    pub(crate) fn new(
        dir: PathBuf,
        base_port: u16,
        database: Database,
        kafka: Option<(String, String)>,
        config: Option<&PathBuf>,
    ) -> Self {
        let patient_url = format!("http://127.0.0.1:{}", base_port + 1);
        let appointment_url = format!("http://127.0.0.1:{}", base_port + 2);
        let recipes = (1_u16..)
            .zip(SERVICES)
            .map(|(offset, name)| {
                let table = name.to_ascii_uppercase();
                let mut environment = vec![
                    (
                        format!("HOSPITAL_{table}__LISTEN"),
                        format!("127.0.0.1:{}", base_port + offset),
                    ),
                    (
                        format!("HOSPITAL_{table}__PROBE_LISTEN"),
                        format!("127.0.0.1:{}", probe_port(base_port, offset)),
                    ),
                    (
                        format!("HOSPITAL_{table}__DATABASE_URL"),
                        database.service_urls[name].clone(),
                    ),
                    ("HOSPITAL_APPOINTMENT__PATIENT_URL".to_owned(), patient_url.clone()),
                    ("HOSPITAL_NOTIFICATION__PATIENT_URL".to_owned(), patient_url.clone()),
                    ("HOSPITAL_NOTIFICATION__APPOINTMENT_URL".to_owned(), appointment_url.clone()),
                    (
                        "HOSPITAL_NOTIFICATION__MAILBOX_DIR".to_owned(),
                        dir.join("mailbox").display().to_string(),
                    ),
                    (
                        "HOSPITAL_AUTH__SIGNING_KEY_FILE".to_owned(),
                        dir.join("signing-key.pem").display().to_string(),
                    ),
                ];
                if let Some((servers, instance)) = &kafka {
                    environment.push(("KAFKA_BOOTSTRAP_SERVERS".to_owned(), servers.clone()));
                    environment.push(("HOSPITAL_BUS__INSTANCE".to_owned(), instance.clone()));
                }
                let log = dir.join("logs").join(format!("{name}.log"));
                Recipe {
                    name,
                    port: base_port + offset,
                    probes: probe_port(base_port, offset),
                    environment,
                    config: config.cloned(),
                    log,
                }
            })
            .collect();
        Self {
            dir,
            base_port,
            database,
            kafka: kafka.map(|(servers, _)| servers),
            recipes,
            running: BTreeMap::new(),
            resting: BTreeMap::new(),
            ready: false,
        }
    }

    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        for recipe in &self.recipes {
            self.running.insert(recipe.name, recipe.spawn(0)?);
        }
        self.write_file()
    }

    /// Waits until every service says that it is ready, and lets the other commands know.
    pub(crate) async fn await_ready(&mut self) -> anyhow::Result<()> {
        hospital_kit::client::install_tls_provider();
        let http = reqwest::Client::builder().no_proxy().build()?;
        let deadline = Instant::now() + READY_PATIENCE;
        for i in 0..self.recipes.len() {
            let (name, probes) = (self.recipes[i].name, self.recipes[i].probes);
            let url = format!("http://127.0.0.1:{probes}/health/ready");
            loop {
                let answer = http.get(&url).timeout(Duration::from_secs(2)).send().await;
                if answer.is_ok_and(|a| a.status().is_success()) {
                    break;
                }
                self.refuse_dead(name)?;
                if Instant::now() > deadline {
                    bail!(
                        "the {name} service is not ready after {READY_PATIENCE:?}; its log says why: {}",
                        self.recipes[i].log.display()
                    );
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        self.ready = true;
        self.write_file()
    }

    fn refuse_dead(&mut self, name: &str) -> anyhow::Result<()> {
        let Some(running) = self.running.get_mut(name) else { return Ok(()) };
        if let Some(status) = running.child.try_wait()? {
            let log = self.dir.join("logs").join(format!("{name}.log"));
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(5).collect();
            let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
            bail!(
                "the {name} service ended as it started ({status}); the end of {}:\n{tail}",
                log.display()
            );
        }
        Ok(())
    }

    /// Restarts what crashes until told to stop, then stops everything.
    pub(crate) async fn look_after(mut self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = tokio::time::sleep(TICK) => self.tend()?,
            }
        }
        say(&style("Closing: finishing what is under way. Ctrl-C again to end it at once.").dim());
        tokio::select! {
            () = self.drain() => {}
            _ = interrupt.recv() => {}
        }
        for running in self.running.values_mut() {
            // What has ended by itself needs no killing.
            let _ = running.child.start_kill();
        }
        std::fs::remove_file(self.dir.join("platform.json"))
            .context("cannot remove platform.json")?;
        if let Some(cluster) = self.database.cluster.take() {
            tokio::task::block_in_place(|| cluster.stop());
        }
        say(&style("Closed.").dim());
        Ok(())
    }

    /// One look after everybody.
    fn tend(&mut self) -> anyhow::Result<()> {
        let mut changed = false;
        if let Some(cluster) = &mut self.database.cluster
            && let Some(status) = cluster.ended()
        {
            say(&format!("{} PostgreSQL ended ({status}); starting it again", style("!").yellow()));
            tokio::task::block_in_place(|| cluster.restart())?;
            changed = true;
        }
        for recipe in &self.recipes {
            let name = recipe.name;
            if let Some(running) = self.running.get_mut(name)
                && let Some(status) = running.child.try_wait()?
            {
                let crashes =
                    if running.started.elapsed() > SETTLED { 1 } else { running.crashes + 1 };
                let pause = pause(crashes);
                say(&format!(
                    "{} {name} ended ({status}); starting it again {}",
                    style("!").yellow(),
                    if pause.is_zero() { "at once".to_owned() } else { format!("in {pause:?}") }
                ));
                self.running.remove(name);
                self.resting.insert(name, (Instant::now() + pause, crashes));
            }
            if let Some((at, crashes)) = self.resting.get(name).copied()
                && Instant::now() >= at
            {
                self.resting.remove(name);
                self.running.insert(name, recipe.spawn(crashes)?);
                changed = true;
            }
        }
        if changed { self.write_file() } else { Ok(()) }
    }

    /// Asks the services to stop and waits for them.
    async fn drain(&mut self) {
        for running in self.running.values() {
            let pid =
                running.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
            if let Some(pid) = pid {
                // One that is gone already needs no asking.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let all = self.running.values_mut().map(|running| running.child.wait());
        // A service that does not stop in time is killed by the caller.
        let _ = tokio::time::timeout(Duration::from_secs(30), futures_util::future::join_all(all))
            .await;
    }

    fn write_file(&self) -> anyhow::Result<()> {
        let services = self.recipes.iter().map(|recipe| ServiceEntry {
            name: recipe.name.to_owned(),
            port: recipe.port,
            pid: self.running.get(recipe.name).and_then(|r| r.child.id()).unwrap_or(0),
        });
        let file = PlatformFile {
            supervisor_pid: std::process::id(),
            ready: self.ready,
            base_port: self.base_port,
            services: services.collect(),
            database_url: self.database.owner_url.clone(),
            database_pid: self.database.cluster.as_ref().map(hospital_cluster::Cluster::pid),
            bus: match &self.kafka {
                Some(servers) => BusEntry::Kafka {
                    bootstrap_servers: servers.clone(),
                    config: self.recipes.first().and_then(|recipe| recipe.config.clone()),
                },
                None => BusEntry::Postgres { url: self.database.owner_url.clone() },
            },
            signing_key: self.dir.join("signing-key.pem"),
            mailbox: Some(self.dir.join("mailbox")),
        };
        write_private(&self.dir.join("platform.json"), &serde_json::to_vec_pretty(&file)?)
    }
}

#[expect(clippy::print_stderr, reason = "what happens, beside the command's result")]
fn say(what: &dyn std::fmt::Display) {
    eprintln!("{what}");
}
