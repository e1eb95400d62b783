use axum::extract::State;
use hospital_contracts::appointment::{AppointmentStatus, AppointmentView, HistoryEntry};
use hospital_contracts::patient::Identifier;
use hospital_kit::http::{
    Allowed, Answer, Cursor, Limit, ListProblems, Page, PathId, Problem, Query, ReadProblems,
};
use hospital_types::{Actor, Appointment, AppointmentId, PatientId, PractitionerId, parse_date};
use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Deserializer, de::Error};

use super::{App, Readers};
use crate::{
    identifiers::parse_filter,
    slot::local_day,
    store::{self, AppointmentFilter},
};

/// Which appointments, and which page of them.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// How many at most.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `nextCursor` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
    /// Those that take place on this day, wholly or in part, in the facility's time zone.
    #[serde(default, deserialize_with = "date")]
    #[param(value_type = Option<String>, format = Date)]
    date: Option<Date>,
    #[param(value_type = Option<String>, format = Uuid)]
    practitioner_id: Option<PractitionerId>,
    #[param(value_type = Option<String>, format = Uuid)]
    patient_id: Option<PatientId>,
    #[param(inline)]
    status: Option<AppointmentStatus>,
    /// The one that another system knows by this id: `system|value`.
    #[serde(default, deserialize_with = "identifier")]
    #[param(value_type = Option<String>)]
    identifier: Option<Identifier>,
}

fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Date>, D::Error> {
    parse_date(&String::deserialize(deserializer)?)
        .map(Some)
        .map_err(|e| Error::custom(format!("date {e}")))
}

pub(super) fn identifier<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Identifier>, D::Error> {
    parse_filter(&String::deserialize(deserializer)?).map(Some).map_err(Error::custom)
}

/// Lists appointments, the earliest first. A patient sees their own.
#[utoipa::path(
    get, path = "/appointments", tag = "Appointments", params(ListQuery),
    responses((status = 200, description = "A page of appointments.", body = Page<AppointmentView>), ListProblems),
)]
pub(super) async fn list(
    State(app): State<App>,
    who: Allowed<Readers>,
    Query(query): Query<ListQuery>,
) -> Result<Answer, Problem> {
    let after =
        query.cursor.as_ref().map(Cursor::decode::<(Timestamp, AppointmentId)>).transpose()?;
    let limit = query.limit;
    let Some(filter) = query.filter(&who, &app)? else {
        return Ok(Answer::plain(&Page::<AppointmentView>::empty()));
    };
    let found =
        store::appointments(app.db.reader(&who.cause), &filter, after, limit.rows()).await?;
    let views = found.iter().map(|one| one.view(&who)).collect();
    Ok(Answer::plain(&Page::from_rows(views, limit, |last| (last.start, last.id))))
}

impl ListQuery {
    /// The filter, narrowed to what the caller may see; `None` when that is nothing.
    fn filter(self, who: &Actor, app: &App) -> Result<Option<AppointmentFilter>, Problem> {
        let during =
            self.date.map(|date| local_day(date, &app.zone)).transpose().map_err(|_| {
                Problem::new(
                    400,
                    "invalid-query",
                    "A query parameter is not accepted: date is out of range.",
                )
            })?;
        let mut patient = self.patient_id;
        if !who.scope().narrow(&mut patient) {
            return Ok(None);
        }
        Ok(Some(AppointmentFilter {
            during,
            patient,
            practitioner: self.practitioner_id,
            status: self.status,
            identifier: self.identifier,
        }))
    }
}

/// Which page of a history.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// How many at most.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `nextCursor` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

/// Lists the steps of an appointment's life, the first first.
#[utoipa::path(
    get, path = "/appointments/{id}/history", tag = "Appointments",
    params(("id" = String, Path, format = Uuid, description = "The appointment."), HistoryQuery),
    responses((status = 200, description = "A page of steps.", body = Page<HistoryEntry>), ReadProblems),
)]
pub(super) async fn history(
    State(app): State<App>,
    who: Allowed<Readers>,
    PathId(id): PathId<Appointment>,
    query: Result<Query<HistoryQuery>, Problem>,
) -> Result<Answer, Problem> {
    let (patient, practitioner) = store::who_meets(app.db.reader(&who.cause), id)
        .await?
        .filter(|(patient, _)| who.may_see(*patient))
        .ok_or_else(Problem::not_found)?;
    let Query(query) = query?;
    let after = query.cursor.as_ref().map(Cursor::decode::<i32>).transpose()?.unwrap_or(0);
    let mut steps = store::steps(app.db.reader(&who.cause), id, after, query.limit.rows()).await?;
    if !who.may_know_why(patient, practitioner) {
        steps.iter_mut().for_each(|step| step.reason = None);
    }
    Ok(Answer::plain(&Page::from_rows(steps, query.limit, |last| last.version)))
}
