//! `hospital up`: the whole platform on this machine, from nothing.

mod child;
mod database;
mod supervisor;

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use console::style;
use hospital_kit::{
    auth::SigningKey,
    bus::{Bus, BusError, kafka::KafkaBus},
    service,
};
use rustix::fs::{FlockOperation, Mode, flock};

use self::supervisor::Supervisor;
use crate::platform::{self, PlatformArgs, SERVICE_COUNT, SERVICES, probe_port};

/// How long a cluster that is still starting is waited for.
const KAFKA_PATIENCE: Duration = Duration::from_secs(20);

/// Starts everything: a private PostgreSQL, migrations, the services; restarts what crashes; Ctrl-C stops it politely
#[derive(clap::Args)]
pub(crate) struct UpArgs {
    /// A PostgreSQL server to use instead of a private one: its owner's URL
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,

    /// Kafka's bootstrap servers; without them events travel through PostgreSQL
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS")]
    kafka: Option<String>,

    /// The configuration file for the services; the environment goes before it
    #[arg(long, env = "HOSPITAL_CONFIG")]
    config: Option<PathBuf>,

    /// Stop at once when standard input ends, which is when whoever started it does
    #[arg(long, hide = true)]
    supervised: bool,
}

/// How long the lock is waited for: another command may be looking at it, or a platform ending.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: UpArgs, place: &PlatformArgs) -> anyhow::Result<()> {
    if !args.supervised {
        return open(args, place).await;
    }
    tokio::select! {
        ended = open(args, place) => ended,
        () = platform::input_ended() => bail!("whoever started it is gone"),
    }
}

async fn open(args: UpArgs, place: &PlatformArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    // Whatever is written from here on, by the services too, has patients in it or secrets: it is for its owner alone.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let dir = &place.data_dir;
    hospital_cluster::make_private(dir)?;
    std::fs::create_dir_all(dir.join("logs"))
        .with_context(|| format!("cannot make {}", dir.display()))?;
    let dir = &std::fs::canonicalize(dir)?;
    // Whole, for commands that are typed elsewhere.
    let config = args.config.map(std::path::absolute).transpose()?;
    let _lock = lock(place).await?;
    // What another left that was killed is not to be taken for this one's.
    remove_if_there(&dir.join("platform.json"))?;
    for below in ["logs", "mailbox"] {
        keep_others_out(&dir.join(below))?;
    }
    let key = dir.join("signing-key.pem");
    if !key.exists() {
        SigningKey::generate()?.save(&key)?;
    }
    let base_port = place.base_port_or_default();
    refuse_taken_ports(base_port)?;
    let database =
        database::prepare(dir, args.database_url.as_deref(), args.kafka.is_none()).await?;
    if let Some(servers) = &args.kafka {
        check_kafka(servers, config.as_deref()).await?;
    }
    let prepared = started.elapsed();
    let kafka = args.kafka.map(|servers| Ok::<_, anyhow::Error>((servers, instance(dir)?)));
    let mut supervisor =
        Supervisor::new(dir.clone(), base_port, database, kafka.transpose()?, config.as_ref());
    supervisor.start()?;
    supervisor.await_ready().await?;
    greet(place, base_port, started.elapsed(), prepared);
    supervisor.look_after().await
}

/// Takes the data directory for this process; the kernel gives it back however the process ends.
async fn lock(place: &PlatformArgs) -> anyhow::Result<std::fs::File> {
    let lock = std::fs::File::create(place.lock_path())?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() > deadline {
            bail!(
                "a platform is running from {} already; stop it, or take another --data-dir and --base-port",
                place.data_dir.display()
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(lock)
}

fn remove_if_there(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Closes a directory that an earlier version left open, with the files in it.
fn keep_others_out(dir: &Path) -> anyhow::Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let close = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode));
    let closed = close(dir, 0o700).and_then(|()| {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                close(&entry.path(), 0o600)?;
            }
        }
        Ok(())
    });
    closed.with_context(|| format!("cannot keep others out of {}", dir.display()))
}

/// Makes the topics, or says what is wrong with the cluster, before anything is started.
async fn check_kafka(servers: &str, config: Option<&Path>) -> anyhow::Result<()> {
    let bus_config = platform::kafka(servers, config)?;
    let topics = service::topics(&bus_config, &[]);
    let bus = KafkaBus::new(&bus_config, "hospital-up")?;
    let deadline = Instant::now() + KAFKA_PATIENCE;
    loop {
        match bus.ensure_topics(&topics).await {
            Ok(()) => return Ok(()),
            Err(BusError::Unavailable(_)) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(e) => {
                return Err(e).with_context(|| format!("Kafka at {servers} cannot be used"));
            }
        }
    }
}

/// A name that no other platform has, made once: by it Kafka knows consumers again that were started again.
fn instance(dir: &Path) -> anyhow::Result<String> {
    let path = dir.join("instance");
    if let Ok(kept) = std::fs::read_to_string(&path) {
        return Ok(kept);
    }
    let mut bytes = [0_u8; 9];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    let fresh: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    platform::write_private(&path, fresh.as_bytes())?;
    Ok(fresh)
}

fn refuse_taken_ports(base_port: u16) -> anyhow::Result<()> {
    if base_port.checked_add(2 * SERVICE_COUNT).is_none() {
        bail!("there are no eight ports behind {base_port}; take a lower --base-port");
    }
    for (offset, service) in (1_u16..).zip(SERVICES) {
        for port in [base_port + offset, probe_port(base_port, offset)] {
            if let Err(e) = std::net::TcpListener::bind(("127.0.0.1", port)) {
                bail!(
                    "port {port}, which is the {service} service's, cannot be used ({e}); take another --base-port"
                );
            }
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn greet(platform: &PlatformArgs, base_port: u16, elapsed: Duration, prepared: Duration) {
    let what = [
        "patients: registration, search",
        "appointments: booking, the visit",
        "price list, bills, payments",
        "messages to patients",
    ];
    let (total, services) = (elapsed.as_secs_f64(), (elapsed - prepared).as_secs_f64());
    println!();
    println!(
        "{} in {total:.1} s (services {services:.1} s)",
        style("The hospital is open").green().bold()
    );
    println!();
    for ((offset, service), what) in (1_u16..).zip(SERVICES).zip(what) {
        let address = format!("http://127.0.0.1:{}", base_port + offset);
        println!(
            "  {:<13} {}  {}",
            style(service).bold(),
            style(&address).cyan(),
            style(what).dim()
        );
    }
    let hospital = as_typed(platform);
    println!();
    println!(
        "  browse an API   {}",
        style(format!("http://127.0.0.1:{}/docs", base_port + 1)).cyan()
    );
    println!("  get a token     {hospital} token --role front-desk");
    println!("  see it work     {hospital} demo");
    println!("  check it        {hospital} verify");
    println!("  logs and data   {}", platform.data_dir.display());
    println!();
    println!("{}", style("Ctrl-C stops it; what is under way is finished first.").dim());
}

/// How to type another command for this platform: the program as it was called, and the flags that find the platform.
fn as_typed(platform: &PlatformArgs) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "hospital".to_owned());
    if platform.data_dir == Path::new(".hospital") {
        program
    } else {
        format!("{program} --data-dir {}", platform.data_dir.display())
    }
}
