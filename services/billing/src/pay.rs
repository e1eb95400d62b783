//! Takes a payment: at once, or by reserving its amount until the card gateway has answered.

use std::time::Duration;

use hospital_contracts::billing::{PaymentMethod, PaymentStatus};
use hospital_kit::{
    cause::Cause,
    db::Tx,
    http::Answer,
    idempotency::{Joint, Member},
    jobs::{self, Handler},
    outcome::Outcome,
};
use hospital_types::{BillId, Money, PaymentId};
use jiff::Timestamp;

use crate::{
    payment::{Asked, PayRefused, Payment},
    reconcile::{Reconciler, reconcile_after},
    settle::answer,
    store,
};

/// A payment to take.
#[derive(Clone, Debug)]
pub(crate) struct Pay {
    pub(crate) bill: BillId,
    pub(crate) amount: Money,
    pub(crate) method: PaymentMethod,
    pub(crate) card_token: Option<String>,
    pub(crate) reference: Option<String>,
    pub(crate) asked: Asked,
}

impl Pay {
    fn payment<R>(&self, tx: &Tx<R>, status: PaymentStatus) -> Payment {
        Payment {
            id: PaymentId::new(),
            version: 1,
            bill: self.bill,
            amount: self.amount,
            method: self.method,
            status,
            failure: None,
            reference: self.reference.clone(),
            charged: None,
            asked: self.asked.clone(),
            created_at: tx.now(),
            settled_at: (status == PaymentStatus::Succeeded).then(|| tx.now()),
        }
    }
}

/// Cash, cheque and transfer settle at once: one flight, the bills' rows last, so that they are locked as briefly as can be. Payments of one
/// bill change it once, by their sum.
pub(crate) fn pay<R: From<PayRefused>>(
    tx: &mut Tx<R>,
    commands: &[(&Pay, &Cause)],
) -> Vec<Payment> {
    let payments: Vec<Payment> =
        commands.iter().map(|(cmd, _)| cmd.payment(tx, PaymentStatus::Succeeded)).collect();
    store::insert_payments(tx, &payments);
    store::add_paid(tx, &payments);
    let causes = commands.iter().map(|(_, cause)| *cause);
    store::append_each_completed(tx, &payments.iter().zip(causes).collect::<Vec<_>>());
    payments
}

/// A card's amount is held before the gateway is asked, so that nothing else can be paid from it
/// meanwhile. Should this process die, the gateway is asked what became of it after this pause.
pub(crate) async fn reserve<R: From<PayRefused>>(
    tx: &mut Tx<R>,
    cause: &Cause,
    cmd: Pay,
    check_after: Duration,
) -> Outcome<Payment, R> {
    let payment = cmd.payment(tx, PaymentStatus::Pending);
    store::insert_payments(tx, std::slice::from_ref(&payment));
    jobs::enqueue(tx, cause, &Reconciler::KIND, &[reconcile_after(payment.id, check_after)]);
    store::add_reserved(tx, &payment);
    Ok(payment)
}

/// Payments of the same moment that need no gateway, which are taken together.
pub(crate) struct Payments;

impl Joint for Payments {
    type Cmd = Pay;
    type Done = Payment;
    type Refused = PayRefused;

    const NAME: &'static str = "payment.take";

    fn check(_: &Pay, _: Timestamp) -> Result<(), PayRefused> {
        Ok(())
    }

    /// A bill has one currency, so one of them is refused.
    fn clash(one: &Pay, other: &Pay) -> bool {
        one.bill == other.bill && one.amount.currency() != other.amount.currency()
    }

    fn work(tx: &mut Tx<PayRefused>, members: &[Member<Pay>]) -> Outcome<Vec<Payment>, PayRefused> {
        let commands: Vec<_> = members.iter().map(|m| (&m.cmd, &m.request.cause)).collect();
        Ok(pay(tx, &commands))
    }

    fn answer(taken: &Payment) -> Answer {
        answer(taken)
    }
}
