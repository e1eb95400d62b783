//! Finds a running platform: through the data directory of `up`, or by host and port for one that runs elsewhere.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hospital_kit::config::{BusConfig, BusKind, Config};
use serde::{Deserialize, Serialize};

/// Where the platform is. All commands that talk to one take these.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PlatformArgs {
    /// The directory where `up` keeps the platform's data
    #[arg(long, global = true, env = "HOSPITAL_DATA_DIR", default_value = ".hospital")]
    pub(crate) data_dir: PathBuf,

    /// The console's port; the services follow on the next four, their probes on the four behind them [default: 8080, or what `up` wrote down]
    #[arg(long, global = true, env = "HOSPITAL_BASE_PORT")]
    pub(crate) base_port: Option<u16>,

    /// The host of a platform that `up` did not start (containers, a cluster)
    #[arg(long, global = true, env = "HOSPITAL_HOST")]
    pub(crate) host: Option<String>,

    /// The signing key that the services of such a platform trust
    #[arg(long, global = true, env = "HOSPITAL_SIGNING_KEY")]
    pub(crate) signing_key: Option<PathBuf>,
}

pub(crate) const SERVICES: [&str; 4] = ["patient", "appointment", "billing", "notification"];
pub(crate) const SERVICE_COUNT: u16 = 4;

/// Where a service is probed: the services' ports are the four behind the base port, and these are the four behind those.
pub(crate) const fn probe_port(base_port: u16, offset: u16) -> u16 {
    base_port + SERVICE_COUNT + offset
}

/// What `up` writes down for the other commands, in `platform.json` (mode 600).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlatformFile {
    pub(crate) supervisor_pid: u32,
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

    /// The signing key's place below the data directory.
    pub(crate) fn key_path(&self) -> PathBuf {
        self.data_dir.join("signing-key.pem")
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
}

/// How a Kafka cluster is reached: its servers, and what the configuration says of it beside them.
pub(crate) fn kafka(servers: &str, config: Option<&Path>) -> anyhow::Result<BusConfig> {
    let bus = Config::load(config)?.bus;
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
