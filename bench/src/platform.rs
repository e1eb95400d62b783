//! A platform under test: `hospital up` as a child, on a database that is given.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use crate::{processor::Meter, workload::Service};

/// Where the `hospital` program is and what it is given.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    /// The platform's data directory.
    pub(crate) dir: PathBuf,
    pub(crate) base_port: u16,
}

pub(crate) struct Platform {
    program: Program,
    child: Child,
    kafka: Option<String>,
    database_url: String,
    pub(crate) services: Vec<(Service, u32)>,
}

/// What of `platform.json` matters here.
#[derive(Deserialize)]
struct Written {
    services: Vec<WrittenService>,
}

#[derive(Deserialize)]
struct WrittenService {
    name: String,
    pid: u32,
}

impl Program {
    /// The program beside this one, unless another is named.
    pub(crate) fn find(given: Option<&Path>, dir: PathBuf) -> anyhow::Result<Self> {
        let path = match given {
            Some(path) => path.to_owned(),
            None => std::env::current_exe()?.with_file_name("hospital"),
        };
        if !path.exists() {
            bail!(
                "{} is missing: cargo build --release -p hospital, or name it with --hospital",
                path.display()
            );
        }
        Ok(Self { path, dir, base_port: free_ports()? })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command
            .arg("--data-dir")
            .arg(&self.dir)
            .args(["--base-port", &self.base_port.to_string()])
            .args(args)
            .env_remove("DATABASE_URL")
            .env_remove("KAFKA_BOOTSTRAP_SERVERS")
            .env_remove("HOSPITAL_CONFIG")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub(crate) fn must(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.command(args).output().context("starting hospital")?;
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("hospital {} failed: {told}{}", args[0], String::from_utf8_lossy(&output.stdout));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Starts the platform, and waits until it is open.
    pub(crate) fn start(
        &self,
        database_url: &str,
        kafka: Option<&str>,
    ) -> anyhow::Result<Platform> {
        std::fs::create_dir_all(&self.dir)?;
        let told = self.dir.join("up.log");
        let mut child = self
            .command(&["up", "--database-url", database_url])
            .args(kafka.iter().flat_map(|servers| ["--kafka", servers]))
            .stdout(Stdio::piped())
            .stderr(File::create(&told)?)
            .spawn()
            .context("starting hospital up")?;
        let mut greeting = BufReader::new(child.stdout.take().context("its output")?).lines();
        let open =
            greeting.any(|line| line.is_ok_and(|line| line.contains("The hospital is open")));
        if !open {
            child.wait()?;
            bail!("hospital up ended: {}", std::fs::read_to_string(&told).unwrap_or_default());
        }
        // Read to its end, or a supervisor that prints meets a closed pipe.
        std::thread::spawn(move || greeting.count());
        let written = std::fs::read(self.dir.join("platform.json"))?;
        let written: Written = serde_json::from_slice(&written).context("platform.json")?;
        let services = Service::ALL.map(|service| {
            let found = written.services.iter().find(|found| found.name == service.name());
            (service, found.map_or(0, |found| found.pid))
        });
        Ok(Platform {
            program: self.clone(),
            child,
            kafka: kafka.map(ToOwned::to_owned),
            database_url: database_url.to_owned(),
            services: services.to_vec(),
        })
    }

    pub(crate) fn addresses(&self) -> [SocketAddr; 4] {
        [1, 2, 3, 4].map(|offset| SocketAddr::from((Ipv4Addr::LOCALHOST, self.base_port + offset)))
    }
}

impl Platform {
    pub(crate) fn watch(&self, meter: &mut Meter) {
        for (service, pid) in &self.services {
            meter.watch(service.name(), *pid);
        }
        meter.watch("supervisor", self.child.id());
    }

    /// Stops some of the services, or lets them go on.
    pub(crate) fn signal(&self, which: &[Service], signal: Signal) -> anyhow::Result<()> {
        for (_, pid) in self.services.iter().filter(|(service, _)| which.contains(service)) {
            let pid = Pid::from_raw(pid.cast_signed()).context("a process id")?;
            kill_process(pid, signal)?;
        }
        Ok(())
    }

    /// `hospital verify`; what is violated is the error.
    pub(crate) fn verify(&self, patience: Duration) -> anyhow::Result<()> {
        let wait = patience.as_secs().to_string();
        let mut args = vec!["verify", "--wait", &wait, "--database-url", &self.database_url];
        args.extend(self.kafka.iter().flat_map(|servers| ["--kafka", servers]));
        self.program.must(&args).map(|_| ())
    }

    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.end(Signal::TERM, Duration::from_secs(20))
    }

    fn end(&mut self, signal: Signal, patience: Duration) -> anyhow::Result<()> {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            kill_process(pid, signal)?;
        }
        let deadline = Instant::now() + patience;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.child.kill()?;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Nothing can be done about one that does not end.
            let _ = self.end(Signal::TERM, Duration::from_secs(5));
        }
    }
}

/// A port with five free ones behind it, below those that the system gives away.
pub(crate) fn free_ports() -> anyhow::Result<u16> {
    for _ in 0..1000 {
        let port = fastrand::u16(12_000..30_000);
        if (0..40).all(|offset| TcpListener::bind(("127.0.0.1", port + offset)).is_ok()) {
            return Ok(port);
        }
    }
    bail!("no forty free ports in a row between 12000 and 30000")
}
