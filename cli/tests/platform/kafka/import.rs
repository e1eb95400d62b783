use hospital_testkit::{PATIENCE, Running, Signal, eventually, output, signal};

use super::one_broker;
use crate::running::Platform;

/// Waits until some of the records' appointments are there.
async fn under_way(platform: &Platform) {
    eventually("an import that is under way", async || {
        (platform.all(2, "/appointments").await.len() > 3).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_on_kafka_ends_in_what_the_records_say_and_verifies() {
    let Some(kafka) = one_broker() else { return };
    let mut platform = Platform::start_with(Some(kafka));
    let imported = output(&mut platform.import(8));
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    assert!(platform.verify().status.success(), "{}", platform.must(&["verify"]));
    platform.assert_imported().await;
    let again = output(&mut platform.import(3));
    assert!(String::from_utf8_lossy(&again.stdout).contains("Nothing changed"));
    platform.must(&["verify"]);
    let took = platform.stop();
    assert!(took.as_secs() < 10, "stopping took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_billing_during_an_import_on_kafka_changes_nothing() {
    let Some(kafka) = one_broker() else { return };
    let platform = Platform::start_with(Some(kafka));
    let mut import = Running::start(&mut platform.import(4));
    let first = platform.pid("billing").unwrap();
    under_way(&platform).await;
    assert!(import.ended().is_none(), "the import was over too soon");
    signal(first, Signal::KILL);
    assert!(import.wait(PATIENCE).success(), "{}", platform.told());
    platform.ready().await;
    assert!(platform.told().contains("starting it again"), "{}", platform.told());
    platform.must(&["verify", "--wait", "60"]);
    platform.assert_imported().await;
}
