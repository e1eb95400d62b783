//! The HTTP edge: what was told to whom.

use axum::{Router, extract::State};
use hospital_contracts::notification::{NotificationStatus, NotificationView};
use hospital_kit::{
    db::Db,
    http::{
        Allowed, Answer, Cursor, Limit, ListProblems, Page, PathId, Permission, Problem, Query,
        ReadProblems, with_docs,
    },
    service::Context,
};
use hospital_types::{Notification, NotificationId, Role, Roles};
use serde::Deserialize;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    message::Delivery,
    store::{self, Filter},
};

/// What the handlers are given.
#[derive(Clone)]
struct App {
    db: Db,
}

/// The service's routes, with their state, and their document.
pub(crate) fn routes(context: &Context) -> (Router, OpenApi) {
    let routes = OpenApiRouter::new().routes(routes!(list)).routes(routes!(show));
    let (routes, document) = with_docs(
        routes,
        "Hospital notification service",
        "What patients are told: once, and by whom it can be seen.",
    );
    (routes.with_state(App { db: context.db.clone() }), document)
}

/// The desk, on-call, and patients what is theirs.
struct Readers;
impl Permission for Readers {
    const ROLES: Roles = Roles::of(&[Role::FrontDesk, Role::OnCall, Role::Admin, Role::Patient]);
}

/// Which messages; everything given must hold.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct NotificationQuery {
    #[param(format = Uuid)]
    patient_id: Option<String>,
    #[param(format = Uuid)]
    appointment_id: Option<String>,
    #[param(format = Uuid)]
    bill_id: Option<String>,
    /// `pending`, `sent`, `dead`, `undeliverable` or `obsolete`.
    #[param(value_type = Option<NotificationStatus>, inline)]
    status: Option<String>,
    /// How many at most.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `nextCursor` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

impl NotificationQuery {
    fn filter(&self) -> Result<Filter, Problem> {
        let bad = |name: &str, detail: &str| {
            Problem::new(400, "invalid-query", format!("`{name}` {detail}."))
        };
        let id = |name: &'static str| move |_| bad(name, "takes an id");
        let status =
            self.status.as_deref().map(|s| NotificationStatus::parse(s).ok_or(())).transpose();
        Ok(Filter {
            patient: self
                .patient_id
                .as_deref()
                .map(str::parse)
                .transpose()
                .map_err(id("patientId"))?,
            appointment: self
                .appointment_id
                .as_deref()
                .map(str::parse)
                .transpose()
                .map_err(id("appointmentId"))?,
            bill: self.bill_id.as_deref().map(str::parse).transpose().map_err(id("billId"))?,
            status: status.map_err(|()| bad("status", "takes a message's status"))?,
        })
    }
}

/// Lists messages, oldest first. A patient sees their own.
#[utoipa::path(
    get, path = "/notifications", tag = "Notifications", params(NotificationQuery),
    responses((status = 200, description = "A page of messages.", body = Page<NotificationView>), ListProblems),
)]
async fn list(
    State(app): State<App>,
    who: Allowed<Readers>,
    Query(query): Query<NotificationQuery>,
) -> Result<Answer, Problem> {
    let mut filter = query.filter()?;
    let after = query.cursor.as_ref().map(Cursor::decode::<NotificationId>).transpose()?;
    if !who.scope().narrow(&mut filter.patient) {
        return Ok(Answer::plain(&Page::<NotificationView>::empty()));
    }
    let found =
        store::deliveries(app.db.reader(&who.cause), &filter, after, query.limit.rows()).await?;
    let items = found.iter().map(Delivery::view).collect();
    Ok(Answer::plain(&Page::from_rows(items, query.limit, |last: &NotificationView| last.id)))
}

/// Shows a message.
#[utoipa::path(
    get, path = "/notifications/{id}", tag = "Notifications",
    params(("id" = String, Path, format = Uuid, description = "The message.")),
    responses((status = 200, description = "The message.", body = NotificationView), ReadProblems),
)]
async fn show(
    State(app): State<App>,
    who: Allowed<Readers>,
    PathId(id): PathId<Notification>,
) -> Result<Answer, Problem> {
    let delivery = store::delivery_by_id(app.db.reader(&who.cause), id)
        .await?
        .filter(|delivery| who.may_see(delivery.message.patient))
        .ok_or_else(Problem::not_found)?;
    Ok(Answer::ok(delivery.version, &delivery.view()))
}
