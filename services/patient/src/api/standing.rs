use axum::extract::State;
use hospital_contracts::patient::PatientStanding;
use hospital_kit::http::{Allowed, Answer, ListProblems, Permission, Problem, Query};
use hospital_types::{PatientId, Role, Roles};
use serde::Deserialize;

use super::App;
use crate::store;

/// How many patients are asked about at a time.
const IDS_MAX: usize = 100;

/// The other services: what a booking needs to know, and no name with it.
pub(super) struct Services;
impl Permission for Services {
    const ROLES: Roles = Roles::of(&[Role::Service]);
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StandingQuery {
    /// Ids of 1 to 100 patients, with commas between them.
    #[param(
        pattern = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(,[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}){0,99}$"
    )]
    ids: String,
}

impl StandingQuery {
    fn ids(&self) -> Result<Vec<PatientId>, Problem> {
        let ids: Result<Vec<PatientId>, _> = self.ids.split(',').map(str::parse).collect();
        ids.ok().filter(|ids| ids.len() <= IDS_MAX).ok_or_else(|| {
            let detail = "A query parameter is not accepted: ids takes 1 to 100 ids, with commas between them.";
            Problem::new(400, "invalid-query", detail)
        })
    }
}

/// Says of several patients at once whether they can be booked; whoever is unknown is not in the answer.
#[utoipa::path(
    get, path = "/patients/standing", tag = "Patients", params(StandingQuery),
    responses((status = 200, description = "Those that there are, in any order.", body = Vec<PatientStanding>), ListProblems),
)]
pub(super) async fn standing(
    State(app): State<App>,
    who: Allowed<Services>,
    Query(query): Query<StandingQuery>,
) -> Result<Answer, Problem> {
    Ok(Answer::plain(&store::standings(app.db.reader(&who.cause), query.ids()?).await?))
}
