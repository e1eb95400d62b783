//! A TCP proxy between two parties, and what can be wrong with a line: it is cut, slow, half-open or narrow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use crate::spawn;

/// How a line is at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Line {
    #[default]
    Good,
    /// Nobody gets through: what is open is closed, and what is new is closed at once.
    Cut,
    /// Every piece arrives so much later.
    Slow(Duration),
    /// Both ends believe that they are connected, and nothing arrives.
    HalfOpen,
    /// So many bytes a second.
    Narrow(u64),
}

/// A proxy. It listens for as long as this value lives.
pub struct Proxy {
    port: u16,
    target: Arc<AtomicU16>,
    line: watch::Sender<Line>,
    /// Counted up to close all connections.
    cuts: watch::Sender<u64>,
    task: tokio::task::AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Listens on a free port of loopback, or on a given one, for a target there, which may be told later.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub async fn listen(port: u16, target: u16) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(("127.0.0.1", port)).await.context("opening a proxy's port")?;
        let port = listener.local_addr()?.port();
        let target = Arc::new(AtomicU16::new(target));
        let (line, lines) = watch::channel(Line::Good);
        let (cuts, cut) = watch::channel(0);
        let accepting = accept(listener, Arc::clone(&target), lines, cut);
        Ok(Self { port, target, line, cuts, task: spawn(accepting) })
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    pub fn aim(&self, target: u16) {
        self.target.store(target, Ordering::Relaxed);
    }

    /// Changes the line. Connections that nothing came through for a while are closed when it is good again: their ends have lost each
    /// other.
    pub fn set(&self, line: Line) {
        let before = self.line.send_replace(line);
        if line == Line::Cut || before == Line::HalfOpen {
            self.hang_up();
        }
    }

    /// Closes every connection once.
    pub fn hang_up(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn accept(
    listener: TcpListener,
    target: Arc<AtomicU16>,
    line: watch::Receiver<Line>,
    cut: watch::Receiver<u64>,
) {
    loop {
        let Ok((near, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if *line.borrow() == Line::Cut {
            continue;
        }
        let (target, line, mut cut) = (target.load(Ordering::Relaxed), line.clone(), cut.clone());
        cut.mark_unchanged();
        spawn(async move {
            tokio::select! {
                // However it ends, both ends are closed.
                _ = connect(near, target, line) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

async fn connect(near: TcpStream, target: u16, line: watch::Receiver<Line>) -> std::io::Result<()> {
    let far = TcpStream::connect(("127.0.0.1", target)).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let (there, back) =
        (pump(near_in, far_out, line.clone()), pump(far_in, near_out, line.clone()));
    tokio::try_join!(there, back).map(|_| ())
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut line: watch::Receiver<Line>,
) -> std::io::Result<()> {
    let mut buffer = vec![0_u8; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        let now = *line.borrow_and_update();
        match now {
            Line::Good | Line::Cut => to.write_all(&buffer[..count]).await?,
            Line::Slow(by) => {
                tokio::time::sleep(by).await;
                to.write_all(&buffer[..count]).await?;
            }
            // Swallowed: the connection is closed when the line is good again.
            Line::HalfOpen => {}
            Line::Narrow(bytes_per_s) => {
                for piece in buffer[..count].chunks(512) {
                    if matches!(*line.borrow(), Line::Narrow(_)) {
                        let bytes = u64::try_from(piece.len()).unwrap_or(512);
                        tokio::time::sleep(Duration::from_micros(bytes * 1_000_000 / bytes_per_s))
                            .await;
                    }
                    to.write_all(piece).await?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// An echo behind a proxy.
    async fn echo() -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        Proxy::listen(0, port).await.unwrap()
    }

    async fn ask(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
        stream.write_all(b"hello").await?;
        let mut answer = vec![0; 5];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_line_is_good_slow_half_open_and_cut() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), b"hello");
        proxy.set(Line::Slow(Duration::from_millis(40)));
        let started = Instant::now();
        ask(&mut stream).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(80));
        proxy.set(Line::Narrow(100));
        let started = Instant::now();
        ask(&mut stream).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(100));
        proxy.set(Line::HalfOpen);
        let waited = tokio::time::timeout(Duration::from_millis(100), ask(&mut stream)).await;
        assert!(waited.is_err(), "{waited:?}");
        proxy.set(Line::Good);
        assert!(ask(&mut stream).await.is_err(), "its ends have lost each other");
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        ask(&mut stream).await.unwrap();
        proxy.set(Line::Cut);
        assert!(ask(&mut stream).await.is_err());
        let again = TcpStream::connect(("127.0.0.1", proxy.port())).await;
        assert!(ask(&mut again.unwrap()).await.is_err());
    }
}
