use axum::extract::State;
use hospital_contracts::appointment::{AppointmentView, CancelledBy};
use hospital_kit::{
    http::{
        Allowed, Answer, Body, EmptyBody, IdempotencyKey, IfMatch, PathId, Problem, StepProblems,
    },
    idempotency,
};
use hospital_types::{Actor, Appointment, AppointmentId, Faults, Sensitive, text};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{App, Bookers, Visits};
use crate::{
    advance::{Advance, Visit, advance},
    cancel::{Cancel, cancel as cancel_appointment},
    own::Limits,
    reschedule::{Reschedule, reschedule as reschedule_appointment},
    slot::Slot,
};

fn changed(who: &Actor) -> impl FnOnce(&crate::appointment::Appointment) -> Answer {
    move |after| Answer::ok(after.version, &after.view(who))
}

/// Why an appointment is called off, and by whom.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelBody {
    #[schema(max_length = 500)]
    reason: String,
    #[schema(pattern = "^(patient|hospital)$", example = "patient")]
    by: String,
}

impl CancelBody {
    fn command(
        self,
        id: AppointmentId,
        seen_version: Option<i32>,
        who: &Actor,
    ) -> Result<Cancel, Problem> {
        if self.by == "hospital" && !who.works_here() {
            return Err(Problem::new(
                403,
                "forbidden",
                "A patient cancels for themselves, not for the hospital.",
            )
            .fault("/by", "must be patient"));
        }
        let mut faults = Faults::new();
        let reason = faults.take("/reason", text(&self.reason, 500)).map(Sensitive::new);
        let by = match self.by.as_str() {
            "patient" => Ok(CancelledBy::Patient),
            "hospital" => Ok(CancelledBy::Hospital),
            _ => Err("must be patient or hospital"),
        };
        let by = faults.take("/by", by);
        let command = reason.zip(by).map(|(reason, by)| Cancel { id, seen_version, by, reason });
        Ok(faults.finish(command)?)
    }
}

/// Calls an appointment off. Its time becomes free. Patients do until it starts, unless they are here already.
#[utoipa::path(
    post, path = "/appointments/{id}/cancel", tag = "Steps", request_body = CancelBody,
    params(
        ("id" = String, Path, format = Uuid, description = "The appointment."),
    ),
    responses((status = 200, description = "Cancelled.", body = AppointmentView), StepProblems),
)]
pub(super) async fn cancel(
    State(app): State<App>,
    who: Allowed<Bookers>,
    key: IdempotencyKey,
    PathId(id): PathId<Appointment>,
    IfMatch(seen): IfMatch,
    body: Body<CancelBody>,
) -> Result<Answer, Problem> {
    let cmd = match body.parse().and_then(|given| given.command(id, seen, &who)) {
        Ok(cmd) => cmd,
        Err(fault) => return Err(app.unless_missing(&who.cause, id, fault).await),
    };
    let request = key.request("appointment.cancel", &who.cause, body.fingerprint());
    let cause = who.cause.clone();
    let work = async move |tx: &mut _| cancel_appointment(tx, &cause, &cmd).await;
    Ok(idempotency::once(&app.db, request, changed(&who), work).await)
}

/// Another time for an appointment.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RescheduleBody {
    /// RFC 3339, with an offset.
    #[schema(format = DateTime, example = "2030-05-17T09:30:00+02:00")]
    start: String,
    /// One minute to 24 hours after the start.
    #[schema(format = DateTime, example = "2030-05-17T10:00:00+02:00")]
    end: String,
}

impl RescheduleBody {
    fn command(
        &self,
        id: AppointmentId,
        seen_version: Option<i32>,
        own: Option<Limits>,
    ) -> Result<Reschedule, Problem> {
        let mut faults = Faults::new();
        let slot = Slot::parse(&self.start, &self.end, &mut faults);
        Ok(faults.finish(slot.map(|slot| Reschedule { id, seen_version, slot, own }))?)
    }
}

/// Moves an appointment to another time. It keeps its id. Patients do until it starts, unless they are here already.
#[utoipa::path(
    post, path = "/appointments/{id}/reschedule", tag = "Steps", request_body = RescheduleBody,
    params(
        ("id" = String, Path, format = Uuid, description = "The appointment."),
    ),
    responses((status = 200, description = "Moved.", body = AppointmentView), StepProblems),
)]
pub(super) async fn reschedule(
    State(app): State<App>,
    who: Allowed<Bookers>,
    key: IdempotencyKey,
    PathId(id): PathId<Appointment>,
    IfMatch(seen): IfMatch,
    body: Body<RescheduleBody>,
) -> Result<Answer, Problem> {
    let cmd = match body.parse().and_then(|given| given.command(id, seen, app.own(&who))) {
        Ok(cmd) => cmd,
        Err(fault) => return Err(app.unless_missing(&who.cause, id, fault).await),
    };
    let request = key.request("appointment.reschedule", &who.cause, body.fingerprint());
    let cause = who.cause.clone();
    let work = async move |tx: &mut _| reschedule_appointment(tx, &cause, &cmd).await;
    Ok(idempotency::once(&app.db, request, changed(&who), work).await)
}

/// The four steps of a visit differ in name only.
macro_rules! visit_step {
    ($handler:ident, $path:literal, $unit:literal, $visit:expr, $summary:literal) => {
        #[doc = $summary]
        #[utoipa::path(
            post, path = $path, tag = "Steps",
            params(
                ("id" = String, Path, format = Uuid, description = "The appointment."),
            ),
            responses((status = 200, description = "Done.", body = AppointmentView), StepProblems),
        )]
        pub(super) async fn $handler(
            State(app): State<App>,
            who: Allowed<Visits>,
            key: IdempotencyKey,
            PathId(id): PathId<Appointment>,
            IfMatch(seen): IfMatch,
            body: EmptyBody,
        ) -> Result<Answer, Problem> {
            if let Err(fault) = body.parse() {
                return Err(app.unless_missing(&who.cause, id, fault).await);
            }
            let cmd = Advance { id, seen_version: seen, visit: $visit, zone: app.zone.clone() };
            let request = key.request($unit, &who.cause, body.fingerprint());
            let cause = who.cause.clone();
            let work = async move |tx: &mut _| advance(tx, &cause, &cmd).await;
            Ok(idempotency::once(&app.db, request, changed(&who), work).await)
        }
    };
}

visit_step!(
    arrive,
    "/appointments/{id}/arrive",
    "appointment.arrive",
    Visit::Arrive,
    "The patient is here. On the same day an administrator can take back a no-show with it."
);
visit_step!(
    check_in,
    "/appointments/{id}/check-in",
    "appointment.check-in",
    Visit::CheckIn,
    "The patient is checked in."
);
visit_step!(
    complete,
    "/appointments/{id}/complete",
    "appointment.complete",
    Visit::Complete,
    "The patient has been seen."
);
visit_step!(
    no_show,
    "/appointments/{id}/no-show",
    "appointment.no-show",
    Visit::NoShow,
    "The patient did not come. Possible once the appointment has begun."
);
