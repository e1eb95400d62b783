//! Finds a running platform: through the data directory of `up`, or by host and port for one that runs elsewhere.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use hospital_kit::config::{BusConfig, BusKind, Config};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// Where the platform is. All commands that talk to one take these.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PlatformArgs {
    /// The directory where `up` keeps the platform's data
    #[arg(long, global = true, env = "HOSPITAL_DATA_DIR", default_value = ".hospital")]
    pub(crate) data_dir: PathBuf,

    /// The console's port; the services follow on the next four, their probes on the four behind
    /// them [default: 8080, or what `up` wrote down]
    #[arg(long, global = true, env = "HOSPITAL_BASE_PORT")]
    pub(crate) base_port: Option<u16>,

    /// The host of a platform that `up` did not start (containers, a cluster)
    #[arg(long, global = true, env = "HOSPITAL_HOST")]
    pub(crate) host: Option<String>,

    /// The signing key that the services of such a platform trust
    #[arg(long, global = true, env = "HOSPITAL_SIGNING_KEY")]
    pub(crate) signing_key: Option<PathBuf>,

    /// How many seconds a platform that is starting is waited for
    #[arg(long, global = true, hide = true, default_value_t = 30)]
    starting_s: u64,
}

pub(crate) const SERVICES: [&str; 4] = ["patient", "appointment", "billing", "notification"];
pub(crate) const SERVICE_COUNT: u16 = 4;

/// Where a service is probed: the services' ports are the four behind the base port, and these are
/// the four behind those.
pub(crate) const fn probe_port(base_port: u16, offset: u16) -> u16 {
    base_port + SERVICE_COUNT + offset
}

/// What `up` writes down for the other commands, in `platform.json` (mode 600).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlatformFile {
    pub(crate) supervisor_pid: u32,
    /// Whether every service has been ready once.
    #[serde(default)]
    pub(crate) ready: bool,
    pub(crate) base_port: u16,
    pub(crate) services: Vec<ServiceEntry>,
    /// The database's owner, who sees every schema.
    pub(crate) database_url: String,
    pub(crate) database_pid: Option<u32>,
    pub(crate) bus: BusEntry,
    pub(crate) signing_key: PathBuf,
    pub(crate) mailbox: Option<PathBuf>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ServiceEntry {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) pid: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub(crate) enum BusEntry {
    Postgres {
        url: String,
    },
    #[serde(rename_all = "camelCase")]
    Kafka {
        bootstrap_servers: String,
        /// The configuration file, in which the cluster's TLS and SASL properties are.
        config: Option<PathBuf>,
    },
}

/// A platform that commands can talk to.
#[derive(Clone, Debug)]
pub(crate) struct Platform {
    host: String,
    base_port: u16,
    pub(crate) signing_key: PathBuf,
    /// What `up` wrote down, when it was `up` that started it.
    pub(crate) file: Option<PlatformFile>,
}

impl PlatformArgs {
    pub(crate) fn base_port_or_default(&self) -> u16 {
        self.base_port.unwrap_or(8080)
    }

    pub(crate) fn file_path(&self) -> PathBuf {
        self.data_dir.join("platform.json")
    }

    /// Held by `up` for as long as it runs.
    pub(crate) fn lock_path(&self) -> PathBuf {
        self.data_dir.join("up.lock")
    }

    /// The signing key's place below the data directory.
    pub(crate) fn key_path(&self) -> PathBuf {
        self.data_dir.join("signing-key.pem")
    }

    /// The platform, which is waited for while it is starting.
    ///
    /// # Errors
    /// When there is none, at once; when it is still starting after half a minute.
    pub(crate) async fn find_started(&self) -> anyhow::Result<Platform> {
        let (began, patience) = (Instant::now(), Duration::from_secs(self.starting_s));
        let mut said = false;
        while self.host.is_none() && self.is_starting()? {
            if began.elapsed() > patience {
                bail!(
                    "the platform in {dir} is still starting after {patience:?}; {dir}/logs says what it does",
                    dir = self.data_dir.display()
                );
            }
            if !std::mem::replace(&mut said, true) {
                say(&format!("The platform is starting; waiting up to {patience:?}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.find()
    }

    /// The platform, whose services must be there: they may be restarting, and must not be gone with who restarts them.
    pub(crate) async fn find_serving(&self) -> anyhow::Result<Platform> {
        let platform = self.find_started().await?;
        if platform.file.is_some() && !self.is_held() && !platform.listens() {
            bail!(
                "the platform in {} was ended and not stopped, and nothing runs: start it again with `hospital up`",
                self.data_dir.display()
            );
        }
        Ok(platform)
    }

    /// Whether `up` has begun, and not every service has been ready.
    fn is_starting(&self) -> anyhow::Result<bool> {
        Ok(self.is_held() && !read(&self.file_path())?.is_some_and(|file| file.ready))
    }

    /// Whether an `up` runs.
    fn is_held(&self) -> bool {
        std::fs::File::open(self.lock_path())
            .is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
    }

    pub(crate) fn find(&self) -> anyhow::Result<Platform> {
        let file = read(&self.file_path())?;
        let signing_key = self
            .signing_key
            .clone()
            .or_else(|| file.as_ref().map(|f| f.signing_key.clone()))
            .unwrap_or_else(|| self.key_path());
        if let Some(host) = &self.host {
            return Ok(Platform {
                host: host.clone(),
                base_port: self.base_port_or_default(),
                signing_key,
                file: None,
            });
        }
        let Some(file) = file else {
            bail!(
                "no platform was started from {}: start one with `hospital up`, or say where it is with --data-dir \
                 (or with --host and --signing-key)",
                self.data_dir.display()
            );
        };
        Ok(Platform {
            host: "127.0.0.1".to_owned(),
            base_port: self.base_port.unwrap_or(file.base_port),
            signing_key,
            file: Some(file),
        })
    }
}

impl Platform {
    /// The base address of a service, by its place in [`SERVICES`].
    pub(crate) fn url(&self, service: &str) -> String {
        let place = SERVICES.iter().position(|s| *s == service).expect("one of the four services");
        let port = self.base_port + 1 + u16::try_from(place).expect("four services");
        format!("http://{}:{port}", self.host)
    }

    /// Whether anybody listens where one of the services would.
    fn listens(&self) -> bool {
        let mut ports = (1..=4).map(|offset| (self.host.as_str(), self.base_port + offset));
        ports.any(|address| std::net::TcpStream::connect(address).is_ok())
    }
}

/// Resolves when standard input ends, which is when whoever started this process does. What was under way is as safe as in any crash.
pub(crate) async fn input_ended() {
    let mut sink = tokio::io::sink();
    // An unreadable input means the same as one that has ended.
    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut sink).await;
}

/// The settings; what people should hear of them is said.
pub(crate) fn settings(file: Option<&Path>) -> anyhow::Result<Config> {
    let config = Config::load(file)?;
    if let Some(warning) = config.warning() {
        say(&warning);
    }
    Ok(config)
}

#[expect(clippy::print_stderr, reason = "beside the command's result")]
fn say(what: &str) {
    eprintln!("{what}");
}

/// How a Kafka cluster is reached: its servers, and what the configuration says of it beside them.
pub(crate) fn kafka(servers: &str, config: Option<&Path>) -> anyhow::Result<BusConfig> {
    let bus = settings(config)?.bus;
    Ok(BusConfig { kind: BusKind::Kafka, bootstrap_servers: Some(servers.to_owned()), ..bus })
}

fn read(path: &Path) -> anyhow::Result<Option<PlatformFile>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).with_context(|| {
            format!("{} is not what `up` writes; start `hospital up` again", path.display())
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a file that only its owner may read, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let fresh = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .with_context(|| format!("cannot write {}", fresh.display()))?;
    file.write_all(bytes)?;
    std::fs::rename(&fresh, path).with_context(|| format!("cannot write {}", path.display()))
}
