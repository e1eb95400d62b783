#![doc = include_str!("../README.md")]

mod message;
mod text;

mod channel;
mod store;

mod api;
mod consume;
mod contact_sync;
mod names;
mod send;
mod tray;

use std::sync::Arc;

use hospital_kit::{
    jobs::Worker,
    maintenance::Prune,
    migrate::Schema,
    outcome::Broken,
    service::{Context, Service, task},
};

refinery::embed_migrations!("migrations");

/// The service's schema.
pub fn schema() -> Schema {
    Schema {
        name: "notification",
        migrations: migrations::runner().get_migrations().clone(),
        rights: &[("contact", "UPDATE"), ("delivery", "UPDATE"), ("dispatch", "DELETE, UPDATE")],
    }
}

/// The service, from what every service is made from.
pub fn service(context: &Context) -> Result<Service, Broken> {
    let (routes, openapi) = api::routes(context);
    let tray = Arc::new(tray::Tray::default());
    let consumer = consume::Notifications::new(context, &tray)?;
    let contacts = contact_sync::ContactSync::new(context, Arc::clone(&tray))?;
    let sender = send::Sender::new(context, tray)?;
    Ok(Service {
        schema: schema(),
        routes,
        openapi,
        consumers: vec![Arc::new(consumer)],
        jobs: vec![Worker::new(contacts)],
        tasks: vec![("send messages", task(move |stop| sender.run(stop)))],
        prunes: vec![
            Prune {
                what: "forgetting old messages",
                sql: "SELECT delivery_forget($1, $2)",
                keep_days: context.config.retention.messages_days,
            },
            Prune {
                what: "forgetting old dispatches",
                sql: "SELECT dispatch_forget($1, $2)",
                keep_days: context.config.retention.messages_days,
            },
        ],
    })
}
