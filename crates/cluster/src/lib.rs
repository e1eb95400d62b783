//! A private PostgreSQL, run from the machine's own binaries: what `hospital up` and the tests stand on.
//!
//! PostgreSQL refuses to run as root, so root's cluster runs as another user: as `postgres` (or `nobody`) where that user can reach the data
//! directory, and otherwise in a user namespace in which root has another number, so that a directory below `/root` serves as well. Where
//! namespaces are not permitted either, the data goes to `/var/lib/hospital-*`, and the link `elsewhere` in the directory leads there.
//!
//! A directory belongs to the process that holds its `lock`. What an earlier holder left running when it was killed is ended first.
//!
//! Everything here blocks, for a second on first use and for tens of milliseconds later, and is bound to no runtime: the tests share a
//! cluster among many. In async code: `tokio::task::block_in_place`. Only [`Cluster::wait`] is async.

mod error;
mod home;
mod identity;
mod installation;
mod process;
mod server;

use std::{
    fs::File,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, ExitStatus},
    time::{Duration, Instant},
};

pub use error::ClusterError;
use home::Home;
use identity::Identity;
pub use identity::make_private;
pub use installation::Installation;
use rustix::process::Signal;
use server::Server;

/// The cluster's superuser.
pub const OWNER: &str = "hospital_admin";

const START_PATIENCE: Duration = Duration::from_secs(30);

/// What a cluster is to be.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Its directory; made on first use.
    pub dir: PathBuf,
    /// Its port on 127.0.0.1. Without one (or with 0) a free one is chosen, and kept while it stays free.
    pub port: Option<u16>,
    /// Whether commits must survive a power cut. Tests do without.
    pub durable: bool,
    /// Server settings beyond ours, by name; they win.
    pub settings: Vec<(String, String)>,
    /// PostgreSQL's programs; found on the machine when there is none.
    pub installation: Option<Installation>,
}

/// A running cluster. Dropping it stops it at once, as a crash would; [`Cluster::stop`] is the polite way.
#[derive(Debug)]
pub struct Cluster {
    server: Server,
    password: String,
    child: Child,
    /// Dropped last, and with it the claim to the directory.
    _lock: File,
}

impl Cluster {
    /// Makes the cluster if it is not there yet, and starts it. Blocks for about a second on first use.
    pub fn open(options: &Options) -> Result<Self, ClusterError> {
        let installation = options.installation.clone();
        let installation =
            installation.or_else(Installation::find).ok_or(ClusterError::NotInstalled)?;
        installation.refuse_without_extension()?;
        let dir = Home::make(&options.dir)?;
        let lock = Home::lock(&dir)?;
        let (identity, home) = Identity::choose(&dir)?;
        process::end_leftovers(&home.data())?;
        home.initialize(&installation, identity, options.durable)?;
        let password = home.password()?;
        let wanted = options.port.filter(|port| *port != 0);
        let settings = options.settings.clone();
        let durable = options.durable;
        let port = home.port(wanted)?;
        let mut server = Server { installation, identity, home, port, durable, settings };
        let mut attempts = 1..5;
        let child = loop {
            match server.start(START_PATIENCE) {
                Ok(child) => break child,
                // Somebody was faster to a port that was free a moment ago.
                Err(ClusterError::Start { log, .. })
                    if wanted.is_none()
                        && log.contains("could not bind")
                        && attempts.next().is_some() =>
                {
                    server.home.forget_port();
                    server.port = server.home.port(None)?;
                }
                Err(e) => return Err(e),
            }
        };
        Ok(Self { server, password, child, _lock: lock })
    }

    pub const fn port(&self) -> u16 {
        self.server.port
    }

    /// The postmaster's process id, as `platform.json` and a tester's `kill` need it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The superuser's URL of a database.
    pub fn owner_url(&self, database: &str) -> String {
        self.url(OWNER, &self.password, database)
    }

    /// The URL of a database for a role. Neither name nor password is escaped.
    pub fn url(&self, role: &str, password: &str, database: &str) -> String {
        format!("postgresql://{role}:{password}@127.0.0.1:{}/{database}", self.port())
    }

    /// Where the server writes its log.
    pub fn log(&self) -> PathBuf {
        self.server.home.log()
    }

    /// Whether the postmaster has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for the postmaster's end; a dropped wait loses nothing. Notices it within 20 ms.
    pub async fn wait(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts it again after its end (and ends it first if need be), on the same port. Tries for 20 seconds: that port may be taken for a moment.
    /// Backends that outlived a killed postmaster are ended.
    pub fn restart(&mut self) -> Result<(), ClusterError> {
        let deadline = Instant::now() + Duration::from_secs(20);
        self.kill();
        loop {
            let started = process::end_leftovers(&self.server.home.data())
                .and_then(|()| self.server.start(START_PATIENCE));
            match started {
                Ok(child) => {
                    self.child = child;
                    return Ok(());
                }
                Err(e) if Instant::now() > deadline => return Err(e),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Ends it politely: sessions are cut, what is committed is on disk. Takes at most 11 seconds.
    pub fn stop(mut self) {
        server::end_by(&mut self.child, Signal::INT, Duration::from_secs(5));
        self.kill();
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        server::end(&mut self.child);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether an exit was forced by a signal; the supervisor says so.
pub fn killed_by(status: ExitStatus) -> Option<i32> {
    status.signal()
}
