//! Asks the patient service whether a patient can be booked.

use std::{sync::Arc, time::Duration};

use hospital_contracts::patient::PatientStatus;
use hospital_kit::{
    client::{Found, ServiceClient, Unavailable},
    http::{Problem, current_trace},
    outcome::Broken,
    service::Context,
};
use hospital_types::PatientId;
use serde::Deserialize;
use tokio::{sync::Semaphore, time::timeout};

/// What the patient service says of a patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Active,
    Inactive,
    Unknown,
}

/// The way to the patient service. It is asked before a booking begins, while no database connection is held.
#[derive(Clone)]
pub struct PatientCheck {
    service: ServiceClient,
    turns: Arc<Semaphore>,
    turn_wait: Duration,
}

/// How many patients are asked for at a time. A storm of bookings waits its turn here, so that the deadline measures the patient service
/// and not the queue before it.
const AT_ONCE: usize = 32;

/// What of a patient matters here. The rest, names among it, is not even read.
#[derive(Deserialize)]
struct Patient {
    id: PatientId,
    status: PatientStatus,
}

impl PatientCheck {
    pub fn new(ctx: &Context) -> Result<Self, Broken> {
        let config = &ctx.config.appointment;
        let deadline = Duration::from_millis(config.patient_check_timeout_ms);
        let tokens = Arc::clone(&ctx.tokens);
        let service = ServiceClient::new("patient", &config.patient_url, deadline, tokens)?;
        Ok(Self { service, turns: Arc::new(Semaphore::new(AT_ONCE)), turn_wait: deadline * 4 })
    }

    /// The patient's standing, or 503 within the deadline: a patient who could not be looked up is not booked.
    pub async fn standing(&self, id: PatientId) -> Result<Standing, Problem> {
        self.ask(id).await.map_err(|Unavailable(reason)| {
            tracing::warn!(reason, "the patient service gave no usable answer");
            Problem::new(
                503,
                "patient-service-unavailable",
                "The patient cannot be looked up at the moment, so nothing was booked. Send the same request, with the same Idempotency-Key, again.",
            )
            .retry_after(1)
        })
    }

    async fn ask(&self, id: PatientId) -> Result<Standing, Unavailable> {
        let Ok(Ok(_turn)) = timeout(self.turn_wait, self.turns.acquire()).await else {
            return Err(Unavailable("too many bookings wait for it".to_owned()));
        };
        let trace = current_trace();
        let traceparent = trace.as_ref().map(|trace| trace.traceparent());
        match self.service.get::<Patient>(&format!("/patients/{id}"), traceparent).await? {
            Found::Missing => Ok(Standing::Unknown),
            Found::Here(patient) if patient.id != id => {
                Err(Unavailable("it answered with another patient".to_owned()))
            }
            Found::Here(patient) => Ok(match patient.status {
                PatientStatus::Active => Standing::Active,
                PatientStatus::Inactive => Standing::Inactive,
            }),
        }
    }
}
