//! The listening side: bounded in connections, headers and time.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, http::Request};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{
    connections::{Connection, Connections, Heard, Held, Limits},
    source::is_trusted,
};

/// The limits of a listening server.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// How long a client may take to send a request's head, and how long a connection may idle.
    pub header_timeout: Duration,
    /// Beyond it, whoever has waited longest for its client is closed.
    pub connections_max: usize,
    /// The same of one address.
    pub connections_per_address_max: usize,
    /// Whose addresses have as many connections as there are, since they speak for everybody.
    pub trusted_proxies: Arc<[IpNet]>,
    /// How long a stop waits for requests under way.
    pub drain: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(5),
            connections_max: 1024,
            connections_per_address_max: 768,
            trusted_proxies: Arc::default(),
            drain: Duration::from_secs(10),
        }
    }
}

/// How large a request's head may be, in bytes; a longer one is a 431.
pub(super) const HEAD_BYTES_MAX: usize = 32 * 1024;
/// How long a client may leave an answer untaken. Between requests hyper's own timeout ends a
/// connection long before.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// Serves until told to stop, then accepts nothing new, lets what is under way finish, and returns.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    settings: ServerSettings,
    stop: CancellationToken,
) -> io::Result<()> {
    let tasks = TaskTracker::new();
    let connections = Connections::new(Limits {
        all: settings.connections_max,
        of_one_address: settings.connections_per_address_max,
    });
    let mut looks = interval(Duration::from_secs(1));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = looks.tick() => {
                connections.cut_unread(UNREAD_MAX);
                continue;
            }
            () = stop.cancelled() => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                // Out of descriptors, or the client has gone again: neither is a reason to end. One
                // that waits for nothing gives its own.
                tracing::warn!(error = %e, "a connection could not be accepted");
                connections.make_room();
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let Some(held) = admit(&connections, address, &settings) else { continue };
        let (routes, stop) = (routes.clone(), stop.clone());
        tasks.spawn(converse(stream, held, routes, settings.header_timeout, stop));
    }
    drop(listener);
    tasks.close();
    if timeout(settings.drain, tasks.wait()).await.is_err() {
        tracing::warn!(open = tasks.len(), "connections did not finish in time and are cut");
    }
    Ok(())
}

fn admit(
    connections: &Arc<Connections>,
    address: SocketAddr,
    settings: &ServerSettings,
) -> Option<Held> {
    let address = address.ip().to_canonical();
    connections.admit(address, is_trusted(address, &settings.trusted_proxies))
}

/// A connection, from its first request to its end.
async fn converse(
    stream: TcpStream,
    held: Held,
    routes: Router,
    header_timeout: Duration,
    stop: CancellationToken,
) {
    if let Err(e) = stream.set_nodelay(true) {
        tracing::debug!(error = %e, "a connection stays without TCP_NODELAY");
    }
    let heard = Heard { stream, connection: Arc::clone(held.connection()) };
    let asked = Arc::clone(held.connection());
    let service = service_fn(move |request| answer(request, Arc::clone(&asked), routes.clone()));
    let mut server = http1::Builder::new();
    // Without a timer hyper ignores the timeout.
    server
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HEAD_BYTES_MAX);
    let connection = server.serve_connection(TokioIo::new(heard), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = held.connection().cut() => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = held.connection().cut() => return,
            }
        }
    };
    if let Err(e) = ended {
        tracing::debug!(error = %e, "a connection ended early");
    }
}

async fn answer(
    mut request: Request<Incoming>,
    connection: Arc<Connection>,
    routes: Router,
) -> Result<axum::response::Response, Infallible> {
    connection.head_is_there();
    if hyper::body::Body::is_end_stream(request.body()) {
        connection.working();
    }
    request.extensions_mut().insert(Arc::clone(&connection));
    let answered =
        routes.oneshot(request.map(|body| Body::new(body.map_err(axum::Error::new)))).await;
    connection.idle();
    answered
}
