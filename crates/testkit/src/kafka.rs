//! Real Apache Kafka for tests, by `deploy/kafka/run`.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Which Kafka: the newest with KRaft, or the last one with ZooKeeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaMode {
    Kraft,
    Zookeeper,
}

impl KafkaMode {
    /// What `HOSPITAL_TEST_KAFKA` asks for: `kraft`, `zookeeper`, or nothing.
    ///
    /// # Panics
    /// When it is set to something else.
    pub fn asked_for() -> Option<Self> {
        #[expect(clippy::disallowed_methods, reason = "a switch for tests, not a setting")]
        let text = std::env::var("HOSPITAL_TEST_KAFKA").ok()?;
        match text.as_str() {
            "kraft" => Some(Self::Kraft),
            "zookeeper" => Some(Self::Zookeeper),
            other => panic!("HOSPITAL_TEST_KAFKA is {other:?}, not kraft or zookeeper"),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Kraft => "kraft",
            Self::Zookeeper => "zookeeper",
        }
    }
}

/// Brokers on loopback, which end with this value or with this process, whichever is first.
pub struct Kafka {
    run: Child,
    dir: tempfile::TempDir,
    servers: String,
    mode: KafkaMode,
    brokers: u16,
    port: u16,
    /// The ports of proxies that clients are told to come to.
    behind: Vec<u16>,
    /// Brokers that were killed and started again, each below a shell that ends with its standard input.
    revived: Vec<Child>,
}

impl Kafka {
    /// Starts one broker, or three; returns when they take connections.
    ///
    /// # Errors
    /// When there is no Java or Maven, or when a broker does not start; what it said is on the standard error.
    pub fn start(mode: KafkaMode, brokers: u16) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("hospital-kafka-").tempdir()?;
        let port = free_ports();
        let (run, servers) = launch(mode, brokers, port, dir.path(), &[])?;
        let (behind, revived) = (Vec::new(), Vec::new());
        Ok(Self { run, dir, servers, mode, brokers, port, behind, revived })
    }

    /// Starts one KRaft broker that has, beside its own listener, one behind each of these proxies' ports.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_behind(proxies: &[u16]) -> anyhow::Result<Self> {
        let (mode, brokers, port) = (KafkaMode::Kraft, 1, free_ports());
        let dir = tempfile::Builder::new().prefix("hospital-kafka-").tempdir()?;
        let (run, servers) = launch(mode, brokers, port, dir.path(), proxies)?;
        let (behind, revived) = (proxies.to_vec(), Vec::new());
        Ok(Self { run, dir, servers, mode, brokers, port, behind, revived })
    }

    /// The ports of the listeners that are behind proxies, in their order.
    pub fn listeners_behind(&self) -> Vec<u16> {
        (self.port + 2..).take(self.behind.len()).collect()
    }

    /// Kills a broker, which are counted from 1, as a crash would. It stays away. Gives the command that it ran, for [`Kafka::revive`].
    ///
    /// # Errors
    /// When there is no such broker.
    pub fn kill(&self, broker: u16) -> anyhow::Result<Vec<String>> {
        let pid = self.pid(broker)?;
        let command =
            std::fs::read(format!("/proc/{pid}/cmdline")).context("it is gone already")?;
        let process = i32::try_from(pid).ok().and_then(Pid::from_raw).context("its number")?;
        kill_process(process, Signal::KILL).context("it was gone already")?;
        let command = String::from_utf8(command).context("its command")?;
        Ok(command.trim_end_matches('\0').split('\0').map(ToOwned::to_owned).collect())
    }

    /// Starts a broker that was killed, on its data and port; does not wait until it has caught up.
    ///
    /// # Errors
    /// When there is no shell.
    pub fn revive(&mut self, command: &[String]) -> anyhow::Result<()> {
        // It can be killed again: its process is written down where the first one was. `kill` is the shell's own.
        const SCRIPT: &str = r#"file=$1; shift
            "$@" </dev/null >/dev/null 2>&1 & pid=$!; echo $pid >"$file"; cat >/dev/null; kill -9 $pid; wait $pid"#;
        let settings = command.last().context("a broker's command")?;
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh", &settings.replace(".properties", ".pid")])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the broker again")?;
        self.revived.push(shell);
        Ok(())
    }

    /// Ends what is left of it and starts all brokers on the same data and ports.
    ///
    /// # Errors
    /// When a broker does not start.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.end();
        let (run, servers) =
            launch(self.mode, self.brokers, self.port, self.dir.path(), &self.behind)?;
        (self.run, self.servers) = (run, servers);
        Ok(())
    }

    /// Kills the brokers and loses their data; others begin anew at the same addresses.
    ///
    /// # Errors
    /// When they do not start.
    pub fn begin_anew(&mut self) -> anyhow::Result<()> {
        for broker in 1..=self.brokers {
            self.kill(broker)?;
        }
        self.end();
        let dir = tempfile::Builder::new().prefix("hospital-kafka-").tempdir()?;
        let (run, servers) = launch(self.mode, self.brokers, self.port, dir.path(), &self.behind)?;
        (self.run, self.servers, self.dir) = (run, servers, dir);
        Ok(())
    }

    fn end(&mut self) {
        for mut shell in self.revived.drain(..) {
            drop(shell.stdin.take());
            end(&mut shell);
        }
        drop(self.run.stdin.take());
        end(&mut self.run);
    }

    /// The bootstrap servers.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// The process of a broker, which are counted from 1.
    ///
    /// # Errors
    /// When there is no such broker.
    pub fn pid(&self, broker: u16) -> anyhow::Result<u32> {
        let path = self.dir.path().join(format!("broker-{broker}.pid"));
        let text = std::fs::read_to_string(&path).context("no such broker")?;
        text.trim().parse().context("not a process id")
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits for a script's end, which follows that of its input. One that takes too long is killed, and its brokers may live on.
fn end(script: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while matches!(script.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            // It is still our child, so there is somebody to kill and to wait for.
            let _ = script.kill();
            let _ = script.wait();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs the brokers; gives their script's process and the bootstrap servers once they take connections.
fn launch(
    mode: KafkaMode,
    brokers: u16,
    port: u16,
    dir: &Path,
    behind: &[u16],
) -> anyhow::Result<(Child, String)> {
    let mut run = Command::new(script());
    if !behind.is_empty() {
        let ports: Vec<String> = behind.iter().map(u16::to_string).collect();
        run.args(["--behind", &ports.join(",")]);
    }
    let mut run = run
        .args([mode.name(), "--while-stdin", "--port", &port.to_string()])
        .args(["--brokers", &brokers.to_string()])
        .arg("--dir")
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting deploy/kafka/run")?;
    let said = BufReader::new(run.stdout.take().context("its output")?).lines();
    for line in said {
        if let Some((_, servers)) = line?.split_once(" is ready at ") {
            return Ok((run, servers.to_owned()));
        }
    }
    bail!("Kafka did not start ({})", run.wait()?)
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kafka/run")
}

/// A port that is free, with the thirty behind it, on which brokers listen: below those that the system gives away.
fn free_ports() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 250).unwrap_or(0) * 40;
    loop {
        let port = 12_000 + (own + NEXT.fetch_add(1, Ordering::Relaxed) * 40) % 10_000;
        let free = |offset: u16| std::net::TcpListener::bind(("127.0.0.1", port + offset)).is_ok();
        if (0..30).all(free) {
            return port;
        }
    }
}
