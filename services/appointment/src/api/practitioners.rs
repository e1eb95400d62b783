use axum::extract::State;
use hospital_contracts::appointment::PractitionerView;
use hospital_contracts::patient::Identifier;
use hospital_kit::{
    http::{
        Allowed, Answer, Body, CreateProblems, Cursor, IdempotencyKey, Limit, ListProblems, Page,
        PathId, Permission, Problem, Query, ReadProblems, not_null,
    },
    idempotency,
};
use hospital_types::{Actor, Faults, Practitioner, PractitionerId, Role, Roles, Sensitive, text};
use serde::{Deserialize, Deserializer, de::Error};
use utoipa::ToSchema;

use super::{Administrators, App, Readers, lists::identifier};
use crate::{
    identifiers,
    register_practitioner::{RegisterPractitioner, register_practitioner},
    store::{self, PractitionerFilter},
};

const NAME_MAX: usize = 200;
const SPECIALTY_MAX: usize = 100;

/// A practitioner to register.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PractitionerBody {
    #[schema(max_length = 200)]
    name: String,
    #[serde(default, deserialize_with = "not_null")]
    #[schema(max_length = 100, nullable = false)]
    specialty: Option<String>,
    /// Ids that other systems know the practitioner by, such as a licence number; at most five.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(max_items = 5, nullable = false)]
    identifiers: Option<Vec<Identifier>>,
}

impl PractitionerBody {
    fn command(self) -> Result<RegisterPractitioner, Faults> {
        let mut faults = Faults::new();
        let name = faults.take("/name", text(&self.name, NAME_MAX)).map(Sensitive::new);
        let specialty = self.specialty.map(|given| text(&given, SPECIALTY_MAX));
        let specialty = specialty.and_then(|parsed| faults.take("/specialty", parsed));
        let identifiers = identifiers::parse(self.identifiers.unwrap_or_default(), &mut faults);
        faults.finish(name.map(|name| RegisterPractitioner { name, specialty, identifiers }))
    }
}

/// Registers a practitioner.
#[utoipa::path(
    post, path = "/practitioners", tag = "Practitioners", request_body = PractitionerBody,
    responses(
        (status = 201, description = "Registered.", body = PractitionerView, headers(
            ("Location" = String, description = "Where the practitioner is."),
            ("ETag" = String, description = "The version."))),
        (status = 409, description = "`identifier-taken`, with `practitionerId`.",
            body = ref("#/components/schemas/Problem"), content_type = "application/problem+json"),
        CreateProblems,
    ),
)]
pub(super) async fn register(
    State(app): State<App>,
    who: Allowed<Administrators>,
    key: IdempotencyKey,
    body: Body<PractitionerBody>,
) -> Result<Answer, Problem> {
    let cmd = body.parse()?.command()?;
    let request = key.request("practitioner.register", &who.cause, body.fingerprint());
    let created = |view: &PractitionerView| {
        Answer::created(format!("/practitioners/{}", view.id), view.version, view)
    };
    let work = async move |tx: &mut _| register_practitioner(tx, &cmd).await;
    Ok(idempotency::once(&app.db, request, created, work).await)
}

/// What the reader may know of a practitioner: identifiers are for staff.
fn shown(practitioner: PractitionerView, reader: &Actor) -> PractitionerView {
    if reader.works_here() {
        practitioner
    } else {
        PractitionerView { identifiers: Vec::new(), ..practitioner }
    }
}

/// Beside those who work here, the services: messages to patients say with whom an appointment is.
pub(super) struct Askers;
impl Permission for Askers {
    const ROLES: Roles = Readers::ROLES.with(Role::Service);
}

/// Shows a practitioner.
#[utoipa::path(
    get, path = "/practitioners/{id}", tag = "Practitioners",
    params(("id" = String, Path, format = Uuid, description = "The practitioner.")),
    responses((status = 200, description = "The practitioner.", body = PractitionerView), ReadProblems),
)]
pub(super) async fn show(
    State(app): State<App>,
    who: Allowed<Askers>,
    PathId(id): PathId<Practitioner>,
) -> Result<Answer, Problem> {
    let practitioner = store::practitioner_by_id(app.db.reader(&who.cause), id)
        .await?
        .ok_or_else(Problem::not_found)?;
    Ok(Answer::ok(practitioner.version, &shown(practitioner, &who)))
}

/// Which practitioners, and which page of them.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// How many at most.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `nextCursor` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
    /// How one of the words of the name begins, in any case.
    #[serde(default, deserialize_with = "word")]
    #[param(max_length = 200)]
    name: Option<String>,
    #[serde(default, deserialize_with = "word")]
    #[param(max_length = 200)]
    specialty: Option<String>,
    /// The one that another system knows by this id: `system|value`. For staff.
    #[serde(default, deserialize_with = "identifier")]
    #[param(value_type = Option<String>)]
    identifier: Option<Identifier>,
}

fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(&String::deserialize(deserializer)?, NAME_MAX).map(Some).map_err(Error::custom)
}

/// Lists practitioners, those who were registered first first.
#[utoipa::path(
    get, path = "/practitioners", tag = "Practitioners", params(ListQuery),
    responses((status = 200, description = "A page of practitioners.", body = Page<PractitionerView>), ListProblems),
)]
pub(super) async fn list(
    State(app): State<App>,
    who: Allowed<Readers>,
    Query(query): Query<ListQuery>,
) -> Result<Answer, Problem> {
    let after = query.cursor.as_ref().map(Cursor::decode::<PractitionerId>).transpose()?;
    if query.identifier.is_some() && !who.works_here() {
        return Err(Problem::new(403, "forbidden", "Only staff find practitioners by identifier."));
    }
    let filter = PractitionerFilter {
        name: query.name,
        specialty: query.specialty,
        identifier: query.identifier,
    };
    let found =
        store::practitioners(app.db.reader(&who.cause), &filter, after, query.limit.rows()).await?;
    let found = found.into_iter().map(|one| shown(one, &who)).collect();
    Ok(Answer::plain(&Page::from_rows(found, query.limit, |last| last.id)))
}
