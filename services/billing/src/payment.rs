//! The model of a payment, and how one is refused.

use hospital_contracts::billing::{PaymentMethod, PaymentStatus, PaymentView};
use hospital_types::{BillId, Money, PaymentId, Refusal, RefusalKind};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// A payment.
#[derive(Clone, Debug)]
pub(crate) struct Payment {
    pub(crate) id: PaymentId,
    pub(crate) version: i32,
    pub(crate) bill: BillId,
    pub(crate) amount: Money,
    pub(crate) method: PaymentMethod,
    pub(crate) status: PaymentStatus,
    pub(crate) failure: Option<String>,
    pub(crate) reference: Option<String>,
    /// What the gateway says it charged, where that is not the amount.
    pub(crate) charged: Option<Money>,
    /// Whose idempotency key asked for it.
    pub(crate) asked: Asked,
    pub(crate) created_at: Timestamp,
    pub(crate) settled_at: Option<Timestamp>,
}

/// The idempotency key that asked for a payment.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) caller: String,
    pub(crate) route: String,
    pub(crate) key: String,
}

impl Payment {
    pub(crate) fn view(&self) -> PaymentView {
        PaymentView {
            id: self.id,
            version: self.version,
            bill_id: self.bill,
            amount: self.amount,
            method: self.method,
            status: self.status,
            failure: self.failure.clone(),
            reference: self.reference.clone(),
            charged: self.charged,
            created_at: self.created_at,
            settled_at: self.settled_at,
        }
    }
}

/// How a payment came out at the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settlement {
    Succeeded,
    Failed(FailureCode),
    /// No answer: neither is known.
    Unknown,
    /// The gateway charged another amount, which is this.
    Conflicted(Money),
}

/// Why a card payment failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureCode {
    CardDeclined,
    InsufficientFunds,
    /// The gateway never charged it.
    NotCharged,
    /// The gateway charged another amount, and a person decided that it is not to count.
    SettledAsFailed,
}

impl FailureCode {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::CardDeclined => "card-declined",
            Self::InsufficientFunds => "insufficient-funds",
            Self::NotCharged => "not-charged",
            Self::SettledAsFailed => "settled-as-failed",
        }
    }
}

/// How a payment is refused before any money moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PayRefused {
    /// What is outstanding, once that was looked up.
    Overpayment {
        bill: BillId,
        outstanding: Option<Money>,
    },
    NotPayable,
    /// No such bill, or one in another currency: one key tells both, so which it was is looked up.
    BillUnknownOrOtherCurrency {
        bill: BillId,
    },
    BillUnknown,
    CurrencyMismatch,
}

impl Refusal for PayRefused {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::Overpayment { .. } | Self::NotPayable => RefusalKind::Conflict,
            Self::BillUnknownOrOtherCurrency { .. }
            | Self::BillUnknown
            | Self::CurrencyMismatch => RefusalKind::Invalid,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Overpayment { .. } => "overpayment",
            Self::NotPayable => "bill-not-payable",
            Self::BillUnknownOrOtherCurrency { .. } | Self::BillUnknown => "bill-unknown",
            Self::CurrencyMismatch => "currency-mismatch",
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Overpayment { outstanding: Some(rest), .. } => {
                format!("It is more than what is outstanding on the bill: {rest}.")
            }
            Self::Overpayment { .. } => {
                "It is more than what is outstanding on the bill.".to_owned()
            }
            Self::NotPayable => {
                "Only an issued bill can be paid; this one is a draft or cancelled, or its appointment is.".to_owned()
            }
            Self::BillUnknownOrOtherCurrency { .. } | Self::BillUnknown => {
                "There is no such bill.".to_owned()
            }
            Self::CurrencyMismatch => "The bill is in another currency.".to_owned(),
        }
    }

    fn members(&self) -> Map<String, Value> {
        match self {
            Self::Overpayment { outstanding: Some(rest), .. } => {
                Map::from_iter([("outstanding".to_owned(), json!(rest))])
            }
            _ => Map::new(),
        }
    }

    fn pointer(&self) -> Option<&'static str> {
        match self {
            Self::BillUnknownOrOtherCurrency { .. } | Self::BillUnknown => Some("/billId"),
            Self::CurrencyMismatch => Some("/amount/currency"),
            Self::Overpayment { .. } | Self::NotPayable => None,
        }
    }
}

/// How the settling of a payment by hand is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SettleRefused {
    Unknown,
    Stale {
        version: i32,
    },
    NotConflicted {
        status: PaymentStatus,
    },
    /// What the gateway charged is no money of this bill.
    ChargeUnusable {
        charged: Money,
    },
    Overpayment,
    NotPayable,
}

impl Refusal for SettleRefused {
    fn kind(&self) -> RefusalKind {
        match self {
            Self::Unknown => RefusalKind::NotFound,
            Self::Stale { .. } => RefusalKind::Stale,
            Self::NotConflicted { .. }
            | Self::ChargeUnusable { .. }
            | Self::Overpayment
            | Self::NotPayable => RefusalKind::Conflict,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "not-found",
            Self::Stale { .. } => "version-stale",
            Self::NotConflicted { .. } => "payment-not-conflicted",
            Self::ChargeUnusable { .. } => "charge-unusable",
            Self::Overpayment => "overpayment",
            Self::NotPayable => "bill-not-payable",
        }
    }

    fn detail(&self) -> String {
        const GIVE_BACK: &str = "Give it back at the gateway and settle the payment as failed.";
        match self {
            Self::Unknown => String::new(),
            Self::Stale { version } => {
                format!("It was changed meanwhile and is at version {version}: read it again.")
            }
            Self::NotConflicted { status } => {
                format!("The payment is {}: there is nothing to settle.", status.as_str())
            }
            Self::ChargeUnusable { charged } => {
                format!("The bill cannot take the {charged} that were charged. {GIVE_BACK}")
            }
            Self::Overpayment => {
                format!("What was charged is more than is outstanding on the bill. {GIVE_BACK}")
            }
            Self::NotPayable => format!(
                "The appointment was cancelled, and more was charged than was asked for. {GIVE_BACK}"
            ),
        }
    }
}
