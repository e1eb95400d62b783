//! Sends what is due: claimed for a while, sent outside of any transaction, then marked.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use hospital_kit::{db::Db, outcome::Broken, service::Context};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    channel::{Messenger, NotSent, Outgoing, messenger},
    store::{self, Claimed, Mark},
};

/// How often it looks when nobody wakes it.
const TICK: Duration = Duration::from_millis(100);
const AT_ONCE: usize = 16;

pub(crate) struct Sender {
    db: Db,
    messenger: Arc<dyn Messenger>,
    retry_after_s: Vec<u64>,
    due: Arc<Notify>,
}

impl Sender {
    pub(crate) fn new(context: &Context, due: Arc<Notify>) -> Result<Self, Broken> {
        Ok(Self {
            db: context.db.clone(),
            messenger: messenger(context)?,
            retry_after_s: context.config.notification.retry_after_s.clone(),
            due,
        })
    }

    pub(crate) async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.round().await {
                Ok(0) => {}
                Ok(_) => continue,
                Err(e) => tracing::warn!(error = %e, "messages cannot be sent at the moment"),
            }
            tokio::select! {
                () = self.due.notified() => {}
                () = tokio::time::sleep(TICK) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Sends what is due; gives how many messages there were.
    async fn round(&self) -> Result<usize, Broken> {
        let claimed = store::claim_deliveries(&self.db, 64).await?;
        let count = claimed.len();
        if count > 0 {
            let marks: Vec<Mark> = stream::iter(claimed)
                .map(|one| self.send(one))
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            store::mark_deliveries(&self.db, &marks).await?;
        }
        Ok(count)
    }

    async fn send(&self, claimed: Claimed) -> Mark {
        let id = claimed.id;
        let Some(recipient) = claimed.recipient else {
            return Mark {
                id,
                status: "undeliverable",
                error: Some("the patient has no e-mail address".to_owned()),
                after_s: 0.0,
            };
        };
        let outgoing = Outgoing {
            id,
            recipient,
            subject: claimed.subject,
            body: claimed.body,
            created_at: claimed.created_at,
        };
        match self.messenger.send(&outgoing).await {
            Ok(()) => Mark { id, status: "sent", error: None, after_s: 0.0 },
            Err(NotSent::Never(e)) => Mark { id, status: "dead", error: Some(e), after_s: 0.0 },
            Err(NotSent::Later(e)) => {
                let place = usize::try_from(claimed.attempts - 1).unwrap_or(0);
                tracing::warn!(delivery = %id, attempts = claimed.attempts, error = e, "a message was not sent");
                match self.retry_after_s.get(place) {
                    Some(seconds) => Mark {
                        id,
                        status: "pending",
                        error: Some(e),
                        after_s: jittered(*seconds, id.uuid().as_u128()),
                    },
                    None => Mark { id, status: "dead", error: Some(e), after_s: 0.0 },
                }
            }
        }
    }
}

/// A pause of up to a tenth more, so that what failed together does not come back together.
fn jittered(seconds: u64, spread: u128) -> f64 {
    let tenth = f64::from(u8::try_from(spread % 101).unwrap_or(0)) / 1000.0;
    Duration::from_secs(seconds).as_secs_f64() * (1.0 + tenth)
}
