use hospital_types::{AppointmentId, BillId, Money, PatientId, PaymentId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::PaymentMethod;

/// A kind of service and its price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceTypeView {
    #[schema(example = "general-consultation")]
    pub code: String,
    pub name: String,
    /// Null when the price is found at the visit.
    #[schema(required)]
    pub price: Option<Money>,
    pub priced_at_visit: bool,
    pub version: i32,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Where a bill stands; follows from its amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BillStatus {
    Draft,
    Issued,
    PartiallyPaid,
    Paid,
    Cancelled,
}

impl BillStatus {
    pub const ALL: [Self; 5] =
        [Self::Draft, Self::Issued, Self::PartiallyPaid, Self::Paid, Self::Cancelled];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Issued => "issued",
            Self::PartiallyPaid => "partially-paid",
            Self::Paid => "paid",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// One line of a bill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LineView {
    pub code: String,
    pub description: String,
    pub quantity: i32,
    pub unit_price: Money,
    /// Quantity times unit price.
    pub amount: Money,
}

/// A bill, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BillView {
    pub id: BillId,
    pub version: i32,
    /// Given on issue; gap-free within a year.
    #[schema(required, example = "2026-000123")]
    pub number: Option<String>,
    pub appointment_id: AppointmentId,
    pub patient_id: PatientId,
    pub status: BillStatus,
    pub lines: Vec<LineView>,
    pub total: Money,
    pub paid: Money,
    /// Held by card payments whose outcome is not known yet.
    pub reserved: Money,
    /// Total less paid and reserved; nothing once the bill or its appointment is cancelled.
    pub outstanding: Money,
    /// What was paid for an appointment that was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund_due: Option<Money>,
    pub back_dated: bool,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub issued_at: Option<Timestamp>,
}

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PaymentStatus {
    /// The gateway is being asked.
    Pending,
    Succeeded,
    Failed,
    /// The gateway gave no answer; it is asked again until it does.
    Unknown,
    /// The gateway says another amount: for a person to settle.
    Conflicted,
}

impl PaymentStatus {
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Succeeded, Self::Failed, Self::Unknown, Self::Conflicted];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Conflicted => "conflicted",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// A payment, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaymentView {
    pub id: PaymentId,
    pub version: i32,
    pub bill_id: BillId,
    pub amount: Money,
    pub method: PaymentMethod,
    pub status: PaymentStatus,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "card-declined")]
    pub failure: Option<String>,
    /// The payer's or the bank's own reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// What the gateway says it charged, where that is not what was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged: Option<Money>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub settled_at: Option<Timestamp>,
}
