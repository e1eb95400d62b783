use axum::extract::State;
use hospital_contracts::billing::{BillStatus, BillView};
use hospital_kit::{
    cause::Cause,
    http::{
        Allowed, Answer, Body, Cursor, EmptyBody, IdempotencyKey, IfMatch, Limit, ListProblems,
        Page, PathId, Problem, Query, ReadProblems, StepProblems,
    },
    idempotency::{self, Explain},
};
use hospital_types::{Bill as BillKind, BillId, Faults, MoneyInput, text};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{App, BillingManagers, MoneyReaders, bad_query};
use crate::{
    add_lines::add_lines,
    bill::{Bill, BillRefused, Line},
    issue::issue as issue_bill,
    store::{self, BillFilter},
};

impl Explain for BillRefused {}

fn changed(bill: &Bill) -> Answer {
    Answer::ok(bill.version, &bill.view())
}

impl App {
    /// Answers a malformed body: that there is no such bill goes before what is wrong with the request.
    async fn malformed(&self, cause: &Cause, id: BillId, problem: Problem) -> Problem {
        match store::bill_by_id(self.db.reader(cause), id).await {
            Ok(Some(_)) => problem,
            Ok(None) => Problem::not_found(),
            Err(broken) => broken.into(),
        }
    }
}

/// Shows a bill.
#[utoipa::path(
    get, path = "/bills/{id}", tag = "Bills",
    params(("id" = String, Path, format = Uuid, description = "The bill.")),
    responses((status = 200, description = "The bill.", body = BillView), ReadProblems),
)]
pub(super) async fn show(
    State(app): State<App>,
    who: Allowed<MoneyReaders>,
    PathId(id): PathId<BillKind>,
) -> Result<Answer, Problem> {
    let bill = store::bill_by_id(app.db.reader(&who.cause), id)
        .await?
        .filter(|bill| who.may_see(bill.patient))
        .ok_or_else(Problem::not_found)?;
    Ok(changed(&bill))
}

/// Which bills; everything given must hold.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct BillQuery {
    #[param(format = Uuid)]
    appointment_id: Option<String>,
    #[param(format = Uuid)]
    patient_id: Option<String>,
    /// `draft`, `issued`, `partially-paid`, `paid` or `cancelled`.
    #[param(value_type = Option<BillStatus>, inline)]
    status: Option<String>,
    /// How many at most.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `nextCursor` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

impl BillQuery {
    fn filter(&self) -> Result<BillFilter, Problem> {
        let uuid = |name: &'static str| move |_| bad_query(name, "takes an id");
        let appointment = self.appointment_id.as_deref().map(str::parse).transpose();
        let patient = self.patient_id.as_deref().map(str::parse).transpose();
        let status = self.status.as_deref().map(|s| BillStatus::parse(s).ok_or(())).transpose();
        Ok(BillFilter {
            appointment: appointment.map_err(uuid("appointmentId"))?,
            patient: patient.map_err(uuid("patientId"))?,
            status: status.map_err(|()| bad_query("status", "takes a bill's status"))?,
        })
    }
}

/// Lists bills, oldest first. A patient sees their own.
#[utoipa::path(
    get, path = "/bills", tag = "Bills", params(BillQuery),
    responses((status = 200, description = "A page of bills.", body = Page<BillView>), ListProblems),
)]
pub(super) async fn list(
    State(app): State<App>,
    who: Allowed<MoneyReaders>,
    Query(query): Query<BillQuery>,
) -> Result<Answer, Problem> {
    let mut filter = query.filter()?;
    let after = query.cursor.as_ref().map(Cursor::decode::<BillId>).transpose()?;
    if !who.scope().narrow(&mut filter.patient) {
        return Ok(Answer::plain(&Page::<BillView>::empty()));
    }
    let found = store::bills(app.db.reader(&who.cause), &filter, after, query.limit.rows()).await?;
    let items = found.iter().map(Bill::view).collect();
    Ok(Answer::plain(&Page::from_rows(items, query.limit, |last: &BillView| last.id)))
}

/// A line to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct LineBody {
    #[schema(min_length = 1, max_length = 64)]
    code: String,
    #[schema(min_length = 1, max_length = 500)]
    description: String,
    /// A whole number from 1 to 10,000.
    #[schema(value_type = i32, minimum = 1, maximum = 10000)]
    quantity: serde_json::Number,
    unit_price: MoneyInput,
}

fn lines(bodies: &[LineBody]) -> Result<Vec<Line>, Problem> {
    let mut faults = Faults::new();
    if !(1..=200).contains(&bodies.len()) {
        faults.push("", "must be 1 to 200 lines");
    }
    let mut lines = Vec::with_capacity(bodies.len());
    for (i, body) in bodies.iter().enumerate() {
        if body.unit_price.has_wrong_type() {
            let problem =
                Problem::new(400, "invalid-body", "The body is not what this request takes.");
            return Err(
                problem.fault(&format!("/{i}/unitPrice/amount"), "must be a string or a number")
            );
        }
        let code = faults.take(&format!("/{i}/code"), text(&body.code, 64));
        let description = faults.take(&format!("/{i}/description"), text(&body.description, 500));
        let quantity =
            body.quantity.as_str().parse::<i32>().ok().filter(|q| (1..=10_000).contains(q));
        let quantity = faults.take(
            &format!("/{i}/quantity"),
            quantity.ok_or("must be a whole number from 1 to 10,000"),
        );
        let unit_price = body.unit_price.parse(&format!("/{i}/unitPrice"), &mut faults);
        if unit_price.is_some_and(|price| price.minor() < 0) {
            faults.push_coded(
                format!("/{i}/unitPrice/amount"),
                "amount-invalid",
                "must not be negative",
            );
        }
        if let (Some(code), Some(description), Some(quantity), Some(price)) =
            (code, description, quantity, unit_price)
        {
            match Line::new(code, description, quantity, price) {
                Some(line) => lines.push(line),
                None => faults.push_coded(
                    format!("/{i}/unitPrice/amount"),
                    "amount-invalid",
                    "is too large",
                ),
            }
        }
    }
    Ok(faults.finish(Some(lines))?)
}

/// Adds lines to a draft.
#[utoipa::path(
    post, path = "/bills/{id}/lines", tag = "Bills", request_body = Vec<LineBody>,
    params(("id" = String, Path, format = Uuid, description = "The bill.")),
    responses((status = 200, description = "The bill with its lines.", body = BillView), StepProblems),
)]
pub(super) async fn add(
    State(app): State<App>,
    who: Allowed<BillingManagers>,
    PathId(id): PathId<BillKind>,
    key: IdempotencyKey,
    seen: IfMatch,
    body: Body<Vec<LineBody>>,
) -> Result<Answer, Problem> {
    let lines = match body.parse().and_then(|bodies| lines(&bodies)) {
        Ok(lines) => lines,
        Err(problem) => return Err(app.malformed(&who.cause, id, problem).await),
    };
    let request = key.request("bill.add-lines", &who.cause, body.fingerprint());
    let work = async move |tx: &mut _| add_lines(tx, id, seen, lines).await;
    Ok(idempotency::once(&app.db, request, changed, work).await)
}

/// Issues a draft: it gets its number, can be paid and can no longer be changed.
#[utoipa::path(
    post, path = "/bills/{id}/issue", tag = "Bills",
    params(("id" = String, Path, format = Uuid, description = "The bill.")),
    responses((status = 200, description = "Issued.", body = BillView), StepProblems),
)]
pub(super) async fn issue(
    State(app): State<App>,
    who: Allowed<BillingManagers>,
    PathId(id): PathId<BillKind>,
    key: IdempotencyKey,
    seen: IfMatch,
    body: EmptyBody,
) -> Result<Answer, Problem> {
    if let Err(problem) = body.parse() {
        return Err(app.malformed(&who.cause, id, problem).await);
    }
    let request = key.request("bill.issue", &who.cause, body.fingerprint());
    let zone = app.zone.clone();
    let cause = who.cause.clone();
    let work = async move |tx: &mut _| issue_bill(tx, &cause, id, seen, &zone).await;
    Ok(idempotency::once(&app.db, request, changed, work).await)
}
