//! A service as a real process, started again whenever it ends, as `hospital up` does.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

/// What a service is started with, again and again.
pub struct Recipe {
    pub name: &'static str,
    pub program: PathBuf,
    pub environment: Vec<(String, String)>,
    pub port: u16,
    pub log: PathBuf,
}

pub struct Service {
    recipe: Recipe,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    child: Option<Child>,
    /// Not started again for the moment.
    held: bool,
    /// Its next end is our doing.
    expected: bool,
    started: Option<Instant>,
    /// How it ended when nobody had ended it.
    surprises: Vec<String>,
}

/// How often it is looked after.
pub const TICK: Duration = Duration::from_millis(20);

impl Service {
    /// # Errors
    /// When the program cannot be started.
    pub fn start(recipe: Recipe) -> anyhow::Result<Self> {
        let service = Self { recipe, state: Mutex::default() };
        service.look_after()?;
        Ok(service)
    }

    pub const fn name(&self) -> &'static str {
        self.recipe.name
    }

    pub const fn port(&self) -> u16 {
        self.recipe.port
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it again if it ended.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn look_after(&self) -> anyhow::Result<()> {
        let mut state = self.state();
        if let Some(child) = &mut state.child
            && let Some(status) = child.try_wait()?
        {
            state.child = None;
            if !std::mem::take(&mut state.expected) {
                state.surprises.push(format!("{} ended by itself ({status})", self.recipe.name));
            }
        }
        // One that ended as it started is given a moment.
        let rests = state.started.is_some_and(|at| at.elapsed() < Duration::from_millis(200));
        if state.child.is_none() && !state.held && !rests {
            state.child = Some(self.spawn()?);
            state.started = Some(Instant::now());
        }
        Ok(())
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let recipe = &self.recipe;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&recipe.log)?;
        let mut command = Command::new(&recipe.program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("HOSPITAL_")
                || matches!(text.as_ref(), "DATABASE_URL" | "KAFKA_BOOTSTRAP_SERVERS")
            {
                command.env_remove(&name);
            }
        }
        command
            .args(["serve", recipe.name, "--supervised"])
            .envs(recipe.environment.iter().map(|(name, value)| (name, value)))
            // Its end is our end.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", recipe.program.display()))
    }

    pub fn pid(&self) -> Option<Pid> {
        let id = self.state().child.as_ref().map(Child::id)?;
        i32::try_from(id).ok().and_then(Pid::from_raw)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // One that is gone needs no signal.
            let _ = kill_process(pid, signal);
        }
    }

    pub fn kill(&self) {
        self.state().expected = true;
        self.signal(Signal::KILL);
    }

    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to stop, waits for it, and keeps it down until it is released.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn hold(&self) -> anyhow::Result<()> {
        {
            let mut state = self.state();
            (state.held, state.expected) = (true, true);
        }
        self.signal(Signal::TERM);
        // As long as `hospital up` gives it.
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.pid().is_some() {
            self.look_after()?;
            anyhow::ensure!(Instant::now() < deadline, "{} does not stop", self.recipe.name);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    pub fn release(&self) {
        let mut state = self.state();
        (state.held, state.expected) = (false, false);
    }

    /// Limits its file descriptors; `None` gives it as many as we may have.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn limit_descriptors(&self, count: Option<u64>) -> anyhow::Result<()> {
        let own = rustix::process::getrlimit(Resource::Nofile);
        let current = count.or(own.current);
        let limit = Rlimit { current, maximum: own.maximum };
        if let Some(pid) = self.pid() {
            prlimit(Some(pid), Resource::Nofile, limit).context("limiting descriptors")?;
        }
        Ok(())
    }

    /// How it ended when nobody had ended it, since this was last asked.
    pub fn surprises(&self) -> Vec<String> {
        std::mem::take(&mut self.state().surprises)
    }

    /// Its open descriptors, and its resident memory in megabytes.
    pub fn size(&self) -> Option<(usize, u64)> {
        let pid = self.pid()?.as_raw_nonzero();
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
        let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
        Some((descriptors, pages * 4 / 1024))
    }

    pub fn log(&self) -> &std::path::Path {
        &self.recipe.log
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
        if let Some(child) = &mut self.state().child {
            // Nothing can be done about one that cannot be waited for.
            let _ = child.wait();
        }
    }
}
