//! Asks the patient service whether patients can be booked.
//!
//! A lonely booking asks for its patient. While calls are under way, those who come meanwhile are asked for together, in one call that
//! tells no names.

use std::{collections::HashMap, sync::Arc, time::Duration};

use hospital_contracts::patient::{PatientStanding, PatientStatus};
use hospital_kit::{
    batcher::{Batcher, NotBatched},
    cause::Cause,
    client::{Found, ServiceClient, Unavailable},
    http::Problem,
    outcome::Broken,
    service::Context,
};
use hospital_types::PatientId;
use tokio::time::timeout;

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
    calls: Arc<Batcher<Asked, Result<Standing, Unavailable>>>,
    patience: Duration,
}

/// Whom a booking asks for, and the trace that it belongs to.
struct Asked {
    id: PatientId,
    trace: Option<String>,
}

/// How many calls may be under way, and for how many patients each: with one, those who ask meanwhile share the next, and their bookings a
/// flight. A storm of bookings waits its turn, so that the deadline measures the
/// patient service and not the queue before it.
const CALLS: usize = 1;
const PATIENTS: usize = 64;

impl PatientCheck {
    pub fn new(ctx: &Context) -> Result<Self, Broken> {
        let config = &ctx.config.appointment;
        let deadline = Duration::from_millis(config.patient_check_timeout_ms);
        let tokens = Arc::clone(&ctx.tokens);
        let service = ServiceClient::new("patient", &config.patient_url, deadline, tokens)?;
        let conflicts = |_: &Asked, _: &Asked| false;
        let calls = Batcher::new("patient-check", CALLS, PATIENTS, conflicts, move |asked| {
            let service = service.clone();
            Box::pin(async move { ask(&service, asked).await })
        });
        Ok(Self { calls, patience: deadline * 5 })
    }

    /// The patient's standing, or 503 within the deadline: a patient who could not be looked up is not booked.
    pub async fn standing(&self, cause: &Cause, id: PatientId) -> Result<Standing, Problem> {
        let asked = Asked { id, trace: cause.trace.clone() };
        let answer = match timeout(self.patience, self.calls.call(asked)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(NotBatched::Conflicts(_) | NotBatched::Panicked)) => {
                Err(Unavailable("the call was lost".to_owned()))
            }
            Err(_) => Err(Unavailable("too many bookings wait for it".to_owned())),
        };
        answer.map_err(|Unavailable(reason)| {
            tracing::warn!(reason, "the patient service gave no usable answer");
            Problem::new(
                503,
                "patient-service-unavailable",
                "The patient cannot be looked up at the moment, so nothing was booked. Send the same request, with the same Idempotency-Key, again.",
            )
            .retry_after(1)
        })
    }
}

async fn ask(service: &ServiceClient, asked: Vec<Asked>) -> Vec<Result<Standing, Unavailable>> {
    if let [one] = &*asked {
        return vec![ask_for(service, one).await];
    }
    let ids: Vec<String> = asked.iter().map(|one| one.id.to_string()).collect();
    let path = format!("/patients/standing?ids={}", ids.join(","));
    // It is of no booking's trace, or the others' would show in the first one's.
    let answered = service.get::<Vec<PatientStanding>>(&path, None).await;
    let known: HashMap<PatientId, Standing> = match answered {
        Ok(Found::Here(known)) => {
            known.into_iter().map(|one| (one.id, one.status.into())).collect()
        }
        Ok(Found::Missing) => {
            let none = Unavailable("it does not know how several are asked for".to_owned());
            return asked.iter().map(|_| Err(none.clone())).collect();
        }
        Err(e) => return asked.iter().map(|_| Err(e.clone())).collect(),
    };
    let standing = |one: &Asked| known.get(&one.id).copied().unwrap_or(Standing::Unknown);
    asked.iter().map(|one| Ok(standing(one))).collect()
}

async fn ask_for(service: &ServiceClient, asked: &Asked) -> Result<Standing, Unavailable> {
    // What of a patient matters here. The rest, names among it, is not even read.
    let path = format!("/patients/{}", asked.id);
    match service.get::<PatientStanding>(&path, asked.trace.as_deref()).await? {
        Found::Missing => Ok(Standing::Unknown),
        Found::Here(patient) if patient.id != asked.id => {
            Err(Unavailable("it answered with another patient".to_owned()))
        }
        Found::Here(patient) => Ok(patient.status.into()),
    }
}

impl From<PatientStatus> for Standing {
    fn from(status: PatientStatus) -> Self {
        match status {
            PatientStatus::Active => Self::Active,
            PatientStatus::Inactive => Self::Inactive,
        }
    }
}
