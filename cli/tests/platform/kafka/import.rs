use hospital_testkit::eventually;

use super::one_broker;
use crate::running::{Platform, signal};

/// Waits until some of the records' appointments are there.
async fn under_way(platform: &Platform) {
    eventually("an import that is under way", async || {
        (platform.all(2, "/appointments").await.len() > 3).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_on_kafka_ends_in_what_the_records_say_and_verifies() {
    let mut platform = Platform::start_with(Some(one_broker()));
    let imported = platform.import(8).output().unwrap();
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    assert!(platform.verify().status.success(), "{}", platform.must(&["verify"]));
    platform.assert_imported().await;
    let again = platform.import(3).output().unwrap();
    assert!(String::from_utf8_lossy(&again.stdout).contains("Nothing changed"));
    platform.must(&["verify"]);
    let took = platform.stop();
    assert!(took.as_secs() < 10, "stopping took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_billing_during_an_import_on_kafka_changes_nothing() {
    let platform = Platform::start_with(Some(one_broker()));
    let mut import = platform.import(4).spawn().unwrap();
    let first = platform.pid("billing").unwrap();
    under_way(&platform).await;
    assert!(import.try_wait().unwrap().is_none(), "the import was over too soon");
    signal("KILL", first);
    assert!(import.wait().unwrap().success(), "{}", platform.told());
    platform.ready().await;
    assert!(platform.told().contains("starting it again"), "{}", platform.told());
    platform.must(&["verify", "--wait", "60"]);
    platform.assert_imported().await;
}
