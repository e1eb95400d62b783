//! A service as a child process, with its own settings and log.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::process::{Child, Command};

/// What a child is started with, again and again.
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    /// Where its health is asked for.
    pub(crate) probes: u16,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) config: Option<PathBuf>,
    pub(crate) log: PathBuf,
}

/// A running service.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) started: Instant,
    /// How often it crashed soon after its start, in a row.
    pub(crate) crashes: u32,
}

impl Recipe {
    pub(crate) fn spawn(&self, crashes: u32) -> anyhow::Result<Running> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let log = open_log(&self.log)?;
        let mut command = Command::new(program);
        command.args(["serve", self.name, "--supervised"]);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        let child = command
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env_remove("DATABASE_URL")
            .env_remove("HOSPITAL_DATA_DIR")
            // Its end is our end: a child whose supervisor was killed does not live on.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C in the terminal is for the supervisor, which then stops its children in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start the {} service", self.name))?;
        Ok(Running { child, started: Instant::now(), crashes })
    }
}

/// How long to wait before a crashed service is started again: at once the first time, then longer and longer.
pub(crate) fn pause(crashes: u32) -> Duration {
    match crashes {
        0 | 1 => Duration::ZERO,
        n => (Duration::from_millis(100) * 2_u32.pow(n.min(7) - 1)).min(Duration::from_secs(5)),
    }
}

fn open_log(path: &Path) -> anyhow::Result<std::fs::File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))
}
