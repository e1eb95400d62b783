#![doc = include_str!("../README.md")]

mod contact;
mod duplicate;
mod patient;
mod refused;

mod change;
mod register;

mod explain;
mod store;

mod api;

use hospital_kit::{
    migrate::Schema,
    outcome::Broken,
    service::{Context, Service},
};

refinery::embed_migrations!("migrations");

/// The service's schema.
pub fn schema() -> Schema {
    Schema {
        name: "patient",
        migrations: migrations::runner().get_migrations().clone(),
        rights: &[
            ("patient", "UPDATE"),
            ("patient_identifier", "DELETE"),
            ("patient_name", "DELETE"),
        ],
    }
}

/// The service, from what every service is made from.
pub fn service(context: &Context) -> Result<Service, Broken> {
    let (routes, openapi) = api::routes(context);
    Ok(Service {
        schema: schema(),
        routes,
        openapi,
        consumers: Vec::new(),
        tasks: Vec::new(),
        prunes: Vec::new(),
    })
}
