//! A real cluster from this machine's PostgreSQL.

#![cfg(test)]

use std::{
    process::Command,
    time::{Duration, Instant},
};

use hospital_cluster::{Cluster, Options};
use rustix::process::{Pid, Signal, kill_process};

fn select(cluster: &Cluster, sql: &str) -> String {
    let bin = hospital_cluster::Installation::find().unwrap().bin().join("psql");
    let output = Command::new(bin)
        .args(["-qtAX", "-d", &cluster.owner_url("postgres"), "-c", sql])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn options(dir: &std::path::Path) -> Options {
    Options { dir: dir.to_owned(), durable: true, ..Options::default() }
}

#[test]
fn data_outlives_a_stop_and_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(&options(dir.path())).unwrap();
    select(&cluster, "CREATE TABLE kept AS SELECT 7 AS n");
    let port = cluster.port();
    cluster.stop();

    let mut cluster = Cluster::open(&options(dir.path())).unwrap();
    assert_eq!(cluster.port(), port);
    assert_eq!(select(&cluster, "SELECT n FROM kept"), "7");

    let pid = Pid::from_raw(cluster.pid().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while cluster.ended().is_none() {
        assert!(Instant::now() < deadline, "it was killed and goes on");
        std::thread::yield_now();
    }
    cluster.restart().unwrap();
    assert_eq!(select(&cluster, "SELECT n FROM kept"), "7");
}

#[test]
fn a_directory_that_only_root_reaches_serves_as_well() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let below = dir.path().join("a/b");
    let cluster = Cluster::open(&options(&below)).unwrap();
    assert_eq!(select(&cluster, "SELECT 1"), "1");
    cluster.stop();
}
