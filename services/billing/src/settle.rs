//! Settles a card payment: what the gateway said becomes what the bill says, once.

use std::convert::Infallible;

use hospital_contracts::billing::PaymentStatus;
use hospital_kit::{
    cause::Cause,
    db::Tx,
    http::{Answer, IfMatch, Problem},
    idempotency,
    outcome::Outcome,
};
use hospital_types::PaymentId;

use crate::{
    payment::{FailureCode, Payment, SettleRefused, Settlement},
    store,
};

/// Settles a payment that is pending or unknown, with the event and the answer for repetitions. One that somebody else settled meanwhile
/// stays as it is. Gives the payment as it is now.
pub(crate) async fn settle(
    tx: &mut Tx<Infallible>,
    cause: &Cause,
    id: PaymentId,
    settlement: Settlement,
) -> Outcome<Option<Payment>, Infallible> {
    let Some(mut payment) = store::payment_for_update(tx, id).await? else { return Ok(None) };
    if !matches!(payment.status, PaymentStatus::Pending | PaymentStatus::Unknown) {
        return Ok(Some(payment));
    }
    let now = tx.now();
    payment.status = match settlement {
        Settlement::Succeeded => PaymentStatus::Succeeded,
        Settlement::Failed(_) => PaymentStatus::Failed,
        Settlement::Unknown => PaymentStatus::Unknown,
        Settlement::Conflicted(charged) => {
            payment.charged = Some(charged);
            PaymentStatus::Conflicted
        }
    };
    payment.version += 1;
    if let Settlement::Failed(code) = settlement {
        payment.failure = Some(code.as_str().to_owned());
    }
    if matches!(settlement, Settlement::Succeeded | Settlement::Failed(_)) {
        payment.settled_at = Some(now);
    }
    store::update_payment(tx, &payment);
    match settlement {
        Settlement::Succeeded => {
            store::reserved_to_paid(tx, &payment, payment.amount);
            store::append_completed(tx, cause, &payment);
        }
        Settlement::Failed(code) => fail(tx, cause, &payment, code),
        Settlement::Unknown | Settlement::Conflicted(_) => {}
    }
    let asked = payment.asked.clone();
    idempotency::remember(tx, &asked.caller, &asked.route, &asked.key, &answer(&payment));
    Ok(Some(payment))
}

/// Queues what the end of a payment that failed means for its bill, and its event.
fn fail<R>(tx: &mut Tx<R>, cause: &Cause, payment: &Payment, code: FailureCode) {
    store::release_reserved(tx, payment);
    store::append_failed(tx, cause, payment, code);
    // The last thing that held the bill of a cancelled appointment open.
    store::append_cancelled_if_closed(tx, cause, payment.bill);
}

/// What a person decided of a payment that is conflicted.
#[derive(Clone, Debug)]
pub(crate) struct ByHand {
    pub(crate) succeeded: bool,
    pub(crate) reason: String,
}

/// Settles a conflicted payment as a person decided: with what the gateway charged, or as failed, and then what was charged is given
/// back outside of the platform. The money held for it goes either way.
pub(crate) async fn settle_by_hand(
    tx: &mut Tx<SettleRefused>,
    cause: &Cause,
    id: PaymentId,
    seen: IfMatch,
    decided: &ByHand,
) -> Outcome<Payment, SettleRefused> {
    let found = store::payment_for_update(tx, id).await?;
    let mut payment = found.ok_or(SettleRefused::Unknown)?;
    if !seen.allows(payment.version) {
        return Err(SettleRefused::Stale { version: payment.version }.into());
    }
    if payment.status != PaymentStatus::Conflicted {
        return Err(SettleRefused::NotConflicted { status: payment.status }.into());
    }
    let asked = payment.amount;
    payment.version += 1;
    payment.settled_at = Some(tx.now());
    if decided.succeeded {
        // Payments that were conflicted before this was kept have no amount but the one that was asked for.
        payment.amount = payment.charged.unwrap_or(asked);
        if payment.amount.currency() != asked.currency()
            || !payment.amount.is_positive()
            || !payment.amount.is_acceptable()
        {
            return Err(SettleRefused::ChargeUnusable { charged: payment.amount }.into());
        }
        payment.status = PaymentStatus::Succeeded;
        store::update_payment(tx, &payment);
        store::reserved_to_paid(tx, &payment, asked)
            .refuse_on("bill_not_overpaid", SettleRefused::Overpayment)
            .refuse_on("bill_takes_payments", SettleRefused::NotPayable);
        store::append_completed(tx, cause, &payment);
    } else {
        let code = FailureCode::SettledAsFailed;
        payment.status = PaymentStatus::Failed;
        payment.failure = Some(code.as_str().to_owned());
        store::update_payment(tx, &payment);
        fail(tx, cause, &payment, code);
    }
    store::insert_settlement(tx, cause, &payment, asked, &decided.reason);
    Ok(payment)
}

/// What the client of a payment is told.
pub(crate) fn answer(payment: &Payment) -> Answer {
    let location = format!("/payments/{}", payment.id);
    match payment.status {
        PaymentStatus::Succeeded => Answer::created(location, payment.version, &payment.view()),
        PaymentStatus::Pending | PaymentStatus::Unknown | PaymentStatus::Conflicted => {
            Answer::accepted(location, payment.version, &payment.view())
        }
        PaymentStatus::Failed => {
            let code = payment.failure.as_deref().unwrap_or(FailureCode::CardDeclined.as_str());
            let problem = Problem::new(402, "payment-declined", declined(code));
            Answer::problem(
                problem.member("paymentId", payment.id.to_string()).member("failure", code),
            )
        }
    }
}

fn declined(code: &str) -> &'static str {
    match code {
        "insufficient-funds" => "The card has not enough funds. Nothing was charged.",
        "not-charged" => {
            "The card was not charged. It may be tried again under a new Idempotency-Key."
        }
        "settled-as-failed" => "The payment was settled as failed.",
        _ => "The card was declined. Nothing was charged.",
    }
}
