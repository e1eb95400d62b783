//! What practitioners are called. Events say ids only, so the appointment service is asked, once
//! for each practitioner, and the answer is kept: a registered name does not change.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use hospital_kit::{
    cause::Cause,
    client::{Found, ServiceClient},
    db::Db,
    outcome::Broken,
    service::Context,
};
use hospital_types::{PractitionerId, Sensitive};
use serde::Deserialize;
use tokio::time::{timeout, timeout_at};

use crate::store;

/// How long the messages of a batch wait for the appointment service; then they go without names.
const PATIENCE: Duration = Duration::from_millis(900);
/// The same for the database, before and after.
const KEPT_WITHIN: Duration = Duration::from_millis(500);
/// About how many the appointment service is asked at a time.
const AT_ONCE: usize = 16;
/// How long nobody is asked about a practitioner whose name could not be had.
const REST: Duration = Duration::from_secs(5);

pub(crate) struct Names {
    db: Db,
    appointments: ServiceClient,
    known: Mutex<HashMap<PractitionerId, Name>>,
}

enum Name {
    Known(String),
    /// Not asked for again before then.
    Wanting(Instant),
}

/// What of a practitioner matters here.
#[derive(Deserialize)]
struct Named {
    id: PractitionerId,
    name: Sensitive<String>,
}

impl Names {
    pub(crate) fn new(context: &Context) -> Result<Self, Broken> {
        let appointments = ServiceClient::new(
            "appointment",
            &context.config.notification.appointment_url,
            PATIENCE,
            Arc::clone(&context.tokens),
        )?;
        Ok(Self { db: context.db.clone(), appointments, known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<PractitionerId, Name>> {
        // Nothing that holds it can panic halfway.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn of(&self, practitioner: PractitionerId) -> Option<String> {
        match self.known().get(&practitioner)? {
            Name::Known(name) => Some(name.clone()),
            Name::Wanting(_) => None,
        }
    }

    /// Gets the names of these that are not here yet: all at once from the database, where they
    /// were kept, and else from the appointment service. Gives up soon: a message without a name is
    /// better than none.
    pub(crate) async fn learn(&self, practitioners: BTreeSet<PractitionerId>) {
        let mut wanted = self.wanted(practitioners);
        if wanted.is_empty() {
            return;
        }
        let cause = Cause::system("notification");
        let kept = store::practitioner_names(self.db.reader(&cause), wanted.clone());
        let kept = timeout(KEPT_WITHIN, kept).await;
        if let Ok(Ok(kept)) = kept {
            let mut known = self.known();
            known.extend(kept.into_iter().map(|(id, name)| (id, Name::Known(name))));
            wanted.retain(|id| !matches!(known.get(id), Some(Name::Known(_))));
        }
        let named = self.ask(&wanted).await;
        {
            let rests_until = Instant::now() + REST;
            let mut known = self.known();
            known.extend(wanted.into_iter().map(|id| (id, Name::Wanting(rests_until))));
            known.extend(named.iter().cloned().map(|(id, name)| (id, Name::Known(name))));
        }
        if named.is_empty() {
            return;
        }
        let keeping = store::keep_practitioner_names(&self.db, named);
        if !matches!(timeout(KEPT_WITHIN, keeping).await, Ok(Ok(()))) {
            tracing::debug!("names of practitioners are not kept, and will be asked for again");
        }
    }

    fn wanted(&self, practitioners: BTreeSet<PractitionerId>) -> Vec<PractitionerId> {
        let (now, known) = (Instant::now(), self.known());
        let lacking = |id: &PractitionerId| match known.get(id) {
            None => true,
            Some(Name::Known(_)) => false,
            Some(Name::Wanting(until)) => *until <= now,
        };
        practitioners.into_iter().filter(lacking).collect()
    }

    /// The names that the appointment service gives in time.
    async fn ask(&self, practitioners: &[PractitionerId]) -> Vec<(PractitionerId, String)> {
        if practitioners.is_empty() {
            return Vec::new();
        }
        let deadline = Instant::now() + PATIENCE;
        let mut named = Vec::new();
        for some in practitioners.chunks(AT_ONCE) {
            let mut answers = FuturesUnordered::new();
            for id in some {
                answers.push(self.ask_for(*id));
            }
            while let Ok(Some(answer)) = timeout_at(deadline.into(), answers.next()).await {
                named.extend(answer);
            }
        }
        if named.len() < practitioners.len() {
            let (asked, named) = (practitioners.len(), named.len());
            tracing::warn!(asked, named, "messages go without the names of practitioners");
        }
        named
    }

    async fn ask_for(&self, id: PractitionerId) -> Option<(PractitionerId, String)> {
        let path = format!("/practitioners/{id}");
        match self.appointments.get::<Named>(&path, None).await {
            Ok(Found::Here(named)) if named.id == id => Some((id, named.name.into_exposed())),
            Ok(_) => None,
            Err(e) => {
                tracing::debug!(error = %e, "the appointment service gives no name");
                None
            }
        }
    }
}
