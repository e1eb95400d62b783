//! The HTTP edge: routes, bodies, who may do what.

mod body;
mod search;
mod standing;
mod told;

use axum::{Router, extract::State};
use hospital_contracts::patient::{PatientStatus, PatientView};
use hospital_kit::{
    cause::Cause,
    clock::Clock,
    db::Db,
    http::{
        Allowed, Answer, Body, CreateProblems, FrontDesk, IdempotencyKey, IfMatch, PatchBody,
        PathId, Permission, Problem, ReadProblems, StepProblems, with_docs,
    },
    idempotency,
    service::Context,
};
use hospital_types::{Faults, Patient as PatientKind, PatientId, Role, Roles, Sensitive, text};
use jiff::{civil::Date, tz::TimeZone};
use serde::Deserialize;
use utoipa::{ToSchema, openapi::OpenApi};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    body::{PatchPatient, RegisterBody},
    told::Told,
};
use crate::{
    change, contact::Country, patient::Patient, refold::AllFolded,
    register::register as register_patient, store,
};

/// What the handlers are given.
#[derive(Clone)]
struct App {
    db: Db,
    clock: Clock,
    /// The facility's, in which "today" is.
    zone: TimeZone,
    /// The facility's, whose phone numbers come without a country code.
    country: Country,
    all_folded: AllFolded,
}

impl App {
    fn today(&self) -> Date {
        self.clock.now().to_zoned(self.zone.clone()).date()
    }

    /// Answers a malformed body: that there is no such patient goes before what is wrong with the request.
    async fn malformed(&self, cause: &Cause, id: PatientId, problem: Problem) -> Problem {
        match store::exists(self.db.reader(cause), id).await {
            Ok(true) => problem,
            Ok(false) => Problem::not_found(),
            Err(broken) => broken.into(),
        }
    }
}

/// The service's routes, with their state, and their document.
pub(crate) fn routes(
    context: &Context,
    country: Country,
    all_folded: AllFolded,
) -> (Router, OpenApi) {
    let app = App {
        db: context.db.clone(),
        clock: context.clock.clone(),
        zone: context.config.facility.time_zone(),
        country,
        all_folded,
    };
    let routes = OpenApiRouter::new()
        .routes(routes!(register, search::search))
        .routes(routes!(standing::standing))
        .routes(routes!(show, update))
        .routes(routes!(deactivate))
        .routes(routes!(reactivate));
    let (routes, document) = with_docs(
        routes,
        "Hospital patient service",
        "Patients: registration without duplicates, search, contact points.",
    );
    (routes.with_state(app), document)
}

/// Staff, the patient, and the services that ask for one.
struct Readers;
impl Permission for Readers {
    const ROLES: Roles = Roles::of(&[
        Role::FrontDesk,
        Role::Practitioner,
        Role::Cashier,
        Role::BillingManager,
        Role::Patient,
        Role::Admin,
        Role::Service,
    ]);
}

fn location(patient: &Patient) -> String {
    format!("/patients/{}", patient.id)
}

fn changed(patient: &Patient) -> Answer {
    Answer::ok(patient.version, &patient.view())
}

/// Registers a patient.
#[utoipa::path(
    post, path = "/patients", tag = "Patients", request_body = RegisterBody,
    responses(
        (status = 201, description = "Registered.", body = PatientView, headers(
            ("Location" = String, description = "Where the patient is."),
            ("ETag" = String, description = "Its version."))),
        (status = 409, description = "`possible-duplicate`, with `candidates`; `identifier-taken`, with `patientId`.",
            body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
        CreateProblems,
    ),
)]
async fn register(
    State(app): State<App>,
    who: Allowed<FrontDesk>,
    key: IdempotencyKey,
    body: Body<RegisterBody>,
) -> Result<Answer, Problem> {
    let cmd = body.parse()?.command(app.today(), app.country)?;
    let request = key.request("patient.register", &who.cause, body.fingerprint());
    let created = |p: &Patient| Answer::created(location(p), p.version, &p.view());
    let cause = who.cause.clone();
    let work = async move |tx: &mut _| register_patient(tx, &cause, cmd).await;
    Ok(idempotency::once(&app.db, request, created, work).await)
}

/// Shows a patient, as much as the caller's role needs. Practitioners: no address and no e-mail
/// address. Cashiers: no gender and nothing to reach the patient by. Billing managers: no gender.
/// Services: id, version, status, phone, e-mail address and language alone.
#[utoipa::path(
    get, path = "/patients/{id}", tag = "Patients",
    params(("id" = String, Path, format = Uuid, description = "The patient.")),
    responses((status = 200, description = "The patient.", body = PatientView), ReadProblems),
)]
async fn show(
    State(app): State<App>,
    who: Allowed<Readers>,
    PathId(id): PathId<PatientKind>,
) -> Result<Answer, Problem> {
    // Whoever comes by the role of a patient alone sees one patient, whatever other roles there are beside it.
    if !who.may_see(id) {
        return Err(Problem::not_found());
    }
    let patient =
        store::find(app.db.reader(&who.cause), id).await?.ok_or_else(Problem::not_found)?;
    Ok(Answer::ok(patient.version, &Told::to(&who, &patient)))
}

/// Changes what is known of a patient. Members that are not mentioned stay; null removes.
#[utoipa::path(
    patch, path = "/patients/{id}", tag = "Patients",
    params(
        ("id" = String, Path, format = Uuid, description = "The patient."),
    ),
    request_body(content = PatchPatient, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "As it is now.", body = PatientView), StepProblems),
)]
async fn update(
    State(app): State<App>,
    who: Allowed<FrontDesk>,
    PathId(id): PathId<PatientKind>,
    key: IdempotencyKey,
    seen: IfMatch,
    body: PatchBody<PatchPatient>,
) -> Result<Answer, Problem> {
    let patch = match body.parse().and_then(|patch| Ok(patch.check(app.today(), app.country)?)) {
        Ok(patch) => patch,
        Err(problem) => return Err(app.malformed(&who.cause, id, problem).await),
    };
    let request = key.request("patient.update", &who.cause, body.fingerprint());
    let cause = who.cause.clone();
    let work =
        async move |tx: &mut _| change::update(tx, &cause, id, seen, |d| patch.apply(d)).await;
    Ok(idempotency::once(&app.db, request, changed, work).await)
}

/// Why a patient's status changes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReasonBody {
    #[schema(min_length = 1, max_length = 200)]
    reason: String,
}

/// Makes a patient one that cannot be booked.
#[utoipa::path(
    post, path = "/patients/{id}/deactivate", tag = "Patients", request_body = ReasonBody,
    params(
        ("id" = String, Path, format = Uuid, description = "The patient."),
    ),
    responses((status = 200, description = "Inactive.", body = PatientView), StepProblems),
)]
async fn deactivate(
    State(app): State<App>,
    who: Allowed<FrontDesk>,
    PathId(id): PathId<PatientKind>,
    key: IdempotencyKey,
    seen: IfMatch,
    body: Body<ReasonBody>,
) -> Result<Answer, Problem> {
    let request = key.request("patient.deactivate", &who.cause, body.fingerprint());
    set_status(&app, request, id, seen, PatientStatus::Inactive, &body).await
}

/// Makes a deactivated patient bookable again.
#[utoipa::path(
    post, path = "/patients/{id}/reactivate", tag = "Patients", request_body = ReasonBody,
    params(
        ("id" = String, Path, format = Uuid, description = "The patient."),
    ),
    responses((status = 200, description = "Active.", body = PatientView), StepProblems),
)]
async fn reactivate(
    State(app): State<App>,
    who: Allowed<FrontDesk>,
    PathId(id): PathId<PatientKind>,
    key: IdempotencyKey,
    seen: IfMatch,
    body: Body<ReasonBody>,
) -> Result<Answer, Problem> {
    let request = key.request("patient.reactivate", &who.cause, body.fingerprint());
    set_status(&app, request, id, seen, PatientStatus::Active, &body).await
}

async fn set_status(
    app: &App,
    request: idempotency::Request,
    id: PatientId,
    seen: IfMatch,
    to: PatientStatus,
    body: &Body<ReasonBody>,
) -> Result<Answer, Problem> {
    let reason = match body.parse().and_then(|body| {
        let mut faults = Faults::new();
        let reason = faults.take("/reason", text(&body.reason, 200));
        Ok(faults.finish(reason.map(Sensitive::new))?)
    }) {
        Ok(reason) => reason,
        Err(problem) => return Err(app.malformed(&request.cause, id, problem).await),
    };
    let cause = request.cause.clone();
    let work = async move |tx: &mut _| change::set_status(tx, &cause, id, seen, to, &reason).await;
    Ok(idempotency::once(&app.db, request, changed, work).await)
}
