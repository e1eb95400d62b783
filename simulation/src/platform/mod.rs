//! The platform under test: real processes, a real PostgreSQL, either bus, and a proxy on every line between them.

pub mod build;
pub mod database;
pub mod mail;
pub mod service;

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use hospital_kit::{
    auth::SigningKey,
    bus::{SharedBus, kafka::KafkaBus, postgres::PostgresBus},
    config::{BusConfig, BusKind},
};
use hospital_testkit::Kafka;
use tokio::sync::Mutex;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::{
    build::Programs,
    database::Database,
    mail::MailServer,
    service::{Recipe, Service},
};
use crate::{Bus, client::signing_key, menu::SERVICES, proxy::Proxy, spawn_task};

/// Every line between two parties.
pub struct Lines {
    /// Clients to each service.
    pub clients: [Proxy; 4],
    pub databases: [Proxy; 4],
    pub buses: [Proxy; 4],
    /// From the appointment and from the notification service to the patient service.
    pub patients: [Proxy; 2],
    /// From the notification service to the appointment service.
    pub practitioners: Proxy,
    pub mail: Proxy,
}

/// How many partitions the topics have: few, so that reading them all is quick.
const PARTITIONS: i32 = 4;

pub struct Platform {
    pub bus: Bus,
    pub key: SigningKey,
    pub database: Database,
    pub services: Arc<[Service; 4]>,
    pub lines: Lines,
    pub mail: MailServer,
    pub kafka: Option<Mutex<Kafka>>,
    kafka_servers: Option<String>,
    programs: Programs,
    dir: PathBuf,
    _looking_after: AbortOnDropHandle<()>,
    _reaper: Child,
}

impl Platform {
    /// Starts everything and waits until it is ready.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(bus: Bus, programs: Programs) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("hospital-simulation-").tempdir()?.keep();
        let reaper = reap_after_us(&dir)?;
        // PostgreSQL runs as somebody else, who must reach its directory.
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&dir, everybody)?;
        let key = signing_key()?;
        key.save(&dir.join("key.pem"))?;
        let (database, mail) = (Database::start(&dir).await?, MailServer::start().await?);
        let postgres = database.cluster().port();
        let lines = Lines::open(postgres, mail.port()).await?;
        let kafka = match bus {
            Bus::Kafka => Some(start_kafka(&lines).await?),
            Bus::Postgres => None,
        };
        let mut services = Vec::new();
        for place in 0..4 {
            std::fs::write(clock_file(&dir, place), "0")?;
            let recipe = recipe(&dir, &lines, &database, bus, &programs, place)?;
            lines.clients[place].aim(recipe.port);
            if place == 1 {
                lines.practitioners.aim(recipe.port);
            }
            if place == 0 {
                lines.patients.iter().for_each(|proxy| proxy.aim(recipe.port));
            }
            services.push(Service::start(recipe)?);
        }
        let services: [Service; 4] =
            services.try_into().map_err(|_| anyhow::anyhow!("four services"))?;
        let services = Arc::new(services);
        let looking_after = look_after(Arc::clone(&services), database.clone());
        let kafka_servers = kafka.as_ref().map(|kafka| kafka.servers().to_owned());
        let platform = Self {
            bus,
            key,
            database,
            services,
            lines,
            mail,
            kafka: kafka.map(Mutex::new),
            kafka_servers,
            programs,
            dir,
            _looking_after: looking_after,
            _reaper: reaper,
        };
        platform.await_ready(Duration::from_secs(180)).await?;
        Ok(platform)
    }

    /// A second process of a service, which nobody looks after and no client reaches; it takes its share of the events.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn second(&self, place: usize) -> anyhow::Result<Service> {
        let (lines, database) = (&self.lines, &self.database);
        let mut second = recipe(&self.dir, lines, database, self.bus, &self.programs, place)?;
        second.environment.push(("HOSPITAL_BUS__INSTANCE".to_owned(), "second".to_owned()));
        second.log = self.dir.join(format!("{}-second.log", SERVICES[place]));
        Service::start(second)
    }

    /// Where clients reach the services.
    pub fn bases(&self) -> [String; 4] {
        std::array::from_fn(|i| format!("http://127.0.0.1:{}", self.lines.clients[i].port()))
    }

    /// Waits until every service says that it is ready, past the proxies.
    ///
    /// # Errors
    /// When one does not in time.
    pub async fn await_ready(&self, patience: Duration) -> anyhow::Result<()> {
        hospital_kit::client::install_tls_provider();
        let http = reqwest::Client::builder().no_proxy().build()?;
        let deadline = Instant::now() + patience;
        for service in self.services.iter() {
            let url = format!("http://127.0.0.1:{}/health/ready", service.port());
            loop {
                let asked = http.get(&url).timeout(Duration::from_secs(2)).send().await;
                if asked.is_ok_and(|answer| answer.status().is_success()) {
                    break;
                }
                if Instant::now() > deadline {
                    let log = std::fs::read_to_string(service.log()).unwrap_or_default();
                    let tail: Vec<&str> = log.lines().rev().take(5).collect();
                    anyhow::bail!("{} is not ready: {}", service.name(), tail.join("\n"));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }

    /// The bus as a tool reaches it, past the proxies.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn direct_bus(&self) -> anyhow::Result<SharedBus> {
        Ok(match &self.kafka_servers {
            Some(servers) => {
                Arc::new(KafkaBus::new(&kafka_config(servers), "hospital-simulation")?)
            }
            None => {
                Arc::new(PostgresBus::new(&self.database.owner_url, "hospital-simulation", None)?)
            }
        })
    }

    /// `hospital verify`: its exit code, and what it says as JSON.
    ///
    /// # Errors
    /// When it cannot be run or cannot look.
    pub async fn verify(&self) -> anyhow::Result<serde_json::Value> {
        let mut verify = tokio::process::Command::new(&self.programs.hospital);
        verify.args(["verify", "--json", "--wait", "30", "--database-url"]);
        verify.arg(&self.database.owner_url).kill_on_drop(true);
        if let Some(servers) = &self.kafka_servers {
            verify.args(["--kafka", servers]);
        }
        let output = verify.output().await.context("running hospital verify")?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!("hospital verify: {}", String::from_utf8_lossy(&output.stderr))
        })
    }

    /// The logs of all services, those of their second processes too.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn logs(&self) -> anyhow::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(&self.dir)?.collect::<Result<Vec<_>, _>>()?;
        let paths = entries.into_iter().map(|entry| entry.path());
        Ok(paths.filter(|path| path.extension().is_some_and(|kind| kind == "log")).collect())
    }

    /// The file that tells a service how far off its clock is.
    pub fn clock_file(&self, service: usize) -> PathBuf {
        clock_file(&self.dir, service)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

fn clock_file(dir: &Path, service: usize) -> PathBuf {
    dir.join(format!("{}.clock", SERVICES[service]))
}

fn kafka_config(servers: &str) -> BusConfig {
    BusConfig {
        kind: BusKind::Kafka,
        bootstrap_servers: Some(servers.to_owned()),
        partitions: PARTITIONS,
        ..BusConfig::default()
    }
}

impl Lines {
    async fn open(postgres: u16, mail: u16) -> anyhow::Result<Self> {
        async fn four(target: u16) -> anyhow::Result<[Proxy; 4]> {
            Ok([
                Proxy::listen(0, target).await?,
                Proxy::listen(0, target).await?,
                Proxy::listen(0, target).await?,
                Proxy::listen(0, target).await?,
            ])
        }
        Ok(Self {
            clients: four(0).await?,
            databases: four(postgres).await?,
            // The PostgreSQL bus is in the same server; Kafka's listeners are told later.
            buses: four(postgres).await?,
            patients: [Proxy::listen(0, 0).await?, Proxy::listen(0, 0).await?],
            practitioners: Proxy::listen(0, 0).await?,
            mail: Proxy::listen(0, mail).await?,
        })
    }
}

/// Kafka says where it is, so each service has a listener of its own, which says that it is at that service's proxy.
async fn start_kafka(lines: &Lines) -> anyhow::Result<Kafka> {
    let advertised = lines.buses.each_ref().map(Proxy::port);
    let kafka = tokio::task::spawn_blocking(move || Kafka::start_behind(&advertised)).await??;
    for (proxy, port) in lines.buses.iter().zip(kafka.listeners_behind()) {
        proxy.aim(port);
    }
    Ok(kafka)
}

fn recipe(
    dir: &Path,
    lines: &Lines,
    database: &Database,
    bus: Bus,
    programs: &Programs,
    place: usize,
) -> anyhow::Result<Recipe> {
    let name = SERVICES[place];
    let table = name.to_ascii_uppercase();
    let port = free_port()?;
    let loopback = |port: u16| format!("http://127.0.0.1:{port}");
    let bus_proxy = lines.buses[place].port();
    let mut environment = vec![
        (format!("HOSPITAL_{table}__LISTEN"), format!("127.0.0.1:{port}")),
        // Nobody probes but us, and we ask the other.
        (format!("HOSPITAL_{table}__PROBE_LISTEN"), "127.0.0.1:0".to_owned()),
        (
            format!("HOSPITAL_{table}__DATABASE_URL"),
            database.url_through(place, lines.databases[place].port()),
        ),
        match bus {
            Bus::Kafka => ("KAFKA_BOOTSTRAP_SERVERS".into(), format!("127.0.0.1:{bus_proxy}")),
            Bus::Postgres => ("HOSPITAL_BUS__URL".into(), database.url_through(place, bus_proxy)),
        },
    ];
    let clock = clock_file(dir, place);
    let patients = &lines.patients;
    for (name, value) in [
        ("BUS__PARTITIONS", PARTITIONS.to_string()),
        ("BUS__INSTANCE", "simulation".to_owned()),
        ("APPOINTMENT__PATIENT_URL", loopback(patients[0].port())),
        ("NOTIFICATION__PATIENT_URL", loopback(patients[1].port())),
        ("NOTIFICATION__APPOINTMENT_URL", loopback(lines.practitioners.port())),
        ("AUTH__SIGNING_KEY_FILE", dir.join("key.pem").display().to_string()),
        // Everything that waits for minutes in a hospital waits for seconds here, so that a round sees how it ends.
        ("BILLING__GATEWAY_TIMEOUT_MS", "300".to_owned()),
        ("BILLING__RECONCILE_AFTER_S", "[1, 1, 2]".to_owned()),
        ("NOTIFICATION__RETRY_AFTER_S", format!("[{}]", ["1"; 60].join(", "))),
        ("NOTIFICATION__SMTP__HOST", "127.0.0.1".to_owned()),
        ("NOTIFICATION__SMTP__PORT", lines.mail.port().to_string()),
        ("NOTIFICATION__SMTP__TLS", "none".to_owned()),
        ("SIMULATION__CLOCK_FILE", clock.display().to_string()),
    ] {
        environment.push((format!("HOSPITAL_{name}"), value));
    }
    environment.extend(programs.environment.clone());
    let log = dir.join(format!("{name}.log"));
    Ok(Recipe { name, program: programs.services.clone(), environment, port, log })
}

/// A free port below those that the system gives to outgoing connections: one of these could be taken while a service is down.
fn free_port() -> anyhow::Result<u16> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 997).unwrap_or(0) * 11;
    for _ in 0..11_000 {
        let port = 21_000 + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % 11_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("there is no free port")
}

fn look_after(services: Arc<[Service; 4]>, database: Database) -> AbortOnDropHandle<()> {
    let stop = CancellationToken::new();
    AbortOnDropHandle::new(spawn_task(async move {
        while !stop.is_cancelled() {
            for service in services.iter() {
                // A program that cannot be started now is tried again.
                let _ = service.look_after();
            }
            database.look_after().await;
            tokio::time::sleep(service::TICK).await;
        }
    }))
}

/// A shell that waits for the end of its input, which is our end however we end, and then removes what we would leave.
fn reap_after_us(dir: &Path) -> anyhow::Result<Child> {
    const SCRIPT: &str = r#"
        trap '' INT TERM HUP
        read -r _
        pid=$(head -n 1 "$1/postgres/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            umount "$1/postgres" 2>/dev/null
            rm -rf "$1" 2>/dev/null && exit
            sleep 0.3
        done
    "#;
    Command::new("sh")
        .args(["-c", SCRIPT, "reaper"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting the reaper")
}
