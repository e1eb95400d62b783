//! The postmaster: its settings, its log, its start.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    process::Child,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{ClusterError, Installation, error::file, home::Home, identity::Identity};

const LOG_BYTES_MAX: u64 = 16 << 20;

/// All that a start needs.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) installation: Installation,
    pub(crate) identity: Identity,
    pub(crate) home: Home,
    pub(crate) port: u16,
    pub(crate) durable: bool,
    pub(crate) settings: Vec<(String, String)>,
}

impl Server {
    /// Starts it and waits until it takes connections.
    pub(crate) fn start(&self, patience: Duration) -> Result<Child, ClusterError> {
        let (log, before) = self.open_log()?;
        let errors = log.try_clone().map_err(|e| file("cannot write", &self.home.log(), e))?;
        let mut postgres = self.identity.command(&self.installation.program("postgres"));
        postgres.arg("-D").arg(self.home.data()).args(["-p", &self.port.to_string()]);
        for setting in settings(self.durable) {
            postgres.args(["-c", setting]);
        }
        for (name, value) in &self.settings {
            postgres.arg("-c").arg(format!("{name}={value}"));
        }
        // A group of its own: Ctrl-C in a terminal is for us, who stop the services before it.
        let mut child = postgres
            .process_group(0)
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|source| ClusterError::Spawn { program: "postgres".to_owned(), source })?;
        let deadline = Instant::now() + patience;
        while !self.ready(&child) {
            let ended = !matches!(child.try_wait(), Ok(None));
            if ended || Instant::now() > deadline {
                end(&mut child);
                let log = self.log_since(before);
                return Err(ClusterError::Start { dir: self.home.dir.clone(), log });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(child)
    }

    /// What `pg_ctl` looks at too: the eighth line of the lock file, if the file is this postmaster's.
    fn ready(&self, child: &Child) -> bool {
        fs::read_to_string(self.home.data().join("postmaster.pid")).is_ok_and(|text| {
            let mut lines = text.lines();
            lines.next().is_some_and(|pid| pid.trim() == child.id().to_string())
                && lines.nth(6).is_some_and(|state| state.trim() == "ready")
        })
    }

    /// The log and its length. A long one becomes the old log first, so that there are never more than two.
    fn open_log(&self) -> Result<(File, u64), ClusterError> {
        let path = self.home.log();
        if fs::metadata(&path).is_ok_and(|m| m.len() > LOG_BYTES_MAX) {
            let old = self.home.dir.join("postgresql.old.log");
            fs::rename(&path, &old).map_err(|e| file("cannot name", &old, e))?;
        }
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        log.and_then(|log| log.metadata().map(|m| (log, m.len())))
            .map_err(|e| file("cannot write", &path, e))
    }

    fn log_since(&self, before: u64) -> String {
        let mut text = Vec::new();
        // Without a log there is less to tell; what to tell is still that it did not start.
        let _ = File::open(self.home.log()).and_then(|mut log| {
            log.seek(SeekFrom::Start(before))?;
            log.read_to_end(&mut text)
        });
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

/// Ends a postmaster as a crash would.
pub(crate) fn end(child: &mut Child) {
    end_by(child, Signal::QUIT, Duration::from_secs(6));
    // One that was stopped (`SIGSTOP`) hears only this. The process is our child and not yet waited for, so the number is its own.
    end_by(child, Signal::KILL, Duration::MAX);
}

/// Sends a signal, and waits for the end for so long.
pub(crate) fn end_by(child: &mut Child, signal: Signal, patience: Duration) {
    let Ok(pid) = i32::try_from(child.id()) else { return };
    let started = Instant::now();
    let mut sent = false;
    while matches!(child.try_wait(), Ok(None)) && started.elapsed() < patience {
        if !sent {
            crate::process::signal(pid, signal);
            sent = true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn settings(durable: bool) -> Vec<&'static str> {
    let mut all = vec![
        "listen_addresses=127.0.0.1",
        // The path of a socket may have 107 bytes; that of a data directory may be longer.
        "unix_socket_directories=",
        "max_connections=300",
        "shared_buffers=128MB",
        "timezone=UTC",
        "log_timezone=UTC",
        "max_wal_size=2GB",
        "checkpoint_timeout=15min",
        // Statements, their values and even messages ("invalid input syntax for type date: ...") hold patients' data; the log must
        // not. In this setting's order `log` ranks above `error`: starts, stops and crashes are logged, failed statements are
        // the caller's to report.
        "log_min_messages=log",
        "log_min_error_statement=panic",
        "log_parameter_max_length=0",
        "log_parameter_max_length_on_error=0",
        "log_error_verbosity=terse",
        "log_checkpoints=off",
    ];
    if durable {
        all.extend(["fsync=on", "synchronous_commit=on", "full_page_writes=on"]);
    } else {
        all.extend(["fsync=off", "synchronous_commit=off", "full_page_writes=off"]);
        all.extend(["wal_level=minimal", "max_wal_senders=0"]);
        // In the data directory, and so removed with it after a kill.
        all.push("dynamic_shared_memory_type=mmap");
    }
    all
}
