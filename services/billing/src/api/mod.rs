//! The HTTP edge: routes, bodies, who may do what.

mod bills;
mod payments;
mod service_types;

use std::time::Duration;

use axum::Router;
use hospital_kit::{
    clock::Clock,
    db::Db,
    http::{Permission, Problem, with_docs},
    idempotency::Together,
    service::Context,
};
use hospital_types::{Role, Roles};
use jiff::tz::TimeZone;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{gateway::SharedGateway, pay::Payments};

/// What the handlers are given.
#[derive(Clone)]
struct App {
    db: Db,
    payments: Together<Payments>,
    clock: Clock,
    /// The facility's, in which bills are numbered.
    zone: TimeZone,
    gateway: SharedGateway,
    gateway_timeout: Duration,
    /// When an unknown payment is looked at first.
    reconcile_after: Duration,
}

/// The service's routes, with their state, and their document.
pub(crate) fn routes(context: &Context, gateway: &SharedGateway) -> (Router, OpenApi) {
    let billing = &context.config.billing;
    let app = App {
        db: context.db.clone(),
        payments: Together::new(&context.db),
        clock: context.clock.clone(),
        zone: context.config.facility.time_zone(),
        gateway: SharedGateway::clone(gateway),
        gateway_timeout: Duration::from_millis(billing.gateway_timeout_ms),
        reconcile_after: Duration::from_secs(billing.reconcile_after_s[0]),
    };
    let routes = OpenApiRouter::new()
        .routes(routes!(service_types::put))
        .routes(routes!(service_types::list))
        .routes(routes!(bills::list))
        .routes(routes!(bills::show))
        .routes(routes!(bills::add))
        .routes(routes!(bills::issue))
        .routes(routes!(payments::pay, payments::list))
        .routes(routes!(payments::show))
        .routes(routes!(payments::settle_conflicted));
    let (routes, document) = with_docs(
        routes,
        "Hospital billing service",
        "The price list, bills, and payments: partial, concurrent, and never twice.",
    );
    (routes.with_state(app), document)
}

/// Who sees bills and payments: those who take money, the desk, and patients what is theirs.
struct MoneyReaders;
impl Permission for MoneyReaders {
    const ROLES: Roles = Roles::of(&[
        Role::Cashier,
        Role::BillingManager,
        Role::FrontDesk,
        Role::Patient,
        Role::Admin,
    ]);
}

struct BillingManagers;
impl Permission for BillingManagers {
    const ROLES: Roles = Roles::of(&[Role::BillingManager]);
}

/// Who pays: cashiers for anybody, patients for themselves.
struct Payers;
impl Permission for Payers {
    const ROLES: Roles = Roles::of(&[Role::Cashier, Role::Patient]);
}

fn bad_query(name: &str, detail: &str) -> Problem {
    Problem::new(400, "invalid-query", format!("`{name}` {detail}."))
}
