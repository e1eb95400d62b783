//! The cluster's directory: the data, the superuser's password, the port, the log and the lock.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{ClusterError, Installation, OWNER, error::file, identity::Identity, process};

const PATIENCE: Duration = Duration::from_secs(3);

/// Where everything of a cluster is.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) dir: PathBuf,
    /// Where `data` is: `dir`, or what the link in it names.
    base: PathBuf,
}

impl Home {
    pub(crate) const LINK: &'static str = "elsewhere";

    pub(crate) fn within(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), base: dir.to_owned() }
    }

    pub(crate) fn elsewhere(dir: &Path, base: PathBuf) -> Self {
        Self { dir: dir.to_owned(), base }
    }

    pub(crate) fn linked(dir: &Path) -> Option<Self> {
        fs::read_link(dir.join(Self::LINK)).ok().map(|base| Self::elsewhere(dir, base))
    }

    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.base.join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("postgresql.log")
    }

    /// Makes the directory, and returns its full name.
    pub(crate) fn make(dir: &Path) -> Result<PathBuf, ClusterError> {
        fs::create_dir_all(dir).map_err(|e| file("cannot make", dir, e))?;
        fs::canonicalize(dir).map_err(|e| file("cannot find", dir, e))
    }

    /// Takes the directory for this process; the kernel gives it back however the process ends. Waits a moment for one that is on its way out.
    pub(crate) fn lock(dir: &Path) -> Result<File, ClusterError> {
        let path = dir.join("lock");
        let lock = File::create(&path).map_err(|e| file("cannot write", &path, e))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => {
                    let home = Self::linked(dir).unwrap_or_else(|| Self::within(dir));
                    let pid = process::postmaster(&home.data());
                    return Err(ClusterError::AlreadyRuns { dir: dir.to_owned(), pid });
                }
                Err(TryLockError::Error(e)) => return Err(file("cannot lock", &path, e)),
            }
        }
    }

    /// Makes the data if it is not there yet. It gets its name only when it is complete: an interrupted `initdb` leaves nothing that
    /// looks like a cluster.
    pub(crate) fn initialize(
        &self,
        installation: &Installation,
        identity: Identity,
        durable: bool,
    ) -> Result<(), ClusterError> {
        let data = self.data();
        if data.exists() {
            return identity.own(&data);
        }
        let unfinished = self.base.join("data.unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)
                .map_err(|e| file("cannot remove the unfinished", &unfinished, e))?;
        }
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&unfinished)
            .map_err(|e| file("cannot make", &unfinished, e))?;
        identity.own(&unfinished)?;
        // initdb reads the password as the other user; ours stays with us.
        let password = random(18)?;
        let handed = self.base.join("password.unfinished");
        write_secret(&self.dir.join("password"), &password)?;
        write_secret(&handed, &password)?;
        identity.own(&handed)?;
        let mut initdb = identity.command(&installation.program("initdb"));
        initdb.arg("-D").arg(&unfinished).arg("--pwfile").arg(&handed);
        initdb.args(["-U", OWNER, "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions"]);
        // The tests connect very often, and a build without optimization takes 50 ms for the client's half of SCRAM.
        initdb.arg(if durable { "--auth=scram-sha-256" } else { "--auth=password" });
        if !durable {
            initdb.arg("--no-sync");
        }
        let output = initdb
            .output()
            .map_err(|source| ClusterError::Spawn { program: "initdb".to_owned(), source })?;
        fs::remove_file(&handed).map_err(|e| file("cannot remove", &handed, e))?;
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            let output = String::from_utf8_lossy(&text).into_owned();
            return Err(ClusterError::Initdb { dir: self.dir.clone(), output });
        }
        fs::rename(&unfinished, &data).map_err(|e| file("cannot name", &data, e))?;
        if durable {
            for dir in [&self.dir, &self.base] {
                let sync = File::open(dir).and_then(|d| d.sync_all());
                sync.map_err(|e| file("cannot sync", dir, e))?;
            }
        }
        Ok(())
    }

    pub(crate) fn password(&self) -> Result<String, ClusterError> {
        let path = self.dir.join("password");
        fs::read_to_string(&path)
            .map(|text| text.trim().to_owned())
            .map_err(|e| file("cannot read", &path, e))
    }

    /// The port that was wanted, else the one it had if that is still free, else a free one.
    pub(crate) fn port(&self, wanted: Option<u16>) -> Result<u16, ClusterError> {
        let path = self.dir.join("port");
        let kept = || fs::read_to_string(&path).ok()?.trim().parse().ok();
        let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let port = match wanted.or_else(|| kept().filter(free)) {
            Some(port) => port,
            None => free_port(free)?,
        };
        fs::write(&path, port.to_string()).map_err(|e| file("cannot write", &path, e))?;
        Ok(port)
    }

    pub(crate) fn forget_port(&self) {
        // Only a preference: a new one is found without it as well as with it.
        let _ = fs::remove_file(self.dir.join("port"));
    }
}

/// A free port below those that the kernel hands to outgoing connections (from 32768): one of these could be taken by somebody's
/// connection between the death of a postmaster and its restart.
fn free_port(free: impl Fn(&u16) -> bool) -> Result<u16, ClusterError> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    let start = u16::from_str_radix(&random(2)?, 16).unwrap_or_default() % COUNT;
    (0..COUNT).map(|i| FIRST + (start + i) % COUNT).find(free).ok_or_else(|| {
        let none = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        file("cannot find a free port on", Path::new("127.0.0.1"), none)
    })
}

fn write_secret(path: &Path, secret: &str) -> Result<(), ClusterError> {
    // A file that is there may be readable by others, or another's.
    if let Err(e) = fs::remove_file(path)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        return Err(file("cannot replace", path, e));
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut f| f.write_all(secret.as_bytes()).and_then(|()| f.sync_all()))
        .map_err(|e| file("cannot write", path, e))
}

/// So many random bytes, in hexadecimal.
pub(crate) fn random(bytes: usize) -> Result<String, ClusterError> {
    let source = Path::new("/dev/urandom");
    let mut buffer = vec![0_u8; bytes];
    File::open(source)
        .and_then(|mut f| f.read_exact(&mut buffer))
        .map_err(|e| file("cannot read", source, e))?;
    Ok(buffer.iter().map(|b| format!("{b:02x}")).collect())
}
