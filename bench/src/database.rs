//! The bench's own questions to PostgreSQL, as its owner.

use anyhow::Context;
use tokio_postgres::{Client, NoTls};

pub(crate) async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.context("connecting to PostgreSQL")?;
    #[expect(clippy::disallowed_methods, reason = "ends with the client")]
    tokio::spawn(connection);
    Ok(client)
}

/// The first column of every row, as texts.
pub(crate) async fn texts(client: &Client, sql: &str) -> anyhow::Result<Vec<String>> {
    Ok(client.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// Makes a database, as a copy of another if one is named; an older one of the name goes.
pub(crate) async fn create(
    admin_url: &str,
    name: &str,
    template: Option<&str>,
) -> anyhow::Result<()> {
    let client = connect(admin_url).await?;
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
    let template = template.map(|name| format!(" TEMPLATE {name}")).unwrap_or_default();
    client
        .batch_execute(&format!("CREATE DATABASE {name}{template}"))
        .await
        .with_context(|| format!("making the database {name}"))
}
