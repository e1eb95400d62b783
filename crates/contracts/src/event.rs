//! CloudEvents 1.0 in Kafka's binary mode: attributes in headers, the payload as JSON in the value.

use hospital_types::EventId;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::publisher_of;

/// A fact that one service publishes and others act on.
pub trait DomainEvent: Serialize + DeserializeOwned + ToSchema + Send + Sync {
    /// The topic, which is also the event's name.
    const TOPIC: &'static str;
    /// What happened, in a sentence.
    const MEANING: &'static str;
    /// The service that publishes it.
    const SOURCE: &'static str;
    /// The version of the payload's shape; raised only when a reader of the old shape could no longer understand it.
    const SHAPE: u32 = 1;

    /// The aggregate whose history this is part of: the record's key, so that its events keep their order.
    fn aggregate(&self) -> Uuid;

    /// What the event is about, when it is not the aggregate itself.
    fn subject(&self) -> Uuid {
        self.aggregate()
    }

    /// The aggregate's version after the change. Rises from event to event of one aggregate in one topic.
    fn version(&self) -> i32;

    /// CloudEvents `type`, such as `appointment.booked.v1`.
    fn cloud_type() -> String {
        format!("{}.v{}", Self::TOPIC, Self::SHAPE)
    }
}

/// CloudEvents `source` is this and the service that publishes.
const SOURCE_PREFIX: &str = "urn:hospital:";

/// Every topic of the platform, dead-letter topics aside.
pub const TOPICS: [&str; 14] = [
    "appointment.arrived",
    "appointment.booked",
    "appointment.cancelled",
    "appointment.checked-in",
    "appointment.completed",
    "appointment.noshow",
    "appointment.rescheduled",
    "bill.cancelled",
    "bill.generated",
    "patient.registered",
    "patient.updated",
    "payment.completed",
    "payment.failed",
    "payment.refunded",
];

/// Why a record cannot be understood. Each is poison: another try changes nothing.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    #[error("the header {0} is missing or malformed")]
    Header(&'static str),
    #[error("the source {found:?} may not publish to {topic}: only {SOURCE_PREFIX}{wanted} may")]
    Source { topic: String, found: String, wanted: &'static str },
    #[error("the type {found} is not {wanted}, the one this consumer understands")]
    Type { wanted: String, found: String },
    #[error("the payload does not parse: {0}")]
    Payload(#[from] serde_json::Error),
}

/// The attributes of a record that arrived, with its payload still unread.
#[derive(Clone, Debug)]
pub struct CloudEvent {
    pub id: EventId,
    pub topic: String,
    pub event_type: String,
    pub source: String,
    pub subject: Option<String>,
    pub time: Option<Timestamp>,
    pub traceparent: Option<String>,
    pub value: Vec<u8>,
}

impl CloudEvent {
    /// Reads the attributes from a record's headers. Unknown headers are accepted. A source that may
    /// not publish to the topic is not: such a record is no event, whatever id it bears.
    pub fn from_record(
        topic: &str,
        headers: &[(String, String)],
        value: Vec<u8>,
    ) -> Result<Self, EventError> {
        let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let id =
            header("ce_id").and_then(|id| id.parse().ok()).ok_or(EventError::Header("ce_id"))?;
        let event_type = header("ce_type").ok_or(EventError::Header("ce_type"))?;
        let source = header("ce_source").ok_or(EventError::Header("ce_source"))?;
        if let Some(wanted) = publisher_of(topic)
            && source.strip_prefix(SOURCE_PREFIX) != Some(wanted)
        {
            let (topic, found) = (topic.to_owned(), source.to_owned());
            return Err(EventError::Source { topic, found, wanted });
        }
        Ok(Self {
            id,
            topic: topic.to_owned(),
            event_type: event_type.to_owned(),
            source: source.to_owned(),
            subject: header("ce_subject").map(ToOwned::to_owned),
            time: header("ce_time").and_then(|t| t.parse().ok()),
            traceparent: header("traceparent").map(ToOwned::to_owned),
            value,
        })
    }

    /// Reads the payload. Fields that this version does not know are accepted.
    pub fn payload<E: DomainEvent>(&self) -> Result<E, EventError> {
        let wanted = E::cloud_type();
        if self.event_type != wanted {
            return Err(EventError::Type { wanted, found: self.event_type.clone() });
        }
        Ok(serde_json::from_slice(&self.value)?)
    }
}
