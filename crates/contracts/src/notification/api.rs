use hospital_types::{AppointmentId, BillId, EventId, NotificationId, PatientId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NotificationKind {
    AppointmentBooked,
    AppointmentRescheduled,
    AppointmentCancelled,
    BillIssued,
    PaymentCompleted,
    PaymentFailed,
}

impl NotificationKind {
    pub const ALL: [Self; 6] = [
        Self::AppointmentBooked,
        Self::AppointmentRescheduled,
        Self::AppointmentCancelled,
        Self::BillIssued,
        Self::PaymentCompleted,
        Self::PaymentFailed,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AppointmentBooked => "appointment-booked",
            Self::AppointmentRescheduled => "appointment-rescheduled",
            Self::AppointmentCancelled => "appointment-cancelled",
            Self::BillIssued => "bill-issued",
            Self::PaymentCompleted => "payment-completed",
            Self::PaymentFailed => "payment-failed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NotificationStatus {
    Pending,
    Sent,
    /// Given up: somebody has to call the patient.
    Dead,
    /// The patient cannot be reached.
    Undeliverable,
    /// Overtaken by a later change.
    Obsolete,
}

impl NotificationStatus {
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Sent, Self::Dead, Self::Undeliverable, Self::Obsolete];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Dead => "dead",
            Self::Undeliverable => "undeliverable",
            Self::Obsolete => "obsolete",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// A message to a patient, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotificationView {
    pub id: NotificationId,
    pub version: i32,
    pub patient_id: PatientId,
    #[schema(required)]
    pub appointment_id: Option<AppointmentId>,
    #[schema(required)]
    pub bill_id: Option<BillId>,
    pub kind: NotificationKind,
    #[schema(example = "email")]
    pub channel: String,
    /// Masked; null until the contact point is known.
    #[schema(required, example = "z***@e***.org")]
    pub recipient: Option<String>,
    pub subject: String,
    pub body: String,
    pub status: NotificationStatus,
    pub attempts: i32,
    pub event_id: EventId,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub sent_at: Option<Timestamp>,
}
