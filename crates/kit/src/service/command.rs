//! A service's own executable: serving, migrating, asking for its health.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use super::{Build, Context, Listeners, run};
use crate::{client, clock::Clock, config::Config, outcome::Broken, telemetry};

const USAGE: &str = "\
usage: [--config FILE] [serve | migrate | health]

  serve    run until SIGTERM or Ctrl-C (the default)
  migrate  bring the schema and the role up to date as the database's owner, whose URL is in HOSPITAL_ADMIN_DATABASE_URL, and end
  health   ask the service that runs here whether it is ready; exit 1 when it is not

Settings come from the file and the environment, as hospital.example.toml says.";

/// The `main` of a service's own executable; its arguments are in [`USAGE`].
pub fn main(schema: &'static str, build: Build) -> std::process::ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let file = match arguments.iter().position(|a| a == "--config") {
        Some(at) if at + 1 < arguments.len() => {
            arguments.drain(at..at + 2).nth(1).map(PathBuf::from)
        }
        Some(_) => return fail(&USAGE),
        None => None,
    };
    let config = match Config::load(file.as_deref()) {
        Ok(config) => Arc::new(config),
        Err(e) => return fail(&e),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(e) => return fail(&e),
    };
    let command: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match command.as_slice() {
        [] | ["serve"] => runtime.block_on(run_until_signal(config, schema, build)),
        ["migrate"] => runtime.block_on(migrate(config, schema, build)),
        ["health"] => runtime.block_on(ask_health(config.probe_listen_of(schema).port())),
        _ => return fail(&USAGE),
    };
    match ended {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => fail(&e),
    }
}

/// The runtime of a process of the platform: a thread for every second processor, since PostgreSQL and the other services have work for
/// the rest, and threads that find nothing to do wake each other for nothing. `TOKIO_WORKER_THREADS` says otherwise.
///
/// # Errors
///
/// When the system gives no threads.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        builder.worker_threads(processors.div_ceil(2));
    }
    builder.enable_all().build()
}

/// Starts logging, with what should be heard of the settings.
fn begin_log(config: &Config) {
    telemetry::init(&config.log);
    if let Some(warning) = config.warning() {
        tracing::warn!("{warning}");
    }
}

/// Brings the schema up to date as the owner, and lets the role in with the password of the service's own URL.
async fn migrate(config: Arc<Config>, schema: &'static str, build: Build) -> Result<(), Broken> {
    begin_log(&config);
    let owner = config.admin_database_url.clone().ok_or_else(|| {
        Broken::defect("migrating", "HOSPITAL_ADMIN_DATABASE_URL is not set: the owner's URL")
    })?;
    let url = config.database_url_of(schema).map(ToOwned::to_owned);
    let context = Context::new(config, schema, Clock::system())?;
    let service = build(&context)?;
    let password = url.ok().and_then(|url| service.schema.password_in(&url));
    service.schema.migrate(owner.expose(), password.as_deref()).await?;
    tracing::info!(schema, version = service.schema.version(), "the schema is up to date");
    Ok(())
}

/// Asks whether the service at a port of this machine is ready: for orchestrators that run a command in the container.
async fn ask_health(port: u16) -> Result<(), Broken> {
    client::install_tls_provider();
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(3)).build();
    let http = http.map_err(|e| Broken::defect("making a client", e))?;
    let url = format!("http://127.0.0.1:{port}/health/ready");
    let answer = http.get(url).send().await.map_err(|e| Broken::unavailable("asking", e))?;
    if answer.status().is_success() {
        return Ok(());
    }
    let text = answer.text().await.unwrap_or_default();
    Err(Broken::unavailable("the service is not ready", text))
}

#[expect(clippy::print_stderr, reason = "said before logging has started, or as the last word")]
fn fail(e: &dyn std::fmt::Display) -> std::process::ExitCode {
    eprintln!("{e}");
    std::process::ExitCode::FAILURE
}

/// The machine's clock.
#[cfg(not(feature = "simulation"))]
fn clock(_: &Config) -> Clock {
    Clock::system()
}

/// The machine's clock, or one that the simulation puts off while the service runs.
#[cfg(feature = "simulation")]
fn clock(config: &Config) -> Clock {
    let clock = Clock::system();
    if let Some(path) = config.simulation.clock_file.clone() {
        let kept = clock.clone();
        #[expect(clippy::disallowed_methods, reason = "lives as long as the process")]
        tokio::spawn(async move {
            loop {
                let seconds =
                    std::fs::read_to_string(&path).ok().and_then(|t| t.trim().parse().ok());
                kept.set_offset_us(seconds.unwrap_or(0_i64).saturating_mul(1_000_000));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
    clock
}

/// Runs a service in this process until SIGTERM or Ctrl-C.
pub async fn run_until_signal(
    config: Arc<Config>,
    schema: &'static str,
    build: Build,
) -> Result<(), Broken> {
    begin_log(&config);
    let context = Context::new(Arc::clone(&config), schema, clock(&config))?;
    raise_descriptors();
    let listeners = Listeners {
        requests: bind(config.listen_of(schema)).await?,
        probes: bind(config.probe_listen_of(schema)).await?,
    };
    let stop = CancellationToken::new();
    let run = run(context, build, listeners, stop.clone());
    tokio::pin!(run);
    let terminate =
        signal(SignalKind::terminate()).map_err(|e| Broken::defect("waiting for a signal", e))?;
    let ended = tokio::select! {
        ended = &mut run => ended,
        () = asked_to_end(terminate) => {
            stop.cancel();
            run.await
        }
    };
    telemetry::flush();
    ended
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Broken> {
    TcpListener::bind(address).await.map_err(|e| {
        Broken::defect("listening", format!("{address}: {e}: is something else on this port?"))
    })
}

/// Takes as many file descriptors as this process may have. Many systems give 1024 unless asked,
/// which connections alone can use up.
pub fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(e) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(error = %e, "the number of file descriptors stays as it is");
    }
}

async fn asked_to_end(mut terminate: Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        // Without Ctrl-C there is still the other.
        Ok(()) = tokio::signal::ctrl_c() => {}
    }
}
