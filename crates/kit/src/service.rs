//! A service as the platform runs it: its schema, routes, consumers and tasks, started and stopped in the right order.

use std::{future::Future, pin::Pin, sync::Arc};

use axum::Router;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi;

use crate::{
    auth::{Authority, TokenSource},
    bus::SharedBus,
    clock::Clock,
    config::Config,
    db::Db,
    inbox::Consume,
    migrate::Schema,
};

/// What every service is made from, built once.
#[derive(Clone)]
pub struct Context {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub db: Db,
    pub bus: SharedBus,
    pub authority: Arc<Authority>,
    /// Makes the tokens with which this service asks others.
    pub tokens: Arc<TokenSource>,
}

/// A background task: runs until the token is cancelled, then finishes what it holds and returns.
pub type Task =
    Box<dyn FnOnce(CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Boxes an async function as a [`Task`].
pub fn task<F>(run: impl FnOnce(CancellationToken) -> F + Send + 'static) -> Task
where
    F: Future<Output = ()> + Send + 'static,
{
    Box::new(move |stop| Box::pin(run(stop)))
}

/// One of the platform's services.
pub struct Service {
    pub name: &'static str,
    pub schema: Schema,
    /// Its routes, state included, without health, metrics and documents, which every service has alike.
    pub routes: Router,
    pub openapi: OpenApi,
    pub consumers: Vec<Arc<dyn Consume>>,
    pub tasks: Vec<(&'static str, Task)>,
}
