//! Settings: one TOML file, one table per service, overridden by the environment.
//!
//! `HOSPITAL_BILLING__POOL_SIZE=8` overrides `pool_size` of the table `billing`. `DATABASE_URL` and `KAFKA_BOOTSTRAP_SERVERS` are taken as they
//! are called everywhere. `hospital.example.toml` is the reference.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use hospital_types::Currency;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A text that never prints: a URL with a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why the settings cannot be used. Names the key and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error(
        "the configuration is not accepted: {0}. `hospital.example.toml` has every setting with its meaning"
    )]
    Unaccepted(String),
    #[error("{key} is not set: {mend}")]
    Missing { key: String, mend: String },
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A server on which every service has its schema; used where a service has no URL of its own.
    pub database_url: Option<Secret>,
    pub facility: Facility,
    pub bus: BusConfig,
    pub auth: AuthConfig,
    pub http: HttpConfig,
    pub log: LogConfig,
    pub outbox: OutboxConfig,
    pub patient: PatientConfig,
    pub appointment: AppointmentConfig,
    pub billing: BillingConfig,
    pub notification: NotificationConfig,
}

/// The hospital itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Facility {
    pub name: String,
    /// IANA zone: "today" is the facility's.
    pub zone: String,
    pub currency: Currency,
    /// The domain of message ids and of the sender's address.
    pub mail_domain: String,
}

impl Default for Facility {
    fn default() -> Self {
        Self {
            name: "Hospital".to_owned(),
            zone: "UTC".to_owned(),
            currency: Currency::USD,
            mail_domain: "hospital.example".to_owned(),
        }
    }
}

impl Facility {
    pub fn time_zone(&self) -> TimeZone {
        TimeZone::get(&self.zone).expect("checked when the settings were loaded")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BusKind {
    Postgres,
    Kafka,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BusConfig {
    pub kind: BusKind,
    /// The PostgreSQL bus's database; `database_url` unless set.
    pub url: Option<Secret>,
    pub bootstrap_servers: Option<String>,
    pub partitions: i32,
    pub replication_factor: i32,
    /// Any librdkafka property, such as `security.protocol` and `sasl.mechanism`.
    pub properties: BTreeMap<String, Secret>,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            kind: BusKind::Postgres,
            url: None,
            bootstrap_servers: None,
            partitions: 8,
            replication_factor: 1,
            properties: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    pub issuer: String,
    pub audience: String,
    pub jwks_file: Option<PathBuf>,
    pub jwks_url: Option<String>,
    /// Where the roles are in a token; dots lead into objects, as in `realm_access.roles`.
    pub roles_claim: String,
    pub leeway_s: u64,
    /// The platform's own key: its tokens are trusted, and services sign their own with it.
    pub signing_key_file: Option<PathBuf>,
    /// A file with the token that services use among each other, where the issuer is somebody else.
    pub service_token_file: Option<PathBuf>,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            issuer: "hospital".to_owned(),
            audience: "hospital".to_owned(),
            jwks_file: None,
            jwks_url: None,
            roles_claim: "roles".to_owned(),
            leeway_s: 30,
            signing_key_file: None,
            service_token_file: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    pub handler_timeout_ms: u64,
    pub header_timeout_ms: u64,
    pub connections_max: usize,
    pub in_flight_max: usize,
    pub drain_ms: u64,
    /// How long a stopping service says that it is not ready before it stops accepting.
    pub unready_ms: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            handler_timeout_ms: 4000,
            header_timeout_ms: 5000,
            connections_max: 1024,
            in_flight_max: 512,
            drain_ms: 10_000,
            unready_ms: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Json,
    Text,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// A `tracing` filter, such as `info` or `warn,http=info`.
    pub level: String,
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Json }
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutboxConfig {
    pub retention_days: i32,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self { retention_days: 90 }
    }
}

const fn any_address(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), port)
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PatientConfig {
    pub listen: SocketAddr,
    pub database_url: Option<Secret>,
    pub pool_size: usize,
}

impl Default for PatientConfig {
    fn default() -> Self {
        Self { listen: any_address(8081), database_url: None, pool_size: 16 }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AppointmentConfig {
    pub listen: SocketAddr,
    pub database_url: Option<Secret>,
    pub pool_size: usize,
    pub patient_url: String,
    /// How long a booking waits for the patient service.
    pub patient_check_timeout_ms: u64,
}

impl Default for AppointmentConfig {
    fn default() -> Self {
        Self {
            listen: any_address(8082),
            database_url: None,
            pool_size: 16,
            patient_url: "http://127.0.0.1:8081".to_owned(),
            patient_check_timeout_ms: 250,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BillingConfig {
    pub listen: SocketAddr,
    pub database_url: Option<Secret>,
    pub pool_size: usize,
    /// How long a payment waits for the card gateway before it is `unknown`.
    pub gateway_timeout_ms: u64,
    /// When the gateway is asked again about an unknown payment: after the first, the second, and then every third.
    pub reconcile_after_s: [u64; 3],
}

impl Default for BillingConfig {
    fn default() -> Self {
        Self {
            listen: any_address(8083),
            database_url: None,
            pool_size: 16,
            gateway_timeout_ms: 2000,
            reconcile_after_s: [300, 3600, 86_400],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    None,
    Starttls,
    Tls,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpConfig {
    pub host: String,
    pub port: u16,
    pub tls: SmtpTls,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotificationConfig {
    pub listen: SocketAddr,
    pub database_url: Option<Secret>,
    pub pool_size: usize,
    pub patient_url: String,
    /// A mail server; without one, messages go to `mailbox_dir`.
    pub smtp: Option<SmtpConfig>,
    pub mailbox_dir: PathBuf,
    /// Pauses before each new attempt; after the last the message is `dead`.
    pub retry_after_s: Vec<u64>,
}

impl Default for NotificationConfig {
    fn default() -> Self {
        Self {
            listen: any_address(8084),
            database_url: None,
            pool_size: 8,
            patient_url: "http://127.0.0.1:8081".to_owned(),
            smtp: None,
            mailbox_dir: PathBuf::from("mailbox"),
            retry_after_s: vec![5, 30, 300, 1800, 7200],
        }
    }
}

/// The environment's variables that begin like settings and belong to the command line.
const NOT_SETTINGS: [&str; 8] = [
    "data_dir",
    "base_port",
    "host",
    "signing_key",
    "config",
    "test_kafka",
    "admin_database_url",
    "supervised",
];

impl Config {
    /// Loads the file, if there is one, and the environment over it.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
            figment = figment.merge(Toml::string(&text));
        }
        figment = figment
            .merge(Env::raw().only(&["DATABASE_URL"]))
            .merge(
                Env::raw()
                    .only(&["KAFKA_BOOTSTRAP_SERVERS"])
                    .map(|_| "bus.bootstrap_servers".into()),
            )
            .merge(Env::prefixed("HOSPITAL_").ignore(&NOT_SETTINGS).split("__"));
        let mut config: Self =
            figment.extract().map_err(|e| ConfigError::Unaccepted(explain(e)))?;
        let kind_given =
            figment.find_metadata("bus.kind").is_some_and(|m| !m.name.contains("Config"));
        if config.bus.bootstrap_servers.is_some() && !kind_given {
            config.bus.kind = BusKind::Kafka;
        }
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if TimeZone::get(&self.facility.zone).is_err() {
            return Err(ConfigError::Unaccepted(format!(
                "facility.zone is {:?}, which is no IANA time zone such as Europe/Berlin",
                self.facility.zone
            )));
        }
        if self.bus.kind == BusKind::Kafka && self.bus.bootstrap_servers.is_none() {
            return Err(ConfigError::Missing {
                key: "bus.bootstrap_servers".to_owned(),
                mend: "the bus is Kafka, so say where it is (KAFKA_BOOTSTRAP_SERVERS=host:9092)"
                    .to_owned(),
            });
        }
        Ok(())
    }

    /// The database URL of a service: its own, or the one for all.
    pub fn database_url_of(&self, service: &str) -> Result<&str, ConfigError> {
        let own = match service {
            "patient" => &self.patient.database_url,
            "appointment" => &self.appointment.database_url,
            "billing" => &self.billing.database_url,
            _ => &self.notification.database_url,
        };
        own.as_ref().or(self.database_url.as_ref()).map(Secret::expose).ok_or_else(|| {
            ConfigError::Missing {
                key: format!("{service}.database_url"),
                mend: format!(
                    "set HOSPITAL_{}__DATABASE_URL, or DATABASE_URL for all services",
                    service.to_ascii_uppercase()
                ),
            }
        })
    }

    pub fn listen_of(&self, service: &str) -> SocketAddr {
        match service {
            "patient" => self.patient.listen,
            "appointment" => self.appointment.listen,
            "billing" => self.billing.listen,
            _ => self.notification.listen,
        }
    }

    pub fn pool_size_of(&self, service: &str) -> usize {
        match service {
            "patient" => self.patient.pool_size,
            "appointment" => self.appointment.pool_size,
            "billing" => self.billing.pool_size,
            _ => self.notification.pool_size,
        }
    }
}

impl HttpConfig {
    pub const fn handler_timeout(&self) -> Duration {
        Duration::from_millis(self.handler_timeout_ms)
    }
}

/// figment's error with the key in front and without any value, which may be a secret.
fn explain(error: figment::Error) -> String {
    let all: Vec<String> = error
        .into_iter()
        .map(|e| {
            let path = e.path.join(".");
            let what = match e.kind {
                figment::error::Kind::UnknownField(field, known) => {
                    format!("unknown setting `{field}`; known here are {}", known.join(", "))
                }
                figment::error::Kind::InvalidType(_, wanted) => format!("wants {wanted}"),
                figment::error::Kind::InvalidValue(_, wanted) => format!("wants {wanted}"),
                kind => kind.to_string(),
            };
            if path.is_empty() { what } else { format!("{path}: {what}") }
        })
        .collect();
    all.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hospital.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path)).map_err(|e| e.to_string())
    }

    #[test]
    fn the_example_file_has_every_default() {
        let example = include_str!("../../../hospital.example.toml");
        let loaded = load(example).unwrap();
        assert_eq!(
            serde_json::to_value(&loaded).unwrap(),
            serde_json::to_value(Config::default()).unwrap()
        );
    }

    #[test]
    fn a_bad_file_is_explained() {
        for (text, said) in [
            (
                "[billing]\npoolsize = 3",
                "billing: unknown setting `poolsize`; known here are listen, database_url",
            ),
            ("[billing]\npool_size = \"many\"", "billing.pool_size: wants"),
            (
                "[facility]\nzone = \"Mars/Base\"",
                "facility.zone is \"Mars/Base\", which is no IANA time zone",
            ),
            (
                "[facility]\ncurrency = \"usd\"",
                "facility.currency: must be an ISO 4217 currency code",
            ),
            ("[bus]\nkind = \"kafka\"", "bus.bootstrap_servers is not set"),
            ("not toml", "the configuration is not accepted"),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.contains(said), "{text}\n{error}");
        }
    }

    #[test]
    fn a_secret_is_never_said() {
        let config = load("database_url = \"postgresql://u:hunter2@h/d\"").unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(config.database_url_of("billing").unwrap(), "postgresql://u:hunter2@h/d");
        let missing = Config::default().database_url_of("billing").unwrap_err().to_string();
        assert!(missing.contains("HOSPITAL_BILLING__DATABASE_URL"), "{missing}");
    }
}
