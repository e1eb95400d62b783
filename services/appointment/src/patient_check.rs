//! Asks the patient service whether a patient can be booked.

use std::{sync::Arc, time::Duration};

use hospital_contracts::patient::PatientStatus;
use hospital_kit::{
    client::{Found, ServiceClient},
    http::{Problem, current_trace},
    outcome::Broken,
    service::Context,
};
use hospital_types::PatientId;
use serde::Deserialize;

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
}

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
        Ok(Self { service })
    }

    /// The patient's standing, or 503 within the deadline: a patient who could not be looked up is not booked.
    pub async fn standing(&self, id: PatientId) -> Result<Standing, Problem> {
        let trace = current_trace();
        let path = format!("/patients/{id}");
        let answer =
            self.service.get::<Patient>(&path, trace.as_ref().map(|t| t.traceparent())).await;
        let reason = match answer {
            Ok(Found::Missing) => return Ok(Standing::Unknown),
            Ok(Found::Here(patient)) if patient.id == id => {
                return Ok(match patient.status {
                    PatientStatus::Active => Standing::Active,
                    PatientStatus::Inactive => Standing::Inactive,
                });
            }
            Ok(Found::Here(_)) => "it answered with another patient".to_owned(),
            Err(unavailable) => unavailable.0,
        };
        tracing::warn!(reason, "the patient service gave no usable answer");
        Err(Problem::new(
            503,
            "patient-service-unavailable",
            "The patient cannot be looked up at the moment, so nothing was booked. Send the same request, with the same Idempotency-Key, again.",
        )
        .retry_after(1))
    }
}
