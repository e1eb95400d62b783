use hospital_types::{AppointmentId, BillId, Money, PatientId, PaymentId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::DomainEvent;

/// What `bill.generated` (published once, on issue) and `bill.cancelled` tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BillFacts {
    pub bill_id: BillId,
    /// The bill's version after the change.
    pub version: i32,
    /// The gap-free number that people know the bill by; a draft that was cancelled never had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    pub appointment_id: AppointmentId,
    pub patient_id: PatientId,
    pub total: Money,
    #[serde(default)]
    pub back_dated: bool,
}

/// How a payment was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PaymentMethod {
    Cash,
    Cheque,
    Transfer,
    Card,
}

impl PaymentMethod {
    pub const ALL: [Self; 4] = [Self::Cash, Self::Cheque, Self::Transfer, Self::Card];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cash => "cash",
            Self::Cheque => "cheque",
            Self::Transfer => "transfer",
            Self::Card => "card",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == text)
    }
}

/// What every payment event tells. The aggregate is the bill: its payments keep their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaymentFacts {
    pub payment_id: PaymentId,
    pub bill_id: BillId,
    /// The bill's version after the payment took effect on it.
    pub version: i32,
    pub appointment_id: AppointmentId,
    pub patient_id: PatientId,
    pub amount: Money,
    pub method: PaymentMethod,
    /// What remains to be paid on the bill.
    pub outstanding: Money,
    #[serde(default)]
    pub back_dated: bool,
}

/// `payment.failed`, with the reason as a stable code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaymentFailed {
    #[serde(flatten)]
    pub facts: PaymentFacts,
    /// Stable, kebab-case: `card-declined`, `insufficient-funds`, `not-charged`, `settled-as-failed`.
    pub code: String,
}

/// `payment.completed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct PaymentCompleted(pub PaymentFacts);

/// `bill.generated`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct BillGenerated(pub BillFacts);

/// `bill.cancelled`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct BillCancelled(pub BillFacts);

macro_rules! billing_events {
    ($($event:ident, $topic:literal, $facts:tt, $subject:ident, $meaning:literal;)*) => {$(
        impl DomainEvent for $event {
            const TOPIC: &'static str = $topic;
            const MEANING: &'static str = $meaning;
            const SOURCE: &'static str = "billing";

            fn aggregate(&self) -> Uuid {
                self.$facts.bill_id.uuid()
            }

            fn subject(&self) -> Uuid {
                self.$facts.$subject.uuid()
            }

            fn version(&self) -> i32 {
                self.$facts.version
            }
        }
    )*};
}

billing_events! {
    BillGenerated, "bill.generated", 0, bill_id, "A bill is issued and can be paid.";
    BillCancelled, "bill.cancelled", 0, bill_id, "A bill is no longer to be paid.";
    PaymentCompleted, "payment.completed", 0, payment_id, "Money was received towards a bill.";
    PaymentFailed, "payment.failed", facts, payment_id, "A payment did not take place; nothing was charged.";
}
