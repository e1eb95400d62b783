//! Asks the patient service how patients are reached, and keeps a copy.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use hospital_contracts::patient::PatientContact;
use hospital_kit::{
    client::{Found, ServiceClient},
    db::Db,
    outcome::Broken,
    service::Context,
};
use hospital_types::{PatientId, Sensitive};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{store, tray::Tray};

/// How often it looks when nobody wakes it.
const TICK: Duration = Duration::from_millis(200);

pub(crate) struct Fetcher {
    db: Db,
    patients: ServiceClient,
    due: Arc<Notify>,
    tray: Arc<Tray>,
    /// Before somebody is asked about again whom the patient service does not know.
    pauses_s: Vec<f64>,
}

impl Fetcher {
    pub(crate) fn new(
        context: &Context,
        due: Arc<Notify>,
        tray: Arc<Tray>,
    ) -> Result<Self, Broken> {
        let patients = ServiceClient::new(
            "patient",
            &context.config.notification.patient_url,
            Duration::from_secs(2),
            Arc::clone(&context.tokens),
        )?;
        let pauses = context.config.notification.retry_after_s.iter();
        let pauses_s = pauses.map(|s| Duration::from_secs(*s).as_secs_f64()).collect();
        Ok(Self { db: context.db.clone(), patients, due, tray, pauses_s })
    }

    pub(crate) async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.round().await {
                Ok(0) => {}
                Ok(_) => {
                    self.tray.wake();
                    continue;
                }
                Err(e) => {
                    tracing::warn!(error = %e, "contact points cannot be fetched at the moment");
                }
            }
            tokio::select! {
                () = self.due.notified() => {}
                () = tokio::time::sleep(TICK) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Fetches what is due; gives how many there were.
    async fn round(&self) -> Result<usize, Broken> {
        let due = store::claim_contacts(&self.db, 50).await?;
        let count = due.len();
        let fetched: Vec<Result<(), Broken>> = stream::iter(due)
            .map(|patient| self.fetch(patient))
            .buffer_unordered(8)
            .collect()
            .await;
        fetched.into_iter().collect::<Result<(), _>>()?;
        Ok(count)
    }

    async fn fetch(&self, patient: PatientId) -> Result<(), Broken> {
        match self.patients.get::<PatientContact>(&format!("/patients/{patient}"), None).await {
            Ok(Found::Here(contact)) => {
                let email = contact.email.map(Sensitive::into_exposed);
                store::keep_contact(&self.db, patient, contact.version, email).await
            }
            // Perhaps not yet, or not any more since an old backup was put back: nothing that
            // stays.
            Ok(Found::Missing) => {
                tracing::warn!(%patient, "the patient service does not know whom a message is to");
                store::miss_contact(&self.db, patient, self.pauses_s.clone()).await
            }
            Err(e) => {
                tracing::debug!(error = %e, "the patient service does not say how a patient is reached");
                store::postpone_contact(&self.db, patient).await
            }
        }
    }
}
