//! A timer that wakes to the microsecond. The runtime's own rounds up to whole milliseconds, which would be counted as latency.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::{
    fs::Timespec,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create,
        timerfd_settime,
    },
};
use tokio::{io::unix::AsyncFd, time::Instant};

pub(crate) struct Ticker(AsyncFd<OwnedFd>);

impl Ticker {
    pub(crate) fn new() -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe; this one owns its descriptor until it is dropped, which is sound"
        )]
        let timer = AsyncFd::new(timer)?;
        Ok(Self(timer))
    }

    pub(crate) async fn until(&self, at: Instant) -> io::Result<()> {
        loop {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once(left))?;
            let mut ready = self.0.readable().await?;
            // How often it fired; that it did is all that matters.
            let mut fired = [0_u8; 8];
            match rustix::io::read(&self.0, &mut fired) {
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(e) => return Err(e.into()),
            }
            ready.clear_ready();
        }
    }
}

fn once(after: Duration) -> Itimerspec {
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let seconds = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
    Itimerspec {
        it_interval: zero,
        it_value: Timespec { tv_sec: seconds, tv_nsec: after.subsec_nanos().into() },
    }
}
