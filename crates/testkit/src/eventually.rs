use std::time::{Duration, Instant};

use hospital_kit::bus::{Bus, BusError, TopicSpec};

/// Asks until there is an answer, for up to ten seconds.
///
/// # Panics
/// When there is none by then; `what` says what was waited for.
pub async fn eventually<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(Duration::from_secs(10), what, ask).await
}

/// Asks until there is an answer, for as long as told: where processes start, on a machine that does much else.
///
/// # Panics
/// When there is none by then; `what` says what was waited for.
pub async fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < patience, "waited {patience:?} for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Makes topics on a bus that may have only just started: Kafka takes connections before it has a controller.
///
/// # Panics
/// When they cannot be made, or not within a minute.
pub async fn make_topics(bus: &dyn Bus, topics: &[TopicSpec]) {
    let made = eventually_within(Duration::from_secs(60), "topics to be made", async || match bus
        .ensure_topics(topics)
        .await
    {
        Err(BusError::Unavailable(_)) => None,
        made => Some(made),
    });
    if let Err(e) = made.await {
        panic!("making {topics:?}: {e}");
    }
}
