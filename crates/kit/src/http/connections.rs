//! The connections of a listener: how many there may be, whose they are, and which gives way when
//! there are too many.
//!
//! A connection costs little, and there must be an end to them all the same. Who waits for a client
//! that does not send is the one to go: so however many half-sent requests are held open, one more
//! connection is always accepted, and whoever sends a whole request has it answered.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::http::{Method, Uri};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
};

use super::{seldom::Seldom, source::Source};

/// How many there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) all: usize,
    pub(super) of_one_address: usize,
}

pub(super) struct Connections {
    limits: Limits,
    open: Mutex<Open>,
    told: Seldom,
    epoch: Instant,
}

#[derive(Default)]
struct Open {
    last: u64,
    all: HashMap<u64, Arc<Connection>>,
    by_address: HashMap<Source, usize>,
}

impl Open {
    fn remove(&mut self, id: u64) {
        let Some(connection) = self.all.remove(&id) else { return };
        if let Some(count) = self.by_address.get_mut(&connection.source) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&connection.source);
            }
        }
    }

    /// The one whose turn it is to go, if any waits for its client.
    fn longest_waiting(&self, of: Option<Source>) -> Option<Arc<Connection>> {
        self.all
            .values()
            .filter(|connection| of.is_none_or(|source| connection.source == source))
            .map(|connection| (connection.turn.load(Ordering::Relaxed), connection))
            .filter(|(turn, _)| *turn != WORKING)
            .min_by_key(|(turn, _)| *turn)
            .map(|(_, connection)| Arc::clone(connection))
    }
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let (told, epoch) = (Seldom::default(), Instant::now());
        Arc::new(Self { limits, open: Mutex::default(), told, epoch })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Nothing that holds it can panic halfway.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one more connection, for which another one may have to go; or none, when all of them
    /// are at work. A proxy has as many as there are, since it speaks for everybody.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr, is_proxy: bool) -> Option<Held> {
        let source = Source::of(address);
        let mut open = self.open();
        let own = open.by_address.get(&source).copied().unwrap_or(0);
        if !is_proxy && own >= self.limits.of_one_address {
            self.give_way(&mut open, Some(source))?;
        }
        if open.all.len() >= self.limits.all {
            self.give_way(&mut open, None)?;
        }
        open.last += 1;
        let connection = Arc::new(Connection {
            id: open.last,
            address,
            source,
            turn: AtomicU64::new(0),
            awaits_head: AtomicBool::new(true),
            head: Mutex::default(),
            cut: Notify::new(),
            epoch: self.epoch,
        });
        connection.arriving();
        open.all.insert(connection.id, Arc::clone(&connection));
        *open.by_address.entry(source).or_default() += 1;
        Some(Held { connection, all: Arc::clone(self) })
    }

    /// Ends the connection that has waited longest for its client, when descriptors are short.
    pub(super) fn make_room(&self) {
        // Where all are at work there is none to end.
        let _ = self.give_way(&mut self.open(), None);
    }

    fn give_way(&self, open: &mut Open, of: Option<Source>) -> Option<()> {
        let longest = open.longest_waiting(of);
        if let Some(longest) = &longest {
            longest.cut.notify_one();
            open.remove(longest.id);
        }
        let whose = of.map_or("all", |_| "one address");
        metrics::counter!("http_connections_limited_total", "by" => whose).increment(1);
        let address = longest.as_ref().map(|longest| longest.address);
        self.told.note(|count| {
            tracing::warn!(
                target: "http",
                count,
                whose,
                address = address.map(tracing::field::display),
                "too many connections: those that have waited longest for their clients are closed"
            );
        });
        longest.map(|_| ())
    }

    /// Ends connections whose clients do not take their answers.
    pub(super) fn cut_unread(&self, patience: Duration) {
        let mut open = self.open();
        let now = since(self.epoch);
        let patience = u64::try_from(patience.as_micros()).unwrap_or(u64::MAX);
        let stuck: Vec<_> = open
            .all
            .values()
            .filter(|connection| {
                let turn = connection.turn.load(Ordering::Relaxed);
                turn != WORKING && turn & IDLE != 0 && now.saturating_sub(turn & !IDLE) > patience
            })
            .map(Arc::clone)
            .collect();
        for connection in stuck {
            connection.cut.notify_one();
            open.remove(connection.id);
        }
    }
}

fn since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Nothing is awaited from its client.
const WORKING: u64 = u64::MAX;
/// Between requests: an honest client that may send another one. It goes after all that have begun
/// a request and do not end it.
const IDLE: u64 = 1 << 63;

/// A connection as its listener knows it.
pub(super) struct Connection {
    id: u64,
    pub(super) address: IpAddr,
    source: Source,
    /// Its place among those that wait for their clients, the lowest being the first to go: since
    /// when, in microseconds, and [`IDLE`]; or [`WORKING`].
    turn: AtomicU64,
    /// Whether what comes next is a request's head.
    awaits_head: AtomicBool,
    /// The head as it came. hyper does not say of it what it left out.
    head: Mutex<Vec<u8>>,
    cut: Notify,
    epoch: Instant,
}

/// As much of a head is kept as is read of one.
const HEAD_KEPT_MAX: usize = super::server::HEAD_BYTES_MAX;
/// What a connection may keep for the next head.
const HEAD_ROOM: usize = 2048;

impl Connection {
    fn arriving(&self) {
        self.turn.store(since(self.epoch), Ordering::Relaxed);
    }

    /// A request is there, to its end.
    pub(super) fn working(&self) {
        self.turn.store(WORKING, Ordering::Relaxed);
    }

    /// The answer is ready, and whatever comes is another request.
    pub(super) fn idle(&self) {
        let mut head = self.head();
        head.clear();
        head.shrink_to(HEAD_ROOM);
        drop(head);
        self.awaits_head.store(true, Ordering::Relaxed);
        self.turn.store(since(self.epoch) | IDLE, Ordering::Relaxed);
    }

    fn head(&self) -> MutexGuard<'_, Vec<u8>> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self, bytes: &[u8]) {
        if bytes.is_empty() || !self.awaits_head.load(Ordering::Relaxed) {
            return;
        }
        let turn = self.turn.load(Ordering::Relaxed);
        if turn != WORKING && turn & IDLE != 0 {
            self.arriving();
        }
        let mut head = self.head();
        let room = HEAD_KEPT_MAX.saturating_sub(head.len());
        head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The head of a request has come.
    pub(super) fn head_is_there(&self) {
        self.awaits_head.store(false, Ordering::Relaxed);
    }

    /// Whether this request's head says with `Content-Length` how long its body is, whatever hyper
    /// has left of it: it follows the `Transfer-Encoding` and drops the length. Of requests that
    /// were sent in a row only the first is known.
    pub(super) fn gives_length(&self, method: &Method, uri: &Uri) -> bool {
        let head = self.head();
        let text = String::from_utf8_lossy(&head);
        let text = text.trim_start_matches(['\r', '\n']);
        let target = uri.path_and_query().map_or_else(|| uri.path(), |target| target.as_str());
        text.starts_with(&format!("{method} {target} "))
            && text.lines().take_while(|line| !line.is_empty()).any(|line| {
                let name = line.split(':').next().unwrap_or_default();
                name.eq_ignore_ascii_case("content-length")
            })
    }

    /// Ends when this connection has to.
    pub(super) async fn cut(&self) {
        self.cut.notified().await;
    }
}

/// A connection's place among all, until it is dropped.
pub(super) struct Held {
    connection: Arc<Connection>,
    all: Arc<Connections>,
}

impl Held {
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.open().remove(self.connection.id);
    }
}

/// The stream of a connection, which hears when something comes.
pub(super) struct Heard {
    pub(super) stream: TcpStream,
    pub(super) connection: Arc<Connection>,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.connection.heard(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    async fn is_cut(held: &Held) -> bool {
        tokio::time::timeout(Duration::ZERO, held.connection().cut()).await.is_ok()
    }

    fn pause() {
        std::thread::sleep(Duration::from_micros(20));
    }

    #[tokio::test]
    async fn who_has_sent_half_a_request_goes_before_who_may_send_another() {
        let all = Connections::new(Limits { all: 3, of_one_address: 3 });
        let take = |last: u8| {
            pause();
            all.admit(ip(last), false).unwrap()
        };
        let (idle, half, working) = (take(1), take(2), take(3));
        idle.connection().idle();
        working.connection().working();
        let _fourth = take(4);
        assert!(is_cut(&half).await && !is_cut(&idle).await && !is_cut(&working).await);
        _fourth.connection().working();
        let fifth = take(5);
        assert!(is_cut(&idle).await && !is_cut(&working).await);
        fifth.connection().working();
        assert!(all.admit(ip(6), false).is_none(), "none that is at work is ended");
        drop(fifth);
        assert!(all.admit(ip(6), false).is_some());
    }

    #[tokio::test]
    async fn an_address_that_has_too_many_makes_room_for_itself() {
        let all = Connections::new(Limits { all: 10, of_one_address: 2 });
        let take = |last: u8| {
            pause();
            all.admit(ip(last), false).unwrap()
        };
        let (others, first, second) = (take(1), take(2), take(2));
        let third = take(2);
        assert!(is_cut(&first).await && !is_cut(&second).await && !is_cut(&others).await);
        for held in [&second, &third] {
            held.connection().working();
        }
        assert!(all.admit(ip(2), false).is_none());
        assert!(all.admit(ip(2), true).is_some(), "a proxy speaks for everybody");
    }

    #[tokio::test]
    async fn who_does_not_take_an_answer_is_not_kept() {
        let all = Connections::new(Limits { all: 10, of_one_address: 10 });
        let held = [(); 3].map(|()| all.admit(ip(1), false).unwrap());
        held[0].connection().idle();
        held[1].connection().working();
        std::thread::sleep(Duration::from_millis(2));
        all.cut_unread(Duration::from_secs(60));
        assert!(!is_cut(&held[0]).await);
        all.cut_unread(Duration::from_millis(1));
        assert!(is_cut(&held[0]).await && !is_cut(&held[1]).await && !is_cut(&held[2]).await);
    }

    #[test]
    fn a_head_is_looked_at_as_it_came() {
        let all = Connections::new(Limits { all: 1, of_one_address: 1 });
        let held = all.admit(ip(1), false).unwrap();
        let connection = held.connection();
        let uri = Uri::from_static("/things?a=b");
        connection.heard(b"POST /things?a=b HTTP/1.1\r\ncontent-LENGTH: 3\r\n\r\nabc");
        assert!(connection.gives_length(&Method::POST, &uri));
        connection.head_is_there();
        connection.heard(b"POST /x HTTP/1.1\r\n\r\n");
        connection.idle();
        connection.heard(b"POST /things?a=b HTTP/1.1\r\nHost: x\r\n\r\nContent-Length: 3\r\n");
        assert!(!connection.gives_length(&Method::POST, &uri), "that was its body");
    }
}
