//! A test's processes: signals that arrive or fail the test, ends that are waited for only so long, and no process that outlives its test.

use std::{
    io::Read,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// How long a process may take that ends by itself, on a machine that runs every test at once.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Sends a signal to a process.
///
/// # Panics
/// When there is no such process.
pub fn signal(pid: impl TryInto<i32>, signal: Signal) {
    let pid = pid.try_into().ok().and_then(Pid::from_raw).expect("a process's number");
    kill_process(pid, signal).unwrap_or_else(|e| panic!("{signal:?} to {pid:?}: {e}"));
}

/// A process that is killed when this is dropped, if it has not ended by then.
#[derive(Debug)]
pub struct Running {
    child: Child,
    what: String,
}

impl Running {
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let what = format!("{command:?}");
        let child = command.spawn().unwrap_or_else(|e| panic!("starting {what}: {e}"));
        Self { child, what }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process itself, for its pipes.
    pub const fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// When it cannot be asked.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|e| panic!("looking after {}: {e}", self.what))
    }

    /// Waits for its end. Leaves its standard input open, unlike [`Child::wait`].
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(started.elapsed() < patience, "{} goes on after {patience:?}", self.what);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        // One that has ended needs no killing.
        let _ = self.child.kill();
        self.wait(PATIENCE);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            // Nobody outlives this signal for long.
            let _ = self.child.wait();
        }
    }
}

/// Runs a command to its end and gives what it printed.
///
/// # Panics
/// When it cannot be started or takes longer than [`PATIENCE`].
pub fn output(command: &mut Command) -> Output {
    output_within(PATIENCE, command)
}

/// Runs a command that may take so long.
///
/// # Panics
/// When it cannot be started or takes longer.
pub fn output_within(patience: Duration, command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start(command);
    let collect = |pipe: Option<Box<dyn Read + Send>>| {
        let mut pipe = pipe.expect("it was asked for");
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).map(|_| bytes)
        })
    };
    let out = collect(running.child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let err = collect(running.child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let status = running.wait(patience);
    let [stdout, stderr] =
        [out, err].map(|read| read.join().expect("it only reads").expect("a pipe can be read"));
    Output { status, stdout, stderr }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Tells this program, started again, that it is a test's child, and what it does as one.
    const CHILD: &str = "HOSPITAL_TEST_CHILD";

    /// This program again, at [`a_child_sleeps_or_says_much`] alone.
    fn child(does: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let test = "processes::tests::a_child_sleeps_or_says_much";
        command.args(["--exact", test, "--nocapture"]).env(CHILD, does);
        command
    }

    fn sleeper() -> Command {
        child("sleeps")
    }

    #[test]
    fn a_child_sleeps_or_says_much() {
        match std::env::var_os(CHILD) {
            None => {}
            Some(does) if does == "sleeps" => std::thread::sleep(Duration::from_secs(1000)),
            Some(_) => {
                let mut stdout = std::io::stdout();
                stdout.write_all(&[0; 300_000]).and_then(|()| stdout.flush()).unwrap();
                eprintln!("no");
                std::process::exit(3);
            }
        }
    }

    #[test]
    #[should_panic(expected = "TERM")]
    fn a_signal_to_nobody_fails_the_test() {
        let mut gone = Running::start(&mut sleeper());
        gone.kill();
        signal(gone.id(), Signal::TERM);
    }

    #[test]
    #[should_panic(expected = "goes on after")]
    fn a_process_that_does_not_end_fails_the_test() {
        output_within(Duration::from_millis(50), &mut sleeper());
    }

    #[test]
    fn a_process_does_not_outlive_its_test() {
        let running = Running::start(&mut sleeper());
        let place = format!("/proc/{}", running.id());
        assert!(std::path::Path::new(&place).exists());
        drop(running);
        assert!(!std::path::Path::new(&place).exists());
    }

    #[test]
    fn what_a_command_printed_is_there_whole() {
        let output = output(&mut child("says much"));
        let said = output.stdout.iter().filter(|byte| **byte == 0).count();
        assert_eq!((output.status.code(), said), (Some(3), 300_000));
        assert_eq!(output.stderr, b"no\n");
    }
}
