//! The processes of a cluster, found by their working directory, which PostgreSQL makes the data directory.
//!
//! The number in `postmaster.pid` alone proves nothing: numbers are used again, soonest in a container, where the next process with it may well
//! be another cluster's.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{ClusterError, error::file};

/// The living postmaster of a data directory.
pub(crate) fn postmaster(data: &Path) -> Option<i32> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid = text.lines().next()?.trim().parse().ok()?;
    belongs(pid, data).then_some(pid)
}

fn belongs(pid: i32, data: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)
        && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.starts_with("postgres"))
}

fn all(data: &Path) -> Vec<i32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| belongs(*pid, data))
        .collect()
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // A process that is gone already needs no signal.
        let _ = kill_process(pid, signal);
    }
}

/// Ends what an earlier supervisor left running here: a postmaster that outlived it, or backends that outlived their postmaster, which may
/// still be writing. Only for who holds the directory's lock.
pub(crate) fn end_leftovers(data: &Path) -> Result<(), ClusterError> {
    // To a postmaster: end politely, end now. To a backend without one: cancel (it then sees that it is alone, and exits), exit.
    let steps = [
        (Duration::ZERO, Signal::INT),
        (Duration::from_secs(5), Signal::QUIT),
        (Duration::from_secs(10), Signal::KILL),
    ];
    let started = Instant::now();
    let mut steps = steps.into_iter().peekable();
    loop {
        let left = all(data);
        if left.is_empty() {
            return forget_lock_file(data);
        }
        if started.elapsed() > Duration::from_secs(15) {
            return Err(ClusterError::Leftovers { dir: data.to_owned(), pids: left });
        }
        if let Some((_, which)) = steps.next_if(|(after, _)| started.elapsed() >= *after) {
            let postmaster = postmaster(data).filter(|_| which != Signal::KILL);
            for pid in postmaster.map_or(left, |pid| vec![pid]) {
                signal(pid, which);
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// PostgreSQL refuses to start if any process has the number in its lock file. That none is of this cluster was seen above.
fn forget_lock_file(data: &Path) -> Result<(), ClusterError> {
    let path = data.join("postmaster.pid");
    // Where nothing can be seen, PostgreSQL has to judge.
    if !path.exists() || !Path::new("/proc/self/cwd").exists() {
        return Ok(());
    }
    fs::remove_file(&path).map_err(|e| file("cannot remove the stale", &path, e))
}
