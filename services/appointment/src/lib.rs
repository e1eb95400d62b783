#![doc = include_str!("../README.md")]

pub mod identifiers;
pub mod life_cycle;
pub mod service_type;
pub mod slot;

pub mod appointment;
pub mod own;
pub mod refused;

pub mod advance;
pub mod book;
pub mod cancel;
pub mod register_practitioner;
pub mod reschedule;
mod step;

mod explain;
pub mod patient_check;
pub mod store;

mod api;

use hospital_kit::{
    migrate::Schema,
    outcome::Broken,
    service::{Context, Service},
};

refinery::embed_migrations!("migrations");

/// The service's schema, as this code knows it.
pub fn schema() -> Schema {
    Schema {
        name: "appointment",
        migrations: migrations::runner().get_migrations().clone(),
        rights: &[("appointment", "UPDATE"), ("own_booking", "UPDATE"), ("reservation", "DELETE")],
    }
}

/// The service, ready to run.
pub fn service(ctx: &Context) -> Result<Service, Broken> {
    let (routes, openapi) = api::routes(ctx)?;
    Ok(Service {
        schema: schema(),
        routes,
        openapi,
        consumers: Vec::new(),
        jobs: Vec::new(),
        tasks: Vec::new(),
        prunes: Vec::new(),
    })
}
