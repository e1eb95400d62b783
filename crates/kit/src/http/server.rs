//! The listening side: bounded in connections, headers and time.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The limits of a listening server.
#[derive(Clone, Copy, Debug)]
pub struct ServerSettings {
    /// How long a client may take to send a request's head, and how long a connection may idle.
    pub header_timeout: Duration,
    pub connections_max: usize,
    /// How long a stop waits for requests under way.
    pub drain: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(5),
            connections_max: 1024,
            drain: Duration::from_secs(10),
        }
    }
}

/// How large a request's head may be, in bytes; a longer one is a 431.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Serves until told to stop, then accepts nothing new, lets what is under way finish, and returns.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    settings: ServerSettings,
    stop: CancellationToken,
) -> io::Result<()> {
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(settings.connections_max));
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place.expect("the semaphore is never closed"),
            () = stop.cancelled() => break,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    // Out of descriptors, or the client has gone again: neither is a reason to end.
                    tracing::warn!(error = %e, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        if let Err(e) = stream.set_nodelay(true) {
            tracing::debug!(error = %e, "a connection stays without TCP_NODELAY");
        }
        let (routes, stop) = (routes.clone(), stop.clone());
        connections.spawn(async move {
            let mut server = http1::Builder::new();
            // Without a timer hyper ignores the timeout.
            server
                .timer(TokioTimer::new())
                .header_read_timeout(settings.header_timeout)
                .max_buf_size(HEAD_BYTES_MAX);
            let connection =
                server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.as_mut().await
                }
            };
            if let Err(e) = ended {
                tracing::debug!(error = %e, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    if timeout(settings.drain, connections.wait()).await.is_err() {
        tracing::warn!(open = connections.len(), "connections did not finish in time and are cut");
    }
    Ok(())
}
