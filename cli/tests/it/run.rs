//! `./run`, as the README has it typed: what it asks of cargo, and what it says.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use hospital_testkit::output;
use serde_json::Value;

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// A cargo that prints what it is asked for, before the machine's own.
fn path(dir: &Path) -> String {
    let cargo = dir.join("cargo");
    std::fs::write(&cargo, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).unwrap();
    #[expect(clippy::disallowed_methods, reason = "where programs are")]
    let path = std::env::var("PATH").unwrap();
    format!("{}:{path}", dir.display())
}

/// Types `./run ARGS`, where so much has been built already.
fn run(built: bool, args: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    if built {
        std::fs::create_dir(dir.path().join("local")).unwrap();
        std::fs::write(dir.path().join("local/hospital"), "").unwrap();
    }
    let mut run = Command::new("./run");
    run.args(args).current_dir(checkout());
    run.env("PATH", path(dir.path())).env("CARGO_TARGET_DIR", dir.path());
    output(&mut run)
}

#[test]
fn run_starts_the_platform_or_any_command_and_says_once_how_long_it_builds() {
    for (args, asked) in [
        (&[] as &[&str], "run\n--profile\nlocal\n--\nup\n"),
        (&["demo"], "run\n--profile\nlocal\n--\ndemo\n"),
        (&["token", "--role", "cashier"], "run\n--profile\nlocal\n--\ntoken\n--role\ncashier\n"),
    ] {
        let first = run(false, args);
        assert!(first.status.success());
        assert_eq!(String::from_utf8_lossy(&first.stdout), asked);
        let said = String::from_utf8_lossy(&first.stderr).into_owned();
        assert!(said.contains("minutes") && said.lines().count() == 1, "{said}");
        let second = run(true, args);
        assert_eq!(
            String::from_utf8_lossy(&second.stdout),
            asked.replace("run\n", "run\n--quiet\n")
        );
        assert_eq!(String::from_utf8_lossy(&second.stderr), "");
    }
}

/// With two that say so, cargo asks which one is meant, and `cargo run` does nothing.
#[test]
fn cargo_run_knows_which_program_is_meant() {
    let mut metadata = Command::new(env!("CARGO"));
    metadata.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let metadata = output(metadata.current_dir(checkout()));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let runs = metadata["packages"].as_array().unwrap().iter();
    let runs: Vec<_> = runs.filter_map(|package| package["default_run"].as_str()).collect();
    assert_eq!(runs, ["hospital"]);
}
