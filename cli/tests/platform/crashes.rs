use std::time::{Duration, Instant};

use hospital_testkit::{PATIENCE, Running, Signal, output, signal};

use crate::running::Platform;

/// Kills somebody again and again while the records are imported: at once, and then each time it has come back.
async fn killed_during_the_import(victim: &str) {
    let platform = Platform::start();
    let mut import = Running::start(&mut platform.import(4));
    let begun = Instant::now();
    let (mut kills, mut last) = (0, None);
    while import.ended().is_none() {
        assert!(begun.elapsed() < PATIENCE, "the import goes on");
        if let Some(pid) = platform.pid(victim)
            && last != Some(pid)
            && kills < 4
        {
            // Not at the very beginning of its life: some work should be under way.
            tokio::time::sleep(Duration::from_millis(120)).await;
            signal(pid, Signal::KILL);
            (kills, last) = (kills + 1, Some(pid));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(import.wait(PATIENCE).success(), "{victim}: {}", platform.told());
    assert!(kills > 0, "the import was over before {victim} could be killed");
    assert!(platform.told().contains("starting it again"), "{victim}: {}", platform.told());
    // A kill in the last moment may still be under repair; `verify` waits for what is to be worked off, and the requests below ask again.
    platform.ready().await;
    let verified = platform.verify();
    assert!(verified.status.success(), "{victim}: {}", String::from_utf8_lossy(&verified.stdout));
    platform.assert_imported().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_patient_service_during_an_import_changes_nothing() {
    killed_during_the_import("patient").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_appointment_service_during_an_import_changes_nothing() {
    killed_during_the_import("appointment").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_billing_service_during_an_import_changes_nothing() {
    killed_during_the_import("billing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_notification_service_during_an_import_changes_nothing() {
    killed_during_the_import("notification").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_postgresql_during_an_import_changes_nothing() {
    killed_during_the_import("postgres").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_supervisor_ends_the_services_and_the_next_start_finds_everything() {
    let mut platform = Platform::start();
    assert!(output(&mut platform.import(8)).status.success());
    let pids = ["patient", "appointment", "billing", "notification"]
        .map(|name| platform.pid(name).unwrap());
    platform.kill();
    for pid in pids {
        platform.await_end(pid).await;
    }
    // PostgreSQL is left to the next start, which ends it before it starts another on the same data.
    platform.start_again();
    platform.assert_imported().await;
    assert!(platform.verify().status.success());
}
