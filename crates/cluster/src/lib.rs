//! A private PostgreSQL, run from the machine's own binaries: what `hospital up` and the tests stand on.
//!
//! PostgreSQL refuses to run as root, so root's cluster runs as another user: as `postgres` (or `nobody`) where that user can reach the data
//! directory, and otherwise in a user namespace in which root has another number, so that a directory below `/root` serves as well.

mod identity;
mod installation;

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use identity::Identity;
pub use installation::Installation;

/// The cluster's superuser.
pub const OWNER: &str = "hospital_admin";

/// Why a cluster does not run. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error(
        "PostgreSQL's server is not installed: no initdb below /usr/lib/postgresql/*/bin nor on PATH. \
         Install it: apt-get install postgresql"
    )]
    NotInstalled,
    #[error("{doing} {}: {source}", path.display())]
    File { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("cannot start {program}: {source}")]
    Spawn { program: String, source: std::io::Error },
    #[error("initdb failed in {}:\n{output}", dir.display())]
    Initdb { dir: PathBuf, output: String },
    #[error("PostgreSQL did not start in {}; the end of its log:\n{log}", dir.display())]
    Start { dir: PathBuf, log: String },
    #[error(
        "root cannot run PostgreSQL in {}: no other user can reach it and user namespaces are not permitted. \
         Put the data where others may go (--data-dir /var/lib/hospital), or run as another user",
        dir.display()
    )]
    NoIdentity { dir: PathBuf },
    #[error("another PostgreSQL (process {pid}) already runs in {}; stop it, or take another data directory", dir.display())]
    AlreadyRuns { dir: PathBuf, pid: i32 },
}

/// What a cluster is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its directory; made on first use.
    pub dir: PathBuf,
    /// Its port on 127.0.0.1; a free one is chosen and kept when there is none.
    pub port: Option<u16>,
    /// Whether commits must survive a power cut. Tests do without.
    pub durable: bool,
}

/// A running cluster. Dropping it stops it at once, as a crash would; [`Cluster::stop`] is the polite way.
pub struct Cluster {
    dir: PathBuf,
    port: u16,
    password: String,
    durable: bool,
    installation: Installation,
    identity: Identity,
    child: Child,
}

impl Cluster {
    /// Makes the cluster if it is not there yet, and starts it. Blocks for about a second on first use.
    pub fn open(options: &Options) -> Result<Self, ClusterError> {
        let installation = Installation::find().ok_or(ClusterError::NotInstalled)?;
        let dir = &options.dir;
        fs::create_dir_all(dir).map_err(|source| file("cannot make", dir, source))?;
        let dir = &fs::canonicalize(dir).map_err(|source| file("cannot find", dir, source))?;
        let identity = Identity::choose(dir)?;
        if !dir.join("data/PG_VERSION").exists() {
            initialize(&installation, &identity, dir, options.durable)?;
        }
        identity.own(dir)?;
        let port = kept_port(dir, options.port)?;
        let password = read(&dir.join("password"))?;
        refuse_a_second(dir)?;
        let child = spawn(&installation, &identity, dir, port, options.durable)?;
        let mut cluster = Self {
            dir: dir.clone(),
            port,
            password,
            durable: options.durable,
            installation,
            identity,
            child,
        };
        match cluster.await_start(Duration::from_secs(30)) {
            Ok(()) => Ok(cluster),
            // Backends of one that was killed a moment ago may hold its memory.
            Err(_) if cluster.ended().is_some() => cluster.restart().map(|()| cluster),
            Err(e) => Err(e),
        }
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The postmaster's process id, as `platform.json` and a tester's `kill` need it.
    pub fn pid(&self) -> u32 {
        pid_of(&self.dir).and_then(|pid| u32::try_from(pid).ok()).unwrap_or_else(|| self.child.id())
    }

    /// The superuser's URL of a database.
    pub fn owner_url(&self, database: &str) -> String {
        self.url(OWNER, &self.password, database)
    }

    pub fn url(&self, role: &str, password: &str, database: &str) -> String {
        format!("postgresql://{role}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// Whether the postmaster has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Starts it again after its end, on the same port. Backends of a killed postmaster may take a moment to go.
    pub fn restart(&mut self) -> Result<(), ClusterError> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            self.kill();
            self.child =
                spawn(&self.installation, &self.identity, &self.dir, self.port, self.durable)?;
            match self.await_start(Duration::from_secs(20)) {
                Ok(()) => return Ok(()),
                Err(e) if Instant::now() > deadline => return Err(e),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Ends it politely: sessions are cut, what is committed is on disk.
    pub fn stop(mut self) {
        self.signal("-INT");
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.ended().is_none() {
            if Instant::now() > deadline {
                self.signal("-QUIT");
                // Waits for what the signal ends; there is nobody left to tell of a failure.
                let _ = self.child.wait();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            self.signal("-QUIT");
            // As above.
            let _ = self.child.wait();
        }
    }

    fn signal(&self, signal: &str) {
        let pid =
            pid_of(&self.dir).map_or_else(|| self.child.id().to_string(), |pid| pid.to_string());
        // A process that is gone already needs no signal.
        let _ = Command::new("kill").arg(signal).arg(pid).stderr(Stdio::null()).status();
    }

    fn await_start(&mut self, patience: Duration) -> Result<(), ClusterError> {
        let deadline = Instant::now() + patience;
        let own = self.child.id().to_string();
        let ready = |dir: &Path| {
            fs::read_to_string(dir.join("data/postmaster.pid")).is_ok_and(|text| {
                let mut lines = text.lines();
                // The file may still be that of the one before.
                lines.next().is_some_and(|pid| pid.trim() == own)
                    && lines.nth(6).is_some_and(|state| state.trim() == "ready")
            })
        };
        while !ready(&self.dir) {
            if self.ended().is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.dir.join("postgresql.log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(15).collect();
                let log = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
                return Err(ClusterError::Start { dir: self.dir.clone(), log });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

fn file(doing: &'static str, path: &Path, source: std::io::Error) -> ClusterError {
    ClusterError::File { doing, path: path.to_owned(), source }
}

fn read(path: &Path) -> Result<String, ClusterError> {
    fs::read_to_string(path).map(|t| t.trim().to_owned()).map_err(|e| file("cannot read", path, e))
}

fn initialize(
    installation: &Installation,
    identity: &Identity,
    dir: &Path,
    durable: bool,
) -> Result<(), ClusterError> {
    // Left over from an initdb that did not finish: nothing was ever in it.
    let data = dir.join("data");
    if data.exists() {
        fs::remove_dir_all(&data).map_err(|e| file("cannot remove the unfinished", &data, e))?;
    }
    let password = random_password()?;
    let password_file = dir.join("password");
    fs::write(&password_file, &password).map_err(|e| file("cannot write", &password_file, e))?;
    fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600))
        .map_err(|e| file("cannot protect", &password_file, e))?;
    identity.own(dir)?;
    let mut initdb = identity.command(&installation.program("initdb"));
    initdb.current_dir(dir).args(["-D", "data", "-U", OWNER, "-E", "UTF8", "--locale=C.UTF-8"]);
    initdb.args(["--auth=scram-sha-256", "--pwfile=password", "--no-instructions"]);
    if !durable {
        initdb.arg("--no-sync");
    }
    let output = initdb
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ClusterError::Spawn { program: "initdb".to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(ClusterError::Initdb {
        dir: dir.to_owned(),
        output: String::from_utf8_lossy(&text).into_owned(),
    })
}

fn random_password() -> Result<String, ClusterError> {
    use std::io::Read;
    let source = Path::new("/dev/urandom");
    let mut bytes = [0_u8; 18];
    fs::File::open(source)
        .and_then(|mut f| f.read_exact(&mut bytes))
        .map_err(|e| file("cannot read", source, e))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

fn kept_port(dir: &Path, wanted: Option<u16>) -> Result<u16, ClusterError> {
    let path = dir.join("port");
    let kept = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
    let port = match wanted.or(kept) {
        Some(port) => port,
        None => TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(|e| file("cannot find a free port for", dir, e))?
            .port(),
    };
    fs::write(&path, port.to_string()).map_err(|e| file("cannot write", &path, e))?;
    Ok(port)
}

/// The first line of `postmaster.pid`, if its process lives and is PostgreSQL's.
fn pid_of(dir: &Path) -> Option<i32> {
    let text = fs::read_to_string(dir.join("data/postmaster.pid")).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    name.starts_with("postgres").then_some(pid)
}

/// Waits a moment for one that is on its way out. The lock file of a killed one stays: by it PostgreSQL itself finds out whether
/// backends of the old one still write.
fn refuse_a_second(dir: &Path) -> Result<(), ClusterError> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Some(pid) = pid_of(dir) {
        if Instant::now() > deadline {
            return Err(ClusterError::AlreadyRuns { dir: dir.to_owned(), pid });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn spawn(
    installation: &Installation,
    identity: &Identity,
    dir: &Path,
    port: u16,
    durable: bool,
) -> Result<Child, ClusterError> {
    let log_path = dir.join("postgresql.log");
    let log = fs::File::create(&log_path).map_err(|e| file("cannot write", &log_path, e))?;
    let errors = log.try_clone().map_err(|e| file("cannot write", &log_path, e))?;
    let mut postgres = identity.command(&installation.program("postgres"));
    postgres.current_dir(dir).args(["-D", "data", "-p", &port.to_string()]);
    for setting in settings(durable) {
        postgres.args(["-c", setting]);
    }
    postgres
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(|source| ClusterError::Spawn { program: "postgres".to_owned(), source })
}

fn settings(durable: bool) -> Vec<&'static str> {
    let mut all = vec![
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=300",
        "shared_buffers=128MB",
        "timezone=UTC",
        "log_timezone=UTC",
        "max_wal_size=2GB",
        "checkpoint_timeout=15min",
        // Statements and their values hold patients' data; the log must not.
        "log_min_error_statement=panic",
        "log_parameter_max_length_on_error=0",
        "log_error_verbosity=terse",
        "log_checkpoints=off",
    ];
    if !durable {
        all.extend(["fsync=off", "synchronous_commit=off", "full_page_writes=off"]);
    }
    all
}

/// Whether an exit was forced by a signal; the supervisor says so.
pub fn killed_by(status: ExitStatus) -> Option<i32> {
    status.signal()
}
