//! Opens what a platform has stored: its database, as the owner who sees every schema, and its bus.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use hospital_kit::{
    bus::{
        BusError, Position, Received, Record, SharedBus, TopicSpec, kafka::KafkaBus,
        postgres::PostgresBus,
    },
    config::BusConfig,
};
use tokio_postgres::{Client, NoTls};

use crate::platform::{self, BusEntry, PlatformArgs};

/// Where the stores of a platform are. The commands that look behind the services take these.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StoreArgs {
    /// The database's owner [default: that of the platform that `up` started]
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,

    /// Kafka's bootstrap servers [default: the bus of the platform that `up` started]
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS")]
    kafka: Option<String>,

    /// The configuration file, for Kafka's TLS and SASL properties [default: the one that `up` was given]
    #[arg(long, env = "HOSPITAL_CONFIG")]
    config: Option<PathBuf>,
}

/// Who acts: written down beside what was done. Anybody may be named here, so who runs the
/// command, and as whom it is logged in to the database, are written down with it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct By {
    /// Who does this; who runs the command is kept beside it
    #[arg(long = "by", env = "USER", default_value = "unknown")]
    pub(crate) who: String,
}

/// The user of this machine whom the process runs as, by what the system says and not by its
/// environment: `anna (1000) on desk-3`.
pub(crate) fn os_user() -> String {
    let uid = rustix::process::getuid().as_raw();
    let known = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = known.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "a machine without a name" } else { host.trim() };
    match name {
        Some(name) => format!("{name} ({uid}) on {host}"),
        // Where a directory service knows the users.
        None => format!("user {uid} on {host}"),
    }
}

pub(crate) struct Stores {
    pub(crate) client: Client,
    pub(crate) bus: SharedBus,
    pub(crate) bus_config: BusConfig,
}

/// The groups, each named as its service is, and the topics that they consume.
pub(crate) const CONSUMED: [(&str, &[&str]); 2] = [
    ("billing", &["appointment.booked", "appointment.cancelled"]),
    (
        "notification",
        &[
            "patient.registered",
            "patient.updated",
            "appointment.booked",
            "appointment.rescheduled",
            "appointment.cancelled",
            "bill.generated",
            "payment.completed",
            "payment.failed",
        ],
    ),
];

/// The event logs of all services, as one.
macro_rules! outbox {
    () => {
        "(SELECT 'patient' AS service, * FROM patient.outbox UNION ALL SELECT 'appointment', * FROM appointment.outbox
          UNION ALL SELECT 'billing', * FROM billing.outbox UNION ALL SELECT 'notification', * FROM notification.outbox)"
    };
}
pub(crate) use outbox;

impl StoreArgs {
    pub(crate) async fn open(&self, place: &PlatformArgs, name: &str) -> anyhow::Result<Stores> {
        let file = match &self.database_url {
            Some(_) => None,
            None => place.find_started().await?.file,
        };
        let url =
            self.database_url.clone().or_else(|| file.as_ref().map(|f| f.database_url.clone()));
        let url =
            url.context("say where the platform's database is: --database-url or DATABASE_URL")?;
        // Where `up` put nothing down, the PostgreSQL bus is in the platform's database.
        let mut bus_url = url.clone();
        let (found, file_config) = match file.map(|f| f.bus) {
            Some(BusEntry::Kafka { bootstrap_servers, config }) => {
                (Some(bootstrap_servers), config)
            }
            Some(BusEntry::Postgres { url }) => {
                bus_url = url;
                (None, None)
            }
            None => (None, None),
        };
        let config = self.config.as_deref().or(file_config.as_deref());
        let (bus_config, bus): (BusConfig, SharedBus) = match self.kafka.clone().or(found) {
            Some(servers) => {
                let bus_config = platform::kafka(&servers, config)?;
                let bus = Arc::new(KafkaBus::new(&bus_config, name)?);
                (bus_config, bus)
            }
            None => {
                (platform::settings(config)?.bus, Arc::new(PostgresBus::new(&bus_url, name, None)?))
            }
        };
        Ok(Stores { client: connect(&url).await?, bus, bus_config })
    }
}

impl Stores {
    /// How many records of a topic a group has still to do.
    pub(crate) async fn lag(&self, group: &str, topic: &str) -> anyhow::Result<i64> {
        let lag = patiently(async || self.bus.lag(group, topic).await).await?;
        Ok(lag.values().sum())
    }

    pub(crate) async fn read(&self, topic: &str, from: Position) -> anyhow::Result<Vec<Received>> {
        Ok(patiently(async || self.bus.read(topic, from).await).await?)
    }

    /// Publishes; what is published twice because an answer was lost is known to its consumers.
    pub(crate) async fn publish(&self, records: Vec<Record>) -> anyhow::Result<()> {
        Ok(patiently(async || self.bus.publish(records.clone()).await).await?)
    }

    pub(crate) async fn ensure_topics(&self, topics: &[TopicSpec]) -> anyhow::Result<()> {
        patiently(async || self.bus.ensure_topics(topics).await).await.context("making the topics")
    }
}

/// Asks again for a while: a broker that has just come up is still finding its leaders, and a server with much to do is slow to let
/// anybody in.
pub(crate) async fn patiently<T>(
    mut ask: impl AsyncFnMut() -> Result<T, BusError>,
) -> Result<T, BusError> {
    const PATIENCE: Duration = Duration::from_secs(60);
    let started = Instant::now();
    loop {
        match ask().await {
            Err(BusError::Unavailable(_)) if started.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            other => return other,
        }
    }
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .context("connecting to the platform's database: does it run? `hospital up` starts it")?;
    #[expect(clippy::disallowed_methods, reason = "ends with the client")]
    tokio::spawn(connection);
    client.batch_execute("SET timezone = 'UTC'; SET jit = off").await?;
    Ok(client)
}

/// For clap: a time as it is written in events, or how long ago it was, such as 30m, 12h or 7d.
pub(crate) fn parse_time(text: &str) -> Result<jiff::Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = crate::token::parse_ttl(text)
        .map_err(|_| "a time such as 2026-03-01T08:00:00Z, or how long ago: 30m, 12h, 7d")?;
    hospital_kit::clock::Clock::system().now().checked_sub(ago).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_given_absolutely_or_as_ages() {
        let now = hospital_kit::clock::Clock::system().now();
        assert_eq!(parse_time("2026-03-01T08:00:00Z").unwrap().to_string(), "2026-03-01T08:00:00Z");
        let hour_ago = parse_time("1h").unwrap();
        assert!((now - hour_ago).total(jiff::Unit::Second).unwrap() > 3590.0);
        assert!(parse_time("yesterday").is_err());
    }
}
