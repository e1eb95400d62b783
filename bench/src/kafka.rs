//! A real broker, by `deploy/kafka/run`.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, bail};

use crate::platform::free_ports;

/// One broker on loopback, which ends with this value or with this process, whichever is first.
pub(crate) struct Kafka {
    run: Child,
    dir: tempfile::TempDir,
    servers: String,
}

impl Kafka {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kafka/run");
        let dir = tempfile::Builder::new().prefix("hospital-bench-kafka-").tempdir()?;
        let mut run = Command::new(script)
            .args(["kraft", "--while-stdin", "--port", &free_ports()?.to_string(), "--dir"])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting deploy/kafka/run")?;
        let said = BufReader::new(run.stdout.take().context("its output")?).lines();
        for line in said {
            if let Some((_, servers)) = line?.split_once(" is ready at ") {
                return Ok(Self { servers: servers.to_owned(), run, dir });
            }
        }
        bail!("Kafka did not start ({})", run.wait()?)
    }

    pub(crate) fn servers(&self) -> &str {
        &self.servers
    }

    /// The broker's process.
    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        let text = std::fs::read_to_string(self.dir.path().join("broker-1.pid"))?;
        text.trim().parse().context("the broker's process id")
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        drop(self.run.stdin.take());
        // Nothing can be done about one that does not end.
        let _ = self.run.wait();
    }
}
