//! Log lines on their way out: written together, since a system call a line costs a service as much as its answer does.

use std::{
    io::{self, Write},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line may wait for company.
const WAIT: Duration = Duration::from_millis(50);
/// How much may wait.
const ROOM: usize = 32 * 1024;

/// Lines that wait. A warning or an error takes everything with it at once.
pub(super) struct Lines<W> {
    waiting: Mutex<Waiting<W>>,
    some: Condvar,
}

struct Waiting<W> {
    bytes: Vec<u8>,
    to: W,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(to: W) -> Self {
        let waiting = Waiting { bytes: Vec::with_capacity(ROOM), to };
        Self { waiting: Mutex::new(waiting), some: Condvar::new() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<W>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits, now.
    pub(super) fn flush(&self) {
        self.waiting().flush();
    }

    /// Writes what waits, again and again; for a thread of its own.
    pub(super) fn keep_writing(&self) -> ! {
        loop {
            let waiting = self.waiting();
            let empty = |waiting: &mut Waiting<W>| waiting.bytes.is_empty();
            drop(self.some.wait_while(waiting, empty).unwrap_or_else(PoisonError::into_inner));
            std::thread::sleep(WAIT);
            self.flush();
        }
    }
}

impl<W: Write> Waiting<W> {
    fn flush(&mut self) {
        // There is nobody to tell that nobody listens.
        let _ = self.to.write_all(&self.bytes);
        let _ = self.to.flush();
        self.bytes.clear();
    }
}

/// Where one event's line is put.
pub(super) struct Line<'a, W: Write> {
    lines: &'a Lines<W>,
    urgent: bool,
}

impl<W: Write> Write for Line<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut waiting = self.lines.waiting();
        let first = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(bytes);
        if self.urgent || waiting.bytes.len() >= ROOM {
            waiting.flush();
        } else if first {
            self.lines.some.notify_one();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write + 'static> MakeWriter<'_> for &'static Lines<W> {
    type Writer = Line<'static, W>;

    fn make_writer(&self) -> Self::Writer {
        Line { lines: self, urgent: true }
    }

    fn make_writer_for(&self, about: &Metadata<'_>) -> Self::Writer {
        Line { lines: self, urgent: *about.level() <= Level::WARN }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !bytes.is_empty() {
                self.0.lock().unwrap().push(bytes.to_vec());
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log(lines: &'static Lines<Written>, act: impl FnOnce()) {
        let subscriber =
            tracing_subscriber::fmt().with_writer(lines).without_time().with_ansi(false);
        tracing::subscriber::with_default(subscriber.finish(), act);
    }

    fn lines() -> (&'static Lines<Written>, Written) {
        let written = Written::default();
        (Box::leak(Box::new(Lines::new(written.clone()))), written)
    }

    #[test]
    fn lines_wait_for_each_other_and_none_is_lost() {
        let (lines, written) = lines();
        log(lines, || (0..100).for_each(|n| tracing::info!(n, "said")));
        assert_eq!(written.0.lock().unwrap().len(), 0);
        lines.flush();
        let written = written.0.lock().unwrap().clone();
        assert_eq!(written.len(), 1);
        assert_eq!(String::from_utf8_lossy(&written[0]).matches("said n=").count(), 100);
    }

    #[test]
    fn a_warning_waits_for_nothing_and_takes_what_is_before_it_along() {
        let (lines, written) = lines();
        log(lines, || {
            tracing::info!("before");
            tracing::warn!("now");
        });
        let text = written.0.lock().unwrap().concat();
        let text = String::from_utf8_lossy(&text);
        assert!(text.find("before") < text.find("now") && text.contains("now"), "{text}");
    }

    #[test]
    fn what_waits_is_written_by_itself() {
        let (lines, written) = lines();
        std::thread::spawn(|| lines.keep_writing());
        log(lines, || tracing::info!("alone"));
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while written.0.lock().unwrap().is_empty() {
            assert!(std::time::Instant::now() < until, "nobody wrote it");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
