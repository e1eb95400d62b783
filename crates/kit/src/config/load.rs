//! Puts the settings together from their defaults, a file and the environment.

use std::path::{Path, PathBuf};

use figment::{
    Figment, Source,
    error::Kind,
    providers::{Format, Serialized, Toml},
};

use super::{
    BusKind, Config,
    environment::{self, Variable},
};

/// Why the settings cannot be used. Names the key and says what to do; never quotes a value that may be secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "cannot read the configuration file {}: {source}. Name another with --config, or make it readable",
        path.display()
    )]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error(
        "the configuration is not accepted: {0}. `hospital.example.toml` has every setting with its meaning"
    )]
    Unaccepted(String),
    #[error("{key} is not set: {mend}")]
    Missing { key: String, mend: String },
}

impl Config {
    /// Loads the file, if there is one, and the environment over it. A `HOSPITAL_` variable that is nobody's setting is left alone, since people
    /// and Kubernetes have some for purposes of their own; [`Config::warning`] names it.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let text = |v: std::ffi::OsString| v.into_string().ok();
        let variables = std::env::vars_os().filter_map(|(k, v)| Some((text(k)?, text(v)?)));
        Self::load_from(file, variables)
    }

    fn load_from(
        file: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(path) = file {
            std::fs::File::open(path)
                .and_then(std::io::read_to_string)
                .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
            figment = figment.merge(Toml::file_exact(path));
        }
        let (mut variables, mut unknown): (Vec<_>, Vec<_>) = variables
            .filter_map(|(name, text)| Variable::read(name, &text))
            .partition(Variable::is_known);
        unknown.sort_by(|a, b| a.name.cmp(&b.name));
        let unknown: Vec<String> = unknown.into_iter().map(|variable| variable.name).collect();
        // "DATABASE_URL" sorts before "HOSPITAL_…", which is the more particular of the two.
        variables.sort_by(|a, b| a.name.cmp(&b.name));
        let kind_from_file = figment.contains("bus.kind") && is_given(&figment, "bus.kind");
        let kind_given = kind_from_file || variables.iter().any(|v| v.key == "bus.kind");
        for variable in &variables {
            figment = figment.merge(variable);
        }
        let mut config: Self =
            figment.extract().map_err(|e| ConfigError::Unaccepted(explain(e)))?;
        if config.bus.bootstrap_servers.is_some() && !kind_given {
            config.bus.kind = BusKind::Kafka;
        }
        config.check()?;
        config.unknown = environment::unknown(&unknown);
        Ok(config)
    }
}

/// Whether a setting comes from the file and not from the defaults, which have no file as their source.
fn is_given(figment: &Figment, key: &str) -> bool {
    figment.find_metadata(key).is_some_and(|m| matches!(m.source, Some(Source::File(_))))
}

/// figment's error with the place and the key in front and without any value, which may be a secret.
fn explain(error: figment::Error) -> String {
    let all: Vec<String> = error
        .into_iter()
        .map(|e| {
            let mut said = String::new();
            let place = e.metadata.as_ref().and_then(|metadata| match &metadata.source {
                Some(Source::File(path)) => Some(path.display().to_string()),
                Some(_) => None,
                None => Some(metadata.name.to_string()),
            });
            for part in place.into_iter().chain((!e.path.is_empty()).then(|| e.path.join("."))) {
                said.push_str(&part);
                said.push_str(": ");
            }
            said + &wrong(e.kind)
        })
        .collect();
    all.join("; ")
}

fn wrong(kind: Kind) -> String {
    match kind {
        Kind::UnknownField(_, known) => {
            format!("there is no such setting; here are {}", known.join(", "))
        }
        Kind::InvalidType(_, wanted) | Kind::InvalidValue(_, wanted) => format!("wants {wanted}"),
        Kind::UnknownVariant(_, known) => format!("wants one of {}", known.join(", ")),
        Kind::Message(text) => without_excerpt(&text),
        kind => kind.to_string(),
    }
}

/// A TOML error without the line that it quotes, in which a password may stand.
fn without_excerpt(text: &str) -> String {
    let quoted = |line: &&str| {
        !line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit()).starts_with('|')
    };
    text.lines().filter(quoted).map(str::trim).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hospital.toml");
        std::fs::write(&path, text).unwrap();
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let place = format!("{}/", dir.path().display());
        Config::load_from(Some(&path), variables).map_err(|e| e.to_string().replace(&place, ""))
    }

    #[test]
    fn the_example_file_has_every_default() {
        let example = include_str!("../../../../hospital.example.toml");
        let loaded = load(example, &[]).unwrap();
        assert_eq!(
            serde_json::to_value(&loaded).unwrap(),
            serde_json::to_value(Config::default()).unwrap()
        );
        // What is commented out there, for want of a default, is known and means what it says.
        let all: String = example
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(setting) if setting.starts_with('[') || setting.contains(" = ") => setting,
                _ => line,
            })
            .filter(|line| !line.starts_with("jwks_url"))
            .flat_map(|line| [line, "\n"])
            .collect();
        let every = load(&all, &[]).unwrap();
        assert_eq!(every.notification.smtp.unwrap().host, "mail.example");
        assert_eq!(every.bus.properties["security.protocol"].expose(), "SASL_SSL");
    }

    #[test]
    fn a_bad_file_is_explained() {
        const MORE: &str = ". `hospital.example.toml` has every setting with its meaning";
        for (text, said) in [
            (
                "[billing]\npoolsize = 3",
                "hospital.toml: billing.poolsize: there is no such setting; here are listen, \
                 probe_listen, database_url, pool_size, gateway_timeout_ms, reconcile_after_s",
            ),
            ("[billing]\npool_size = \"many\"", "hospital.toml: billing.pool_size: wants usize"),
            ("[bus]\nkind = \"rabbit\"", "hospital.toml: bus.kind: wants one of postgres, kafka"),
            (
                "[facility]\nzone = \"Mars/Base\"",
                "facility.zone is \"Mars/Base\", which is no IANA time zone such as Europe/Berlin",
            ),
            (
                "[facility]\ncurrency = \"usd\"",
                "hospital.toml: facility.currency: must be an ISO 4217 currency code",
            ),
            (
                "[facility]\ncountry = \"usa\"",
                "facility.country is \"usa\", which is no ISO 3166 code of two letters such as US",
            ),
            ("[patient]\npool_size = 0", "patient.pool_size is less than 1"),
            ("[outbox]\nretention_days = 6", "outbox.retention_days is less than 7"),
            (
                "[outbox]\nretention_days = 365",
                "retention.inbox_days is 270, and an event can come again for longer: at least 516, \
                 which is outbox.retention_days and bus.retention_days and 61",
            ),
            (
                "[retention]\ndead_letters_days = 90",
                "retention.dead_letters_days is 90: at least 121, which is bus.retention_days and 31",
            ),
            (
                "[http]\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\", \"gateway\"]",
                "http.trusted_proxies has \"gateway\", which is no address or network such as \
                 10.0.0.0/8",
            ),
            #[cfg(not(feature = "simulation"))]
            (
                "[simulation]\nclock_file = \"a\"",
                "hospital.toml: simulation: there is no such setting; here are database_url",
            ),
            (
                "[appointment]\npatient_url = \"patient:8081\"",
                "appointment.patient_url is no address such as http://127.0.0.1:8081",
            ),
            (
                "[auth]\njwks_file = \"a\"\njwks_url = \"http://b/\"",
                "auth.jwks_file and auth.jwks_url are both set: keep one",
            ),
            ("not toml", "hospital.toml: TOML parse error at line 1, column 5: expected"),
        ] {
            let error = load(text, &[]).unwrap_err();
            let said = format!("the configuration is not accepted: {said}");
            assert!(error.starts_with(&said) && error.ends_with(MORE), "{text}\n{error}");
        }
    }

    #[test]
    fn a_missing_file_is_explained() {
        let error = Config::load(Some(Path::new("/nowhere/h.toml"))).unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot read the configuration file /nowhere/h.toml: No such file or directory \
             (os error 2). Name another with --config, or make it readable"
        );
    }

    #[test]
    fn the_environment_goes_before_the_file() {
        let config = load(
            "database_url = \"postgresql://file/d\"\n[billing]\npool_size = 4\nlisten = \"127.0.0.1:1\"",
            &[
                ("HOSPITAL_BILLING__POOL_SIZE", "8"),
                ("HOSPITAL_BILLING__DATABASE_URL", "postgresql://billing/d"),
                ("DATABASE_URL", "postgresql://all/d"),
                ("HOSPITAL_NOTIFICATION__RETRY_AFTER_S", "[1, 2]"),
                ("HOSPITAL_TEST_KAFKA", "1"),
                ("HOSPITAL_DATA_DIR", "/tmp"),
                ("PATH", "/bin"),
            ],
        )
        .unwrap();
        assert_eq!((config.billing.pool_size, config.billing.listen.port()), (8, 1));
        assert_eq!(config.database_url_of("billing").unwrap(), "postgresql://billing/d");
        assert_eq!(config.database_url_of("patient").unwrap(), "postgresql://all/d");
        assert_eq!(config.notification.retry_after_s, [1, 2]);
    }

    #[test]
    fn a_bad_variable_is_named() {
        for (name, value, said) in [
            ("HOSPITAL_BILLING__POOL_SIZE", "many", "billing.pool_size: wants usize"),
            ("HOSPITAL_BUS__KIND", "rabbit", "bus.kind: wants one of postgres, kafka"),
            ("HOSPITAL_NOTIFICATION__SMTP__PORT", "hunter2", "wants u16"),
        ] {
            let error = load("", &[(name, value)]).unwrap_err();
            assert!(error.contains(name) && error.contains(said), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_variable_that_is_nobody_s_setting_is_named_once_and_ends_nothing() {
        let config = load(
            "",
            &[
                ("HOSPITAL_BILLING__POOLSIZE", "8"),
                ("HOSPITAL_MOTD", "hunter2"),
                ("HOSPITAL_BILLING", "hunter2"),
                ("HOSPITAL_", "8"),
                ("HOSPITAL_BILLING__", "8"),
                ("HOSPITAL_PATIENT__POOL_SIZE", "3"),
                ("HOSPITAL_PATIENT_PORT", "tcp://10.96.0.10:8081"),
                ("HOSPITAL_NOTIFICATION", "{pool_size = 2}"),
            ],
        )
        .unwrap();
        assert_eq!(
            config.warning().unwrap(),
            "these variables are no settings and change nothing: HOSPITAL_, HOSPITAL_BILLING, HOSPITAL_BILLING__, \
             HOSPITAL_BILLING__POOLSIZE (did you mean HOSPITAL_BILLING__POOL_SIZE?), HOSPITAL_MOTD"
        );
        assert_eq!((config.patient.pool_size, config.notification.pool_size), (3, 2));
        assert_eq!(config.billing.pool_size, Config::default().billing.pool_size);
        assert_eq!(load("", &[("HOSPITAL_PATIENT__POOL_SIZE", "3")]).unwrap().warning(), None);
    }

    #[test]
    fn a_broker_makes_the_bus_kafka_unless_a_kind_is_given() {
        let broker = ("KAFKA_BOOTSTRAP_SERVERS", "k:9092");
        let kind = |text, variables: &[_]| load(text, variables).map(|c| c.bus.kind);
        assert_eq!(kind("", &[]), Ok(BusKind::Postgres));
        assert_eq!(kind("", &[broker]), Ok(BusKind::Kafka));
        assert_eq!(kind("[bus]\nbootstrap_servers = \"k:9092\"", &[]), Ok(BusKind::Kafka));
        assert_eq!(kind("[bus]\nkind = \"postgres\"", &[broker]), Ok(BusKind::Postgres));
        assert_eq!(kind("", &[broker, ("HOSPITAL_BUS__KIND", "postgres")]), Ok(BusKind::Postgres));
        assert_eq!(kind("", &[("KAFKA_BOOTSTRAP_SERVERS", "")]), Ok(BusKind::Postgres));
        let error = kind("", &[("HOSPITAL_BUS__KIND", "kafka")]).unwrap_err();
        assert_eq!(
            error,
            "bus.bootstrap_servers is not set: the bus is Kafka, so say where it is \
             (KAFKA_BOOTSTRAP_SERVERS=host:9092)"
        );
    }

    #[test]
    fn a_secret_is_never_said() {
        let config = load(
            "database_url = \"postgresql://u:hunter2@h/d\"\n[bus.properties]\n\"sasl.password\" = \"hunter2\"\n\"socket.timeout.ms\" = 6000",
            &[],
        )
        .unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!serde_json::to_string(&config).unwrap().contains("hunter2"));
        assert_eq!(config.database_url_of("billing").unwrap(), "postgresql://u:hunter2@h/d");
        assert_eq!(config.bus.properties["socket.timeout.ms"].expose(), "6000");

        for text in [
            "database_url = \"postgresql://u:hunter2@h/d",
            "database_url = postgresql://u:hunter2@h/d",
            "database_url = [\"postgresql://u:hunter2@h/d\"]",
            "[appointment]\npatient_url = \"ftp://u:hunter2@h/d\"",
            "[bus]\npartitions = \"hunter2\"",
            "[log]\nformat = \"hunter2\"",
        ] {
            let error = load(text, &[]).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let missing = Config::default().database_url_of("billing").unwrap_err().to_string();
        assert_eq!(
            missing,
            "billing.database_url is not set: set HOSPITAL_BILLING__DATABASE_URL, or DATABASE_URL for all services"
        );
    }
}
