//! The HTTP edge: routes, bodies, who may do what.

mod body;

use axum::{Router, extract::State};
use hospital_contracts::patient::{Identifier, PatientStatus, PatientView};
use hospital_kit::{
    clock::Clock,
    db::Db,
    http::{
        Allowed, Answer, Body, CreateProblems, Cursor, FrontDesk, IdempotencyKey, IfMatch, Limit,
        ListProblems, Page, PatchBody, PathId, Permission, Problem, Query, ReadProblems, Staff,
        StepProblems, with_docs,
    },
    idempotency::{self, Explain},
    service::Context,
};
use hospital_types::{Patient as PatientKind, PatientId, Role, Roles, text};
use jiff::{civil::Date, tz::TimeZone};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema, openapi::OpenApi};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::body::{PatchPatient, RegisterBody};
use crate::{
    change, contact,
    duplicate::words,
    patient::{ChangeRefused, Patient, RegisterRefused},
    register::register as register_patient,
    store::{self, Search},
};

/// What the handlers are given.
#[derive(Clone)]
struct App {
    db: Db,
    clock: Clock,
    /// The facility's, in which "today" is.
    zone: TimeZone,
}

impl App {
    fn today(&self) -> Date {
        self.clock.now().to_zoned(self.zone.clone()).date()
    }

    /// Answers a malformed body: that there is no such patient goes before what is wrong with the request.
    async fn malformed(&self, id: PatientId, problem: Problem) -> Problem {
        match store::find(&self.db, id).await {
            Ok(Some(_)) => problem,
            Ok(None) => Problem::not_found(),
            Err(broken) => broken.into(),
        }
    }
}

/// The service's routes, with their state, and their document.
pub(crate) fn routes(context: &Context) -> (Router, OpenApi) {
    let app = App {
        db: context.db.clone(),
        clock: context.clock.clone(),
        zone: context.config.facility.time_zone(),
    };
    let routes = OpenApiRouter::new()
        .routes(routes!(register, search))
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

impl Explain for RegisterRefused {
    async fn explain(self, db: &Db) -> Problem {
        let refused = match self {
            Self::IdentifierTaken { identifiers, by: None } => {
                // That the owner cannot be looked up takes nothing from the refusal.
                let by = store::owner_of(db, &identifiers).await.ok().flatten();
                Self::IdentifierTaken { identifiers, by }
            }
            other => other,
        };
        Problem::from_refusal(&refused)
    }
}

impl Explain for ChangeRefused {}

fn location(patient: &Patient) -> String {
    format!("/patients/{}", patient.id)
}

fn changed(patient: &Patient) -> Answer {
    Answer::ok(patient.version, &patient.view())
}

/// Registers a patient.
#[utoipa::path(
    post, path = "/patients", tag = "Patients", request_body = RegisterBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes repeating this request safe.")),
    responses(
        (status = 201, description = "Registered.", body = PatientView),
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
    let cmd = body.parse()?.command(app.today())?;
    let request = key.request("patient.register", &who, body.fingerprint());
    let created = |p: &Patient| Answer::created(location(p), p.version, &p.view());
    let work = async move |tx: &mut _| register_patient(tx, cmd).await;
    Ok(idempotency::once(&app.db, request, created, work).await)
}

/// Shows a patient.
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
    if !who.may_see(id) {
        return Err(Problem::not_found());
    }
    let patient = store::find(&app.db, id).await?.ok_or_else(Problem::not_found)?;
    Ok(changed(&patient))
}

/// Changes what is known of a patient. Members that are not mentioned stay; null removes.
#[utoipa::path(
    patch, path = "/patients/{id}", tag = "Patients",
    params(("id" = String, Path, format = Uuid, description = "The patient."),
           ("If-Match" = Option<String>, Header, description = "The ETag of the version that you changed.")),
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
    let patch = match body.parse().and_then(|patch| Ok(patch.check(app.today())?)) {
        Ok(patch) => patch,
        Err(problem) => return Err(app.malformed(id, problem).await),
    };
    let request = key.request("patient.update", &who, body.fingerprint());
    let work = async move |tx: &mut _| change::update(tx, id, seen, |d| patch.apply(d)).await;
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
    params(("id" = String, Path, format = Uuid, description = "The patient.")),
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
    let request = key.request("patient.deactivate", &who, body.fingerprint());
    set_status(&app, request, id, seen, PatientStatus::Inactive, &body).await
}

/// Makes a deactivated patient bookable again.
#[utoipa::path(
    post, path = "/patients/{id}/reactivate", tag = "Patients", request_body = ReasonBody,
    params(("id" = String, Path, format = Uuid, description = "The patient.")),
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
    let request = key.request("patient.reactivate", &who, body.fingerprint());
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
        let mut faults = hospital_types::Faults::new();
        let reason = faults.take("/reason", text(&body.reason, 200));
        Ok(faults.finish(reason)?)
    }) {
        Ok(reason) => reason,
        Err(problem) => return Err(app.malformed(id, problem).await),
    };
    let work = async move |tx: &mut _| change::set_status(tx, id, seen, to, &reason).await;
    Ok(idempotency::once(&app.db, request, changed, work).await)
}

/// What to search for; everything given must hold.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct SearchQuery {
    /// Beginnings of words of the name, in any order, without regard to accents and case.
    #[param(example = "zoe mul")]
    name: Option<String>,
    #[param(example = "+16175550100")]
    phone: Option<String>,
    #[param(format = Date)]
    birth_date: Option<String>,
    /// `system|value`.
    #[param(example = "urn:example:mrn|12345")]
    identifier: Option<String>,
    /// `active` or `inactive`.
    status: Option<String>,
    /// 1 to 200; 50 unless told.
    #[serde(default)]
    #[param(value_type = Option<u16>)]
    limit: Limit,
    /// The `nextCursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

impl SearchQuery {
    fn search(&self) -> Result<Search, Problem> {
        let invalid = |name: &str, detail: &str| {
            Problem::new(400, "invalid-query", format!("`{name}` {detail}."))
        };
        let name = self.name.as_deref().map(words);
        if name.as_ref().is_some_and(|words| words.is_empty() || words.len() > 8) {
            return Err(invalid("name", "takes one to eight words"));
        }
        let phone = self.phone.as_deref().map(contact::phone).transpose();
        let birth_date = self.birth_date.as_deref().map(hospital_types::parse_date).transpose();
        let status = self.status.as_deref().map(|s| PatientStatus::parse(s).ok_or(())).transpose();
        let identifier = self
            .identifier
            .as_deref()
            .map(|text| {
                let (system, value) = text
                    .split_once('|')
                    .filter(|(s, v)| !s.is_empty() && !v.is_empty() && !text.contains('\0'))?;
                Some(Identifier { system: system.to_owned(), value: value.to_owned() })
            })
            .map(|i| i.ok_or(()))
            .transpose();
        Ok(Search {
            words: name.unwrap_or_default(),
            phone: phone.map_err(|e| invalid("phone", &e.to_string()))?,
            birth_date: birth_date.map_err(|e| invalid("birthDate", &e.to_string()))?,
            identifier: identifier.map_err(|()| invalid("identifier", "takes system|value"))?,
            status: status.map_err(|()| invalid("status", "takes active or inactive"))?,
        })
    }
}

/// Searches patients, oldest first.
#[utoipa::path(
    get, path = "/patients", tag = "Patients", params(SearchQuery),
    responses((status = 200, description = "A page of patients.", body = Page<PatientView>), ListProblems),
)]
async fn search(
    State(app): State<App>,
    _: Allowed<Staff>,
    Query(query): Query<SearchQuery>,
) -> Result<Answer, Problem> {
    let after = query.cursor.as_ref().map(Cursor::decode::<PatientId>).transpose()?;
    let found = store::search(&app.db, query.search()?, after, query.limit.rows()).await?;
    let items = found.iter().map(Patient::view).collect();
    Ok(Answer::plain(&Page::from_rows(items, query.limit, |last: &PatientView| last.id)))
}
