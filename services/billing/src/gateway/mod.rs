//! The card gateway, as a port. Asked only outside of transactions, always under the payment's own id.

mod sandbox;

use std::sync::Arc;

use async_trait::async_trait;
use hospital_types::{Money, PaymentId};

pub(crate) use self::sandbox::Sandbox;
use crate::payment::FailureCode;

/// What a gateway says to a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    Succeeded,
    Failed(FailureCode),
}

/// What a gateway knows of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Charged(Money),
    Failed(FailureCode),
    /// It works on it.
    Processing,
    /// It never charged it and, being asked, never will.
    Nothing,
}

/// The gateway gave no answer. What it did is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payment gateway gave no answer: {0}")]
pub(crate) struct NoAnswer(pub(crate) String);

/// Something that charges cards. Two charges under one payment id charge once.
#[async_trait]
pub(crate) trait PaymentGateway: Send + Sync {
    async fn charge(
        &self,
        payment: PaymentId,
        token: &str,
        amount: Money,
    ) -> Result<Charge, NoAnswer>;

    /// Finds out what became of a payment. One that the gateway has never heard of is voided: should its charge still arrive, it fails.
    async fn lookup(&self, payment: PaymentId, amount: Money) -> Result<Known, NoAnswer>;
}

pub(crate) type SharedGateway = Arc<dyn PaymentGateway>;
