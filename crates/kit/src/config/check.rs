//! What a setting's type cannot say about its value.

use jiff::tz::TimeZone;
use tracing_subscriber::EnvFilter;

use super::{BusKind, Config, ConfigError, RetentionConfig};

impl Config {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.check_values().map_err(ConfigError::Unaccepted)?;
        if self.bus.kind == BusKind::Kafka && self.bus.bootstrap_servers.is_none() {
            return Err(ConfigError::Missing {
                key: "bus.bootstrap_servers".to_owned(),
                mend: "the bus is Kafka, so say where it is (KAFKA_BOOTSTRAP_SERVERS=host:9092)"
                    .to_owned(),
            });
        }
        Ok(())
    }

    fn check_values(&self) -> Result<(), String> {
        if TimeZone::get(&self.facility.zone).is_err() {
            return Err(format!(
                "facility.zone is {:?}, which is no IANA time zone such as Europe/Berlin",
                self.facility.zone
            ));
        }
        let country = self.facility.country.as_bytes();
        if country.len() != 2 || !country.iter().all(u8::is_ascii_uppercase) {
            return Err(format!(
                "facility.country is {:?}, which is no ISO 3166 code of two letters such as US",
                self.facility.country
            ));
        }
        if let Err(e) = EnvFilter::try_new(&self.log.level) {
            return Err(format!(
                "log.level is {:?}, which is no filter such as info or \"warn,http=info\": {e}",
                self.log.level
            ));
        }
        if self.auth.jwks_file.is_some() && self.auth.jwks_url.is_some() {
            return Err("auth.jwks_file and auth.jwks_url are both set: keep one".to_owned());
        }
        if self.notification.retry_after_s.is_empty() {
            return Err("notification.retry_after_s is empty: name at least one pause".to_owned());
        }
        if let Some(smtp) = &self.notification.smtp
            && smtp.username.is_some() != smtp.password_file.is_some()
        {
            return Err(
                "notification.smtp has one of username and password_file: set both or neither"
                    .to_owned(),
            );
        }
        if let Err(text) = self.http.trusted_networks() {
            return Err(format!(
                "http.trusted_proxies has {text:?}, which is no address or network such as 10.0.0.0/8"
            ));
        }
        self.check_addresses()?;
        self.check_counts()?;
        self.check_retention()
    }

    /// What is remembered must outlive what can come again.
    fn check_retention(&self) -> Result<(), String> {
        const MONTH: i32 = 31;
        if self.outbox.retention_days < 7 {
            return Err("outbox.retention_days is less than 7".to_owned());
        }
        // Whole months of the log are dropped, and what is published on its last day stays in its
        // topic as long as any other record.
        let again = self.outbox.retention_days.saturating_add(self.bus.retention_days);
        let least = again.saturating_add(MONTH + RetentionConfig::MARGIN_DAYS);
        if self.retention.inbox_days < least {
            return Err(format!(
                "retention.inbox_days is {}, and an event can come again for longer: at least {least}, \
                 which is outbox.retention_days and bus.retention_days and {}",
                self.retention.inbox_days,
                MONTH + RetentionConfig::MARGIN_DAYS
            ));
        }
        // Records outlive their topic's retention by some days.
        let least = self.bus.retention_days.saturating_add(MONTH);
        let days = [
            ("retention.dead_letters_days", self.retention.dead_letters_days),
            ("retention.messages_days", self.retention.messages_days),
        ];
        match days.into_iter().find(|(_, days)| *days < least) {
            Some((key, days)) => Err(format!(
                "{key} is {days}: at least {least}, which is bus.retention_days and {MONTH}"
            )),
            None => Ok(()),
        }
    }

    fn check_addresses(&self) -> Result<(), String> {
        let addresses = [
            ("auth.jwks_url", self.auth.jwks_url.as_deref()),
            ("appointment.patient_url", Some(self.appointment.patient_url.as_str())),
            ("notification.patient_url", Some(self.notification.patient_url.as_str())),
            ("notification.appointment_url", Some(self.notification.appointment_url.as_str())),
        ];
        for (key, address) in addresses {
            let Some(address) = address else { continue };
            // Without the address itself, which may hold a password.
            let known = reqwest::Url::parse(address)
                .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            if !known {
                return Err(format!("{key} is no address such as http://127.0.0.1:8081"));
            }
        }
        Ok(())
    }

    fn check_counts(&self) -> Result<(), String> {
        let counts = [
            ("bus.partitions", self.bus.partitions >= 1),
            ("http.handler_timeout_ms", self.http.handler_timeout_ms >= 1),
            ("http.header_timeout_ms", self.http.header_timeout_ms >= 1),
            ("http.body_timeout_ms", self.http.body_timeout_ms >= 1),
            ("http.body_bytes_per_s_min", self.http.body_bytes_per_s_min >= 1),
            ("http.connections_max", self.http.connections_max >= 1),
            ("http.connections_per_address_max", self.http.connections_per_address() >= 1),
            ("http.in_flight_max", self.http.in_flight_max >= 1),
            ("http.in_flight_per_subject_max", self.http.in_flight_per_subject() >= 1),
            ("http.in_flight_per_address_max", self.http.in_flight_per_address() >= 1),
            ("auth.jwks_stale_max_s", self.auth.jwks_stale_max_s >= 1),
            ("bus.retention_days", self.bus.retention_days >= 1),
            ("patient.pool_size", self.patient.pool_size >= 1),
            ("appointment.pool_size", self.appointment.pool_size >= 1),
            (
                "appointment.patient_check_timeout_ms",
                self.appointment.patient_check_timeout_ms >= 1,
            ),
            ("billing.pool_size", self.billing.pool_size >= 1),
            ("billing.gateway_timeout_ms", self.billing.gateway_timeout_ms >= 1),
            ("notification.pool_size", self.notification.pool_size >= 1),
        ];
        if self.bus.replication_factor < 0 {
            return Err("bus.replication_factor is less than 0".to_owned());
        }
        match counts.into_iter().find(|(_, enough)| !enough) {
            Some((key, _)) => Err(format!("{key} is less than 1")),
            None => Ok(()),
        }
    }
}
