//! Settings: one TOML file, one table per service, overridden by the environment.
//!
//! `HOSPITAL_BILLING__POOL_SIZE=8` overrides `pool_size` of the table `billing`. `DATABASE_URL` and `KAFKA_BOOTSTRAP_SERVERS` are taken as they
//! are called everywhere. `hospital.example.toml` is the reference.

mod check;
mod environment;
mod load;
mod secret;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use hospital_types::Currency;
use ipnet::IpNet;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

pub use self::{load::ConfigError, secret::Secret};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A server on which every service has its schema; used where a service has no URL of its own.
    pub database_url: Option<Secret>,
    /// The database's owner, who migrates; services at work do without.
    pub admin_database_url: Option<Secret>,
    pub facility: Facility,
    pub bus: BusConfig,
    pub auth: AuthConfig,
    pub http: HttpConfig,
    pub log: LogConfig,
    pub outbox: OutboxConfig,
    pub retention: RetentionConfig,
    pub patient: PatientConfig,
    pub appointment: AppointmentConfig,
    pub billing: BillingConfig,
    pub notification: NotificationConfig,
    #[cfg(feature = "simulation")]
    pub simulation: SimulationConfig,
    /// The environment's variables that look like settings and are none.
    #[serde(skip)]
    pub unknown: Option<String>,
}

/// What only the simulation sets.
#[cfg(feature = "simulation")]
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimulationConfig {
    /// A file that says by how many seconds the service's clock is off, and may say something else later.
    pub clock_file: Option<PathBuf>,
}

/// The hospital itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Facility {
    pub name: String,
    /// IANA zone: "today" is the facility's.
    pub zone: String,
    /// ISO 3166 code of two letters: a phone number without a country code is this country's.
    pub country: String,
    pub currency: Currency,
    /// The domain of message ids and of the sender's address.
    pub mail_domain: String,
    /// Where patients come to, as messages to them say it.
    pub address: Option<String>,
    /// Whom patients call, as messages to them say it.
    pub phone: Option<String>,
}

impl Default for Facility {
    fn default() -> Self {
        Self {
            name: "Hospital".to_owned(),
            zone: "UTC".to_owned(),
            country: "US".to_owned(),
            currency: Currency::USD,
            mail_domain: "hospital.example".to_owned(),
            address: None,
            phone: None,
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
    /// How many copies topics have on Kafka; 0 for as many as there are brokers, at most three.
    pub replication_factor: i32,
    /// How long records are kept in a topic.
    pub retention_days: i32,
    /// A name that this replica keeps when it is started again and no other has. With it Kafka gives the replica its partitions back at
    /// once after a crash, instead of after the session's ten seconds.
    pub instance: Option<String>,
    /// Any librdkafka property, such as `security.protocol` and `sasl.mechanism`.
    #[serde(deserialize_with = "secret::texts")]
    pub properties: BTreeMap<String, Secret>,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            kind: BusKind::Postgres,
            url: None,
            bootstrap_servers: None,
            partitions: 8,
            replication_factor: 0,
            retention_days: 90,
            instance: None,
            properties: BTreeMap::new(),
        }
    }
}

impl BusConfig {
    pub fn retention(&self) -> Duration {
        days(self.retention_days)
    }
}

fn days(days: i32) -> Duration {
    Duration::from_secs(u64::try_from(days).unwrap_or(0) * 86_400)
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
    /// How long the keys of a set are trusted while it cannot be looked up.
    pub jwks_stale_max_s: u64,
    /// The platform's own key: its tokens are trusted beside those of a key set, and services sign their own with it.
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
            jwks_stale_max_s: 86_400,
            signing_key_file: None,
            service_token_file: None,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    pub handler_timeout_ms: u64,
    pub header_timeout_ms: u64,
    /// How long a request's body may take to come.
    pub body_timeout_ms: u64,
    /// How fast it has to come after the first three seconds.
    pub body_bytes_per_s_min: u32,
    /// Beyond it, the connection that has waited longest for its client is closed.
    pub connections_max: usize,
    /// The same of one address; three quarters of all unless set.
    pub connections_per_address_max: Option<usize>,
    /// How many requests may be under way; beyond it they are shed.
    pub in_flight_max: usize,
    /// How many of them may be one subject's; seven in eight unless set.
    pub in_flight_per_subject_max: Option<usize>,
    /// How many of them may come from one address; fifteen in sixteen unless set.
    pub in_flight_per_address_max: Option<usize>,
    /// Addresses and networks of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
    pub drain_ms: u64,
    /// How long a stopping service says that it is not ready before it stops accepting.
    pub unready_ms: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            handler_timeout_ms: 3000,
            header_timeout_ms: 5000,
            body_timeout_ms: 10_000,
            body_bytes_per_s_min: 512,
            connections_max: 1024,
            connections_per_address_max: None,
            in_flight_max: 128,
            in_flight_per_subject_max: None,
            in_flight_per_address_max: None,
            trusted_proxies: Vec::new(),
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

/// How long things are kept that grow and are no business records: those stay for ever.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// How long a service remembers which events it has acted on.
    pub inbox_days: i32,
    /// Dead letters, after they were applied or dropped.
    pub dead_letters_days: i32,
    /// Messages to patients, with their texts.
    pub messages_days: i32,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self { inbox_days: 270, dead_letters_days: 365, messages_days: 400 }
    }
}

impl RetentionConfig {
    /// Between what an event's age may be and what is remembered.
    pub(crate) const MARGIN_DAYS: i32 = 30;

    /// How old an event may be so that it is known whether it was acted on.
    pub fn inbox_remembers(&self) -> Duration {
        days(self.inbox_days - Self::MARGIN_DAYS)
    }
}

const fn any_address(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), port)
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PatientConfig {
    pub listen: SocketAddr,
    /// Where health and metrics are asked for, whatever is asked at `listen`.
    pub probe_listen: SocketAddr,
    pub database_url: Option<Secret>,
    pub pool_size: usize,
}

impl Default for PatientConfig {
    fn default() -> Self {
        Self {
            listen: any_address(8081),
            probe_listen: any_address(8085),
            database_url: None,
            pool_size: 16,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AppointmentConfig {
    pub listen: SocketAddr,
    /// Where health and metrics are asked for, whatever is asked at `listen`.
    pub probe_listen: SocketAddr,
    pub database_url: Option<Secret>,
    pub pool_size: usize,
    pub patient_url: String,
    /// How long a booking waits for the patient service.
    pub patient_check_timeout_ms: u64,
    /// How many appointments patients may have ahead that they booked themselves.
    pub patient_bookings_max: u16,
    /// How long those may last, all together.
    pub patient_hours_max: u16,
}

impl Default for AppointmentConfig {
    fn default() -> Self {
        Self {
            listen: any_address(8082),
            probe_listen: any_address(8086),
            database_url: None,
            pool_size: 16,
            patient_url: "http://127.0.0.1:8081".to_owned(),
            patient_check_timeout_ms: 250,
            patient_bookings_max: 20,
            patient_hours_max: 24,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BillingConfig {
    pub listen: SocketAddr,
    /// Where health and metrics are asked for, whatever is asked at `listen`.
    pub probe_listen: SocketAddr,
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
            probe_listen: any_address(8087),
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
    /// Where health and metrics are asked for, whatever is asked at `listen`.
    pub probe_listen: SocketAddr,
    pub database_url: Option<Secret>,
    pub pool_size: usize,
    pub patient_url: String,
    /// Where the names of practitioners are asked for.
    pub appointment_url: String,
    /// A mail server; without one, messages go to `mailbox_dir`.
    pub smtp: Option<SmtpConfig>,
    /// A directory with an mbox file for each day.
    pub mailbox_dir: PathBuf,
    /// Whom messages come from; `hospital@` and the facility's mail domain unless set.
    pub sender: Option<String>,
    /// Pauses before each new attempt; after the last the message is `dead`. By the same pauses the
    /// patient service is asked again about somebody whom it does not know.
    pub retry_after_s: Vec<u64>,
}

impl Default for NotificationConfig {
    fn default() -> Self {
        Self {
            listen: any_address(8084),
            probe_listen: any_address(8088),
            database_url: None,
            pool_size: 8,
            patient_url: "http://127.0.0.1:8081".to_owned(),
            appointment_url: "http://127.0.0.1:8082".to_owned(),
            smtp: None,
            mailbox_dir: PathBuf::from("mailbox"),
            sender: None,
            retry_after_s: vec![5, 30, 300, 1800, 7200],
        }
    }
}

impl Config {
    /// What a person should hear of the settings, although they serve: in one line, without any value.
    pub fn warning(&self) -> Option<String> {
        let unknown = self.unknown.as_ref()?;
        Some(format!("these variables are no settings and change nothing: {unknown}"))
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

    /// The address that messages come from.
    pub fn sender(&self) -> String {
        let ours = || format!("hospital@{}", self.facility.mail_domain);
        self.notification.sender.clone().unwrap_or_else(ours)
    }

    pub fn listen_of(&self, service: &str) -> SocketAddr {
        match service {
            "patient" => self.patient.listen,
            "appointment" => self.appointment.listen,
            "billing" => self.billing.listen,
            _ => self.notification.listen,
        }
    }

    pub fn probe_listen_of(&self, service: &str) -> SocketAddr {
        match service {
            "patient" => self.patient.probe_listen,
            "appointment" => self.appointment.probe_listen,
            "billing" => self.billing.probe_listen,
            _ => self.notification.probe_listen,
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

    /// The proxies that are trusted, as networks. What is none is the error.
    pub fn trusted_networks(&self) -> Result<Vec<IpNet>, String> {
        let parse = |text: &String| {
            let address = || text.parse::<IpAddr>().map(IpNet::from);
            text.parse().or_else(|_| address()).map_err(|_| text.clone())
        };
        self.trusted_proxies.iter().map(parse).collect()
    }

    pub fn connections_per_address(&self) -> usize {
        self.connections_per_address_max.unwrap_or_else(|| part(self.connections_max, 3, 4))
    }

    pub fn in_flight_per_subject(&self) -> usize {
        self.in_flight_per_subject_max.unwrap_or_else(|| part(self.in_flight_max, 7, 8))
    }

    pub fn in_flight_per_address(&self) -> usize {
        self.in_flight_per_address_max.unwrap_or_else(|| part(self.in_flight_max, 15, 16))
    }
}

/// So many parts of the whole, rounded up.
const fn part(whole: usize, parts: usize, of: usize) -> usize {
    whole.saturating_mul(parts).div_ceil(of)
}
