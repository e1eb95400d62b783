//! Takes a payment: at once, or by reserving its amount until the card gateway has answered.

use hospital_contracts::billing::{PaymentMethod, PaymentStatus};
use hospital_kit::{db::Tx, outcome::Outcome};
use hospital_types::{BillId, Money, PaymentId};

use crate::{
    payment::{Asked, PayRefused, Payment},
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
    fn payment<R>(self, tx: &Tx<R>, status: PaymentStatus) -> Payment {
        Payment {
            id: PaymentId::new(),
            version: 1,
            bill: self.bill,
            amount: self.amount,
            method: self.method,
            status,
            failure: None,
            reference: self.reference,
            asked: self.asked,
            created_at: tx.now(),
            settled_at: (status == PaymentStatus::Succeeded).then(|| tx.now()),
        }
    }
}

/// Cash, cheque and transfer settle at once: one flight, the bill's row last, so that it is locked as briefly as can be.
pub(crate) async fn pay(tx: &mut Tx<PayRefused>, cmd: Pay) -> Outcome<Payment, PayRefused> {
    let payment = cmd.payment(tx, PaymentStatus::Succeeded);
    store::insert_payment(tx, &payment, None);
    store::add_paid(tx, &payment);
    store::append_completed(tx, &payment);
    Ok(payment)
}

/// A card's amount is held before the gateway is asked, so that nothing else can be paid from it meanwhile.
pub(crate) async fn reserve(
    tx: &mut Tx<PayRefused>,
    cmd: Pay,
    check_after_s: f64,
) -> Outcome<Payment, PayRefused> {
    let payment = cmd.payment(tx, PaymentStatus::Pending);
    store::insert_payment(tx, &payment, Some(check_after_s));
    store::add_reserved(tx, &payment);
    Ok(payment)
}
