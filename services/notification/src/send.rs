//! Sends what is due: claimed for a while, sent outside of any transaction, then marked.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use hospital_kit::{backoff::jittered, db::Db, outcome::Broken, service::Context};
use hospital_types::NotificationId;
use tokio_util::sync::CancellationToken;

use crate::{
    channel::{Messenger, NotSent, Outgoing, messenger},
    store::{self, Claimed, Dispatch, DispatchId, Mark},
    tray::Tray,
};

/// How often it looks into the database, where messages are that were to be tried again or that another process has left behind.
const TICK: Duration = Duration::from_millis(100);
/// How many messages of the tray are sent and marked together, unless one dispatch is more, and how many from the database with them.
const BATCH: usize = 128;
const DUE: i64 = 128;
/// How often what is being sent is kept from others for another minute: so many messages take a
/// slow server longer than that.
const RENEWED_EVERY: Duration = Duration::from_secs(3);

pub(crate) struct Sender {
    db: Db,
    messenger: Arc<dyn Messenger>,
    retry_after_s: Vec<u64>,
    tray: Arc<Tray>,
}

impl Sender {
    pub(crate) fn new(context: &Context, tray: Arc<Tray>) -> Result<Self, Broken> {
        Ok(Self {
            db: context.db.clone(),
            messenger: messenger(context)?,
            retry_after_s: context.config.notification.retry_after_s.clone(),
            tray,
        })
    }

    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut looked = None::<Instant>;
        while !stop.is_cancelled() {
            match self.round(&mut looked).await {
                Ok(0) => {}
                Ok(_) => continue,
                Err(e) => tracing::warn!(error = %e, "messages cannot be sent at the moment"),
            }
            tokio::select! {
                () = self.tray.woken() => {}
                () = tokio::time::sleep(TICK) => {}
                () = stop.cancelled() => {}
            }
        }
        let left: Vec<_> = self.tray.close().await.iter().map(|dispatch| dispatch.id).collect();
        if !left.is_empty()
            && let Err(e) = store::release_dispatches(&self.db, left).await
        {
            tracing::warn!(error = %e, "messages that were not sent wait for a minute");
        }
    }

    /// Sends what is due; gives how many messages there were.
    async fn round(&self, looked: &mut Option<Instant>) -> Result<usize, Broken> {
        let dispatches = self.tray.take(BATCH);
        let mut alone = Vec::new();
        if dispatches.is_empty() || looked.is_none_or(|at| at.elapsed() >= TICK) {
            // Beside what is here, or a full tray would keep those from their turn; a look that fails takes nothing away from it.
            match store::claim_deliveries(&self.db, DUE).await {
                Ok(due) => alone = due,
                Err(e) if dispatches.is_empty() => return Err(e),
                Err(e) => tracing::debug!(error = %e, "the database gives no messages"),
            }
            *looked = Some(Instant::now());
        }
        let count = alone.len() + dispatches.iter().map(|d| d.messages.len()).sum::<usize>();
        if count > 0 {
            self.send(dispatches, alone).await?;
        }
        Ok(count)
    }

    /// Sends these, and marks what became of them.
    async fn send(&self, dispatches: Vec<Dispatch>, alone: Vec<Claimed>) -> Result<(), Broken> {
        let ids: Vec<DispatchId> = dispatches.iter().map(|dispatch| dispatch.id).collect();
        let together = dispatches.into_iter().flat_map(|dispatch| {
            dispatch.messages.into_iter().map(move |message| (Some(dispatch.id), message))
        });
        let mut marks = Vec::new();
        let mut attempts = Vec::new();
        let mut letters = Vec::new();
        for (dispatch, one) in together.chain(alone.into_iter().map(|one| (None, one))) {
            let Some(recipient) = one.recipient else {
                let why = if one.stranger {
                    "the patient service does not know the patient"
                } else {
                    "the patient has no e-mail address"
                };
                let error = Some(why.to_owned());
                marks.push(Mark {
                    id: one.id,
                    status: "undeliverable",
                    error,
                    after: Duration::ZERO,
                });
                continue;
            };
            attempts.push((dispatch, one.id, one.attempts));
            letters.push(Outgoing {
                id: one.id,
                recipient,
                subject: one.subject,
                body: one.body,
                created_at: one.created_at,
            });
        }
        let lone = attempts.iter().filter(|(dispatch, ..)| dispatch.is_none());
        let lone: Vec<_> = lone.map(|(_, id, attempts)| (*id, *attempts)).collect();
        let results = tokio::select! {
            results = self.messenger.send(letters) => results,
            never = self.renew(&ids, &lone) => match never {},
        };
        let mut sent = Vec::new();
        for ((dispatch, id, attempts), result) in attempts.into_iter().zip(results) {
            match (dispatch, result) {
                (Some(dispatch), Ok(())) => sent.push((dispatch, id)),
                (_, result) => marks.push(self.mark(id, attempts, result)),
            }
        }
        let marked = store::mark(&self.db, &marks, ids).await?;
        // What was taken apart meanwhile is marked by itself.
        let lapsed = sent.into_iter().filter(|(dispatch, _)| !marked.contains(dispatch));
        let marks: Vec<Mark> = lapsed.map(|(_, id)| self.mark(id, 1, Ok(()))).collect();
        if !marks.is_empty() {
            store::mark(&self.db, &marks, Vec::new()).await?;
        }
        Ok(())
    }

    /// Keeps from others what is being sent, for as long as it is.
    async fn renew(&self, dispatches: &[DispatchId], lone: &[(NotificationId, i32)]) -> Infallible {
        loop {
            tokio::time::sleep(RENEWED_EVERY).await;
            if let Err(e) = store::renew(&self.db, dispatches.to_vec(), lone).await {
                tracing::warn!(error = %e, "others may send what is being sent here");
            }
        }
    }

    fn mark(&self, id: NotificationId, attempts: i32, result: Result<(), NotSent>) -> Mark {
        match result {
            Ok(()) => Mark { id, status: "sent", error: None, after: Duration::ZERO },
            Err(NotSent::Never(e)) => {
                Mark { id, status: "dead", error: Some(e), after: Duration::ZERO }
            }
            Err(NotSent::Later(e)) => {
                let place = usize::try_from(attempts - 1).unwrap_or(0);
                tracing::warn!(delivery = %id, attempts, error = e, "a message was not sent");
                match self.retry_after_s.get(place) {
                    Some(seconds) => Mark {
                        id,
                        status: "pending",
                        error: Some(e),
                        after: jittered(
                            Duration::from_secs(*seconds),
                            &id.to_string(),
                            attempts.unsigned_abs(),
                        ),
                    },
                    None => Mark { id, status: "dead", error: Some(e), after: Duration::ZERO },
                }
            }
        }
    }
}
