#![doc = include_str!("../README.md")]

mod bill;
mod card_number;
mod gateway;
mod payment;
mod price;

mod add_lines;
mod cancel;
mod generate;
mod issue;
mod pay;
mod settle;

mod store;

mod api;
mod consume;
mod reconcile;

use std::sync::Arc;

use hospital_kit::{
    jobs::Worker,
    maintenance::Prune,
    migrate::Schema,
    outcome::Broken,
    service::{Context, Service},
};

refinery::embed_migrations!("migrations");

/// How long the sandbox gateway remembers a charge, beyond anybody's questions.
const SANDBOX_DAYS: i32 = 400;

/// The service's schema.
pub fn schema() -> Schema {
    Schema {
        name: "billing",
        migrations: migrations::runner().get_migrations().clone(),
        rights: &[
            ("bill", "UPDATE"),
            ("bill_counter", "UPDATE"),
            ("payment", "UPDATE"),
            ("sandbox_charge", "UPDATE"),
            ("service_type", "UPDATE"),
        ],
    }
}

/// The service, from what every service is made from.
pub fn service(context: &Context) -> Result<Service, Broken> {
    let gateway: gateway::SharedGateway = Arc::new(gateway::Sandbox::new(context.db.clone()));
    let (routes, openapi) = api::routes(context, &gateway);
    Ok(Service {
        schema: schema(),
        routes,
        openapi,
        consumers: vec![Arc::new(consume::Billing::new(context))],
        jobs: vec![Worker::new(reconcile::Reconciler::new(context, gateway))],
        tasks: Vec::new(),
        prunes: vec![Prune {
            what: "forgetting the sandbox gateway's old charges",
            sql: "SELECT sandbox_forget($1, $2)",
            keep_days: SANDBOX_DAYS,
        }],
    })
}
