//! Settles a card payment: what the gateway said becomes what the bill says, once.

use std::convert::Infallible;

use hospital_contracts::billing::PaymentStatus;
use hospital_kit::{
    db::Tx,
    http::{Answer, Problem},
    idempotency,
    outcome::Outcome,
};
use hospital_types::PaymentId;

use crate::{
    payment::{FailureCode, Payment, Settlement},
    store,
};

/// Settles a payment that is pending or unknown, with the event and the answer for repetitions. One that somebody else settled meanwhile
/// stays as it is. Gives the payment as it is now.
pub(crate) async fn settle(
    tx: &mut Tx<Infallible>,
    id: PaymentId,
    settlement: Settlement,
    next_check_s: Option<f64>,
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
        Settlement::Conflicted => PaymentStatus::Conflicted,
    };
    payment.version += 1;
    if let Settlement::Failed(code) = settlement {
        payment.failure = Some(code.as_str().to_owned());
    }
    if matches!(settlement, Settlement::Succeeded | Settlement::Failed(_)) {
        payment.settled_at = Some(now);
    }
    store::update_payment(tx, &payment, next_check_s);
    match settlement {
        Settlement::Succeeded => {
            store::reserved_to_paid(tx, &payment);
            store::append_completed(tx, &payment);
        }
        Settlement::Failed(code) => {
            store::release_reserved(tx, &payment);
            store::append_failed(tx, &payment, code);
            // The last thing that held the bill of a cancelled appointment open.
            store::append_cancelled_if_closed(tx, payment.bill);
        }
        Settlement::Unknown | Settlement::Conflicted => {}
    }
    let asked = payment.asked.clone();
    idempotency::remember(tx, &asked.caller, &asked.route, &asked.key, &answer(&payment));
    Ok(Some(payment))
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
        _ => "The card was declined. Nothing was charged.",
    }
}
