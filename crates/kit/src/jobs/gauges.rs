//! How many jobs wait, are worked on and are dead, as metrics.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::queue::{self, Count};
use crate::db::Db;

/// How often they are counted.
const EVERY: Duration = Duration::from_secs(5);

/// Counts the jobs of these kinds until told to stop.
pub async fn measure(db: Db, kinds: Vec<&'static str>, stop: CancellationToken) {
    loop {
        match queue::counts(&db, db.clock().now()).await {
            Ok(found) => {
                for kind in &kinds {
                    let count = found.iter().find(|(name, _)| name == kind).map(|(_, c)| *c);
                    set(kind, count.unwrap_or_default());
                }
            }
            // Readiness says by itself that the database is away.
            Err(e) => tracing::debug!(error = %e, "cannot count the jobs"),
        }
        if timeout(EVERY, stop.cancelled()).await.is_ok() {
            return;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn set(kind: &'static str, count: Count) {
    metrics::gauge!("jobs_due", "kind" => kind).set(count.due as f64);
    metrics::gauge!("jobs_running", "kind" => kind).set(count.running as f64);
    metrics::gauge!("jobs_dead", "kind" => kind).set(count.dead as f64);
    metrics::gauge!("jobs_oldest_due_seconds", "kind" => kind).set(count.oldest_due.as_secs_f64());
}
