//! Asks the gateway about payments whose outcome is not known, until it is (docs/rules.md, P5).

use std::{convert::Infallible, time::Duration};

use hospital_kit::{
    cause::Cause,
    db::{Db, Tx},
    outcome::{Broken, Failure, Outcome},
    service::Context,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    gateway::{Known, SharedGateway},
    payment::{FailureCode, Payment, Settlement},
    settle::settle,
    store::{self, DueCheck},
};

/// How often it looks for payments that are due.
const TICK: Duration = Duration::from_secs(1);

pub(crate) struct Reconciler {
    db: Db,
    gateway: SharedGateway,
    gateway_timeout: Duration,
    after_s: [u64; 3],
}

impl Reconciler {
    pub(crate) fn new(context: &Context, gateway: SharedGateway) -> Self {
        let billing = &context.config.billing;
        Self {
            db: context.db.clone(),
            gateway,
            gateway_timeout: Duration::from_millis(billing.gateway_timeout_ms),
            after_s: billing.reconcile_after_s,
        }
    }

    /// Looks at once, for what a crash left behind, and then again and again.
    pub(crate) async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.round().await {
                Ok(0) => {}
                Ok(_) => continue,
                Err(e) => tracing::warn!(error = %e, "payments cannot be reconciled at the moment"),
            }
            // Whether the pause is over or the stop came is looked at next.
            let _ = timeout(TICK, stop.cancelled()).await;
        }
    }

    /// Asks about the payments that are due; gives how many there were.
    async fn round(&self) -> Result<usize, Broken> {
        let due = store::claim_checks(&self.db, 20).await?;
        for check in &due {
            self.check(check).await?;
        }
        Ok(due.len())
    }

    async fn check(&self, due: &DueCheck) -> Result<(), Broken> {
        let payment = &due.payment;
        let known =
            timeout(self.gateway_timeout, self.gateway.lookup(payment.id, payment.amount)).await;
        let (settlement, next) = match known {
            Ok(Ok(Known::Charged(amount))) if amount == payment.amount => {
                (Settlement::Succeeded, None)
            }
            Ok(Ok(Known::Charged(other))) => (Settlement::Conflicted(other), None),
            Ok(Ok(Known::Failed(code))) => (Settlement::Failed(code), None),
            Ok(Ok(Known::Nothing)) => (Settlement::Failed(FailureCode::NotCharged), None),
            // It will know soon.
            Ok(Ok(Known::Processing)) => (Settlement::Unknown, Some(2.0)),
            Ok(Err(_)) | Err(_) => (Settlement::Unknown, Some(self.after(due.checks))),
        };
        tracing::info!(payment = %payment.id, ?settlement, "asked the gateway again");
        let cause = Cause::system("payment.reconcile");
        let work = async move |tx: &mut Tx<Infallible>| {
            settle(tx, &cause, payment.id, settlement, next).await
        };
        let done: Outcome<Option<Payment>, Infallible> =
            self.db.write("payment.reconcile", work).await;
        match done {
            Ok(_) => Ok(()),
            Err(Failure::Broken(broken)) => Err(broken),
            Err(Failure::Refused(never)) => match never {},
        }
    }

    /// Seconds until the next look, after so many.
    fn after(&self, checks: i32) -> f64 {
        let place = usize::try_from(checks).unwrap_or(0).min(2);
        Duration::from_secs(self.after_s[place]).as_secs_f64()
    }
}
