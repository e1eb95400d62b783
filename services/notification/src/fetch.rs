//! Asks the patient service how patients are reached, and keeps a copy.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use hospital_contracts::patient::PatientView;
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
        Ok(Self { db: context.db.clone(), patients, due, tray })
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
        match self.patients.get::<PatientView>(&format!("/patients/{patient}"), None).await {
            Ok(Found::Here(view)) => {
                let email = view.email.map(Sensitive::into_exposed);
                store::keep_contact(&self.db, patient, view.version, email).await
            }
            // It says that there is no such patient: nobody to reach.
            Ok(Found::Missing) => store::keep_contact(&self.db, patient, i32::MAX, None).await,
            Err(e) => {
                tracing::debug!(error = %e, "the patient service does not say how a patient is reached");
                store::postpone_contact(&self.db, patient).await
            }
        }
    }
}
