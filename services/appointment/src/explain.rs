//! What a refusal says after another look: the free times beside a taken one, and who has an identifier.

use hospital_contracts::appointment::FreeTime;
use hospital_kit::{db::Reader, http::Problem, idempotency::Explain, outcome::Broken};
use jiff::Timestamp;

use crate::{
    refused::{BookingRefused, RegistrationRefused, StepRefused, Taken},
    store,
};

impl Explain for BookingRefused {
    async fn explain(mut self, reader: Reader<'_>) -> Problem {
        match &mut self {
            Self::SlotUnavailable(taken) => taken.look_for_alternatives(reader).await,
            Self::IdentifierTaken { wanted, holder } => {
                *holder = or_nothing(store::appointment_holding(reader, wanted).await);
            }
            _ => {}
        }
        Problem::from_refusal(&self)
    }
}

impl Explain for StepRefused {
    async fn explain(mut self, reader: Reader<'_>) -> Problem {
        if let Self::SlotUnavailable(taken) = &mut self {
            taken.look_for_alternatives(reader).await;
        }
        Problem::from_refusal(&self)
    }
}

impl Explain for RegistrationRefused {
    async fn explain(mut self, reader: Reader<'_>) -> Problem {
        let Self::IdentifierTaken { wanted, holder } = &mut self;
        *holder = or_nothing(store::practitioner_holding(reader, wanted).await);
        Problem::from_refusal(&self)
    }
}

impl Taken {
    /// Up to three free times of the same length, from the wanted start on and never in the past. A record of what was has no
    /// alternatives.
    async fn look_for_alternatives(&mut self, reader: Reader<'_>) {
        if !self.back_dated {
            let earliest: Timestamp = self.slot.start().max(reader.clock().now());
            let found = store::free_times(reader, self, earliest).await;
            self.alternatives = or_nothing::<Vec<FreeTime>>(found);
        }
    }
}

/// The refusal stands without what could not be looked up.
fn or_nothing<T: Default>(looked_up: Result<T, Broken>) -> T {
    looked_up.unwrap_or_else(|broken| {
        tracing::warn!(error = %broken, "a refusal could not be explained further");
        T::default()
    })
}
