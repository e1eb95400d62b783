//! What is there while a platform starts, once it has, and when it was killed.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use hospital_testkit::{eventually, output};

use crate::running::Platform;

#[tokio::test(flavor = "multi_thread")]
async fn commands_wait_for_a_platform_that_is_starting_and_say_so() {
    let mut platform = Platform::begin(None);
    let key = platform.data().join("signing-key.pem");
    eventually("`up` to have begun", async || key.exists().then_some(())).await;
    assert!(!platform.data().join("platform.json").exists(), "it is starting");
    let commands: [&[&str]; 3] =
        [&["token", "--role", "cashier"], &["verify"], &["demo", "--pause-ms", "0"]];
    let outputs = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let running = commands.map(|args| {
                let mut command = platform.command(args);
                // On a machine that runs every test at once.
                command.args(["--starting-s", "290"]);
                scope.spawn(move || output(&mut command))
            });
            running.map(|command| command.join().unwrap())
        })
    });
    for (what, output) in commands.into_iter().zip(outputs) {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{what:?}: {said}");
        assert!(said.contains("The platform is starting; waiting up to 290s"), "{what:?}: {said}");
    }
    platform.await_open();
    // Once it has started nothing is waited for, and nothing said.
    let output = platform.run(&["verify"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_was_killed_is_said_to_be_gone_at_once() {
    let mut platform = Platform::start();
    let pids = ["patient", "appointment", "billing", "notification"]
        .map(|name| platform.pid(name).unwrap());
    platform.kill();
    for pid in pids {
        platform.await_end(pid).await;
    }
    let records = crate::running::records().display().to_string();
    for args in [&["demo"] as &[&str], &["import", "synthea", &records]] {
        let began = Instant::now();
        let output = platform.run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("was ended and not stopped") && said.contains("hospital up"),
            "{said}"
        );
        assert!(began.elapsed() < Duration::from_secs(20), "{args:?}: {:?}", began.elapsed());
    }
}

/// Finds what others than its owner may read or list below a directory; gives how much was looked at. PostgreSQL's user, where we are root, may pass
/// through directories on its way to its own.
fn open_to_others(dir: &Path, seen: &mut Vec<String>) -> usize {
    let mode = std::fs::metadata(dir).unwrap().permissions().mode();
    if mode & 0o067 != 0 {
        seen.push(format!("{} {:o}", dir.display(), mode & 0o777));
    }
    let mut count = 1;
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            count += open_to_others(&entry.path(), seen);
        } else if kind.is_file() {
            // PostgreSQL removes and renames its own while we look.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.permissions().mode() & 0o077 != 0 {
                let mode = metadata.permissions().mode() & 0o777;
                seen.push(format!("{} {mode:o}", entry.path().display()));
            }
            count += 1;
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_platform_writes_is_for_its_owner_alone() {
    let mut platform = Platform::start();
    platform.must(&["demo", "--pause-ms", "0"]);
    for (place, made) in
        [("logs/billing.log", true), ("platform.json", true), ("mailbox", true), ("up.lock", true)]
    {
        assert_eq!(platform.data().join(place).exists(), made, "{place}");
    }
    let mut open = Vec::new();
    let count = open_to_others(&platform.data(), &mut open);
    assert!(count > 10 && open.is_empty(), "{open:?}");
    // What an earlier version left open is closed.
    platform.stop();
    for (place, mode) in [("logs", 0o755), ("logs/billing.log", 0o644), ("mailbox", 0o755)] {
        let mode = PermissionsExt::from_mode(mode);
        std::fs::set_permissions(platform.data().join(place), mode).unwrap();
    }
    platform.start_again();
    open_to_others(&platform.data(), &mut open);
    assert!(open.is_empty(), "{open:?}");
}
