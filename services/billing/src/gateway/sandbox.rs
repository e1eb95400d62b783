//! A gateway for trying things out. It remembers what it charged in a table of its own, as a foreign system would, whatever becomes of us.

use std::time::Duration;

use async_trait::async_trait;
use hospital_kit::{db::Db, outcome::Broken};
use hospital_types::{Money, PaymentId};

use super::{Charge, Known, NoAnswer, PaymentGateway};
use crate::{payment::FailureCode, store};

/// How long the slow token takes.
const SLOW: Duration = Duration::from_secs(3);

/// Tokens: `tok_ok`, `tok_declined`, `tok_insufficient`, `tok_timeout` (no answer, not charged), `tok_timeout_charged` (no answer, charged),
/// `tok_slow` (three seconds, charged). Any other is declined.
pub(crate) struct Sandbox {
    db: Db,
}

impl Sandbox {
    pub(crate) const fn new(db: Db) -> Self {
        Self { db }
    }
}

impl From<Broken> for NoAnswer {
    fn from(broken: Broken) -> Self {
        Self(broken.to_string())
    }
}

fn charge_of(outcome: &str) -> Option<Charge> {
    match outcome {
        "charged" => Some(Charge::Succeeded),
        "declined" | "void" => Some(Charge::Failed(FailureCode::CardDeclined)),
        "insufficient" => Some(Charge::Failed(FailureCode::InsufficientFunds)),
        _ => None,
    }
}

#[async_trait]
impl PaymentGateway for Sandbox {
    async fn charge(
        &self,
        payment: PaymentId,
        token: &str,
        amount: Money,
    ) -> Result<Charge, NoAnswer> {
        let first = match token {
            "tok_timeout" => {
                std::future::pending::<()>().await;
                "processing"
            }
            "tok_ok" | "tok_timeout_charged" => "charged",
            "tok_slow" => "processing",
            "tok_insufficient" => "insufficient",
            _ => "declined",
        };
        let outcome = store::sandbox_record(&self.db, payment, amount, first).await?;
        match token {
            "tok_timeout_charged" => std::future::pending().await,
            "tok_slow" if outcome == "processing" => {
                // The gateway finishes whether or not its client still listens.
                let db = self.db.clone();
                #[expect(clippy::disallowed_methods, reason = "stands for another system's work")]
                let finished = tokio::spawn(async move {
                    tokio::time::sleep(SLOW).await;
                    store::sandbox_finish(&db, payment).await
                });
                finished.await.map_err(|e| NoAnswer(e.to_string()))??;
                Ok(Charge::Succeeded)
            }
            _ => charge_of(&outcome).ok_or_else(|| NoAnswer("it is still at work".to_owned())),
        }
    }

    async fn lookup(&self, payment: PaymentId, amount: Money) -> Result<Known, NoAnswer> {
        let (outcome, charged) = store::sandbox_lookup(&self.db, payment, amount).await?;
        Ok(match outcome.as_str() {
            "charged" => Known::Charged(charged),
            "declined" => Known::Failed(FailureCode::CardDeclined),
            "insufficient" => Known::Failed(FailureCode::InsufficientFunds),
            "processing" => Known::Processing,
            _ => Known::Nothing,
        })
    }
}
