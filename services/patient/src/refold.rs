//! Folds the names anew of those whom another version of the program folded, or nobody: in the
//! background, while searches go on.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hospital_kit::{
    db::{Db, Tx},
    outcome::{Failure, Outcome},
};
use hospital_types::PatientId;
use tokio_util::sync::CancellationToken;

use crate::store;

/// Few enough that nobody who changes one of them waits.
const AT_ONCE: i64 = 200;

/// How often it looks whether the version before has written something, during a roll-out.
const TICK: Duration = Duration::from_secs(5);

/// Whether everybody is folded as this program does it. Until then a search begins at what all
/// have.
#[derive(Clone, Default)]
pub(crate) struct AllFolded(Arc<AtomicBool>);

impl AllFolded {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, all: bool) {
        if self.0.swap(all, Ordering::Relaxed) != all {
            tracing::info!(all, "names are folded as they are searched");
        }
    }
}

pub(crate) async fn run(db: Db, all_folded: AllFolded, stop: CancellationToken) {
    let mut last = None;
    while !stop.is_cancelled() {
        match some(&db, last).await {
            Ok(Some(reached)) => {
                all_folded.set(false);
                last = Some(reached);
                continue;
            }
            // Once more from the beginning: what another replica had in hand, it may have let go
            // of.
            Ok(None) if last.is_some() => {
                last = None;
                continue;
            }
            Ok(None) => all_folded.set(true),
            Err(broken) => {
                tracing::warn!(error = %broken, "names cannot be folded at the moment");
            }
        }
        // Whether the pause ends or the stop comes is looked at next.
        let _ = tokio::time::timeout(TICK, stop.cancelled()).await;
    }
}

async fn some(
    db: &Db,
    after: Option<PatientId>,
) -> Result<Option<PatientId>, hospital_kit::outcome::Broken> {
    let work = async move |tx: &mut Tx<Infallible>| -> Outcome<_, Infallible> {
        store::fold_some(tx, after, AT_ONCE).await
    };
    match db.write("patient.fold", work).await {
        Ok(last) => Ok(last),
        Err(Failure::Broken(broken)) => Err(broken),
        Err(Failure::Refused(never)) => match never {},
    }
}
