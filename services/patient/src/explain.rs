//! What a refusal says after another look: who has an identifier.

use hospital_kit::{db::Reader, http::Problem, idempotency::Explain};

use crate::{
    refused::{ChangeRefused, RegisterRefused, Taken},
    store,
};

impl Explain for RegisterRefused {
    async fn explain(mut self, reader: Reader<'_>) -> Problem {
        if let Self::IdentifierTaken(taken) = &mut self {
            taken.look_for_owner(reader).await;
        }
        Problem::from_refusal(&self)
    }
}

impl Explain for ChangeRefused {
    async fn explain(mut self, reader: Reader<'_>) -> Problem {
        if let Self::IdentifierTaken(taken) = &mut self {
            taken.look_for_owner(reader).await;
        }
        Problem::from_refusal(&self)
    }
}

impl Taken {
    async fn look_for_owner(&mut self, reader: Reader<'_>) {
        if self.owner.is_some() {
            return;
        }
        match store::owner_of(reader, self).await {
            Ok(owner) => self.owner = owner,
            // The refusal stands without it.
            Err(broken) => {
                tracing::warn!(error = %broken, "who has an identifier could not be looked up");
            }
        }
    }
}
