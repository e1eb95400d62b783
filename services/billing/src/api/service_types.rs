use axum::extract::{Path, State};
use hospital_contracts::billing::ServiceTypeView;
use hospital_kit::{
    db::Tx,
    http::{
        Allowed, Answer, Body, Cursor, IfMatch, Limit, ListProblems, Page, Problem, Query, Staff,
        StepProblems, not_null,
    },
};
use hospital_types::{Faults, MoneyInput, text};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{App, BillingManagers};
use crate::{
    price::{ServiceType, is_code, set_price},
    store,
};

/// A price list entry: a name, and either a price or `pricedAtVisit: true`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ServiceTypeBody {
    #[schema(min_length = 1, max_length = 100, example = "General consultation")]
    name: String,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false)]
    price: Option<MoneyInput>,
    #[serde(default)]
    priced_at_visit: bool,
}

/// Sets what a kind of service costs from now on. What was booked before keeps the price that it was booked at.
#[utoipa::path(
    put, path = "/service-types/{code}", tag = "Price list", request_body = ServiceTypeBody,
    params(("code" = String, Path, pattern = "^[a-z0-9-]{1,64}$", description = "Its code.")),
    responses((status = 200, description = "Changed.", body = ServiceTypeView),
              (status = 201, description = "New.", body = ServiceTypeView), StepProblems),
)]
pub(super) async fn put(
    State(app): State<App>,
    who: Allowed<BillingManagers>,
    Path(code): Path<String>,
    seen: IfMatch,
    body: Body<ServiceTypeBody>,
) -> Result<Answer, Problem> {
    if !is_code(&code) {
        return Err(Problem::not_found());
    }
    let body = body.parse()?;
    let mut faults = Faults::new();
    let name = faults.take("/name", text(&body.name, 100));
    let price = body.price.map(|price| price.parse("/price", &mut faults));
    if price.is_some() == body.priced_at_visit {
        faults.push("/price", "either a price or pricedAtVisit: true must be given");
    }
    if price.flatten().is_some_and(|price| price.minor() < 0) {
        faults.push_coded("/price/amount", "amount-invalid", "must not be negative");
    }
    let name = faults.finish(name)?;
    let created_at = app.clock.now();
    let entry = ServiceType { code, name, price: price.flatten(), version: 1, created_at };
    let cause = who.cause.clone();
    let work = async move |tx: &mut Tx<_>| set_price(tx, &cause, &entry, seen).await;
    let (entry, is_new) = app.db.write("service-type.put", work).await?;
    let location = format!("/service-types/{}", entry.code);
    Ok(if is_new {
        Answer::created(location, entry.version, &entry.view())
    } else {
        Answer::ok(entry.version, &entry.view())
    })
}

/// What part of the price list.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ServiceTypeQuery {
    #[param(pattern = "^[a-z0-9-]{1,64}$")]
    code: Option<String>,
    /// How many at most.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `nextCursor` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

/// Lists the price list.
#[utoipa::path(
    get, path = "/service-types", tag = "Price list", params(ServiceTypeQuery),
    responses((status = 200, description = "A page of the price list.", body = Page<ServiceTypeView>), ListProblems),
)]
pub(super) async fn list(
    State(app): State<App>,
    who: Allowed<Staff>,
    Query(query): Query<ServiceTypeQuery>,
) -> Result<Answer, Problem> {
    if query.code.as_deref().is_some_and(|code| !is_code(code)) {
        return Err(super::bad_query("code", "takes a service type's code"));
    }
    let after = query.cursor.as_ref().map(Cursor::decode::<String>).transpose()?;
    let found =
        store::service_types(app.db.reader(&who.cause), query.code, after, query.limit.rows())
            .await?;
    let items = found.iter().map(ServiceType::view).collect();
    Ok(Answer::plain(&Page::from_rows(items, query.limit, |last: &ServiceTypeView| {
        last.code.clone()
    })))
}
