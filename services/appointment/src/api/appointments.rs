use axum::extract::State;
use hospital_contracts::{appointment::AppointmentView, patient::Identifier};
use hospital_kit::{
    cause::Cause,
    http::{
        Allowed, Answer, Body, CreateProblems, IdempotencyKey, PathId, Problem, ReadProblems,
        not_null,
    },
    idempotency,
};
use hospital_types::{Appointment, Faults, Role, Sensitive, text};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{App, Bookers, Readers};
use crate::{
    book::Book,
    identifiers,
    patient_check::Standing,
    service_type,
    slot::{INVALID_DURATION, Slot},
    store,
};

/// An appointment to book.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct BookBody {
    #[schema(format = Uuid)]
    patient_id: String,
    #[schema(format = Uuid)]
    practitioner_id: String,
    /// RFC 3339, with an offset.
    #[schema(format = DateTime, example = "2030-05-17T09:30:00+02:00")]
    start: String,
    /// One minute to 24 hours after the start.
    #[schema(format = DateTime, example = "2030-05-17T10:00:00+02:00")]
    end: String,
    #[schema(pattern = "^[a-z0-9-]{1,64}$", example = "general-consultation")]
    service_type: String,
    /// Why the patient comes. Clinical: only answers to the desk, the practitioner and the patient have it.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(max_length = 500, nullable = false)]
    reason: Option<String>,
    /// A record moved in from elsewhere: may lie in the past and last longer than a day, and notifies nobody. For administrators.
    #[serde(default)]
    back_dated: bool,
    /// Ids that other systems know the appointment by, at most five. For staff.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(max_items = 5, nullable = false)]
    identifiers: Option<Vec<Identifier>>,
}

impl BookBody {
    /// The booking, but for what the patient service says.
    fn command(self) -> Result<Book, Faults> {
        let mut faults = Faults::new();
        let patient = faults.take("/patientId", self.patient_id.parse().map_err(|_| NO_UUID));
        let practitioner =
            faults.take("/practitionerId", self.practitioner_id.parse().map_err(|_| NO_UUID));
        let slot = Slot::parse(&self.start, &self.end, &mut faults);
        if slot.is_some_and(|slot| slot.is_too_long()) && !self.back_dated {
            faults.push_coded("/end", INVALID_DURATION, "must be at most 24 hours after the start");
        }
        let service_type = service_type::parse(self.service_type, &mut faults);
        let reason = self.reason.map(|given| text(&given, 500));
        let reason = reason.and_then(|parsed| faults.take("/reason", parsed)).map(Sensitive::new);
        let identifiers = identifiers::parse(self.identifiers.unwrap_or_default(), &mut faults);
        let command = (|| {
            Some(Book {
                patient: patient?,
                standing: Standing::Unknown,
                practitioner: practitioner?,
                slot: slot?,
                service_type: service_type?,
                reason,
                back_dated: self.back_dated,
                identifiers,
                own: None,
            })
        })();
        faults.finish(command)
    }
}

const NO_UUID: &str = "must be a UUID";

/// Books an appointment.
#[utoipa::path(
    post, path = "/appointments", tag = "Appointments", request_body = BookBody,
    responses(
        (status = 201, description = "Booked.", body = AppointmentView, headers(
            ("Location" = String, description = "Where the appointment is."),
            ("ETag" = String, description = "Its version."))),
        (status = 409, description = "`slot-unavailable`, with up to three `alternatives`; `identifier-taken`, with `appointmentId`; to a patient also `too-many-bookings`, `too-many-hours`, with `max`.",
            body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
        CreateProblems,
    ),
)]
pub(super) async fn book(
    State(app): State<App>,
    who: Allowed<Bookers>,
    key: IdempotencyKey,
    body: Body<BookBody>,
) -> Result<Answer, Problem> {
    let given = body.parse()?;
    if given.back_dated && !who.roles.contains(Role::Admin) {
        return Err(Problem::new(403, "forbidden", "Only an administrator books back-dated."));
    }
    if given.identifiers.as_ref().is_some_and(|some| !some.is_empty()) && !who.works_here() {
        // Another's could be taken, or found out by trying.
        return Err(Problem::new(403, "forbidden", "Only staff give appointments identifiers.")
            .fault("/identifiers", "must not be there"));
    }
    let mut cmd = given.command()?;
    cmd.own = app.own(&who);
    let request = key.request("appointment.book", &who.cause, body.fingerprint());
    match app.standing(&who.cause, &cmd).await {
        Ok(standing) => cmd.standing = standing,
        Err(problem) => return Ok(idempotency::stored_or(&app.db, &request, problem).await),
    }
    if cmd.own.is_none() {
        return Ok(app.bookings.once(request, cmd).await);
    }
    let _turn = app.turns.of(cmd.patient).await;
    Ok(app.own_bookings.once(request, cmd).await)
}

impl App {
    /// Whether the patient can be booked. To a patient, others are unknown without asking.
    async fn standing(&self, cause: &Cause, cmd: &Book) -> Result<Standing, Problem> {
        if !cause.actor.may_see(cmd.patient) {
            return Ok(Standing::Unknown);
        }
        self.patients.standing(cause, cmd.patient).await
    }
}

/// Shows an appointment.
#[utoipa::path(
    get, path = "/appointments/{id}", tag = "Appointments",
    params(("id" = String, Path, format = Uuid, description = "The appointment.")),
    responses((status = 200, description = "The appointment.", body = AppointmentView), ReadProblems),
)]
pub(super) async fn show(
    State(app): State<App>,
    who: Allowed<Readers>,
    PathId(id): PathId<Appointment>,
) -> Result<Answer, Problem> {
    let appointment = store::appointment_by_id(app.db.reader(&who.cause), id)
        .await?
        .filter(|appointment| who.may_see(appointment.patient))
        .ok_or_else(Problem::not_found)?;
    Ok(Answer::ok(appointment.version, &appointment.view(&who)))
}
