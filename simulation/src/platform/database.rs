//! The platform's PostgreSQL: a private cluster on a disk of its own that can be filled.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use hospital_cluster::{Cluster, Options};
use hospital_kit::{bus::postgres, migrate::Schema};
use tokio_postgres::{Client, NoTls};

use crate::{menu::SERVICES, spawn};

/// The name of the platform's database.
const NAME: &str = "hospital";
/// The disk's size: enough for any run, and soon filled.
const DISK: &str = "400m";

#[derive(Clone)]
pub struct Database {
    cluster: Arc<Mutex<Cluster>>,
    dir: PathBuf,
    /// Whether its directory is a disk of its own. Only root can make one.
    pub own_disk: bool,
    pub owner_url: String,
}

const PASSWORD: &str = "simulated";

fn schemas() -> [Schema; 4] {
    [
        hospital_patient::schema(),
        hospital_appointment::schema(),
        hospital_billing::schema(),
        hospital_notification::schema(),
    ]
}

impl Database {
    /// Starts the cluster and makes the schemas, and the PostgreSQL bus in it too.
    ///
    /// # Errors
    /// When PostgreSQL is not there or does not start.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        let dir = dir.join("postgres");
        std::fs::create_dir_all(&dir)?;
        let own_disk = mount(&dir);
        let settings =
            [("max_wal_size", "96MB"), ("min_wal_size", "32MB"), ("max_connections", "200")];
        let options = Options {
            dir: dir.clone(),
            durable: true,
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            ..Options::default()
        };
        let cluster = tokio::task::block_in_place(|| Cluster::open(&options))?;
        let database = Self {
            owner_url: cluster.owner_url(NAME),
            cluster: Arc::new(Mutex::new(cluster)),
            dir,
            own_disk,
        };
        let url = database.cluster().owner_url("postgres");
        connect(&url).await?.batch_execute(&format!("CREATE DATABASE {NAME}")).await?;
        let mut roles = Vec::new();
        for schema in schemas() {
            schema.migrate(&database.owner_url, Some(PASSWORD)).await?;
            roles.push(schema.role());
        }
        postgres::install(&database.owner_url, &roles).await?;
        Ok(database)
    }

    pub fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The URL of a service behind a proxy's port.
    pub fn url_through(&self, service: usize, proxy: u16) -> String {
        format!("postgresql://hospital_{}:{PASSWORD}@127.0.0.1:{proxy}/{NAME}", SERVICES[service])
    }

    /// `restart -m immediate`, or a start if it had ended.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart(&self) -> anyhow::Result<()> {
        let database = self.clone();
        tokio::task::spawn_blocking(move || database.cluster().restart()).await??;
        Ok(())
    }

    /// Starts it again if it ended by itself, as `hospital up` does.
    pub async fn look_after(&self) {
        let database = self.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let mut cluster = database.cluster();
            if cluster.ended().is_some() { cluster.restart() } else { Ok(()) }
        });
        // One that cannot start for want of space is tried again.
        let _ = looked.await;
    }

    /// A session of the owner's. A server that is restarting is waited for.
    ///
    /// # Errors
    /// When the server stays away.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match connect(&self.owner_url).await {
                Err(_) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                other => return other,
            }
        }
    }

    /// Fills its disk to the last byte; the result empties it again when dropped.
    ///
    /// # Errors
    /// When it has no disk of its own.
    pub fn fill_disk(&self) -> anyhow::Result<Filler> {
        anyhow::ensure!(self.own_disk, "there is no disk of its own");
        let path = self.dir.join("filler");
        let mut file = std::fs::File::create(&path)?;
        let filler = Filler(path);
        let mut piece = vec![0_u8; 1 << 20];
        while piece.len() >= 4096 {
            if file.write_all(&piece).is_err() {
                piece.truncate(piece.len() / 2);
            }
        }
        Ok(filler)
    }
}

/// What fills the disk.
pub struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        // It is there, and ours.
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("connecting")?;
    spawn(async move {
        // The client's next call reports what broke.
        let _ = connection.await;
    });
    Ok(client)
}

/// Puts a disk of its own in memory under a directory, where that is permitted.
fn mount(dir: &Path) -> bool {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &format!("size={DISK},mode=755"), "tmpfs"]).arg(dir);
    mount.stdout(Stdio::null()).stderr(Stdio::null());
    mount.status().is_ok_and(|status| status.success())
}
