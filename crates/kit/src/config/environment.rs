//! The environment's variables as settings: which of them stand for one, which are somebody else's, and which look like a mistake.

use figment::{
    Figment, Metadata, Profile, Provider,
    error::Kind,
    providers::Serialized,
    value::{Dict, Map, Value},
};

use super::{Config, SmtpConfig, SmtpTls};

/// Variables that begin like settings and belong to the command line or to tests.
const NOT_SETTINGS: [&str; 6] = [
    "HOSPITAL_DATA_DIR",
    "HOSPITAL_BASE_PORT",
    "HOSPITAL_HOST",
    "HOSPITAL_SIGNING_KEY",
    "HOSPITAL_CONFIG",
    "HOSPITAL_SUPERVISED",
];

/// One variable of the environment, as a source of settings with a name that an error can give.
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) key: String,
    value: Value,
}

impl Variable {
    /// The setting that a variable stands for, if it looks as if it stood for one.
    pub(super) fn read(name: String, text: &str) -> Option<Self> {
        let key = match name.as_str() {
            // Set but empty is how a compose file says "not set".
            "DATABASE_URL" | "KAFKA_BOOTSTRAP_SERVERS" if text.trim().is_empty() => return None,
            "DATABASE_URL" => "database_url".to_owned(),
            "KAFKA_BOOTSTRAP_SERVERS" => "bus.bootstrap_servers".to_owned(),
            name if NOT_SETTINGS.contains(&name) || name.starts_with("HOSPITAL_TEST_") => {
                return None;
            }
            name if is_service_link(name, text) => return None,
            name => name.strip_prefix("HOSPITAL_")?.to_ascii_lowercase().replace("__", "."),
        };
        // The parser takes whatever it does not recognise as a text.
        let value = text.parse().unwrap_or_else(|never| match never {});
        Some(Self { name, key, value })
    }

    /// Whether there is such a setting, whatever is wrong with the value.
    pub(super) fn is_known(&self) -> bool {
        if self.key.split('.').any(str::is_empty) {
            return false;
        }
        // A table is none, unless a table is what it is set to.
        let pointer = format!("/{}", self.key.replace('.', "/"));
        if every_setting().pointer(&pointer).is_some_and(serde_json::Value::is_object) {
            return self.value.as_dict().is_some();
        }
        let alone = Figment::from(Serialized::defaults(Config::default())).merge(self);
        match alone.extract::<Config>() {
            Ok(_) => true,
            Err(e) => !e.into_iter().any(|e| matches!(e.kind, Kind::UnknownField(..))),
        }
    }
}

impl Provider for &Variable {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let nested = figment::util::nest(&self.key, self.value.clone());
        let dict =
            nested.into_dict().ok_or_else(|| Kind::Message("names no setting".to_owned()))?;
        Ok(Profile::Default.collect(dict))
    }
}

/// Whether a variable is one of those that Kubernetes (and Docker before it) puts into a container for each Service of its namespace.
/// A Service called `hospital-patient` gives `HOSPITAL_PATIENT_PORT=tcp://10.0.0.1:8081` and six more.
fn is_service_link(name: &str, value: &str) -> bool {
    let numbered = |rest: &str, end: &str| {
        let number = rest.strip_suffix(end).unwrap_or_default();
        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    };
    let address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    if name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") {
        return true;
    }
    // The Service's ports have names of their own.
    if name.contains("_SERVICE_PORT_") && value.bytes().all(|b| b.is_ascii_digit()) {
        return true;
    }
    // A Service's name does not end with a hyphen.
    if name.ends_with("_PORT") && !name.ends_with("__PORT") && address {
        return true;
    }
    name.rsplit_once("_PORT_").is_some_and(|(_, rest)| {
        ["TCP", "UDP", "SCTP"].iter().any(|protocol| {
            ["", "_PROTO", "_ADDR"].iter().any(|end| numbered(rest, &format!("_{protocol}{end}")))
        })
    }) || name.strip_suffix("_PORT").and_then(|name| name.rsplit_once("_PORT_")).is_some_and(
        |(_, rest)| ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| numbered(rest, protocol)),
    )
}

/// What is said of variables that are nobody's setting: all of them, each with the setting that may have been meant. No value is in it.
pub(super) fn unknown(names: &[String]) -> Option<String> {
    let known = names_of_settings();
    // One letter in four, and at most three, may differ from what was meant.
    let typos_max = |name: &str| (name.trim_start_matches("HOSPITAL_").len() / 4).min(3);
    let said = names.iter().map(|name| {
        let distance = |known: &&String| strsim::damerau_levenshtein(name, known);
        match known.iter().min_by_key(distance).filter(|known| distance(known) <= typos_max(name)) {
            Some(near) => format!("{name} (did you mean {near}?)"),
            None => name.clone(),
        }
    });
    let said: Vec<String> = said.collect();
    (!said.is_empty()).then(|| said.join(", "))
}

/// The settings with their defaults, those without a default included.
fn every_setting() -> serde_json::Value {
    let mut every = Config::default();
    every.notification.smtp = Some(SmtpConfig {
        host: String::new(),
        port: 0,
        tls: SmtpTls::None,
        username: None,
        password_file: None,
    });
    serde_json::to_value(&every).expect("settings are plain data")
}

/// The variables that there are.
fn names_of_settings() -> Vec<String> {
    fn collect(value: &serde_json::Value, name: &str, names: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(members) => {
                let joint = if name == "HOSPITAL" { "_" } else { "__" };
                for (member, value) in members {
                    collect(value, &format!("{name}{joint}{}", member.to_uppercase()), names);
                }
            }
            _ => names.push(name.to_owned()),
        }
    }
    let mut names: Vec<String> = NOT_SETTINGS.iter().map(|name| (*name).to_owned()).collect();
    collect(&every_setting(), "HOSPITAL", &mut names);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linked(service: &str) -> Vec<(String, String)> {
        let x = service.to_uppercase().replace('-', "_");
        let mut links = vec![
            (format!("{x}_SERVICE_HOST"), "10.96.0.10".to_owned()),
            (format!("{x}_SERVICE_PORT"), "8081".to_owned()),
            (format!("{x}_SERVICE_PORT_HTTP"), "8081".to_owned()),
            (format!("{x}_SERVICE_PORT_HTTP_PROBES"), "9081".to_owned()),
            (format!("{x}_PORT"), "tcp://10.96.0.10:8081".to_owned()),
        ];
        for (port, protocol) in [("8081", "tcp"), ("53", "udp"), ("9999", "sctp")] {
            let of = format!("{x}_PORT_{port}_{}", protocol.to_uppercase());
            links.push((of.clone(), format!("{protocol}://10.96.0.10:{port}")));
            links.push((format!("{of}_PROTO"), protocol.to_owned()));
            links.push((format!("{of}_PORT"), port.to_owned()));
            links.push((format!("{of}_ADDR"), "10.96.0.10".to_owned()));
        }
        links
    }

    #[test]
    fn what_kubernetes_gives_for_services_is_no_setting() {
        for service in ["hospital", "hospital-patient", "hospital-base", "hospital-test", "patient"]
        {
            for (name, value) in linked(service) {
                assert!(Variable::read(name.clone(), &value).is_none(), "{name}={value}");
            }
        }
        for (name, value) in [
            ("HOSPITAL_BILLING_PORT", "8083"),
            ("HOSPITAL_BILLING_SERVICE_PORT_HTTP", "many"),
            ("HOSPITAL_PORT_X_TCP", "tcp://10.96.0.10:1"),
            ("HOSPITAL_PORT_80_TCP_WHAT", "80"),
        ] {
            let variable = Variable::read(name.to_owned(), value).unwrap();
            assert!(!variable.is_known(), "{name}={value}");
        }
    }

    #[test]
    fn no_setting_is_called_like_a_service_s_address() {
        for name in names_of_settings() {
            if !NOT_SETTINGS.contains(&name.as_str()) {
                assert!(!is_service_link(&name, "tcp://10.96.0.10:8081"), "{name}");
                let read = Variable::read(name.clone(), "x").unwrap();
                assert!(read.is_known() || name == "HOSPITAL_BUS__PROPERTIES", "{name}");
            }
        }
    }

    #[test]
    fn what_may_have_been_meant_is_said() {
        for (name, said) in [
            ("HOSPITAL_BILLING_POOL_SIZE", "(did you mean HOSPITAL_BILLING__POOL_SIZE?)"),
            ("HOSPITAL_BILING__POOL_SIZE", "(did you mean HOSPITAL_BILLING__POOL_SIZE?)"),
            (
                "HOSPITAL_NOTIFICATION__SMTP_HOST",
                "(did you mean HOSPITAL_NOTIFICATION__SMTP__HOST?)",
            ),
            ("HOSPITAL_DATABASE_ULR", "(did you mean HOSPITAL_DATABASE_URL?)"),
            ("HOSPITAL_DATADIR", "(did you mean HOSPITAL_DATA_DIR?)"),
        ] {
            assert_eq!(unknown(&[name.to_owned()]), Some(format!("{name} {said}")));
        }
        assert_eq!(unknown(&["HOSPITAL_MOTD".to_owned()]), Some("HOSPITAL_MOTD".to_owned()));
        assert_eq!(unknown(&[]), None);
    }
}
