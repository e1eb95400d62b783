//! The job that asks the gateway about a payment whose outcome is not known, until it is
//! (docs/rules.md, P5).

use std::{collections::HashMap, convert::Infallible, time::Duration};

use futures_util::{StreamExt, stream};
use hospital_kit::{
    cause::Cause,
    db::{Db, Tx},
    jobs::{Handler, Job, Kind, NewJob, Verdict},
    outcome::{Broken, Failure, Outcome},
    service::Context,
};
use hospital_types::PaymentId;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::{
    gateway::{Known, SharedGateway},
    payment::{FailureCode, Payment, Settlement},
    settle::settle,
    store,
};

/// How many payments are asked about at the same time.
const AT_ONCE: usize = 8;

/// The gateway works on it, and will know soon.
const SOON: Duration = Duration::from_secs(2);

/// Asks about payments; it never charges.
pub(crate) struct Reconciler {
    db: Db,
    gateway: SharedGateway,
    gateway_timeout: Duration,
    after_s: [u64; 3],
}

/// Which payment.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Reconcile {
    payment: PaymentId,
}

/// The job that asks about a payment, once so much time has passed.
pub(crate) fn reconcile_after(payment: PaymentId, pause: Duration) -> NewJob<Reconcile> {
    NewJob::new(payment, Reconcile { payment }).after(pause)
}

impl Handler for Reconciler {
    type Payload = Reconcile;

    /// Money is never given up on.
    const KIND: Kind<Reconcile> = Kind::new("payment.reconcile").batch_max(20).attempts_max(None);

    async fn work(&self, jobs: Vec<Job<Reconcile>>) -> Vec<Verdict> {
        let ids = jobs.iter().map(|job| job.payload.payment).collect();
        let cause = Cause::system("payment.reconcile");
        let open = match store::open_payments(self.db.reader(&cause), ids).await {
            Ok(open) => open,
            Err(e) => return vec![Verdict::again(e); jobs.len()],
        };
        let mut open: HashMap<PaymentId, Payment> =
            open.into_iter().map(|payment| (payment.id, payment)).collect();
        let asked = jobs.into_iter().map(|job| {
            let payment = open.remove(&job.payload.payment);
            self.reconcile(job, payment)
        });
        stream::iter(asked.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await
    }
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

    async fn reconcile(&self, job: Job<Reconcile>, payment: Option<Payment>) -> Verdict {
        // Somebody has settled it meanwhile.
        let Some(payment) = payment else { return Verdict::Done };
        let asked = self.gateway.lookup(payment.id, payment.amount);
        let (settlement, verdict) = match timeout(self.gateway_timeout, asked).await {
            Ok(Ok(Known::Charged(amount))) if amount == payment.amount => {
                (Settlement::Succeeded, Verdict::Done)
            }
            Ok(Ok(Known::Charged(other))) => (Settlement::Conflicted(other), Verdict::Done),
            Ok(Ok(Known::Failed(code))) => (Settlement::Failed(code), Verdict::Done),
            Ok(Ok(Known::Nothing)) => (Settlement::Failed(FailureCode::NotCharged), Verdict::Done),
            Ok(Ok(Known::Processing)) => {
                let because = "the payment gateway is still at work";
                (Settlement::Unknown, Verdict::again_after(SOON, because))
            }
            Ok(Err(no_answer)) => {
                (Settlement::Unknown, Verdict::again_after(self.after(job.attempts), no_answer))
            }
            Err(_) => {
                let because = "the payment gateway gave no answer in time";
                (Settlement::Unknown, Verdict::again_after(self.after(job.attempts), because))
            }
        };
        tracing::info!(payment = %payment.id, ?settlement, "asked the gateway again");
        match self.settle(&job, payment.id, settlement).await {
            Ok(()) => verdict,
            Err(e) => Verdict::again(e),
        }
    }

    async fn settle(
        &self,
        job: &Job<Reconcile>,
        payment: PaymentId,
        settlement: Settlement,
    ) -> Result<(), Broken> {
        let cause = job.cause("payment.reconcile");
        let work =
            async move |tx: &mut Tx<Infallible>| settle(tx, &cause, payment, settlement).await;
        let done: Outcome<Option<Payment>, Infallible> =
            self.db.write("payment.reconcile", work).await;
        match done {
            Ok(_) => Ok(()),
            Err(Failure::Broken(broken)) => Err(broken),
            Err(Failure::Refused(never)) => match never {},
        }
    }

    /// The pause before the next look, after so many.
    fn after(&self, attempts: u32) -> Duration {
        let place = usize::try_from(attempts).unwrap_or(usize::MAX).min(self.after_s.len() - 1);
        Duration::from_secs(self.after_s[place])
    }
}
