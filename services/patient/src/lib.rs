#![doc = include_str!("../README.md")]

mod contact;
mod duplicate;
mod fold;
mod patient;
mod refused;
mod unidentified;

mod change;
mod refold;
mod register;

mod explain;
mod store;

mod api;

use hospital_kit::{
    migrate::Schema,
    outcome::Broken,
    service::{Context, Service, task},
};

use crate::{contact::Country, refold::AllFolded};

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
            ("temporary_name", "USAGE"),
        ],
    }
}

/// The service, from what every service is made from.
pub fn service(context: &Context) -> Result<Service, Broken> {
    let country = Country::parse(&context.config.facility.country).ok_or_else(|| {
        let unknown = "facility.country names no country whose phone numbers are known";
        Broken::defect("reading the settings", unknown)
    })?;
    let all_folded = AllFolded::default();
    let (routes, openapi) = api::routes(context, country, all_folded.clone());
    let db = context.db.clone();
    let tasks = vec![("fold names", task(move |stop| refold::run(db, all_folded, stop)))];
    Ok(Service {
        schema: schema(),
        routes,
        openapi,
        consumers: Vec::new(),
        jobs: Vec::new(),
        tasks,
        prunes: Vec::new(),
    })
}
