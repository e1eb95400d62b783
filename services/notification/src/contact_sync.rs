//! The job that asks the patient service how a patient is reached, and keeps a copy.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use hospital_contracts::patient::PatientContact;
use hospital_kit::{
    cause::Cause,
    client::{Found, ServiceClient},
    db::Db,
    jobs::{Backoff, Handler, Job, Kind, NewJob, Verdict},
    outcome::Broken,
    service::Context,
};
use hospital_types::{PatientId, Sensitive};
use serde::{Deserialize, Serialize};

use crate::{
    store::{self, ContactRequest},
    tray::Tray,
};

/// How many patients are asked about at the same time.
const AT_ONCE: usize = 8;

/// After an answer that is older than what an event has announced.
const BEHIND: Duration = Duration::from_millis(200);

pub(crate) struct ContactSync {
    db: Db,
    patients: ServiceClient,
    tray: Arc<Tray>,
    /// Before somebody is asked about again whom the patient service does not know.
    pauses: Vec<Duration>,
}

/// Whose contact points.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct SyncContact {
    patient: PatientId,
}

/// The job that asks about a patient.
pub(crate) fn sync_contact(patient: PatientId) -> NewJob<SyncContact> {
    NewJob::new(patient, SyncContact { patient })
}

impl Handler for ContactSync {
    type Payload = SyncContact;

    /// The patient service is asked until it answers.
    const KIND: Kind<SyncContact> = Kind::new("contact.sync")
        .batch_max(50)
        .lease(Duration::from_secs(10))
        .attempts_max(None)
        .backoff(Backoff { first: Duration::from_millis(500), max: Duration::from_secs(60) });

    async fn work(&self, jobs: Vec<Job<SyncContact>>) -> Vec<Verdict> {
        let patients = jobs.iter().map(|job| job.payload.patient).collect();
        let cause = Cause::system("contact.sync");
        let requested = match store::requested_contacts(self.db.reader(&cause), patients).await {
            Ok(requested) => requested,
            Err(e) => return vec![Verdict::again(e); jobs.len()],
        };
        let mut requested: HashMap<PatientId, ContactRequest> =
            requested.into_iter().map(|request| (request.patient, request)).collect();
        let asked = jobs.into_iter().map(|job| {
            let request = requested.remove(&job.payload.patient);
            self.sync(request)
        });
        let verdicts = stream::iter(asked.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await;
        // Messages may have waited for it.
        self.tray.wake();
        verdicts
    }
}

impl ContactSync {
    pub(crate) fn new(context: &Context, tray: Arc<Tray>) -> Result<Self, Broken> {
        let patients = ServiceClient::new(
            "patient",
            &context.config.notification.patient_url,
            Duration::from_secs(2),
            Arc::clone(&context.tokens),
        )?;
        let pauses = context.config.notification.retry_after_s.iter();
        let pauses = pauses.map(|s| Duration::from_secs(*s)).collect();
        Ok(Self { db: context.db.clone(), patients, tray, pauses })
    }

    async fn sync(&self, request: Option<ContactRequest>) -> Verdict {
        // It is known already.
        let Some(request) = request else { return Verdict::Done };
        match self.ask(&request).await {
            Ok(verdict) => verdict,
            Err(e) => Verdict::again(e),
        }
    }

    async fn ask(&self, request: &ContactRequest) -> Result<Verdict, Broken> {
        let patient = request.patient;
        match self.patients.get::<PatientContact>(&format!("/patients/{patient}"), None).await {
            Ok(Found::Here(contact)) => {
                let email = contact.email.map(Sensitive::into_exposed);
                store::store_contact(&self.db, patient, contact.version, email).await?;
                if contact.version >= request.wanted_version {
                    return Ok(Verdict::Done);
                }
                let because = "the patient service has not what was announced yet";
                Ok(Verdict::again_after(BEHIND, because))
            }
            Ok(Found::Missing) => self.miss(request).await,
            Err(e) => {
                store::defer_contact(&self.db, patient).await?;
                Ok(Verdict::again(e))
            }
        }
    }

    /// Perhaps not yet, or not any more since an old backup was put back: nothing that stays. After
    /// the last pause nobody asks before there is something new to tell the patient.
    async fn miss(&self, request: &ContactRequest) -> Result<Verdict, Broken> {
        let patient = request.patient;
        let because = "the patient service does not know the patient";
        tracing::warn!(%patient, "the patient service does not know whom a message is to");
        let pause = self.pauses.get(usize::try_from(request.missing).unwrap_or(usize::MAX));
        store::miss_contact(&self.db, patient, pause.is_none()).await?;
        Ok(match pause {
            Some(pause) => Verdict::again_after(*pause, because),
            None => Verdict::dead(because),
        })
    }
}
