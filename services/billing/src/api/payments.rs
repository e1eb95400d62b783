use std::{convert::Infallible, time::Duration};

use axum::extract::State;
use hospital_contracts::billing::{BillStatus, PaymentMethod, PaymentStatus, PaymentView};
use hospital_kit::{
    cause::Cause,
    db::{Reader, Tx},
    http::{
        Allowed, Answer, Body, CreateProblems, Cursor, IdempotencyKey, IfMatch, Keyed, Limit,
        ListProblems, Page, PathId, Problem, Query, ReadProblems, RequiredIdempotencyKey,
        StepProblems, not_null,
    },
    idempotency::{self, Explain, Once, Request},
    jobs::{self, Handler},
    outcome::Outcome,
};
use hospital_types::{Actor, Faults, MoneyInput, Payment as PaymentKind, PaymentId, Role, text};
use serde::Deserialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{App, BillingManagers, MoneyReaders, Payers, bad_query};
use crate::{
    card_number,
    gateway::Charge,
    pay::{Pay, reserve},
    payment::{Asked, PayRefused, Payment, SettleRefused, Settlement},
    reconcile::{self, Reconciler},
    settle::{ByHand, answer, settle, settle_by_hand},
    store::{self, PaymentFilter},
};

impl Explain for PayRefused {
    async fn explain(self, reader: Reader<'_>) -> Problem {
        let refused = match self {
            Self::Overpayment { bill, .. } => match store::bill_by_id(reader, bill).await {
                Ok(Some(found))
                    if found.appointment_cancelled
                        || matches!(found.status, BillStatus::Draft | BillStatus::Cancelled) =>
                {
                    Self::NotPayable
                }
                Ok(found) => {
                    Self::Overpayment { bill, outstanding: found.map(|b| b.outstanding()) }
                }
                // The refusal stands; only the outstanding amount goes unsaid.
                Err(_) => self,
            },
            Self::BillUnknownOrOtherCurrency { bill } => {
                match store::bill_by_id(reader, bill).await {
                    Ok(Some(_)) => Self::CurrencyMismatch,
                    Ok(None) => Self::BillUnknown,
                    Err(broken) => return broken.into(),
                }
            }
            other => other,
        };
        Problem::from_refusal(&refused)
    }
}

/// A payment to take.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct PayBody {
    #[schema(format = Uuid)]
    bill_id: String,
    amount: MoneyInput,
    #[schema(pattern = "^(cash|cheque|transfer|card)$", example = "cash")]
    method: String,
    /// The gateway's token, for a card. Never a card number.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false, max_length = 128, example = "tok_ok")]
    card_token: Option<String>,
    /// The payer's or the bank's own reference.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false, max_length = 64)]
    reference: Option<String>,
}

impl PayBody {
    fn command(&self, who: &Actor, keyed: &Keyed) -> Result<Pay, Faults> {
        let mut faults = Faults::new();
        let bill = self.bill_id.parse().ok();
        if bill.is_none() {
            faults.push_coded("/billId", "bill-unknown", "must be the id of a bill");
        }
        let amount = self.amount.parse("/amount", &mut faults);
        if amount.is_some_and(|amount| !amount.is_positive()) {
            faults.push_coded("/amount/amount", "amount-invalid", "must be above zero");
        }
        let method =
            PaymentMethod::parse(&self.method).ok_or("must be cash, cheque, transfer or card");
        let method = faults.take("/method", method);
        let card_token =
            self.card_token.as_deref().map(|token| faults.take("/cardToken", text(token, 128)));
        match (method, &card_token) {
            (Some(PaymentMethod::Card), None) => {
                faults.push("/cardToken", "must be given for a card");
            }
            (
                Some(PaymentMethod::Cash | PaymentMethod::Cheque | PaymentMethod::Transfer),
                Some(_),
            ) => {
                faults.push("/cardToken", "is for cards only");
            }
            _ => {}
        }
        let reference = self
            .reference
            .as_deref()
            .map(|reference| faults.take("/reference", text(reference, 64)));
        let asked = Asked {
            caller: who.subject.clone(),
            route: keyed.route.clone(),
            key: keyed.key.clone().unwrap_or_default(),
        };
        let pay = (|| {
            Some(Pay {
                bill: bill?,
                amount: amount?,
                method: method?,
                card_token: card_token.flatten(),
                reference: reference.flatten(),
                asked,
            })
        })();
        faults.finish(pay)
    }
}

/// Takes a payment, whole or partial. Cash, cheque and transfer settle at once; a card is charged by the gateway.
#[utoipa::path(
    post, path = "/payments", tag = "Payments", request_body = PayBody,
    params(("Idempotency-Key" = String, Header, description = "One key, one payment, however often it is sent.")),
    responses(
        (status = 201, description = "Paid.", body = PaymentView),
        (status = 202, description = "The gateway gave no answer yet; the amount stays reserved until it does.", body = PaymentView),
        (status = 402, description = "`payment-declined`, with `paymentId`.",
            body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
        (status = 409, description = "`overpayment`, with `outstanding`; `bill-not-payable`.",
            body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
        CreateProblems,
    ),
)]
pub(super) async fn pay(
    State(app): State<App>,
    who: Allowed<Payers>,
    key: RequiredIdempotencyKey,
    body: Body<PayBody>,
) -> Result<Answer, Problem> {
    if card_number::is_in(body.bytes()) {
        let detail = "Something in it looks like a card number. Send the gateway's token, and never the number.";
        return Err(Problem::new(422, "card-number", detail));
    }
    let given = body.parse()?;
    if given.amount.has_wrong_type() {
        let problem = Problem::new(400, "invalid-body", "The body is not what this request takes.");
        return Err(problem.fault("/amount/amount", "must be a string or a number"));
    }
    let cmd = given.command(&who, &key)?;
    let request = key.request("payment.take", &who.cause, body.fingerprint());
    app.may_pay(&who.cause, &cmd).await?;
    if let Some(token) = cmd.card_token.clone() {
        return Ok(app.pay_by_card(request, cmd, &token).await);
    }
    Ok(app.payments.once(request, cmd).await)
}

impl App {
    /// Cashiers take any payment; patients pay their own bills, by card.
    async fn may_pay(&self, cause: &Cause, cmd: &Pay) -> Result<(), Problem> {
        let who = &cause.actor;
        if who.roles.contains(Role::Cashier) {
            return Ok(());
        }
        if cmd.method != PaymentMethod::Card {
            return Err(Problem::new(
                403,
                "forbidden",
                "Patients pay by card; other payments are taken at the desk.",
            ));
        }
        match store::bill_by_id(self.db.reader(cause), cmd.bill).await? {
            Some(bill) if who.patient == Some(bill.patient) => Ok(()),
            _ => Err(Problem::from_refusal(&PayRefused::BillUnknown)),
        }
    }

    /// Reserves, asks the gateway outside of any transaction, settles.
    async fn pay_by_card(&self, request: Request, cmd: Pay, token: &str) -> Answer {
        let cause = request.cause.clone();
        let reserving = cause.clone();
        let check_after = self.gateway_timeout + Duration::from_secs(3);
        let work =
            async move |tx: &mut Tx<PayRefused>| reserve(tx, &reserving, cmd, check_after).await;
        let payment = match idempotency::claim(&self.db, request, |_| None, work).await {
            Once::Fresh(payment, _) => payment,
            Once::Answered(answer) => return answer,
        };
        let charged =
            timeout(self.gateway_timeout, self.gateway.charge(payment.id, token, payment.amount))
                .await;
        let settlement = match charged {
            Ok(Ok(Charge::Succeeded)) => Settlement::Succeeded,
            Ok(Ok(Charge::Failed(code))) => Settlement::Failed(code),
            Ok(Err(_)) | Err(_) => Settlement::Unknown,
        };
        let reconcile_after = self.reconcile_after;
        let work = async move |tx: &mut Tx<Infallible>| {
            let settled = settle(tx, &cause, payment.id, settlement).await?;
            if settlement == Settlement::Unknown {
                let job = reconcile::reconcile_after(payment.id, reconcile_after);
                jobs::enqueue(tx, &cause, &Reconciler::KIND, &[job]);
            } else {
                jobs::cancel(tx, &Reconciler::KIND, vec![payment.id.to_string()]);
            }
            Ok(settled)
        };
        let settled: Outcome<Option<Payment>, Infallible> =
            self.db.write("payment.settle", work).await;
        match settled {
            Ok(Some(payment)) => answer(&payment),
            Ok(None) => Answer::problem(Problem::not_found()),
            // The payment is there and pending: the reconciler settles it, and the same key then gets the answer.
            Err(failure) => Answer::problem(failure.into()),
        }
    }
}

/// Shows a payment.
#[utoipa::path(
    get, path = "/payments/{id}", tag = "Payments",
    params(("id" = String, Path, format = Uuid, description = "The payment.")),
    responses((status = 200, description = "The payment.", body = PaymentView), ReadProblems),
)]
pub(super) async fn show(
    State(app): State<App>,
    who: Allowed<MoneyReaders>,
    PathId(id): PathId<PaymentKind>,
) -> Result<Answer, Problem> {
    let found = store::payment_by_id(app.db.reader(&who.cause), id).await?;
    let (payment, _) =
        found.filter(|(_, patient)| who.may_see(*patient)).ok_or_else(Problem::not_found)?;
    Ok(Answer::ok(payment.version, &payment.view()))
}

impl Explain for SettleRefused {}

/// What a person decided of a conflicted payment, and why.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SettleBody {
    /// `succeeded`: what the gateway charged is paid. `failed`: it does not count, and is given back at the gateway.
    #[schema(pattern = "^(succeeded|failed)$", example = "failed")]
    outcome: String,
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

impl SettleBody {
    fn decided(&self) -> Result<ByHand, Problem> {
        let mut faults = Faults::new();
        let succeeded = match self.outcome.as_str() {
            "succeeded" => Ok(true),
            "failed" => Ok(false),
            _ => Err("must be succeeded or failed"),
        };
        let succeeded = faults.take("/outcome", succeeded);
        let reason = faults.take("/reason", text(&self.reason, 500));
        let decided = succeeded.zip(reason).map(|(succeeded, reason)| ByHand { succeeded, reason });
        Ok(faults.finish(decided)?)
    }
}

/// Settles a payment that is `conflicted`, because the gateway charged another amount.
#[utoipa::path(
    post, path = "/payments/{id}/settle", tag = "Payments", request_body = SettleBody,
    params(
        ("id" = String, Path, format = Uuid, description = "The payment."),
    ),
    responses(
        (status = 200, description = "The payment, settled.", body = PaymentView),
        (status = 409, description = "`payment-not-conflicted`; `charge-unusable`, `overpayment` or `bill-not-payable` when the bill \
            cannot take what was charged.",
            body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
        StepProblems,
    ),
)]
pub(super) async fn settle_conflicted(
    State(app): State<App>,
    who: Allowed<BillingManagers>,
    PathId(id): PathId<PaymentKind>,
    key: IdempotencyKey,
    seen: IfMatch,
    body: Body<SettleBody>,
) -> Result<Answer, Problem> {
    let decided = match body.parse().and_then(|given| given.decided()) {
        Ok(decided) => decided,
        // That there is no such payment goes before what is wrong with the request.
        Err(problem) => {
            let found = store::payment_by_id(app.db.reader(&who.cause), id).await?;
            return Err(if found.is_some() { problem } else { Problem::not_found() });
        }
    };
    let request = key.request("payment.settle-by-hand", &who.cause, body.fingerprint());
    let cause = who.cause.clone();
    let work = async move |tx: &mut _| settle_by_hand(tx, &cause, id, seen, &decided).await;
    let settled = |payment: &Payment| Answer::ok(payment.version, &payment.view());
    Ok(idempotency::once(&app.db, request, settled, work).await)
}

/// Which payments; everything given must hold.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct PaymentQuery {
    #[param(format = Uuid)]
    bill_id: Option<String>,
    /// `pending`, `succeeded`, `failed`, `unknown` or `conflicted`.
    #[param(value_type = Option<PaymentStatus>, inline)]
    status: Option<String>,
    reference: Option<String>,
    /// How many at most.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `nextCursor` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

/// Lists payments, oldest first. A patient sees their own.
#[utoipa::path(
    get, path = "/payments", tag = "Payments", params(PaymentQuery),
    responses((status = 200, description = "A page of payments.", body = Page<PaymentView>), ListProblems),
)]
pub(super) async fn list(
    State(app): State<App>,
    who: Allowed<MoneyReaders>,
    Query(query): Query<PaymentQuery>,
) -> Result<Answer, Problem> {
    let status = query.status.as_deref().map(|s| PaymentStatus::parse(s).ok_or(())).transpose();
    let bill = query.bill_id.as_deref().map(str::parse).transpose();
    let reference = query.reference.as_deref().map(|r| text(r, 64)).transpose();
    let after = query.cursor.as_ref().map(Cursor::decode::<PaymentId>).transpose()?;
    let mut filter = PaymentFilter {
        bill: bill.map_err(|_| bad_query("billId", "takes an id"))?,
        patient: None,
        status: status.map_err(|()| bad_query("status", "takes a payment's status"))?,
        reference: reference.map_err(|e| bad_query("reference", &e.to_string()))?,
    };
    if !who.scope().narrow(&mut filter.patient) {
        return Ok(Answer::plain(&Page::<PaymentView>::empty()));
    }
    let found =
        store::payments(app.db.reader(&who.cause), &filter, after, query.limit.rows()).await?;
    let items = found.iter().map(Payment::view).collect();
    Ok(Answer::plain(&Page::from_rows(items, query.limit, |last: &PaymentView| last.id)))
}
