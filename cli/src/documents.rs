//! `hospital openapi` and `hospital asyncapi`: the documents under `api/`, made from the code.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context as _;
use hospital_kit::{
    auth::SigningKey,
    clock::Clock,
    config::{Config, Secret},
    service::{Context, Service},
};

use crate::{
    asyncapi,
    services::{self, Entry},
};

/// Prints a service's OpenAPI document, as it is checked in under `api/`
#[derive(clap::Args)]
pub(crate) struct OpenapiArgs {
    /// patient, appointment, billing or notification
    #[arg(value_parser = services::parse)]
    service: Entry,
}

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(crate) fn openapi(args: &OpenapiArgs) -> anyhow::Result<()> {
    println!("{}", document(args.service)?);
    Ok(())
}

/// Prints the AsyncAPI document of the events, as it is checked in under `api/`
#[derive(clap::Args)]
pub(crate) struct AsyncapiArgs {}

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(crate) fn asyncapi() -> anyhow::Result<()> {
    let mut consumers = BTreeMap::new();
    for entry in services::ALL {
        for consumer in build(entry)?.consumers {
            consumers.insert(consumer.group(), consumer.topics());
        }
    }
    println!("{}", serde_json::to_string_pretty(&asyncapi::document(&consumers)?)?);
    Ok(())
}

/// A service's document.
pub(crate) fn document(service: Entry) -> anyhow::Result<String> {
    // By way of a value, so that members stand in one order.
    let value = serde_json::to_value(build(service)?.openapi).context("the document is no JSON")?;
    Ok(serde_json::to_string_pretty(&value)?)
}

/// A service that was built and never runs. Nothing is connected for it.
fn build(service: Entry) -> anyhow::Result<Service> {
    let dir = std::env::temp_dir().join(format!(
        "hospital-openapi-{}-{}",
        service.name,
        std::process::id()
    ));
    std::fs::create_dir_all(&dir)?;
    let key = dir.join("key.pem");
    SigningKey::generate()?.save(&key)?;
    let mut config = Config {
        database_url: Some(Secret::new("postgresql://nobody@127.0.0.1:1/nothing")),
        ..Config::default()
    };
    config.auth.signing_key_file = Some(key);
    config.notification.mailbox_dir = dir.join("mailbox");
    let context = Context::new(Arc::new(config), service.name, Clock::system())?;
    let built = (service.build)(&context)?;
    std::fs::remove_dir_all(&dir)?;
    Ok(built)
}
