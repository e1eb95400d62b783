use hospital_contracts::appointment::{
    AppointmentStatus, CancellationView, CancelledBy, FreeTime, HistoryEntry,
};
use hospital_contracts::patient::Identifier;
use hospital_kit::{
    cause::Cause,
    db::{Reader, Tx},
    outcome::{Broken, Outcome},
    sql,
};
use hospital_types::{AppointmentId, PatientId, PractitionerId, Sensitive};
use jiff::{SignedDuration, Timestamp};
use tokio_postgres::{Row, types::Json};
use uuid::Uuid;

use super::columns;
use crate::{appointment::Appointment, refused::Taken, slot::Slot};

/// Frees the time that the appointment takes up. Saying where it lies keeps PostgreSQL from looking into every year.
pub fn delete_reservations<R>(tx: &mut Tx<R>, appointment: &Appointment) {
    tx.write(sql!(
        "DELETE FROM reservation WHERE appointment_id = $1 AND lower(during) >= $2 AND lower(during) < $3",
        appointment.id,
        appointment.slot.start(),
        appointment.slot.end(),
    ));
}

/// One step of the history, with the appointment as it is after it.
pub fn insert_step<R>(
    tx: &mut Tx<R>,
    cause: &Cause,
    after: &Appointment,
    from: Option<AppointmentStatus>,
    reason: Option<&Sensitive<String>>,
) {
    tx.write(sql!(
        "INSERT INTO history (appointment_id, version, at, actor, from_status, to_status, starts_at, ends_at, reason)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        after.id,
        after.version,
        after.updated_at,
        cause.actor.subject.clone(),
        from.map(AppointmentStatus::as_str),
        after.status.as_str(),
        after.slot.start(),
        after.slot.end(),
        reason.cloned().map(Sensitive::into_exposed),
    ));
}

/// Writes what a step can change. The row was locked when it was read.
pub fn update_appointment<R>(tx: &mut Tx<R>, after: &Appointment) {
    let cancelled = after.cancelled.as_ref();
    tx.write(sql!(
        "UPDATE appointment
         SET version = $2, status = $3, starts_at = $4, ends_at = $5, cancelled_by = $6, cancel_reason = $7, updated_at = $8
         WHERE id = $1",
        after.id,
        after.version,
        after.status.as_str(),
        after.slot.start(),
        after.slot.end(),
        cancelled.map(|cancelled| author(cancelled.by)),
        cancelled.and_then(|cancelled| cancelled.reason.clone()).map(Sensitive::into_exposed),
        after.updated_at,
    ));
}

const fn author(by: CancelledBy) -> &'static str {
    match by {
        CancelledBy::Patient => "patient",
        CancelledBy::Hospital => "hospital",
    }
}

/// A query of whole appointments: their columns, then what follows `FROM`, which calls them `a`.
macro_rules! appointments {
    ($from:expr) => {
        concat!(
            "SELECT a.id, a.version, a.patient_id, a.practitioner_id, a.starts_at, a.ends_at, a.status, a.service_type, a.reason,
                    a.back_dated, a.cancelled_by, a.cancel_reason, a.created_at, a.updated_at,
                    (SELECT coalesce(jsonb_agg(jsonb_build_object('system', i.system, 'value', i.value) ORDER BY i.system, i.value), '[]')
                     FROM appointment_identifier i WHERE i.appointment_id = a.id) AS identifiers
             FROM ",
            $from
        )
    };
}

pub async fn appointment_for_update<R>(
    tx: &mut Tx<R>,
    id: AppointmentId,
) -> Outcome<Option<Appointment>, R> {
    let rows = tx
        .read(sql!(appointments!("appointment a WHERE a.id = $1 FOR NO KEY UPDATE OF a"), id))
        .await?;
    Ok(rows.first().map(appointment).transpose()?)
}

pub async fn appointment_by_id(
    db: Reader<'_>,
    id: AppointmentId,
) -> Result<Option<Appointment>, Broken> {
    let rows = db.read(sql!(appointments!("appointment a WHERE a.id = $1"), id)).await?;
    rows.first().map(appointment).transpose()
}

/// Who meets.
pub async fn who_meets(
    db: Reader<'_>,
    id: AppointmentId,
) -> Result<Option<(PatientId, PractitionerId)>, Broken> {
    let sql = "SELECT patient_id, practitioner_id FROM appointment WHERE id = $1";
    let rows = db.read(sql!(sql, id)).await?;
    Ok(rows.first().map(|row| (row.get(0), row.get(1))))
}

/// Which appointments a list shows.
#[derive(Clone, Debug, Default)]
pub struct AppointmentFilter {
    /// When they take place, wholly or in part: first inclusive, last exclusive.
    pub during: Option<(Timestamp, Timestamp)>,
    pub patient: Option<PatientId>,
    pub practitioner: Option<PractitionerId>,
    pub status: Option<AppointmentStatus>,
    pub identifier: Option<Identifier>,
}

/// A page of those of `$from` that a list shows, from behind `$after` on.
macro_rules! page_of {
    ($from:literal, $lead:literal, $after:literal, $id:literal) => {
        concat!(
            "(SELECT * FROM ",
            $from,
            " AS a WHERE ",
            $lead,
            " AND a.starts_at < coalesce($2::timestamptz, 'infinity') AND a.ends_at > coalesce($1::timestamptz, '-infinity')
              AND a.starts_at >= coalesce(",
            $after,
            ", '-infinity') AND (a.starts_at, a.id) > (coalesce(",
            $after,
            ", '-infinity'), coalesce(",
            $id,
            ", '00000000-0000-0000-0000-000000000000'::uuid))
              AND ($5::uuid IS NULL OR a.patient_id = $5) AND ($6::uuid IS NULL OR a.practitioner_id = $6)
              AND ($7::text IS NULL OR a.status = $7)
              AND ($8::text IS NULL OR EXISTS (SELECT FROM appointment_identifier i
                   WHERE i.system = $8 AND i.value = $9::text AND i.appointment_id = a.id))
              ORDER BY a.starts_at, a.id LIMIT $10)"
        )
    };
}

/// Plans are generic, so each statement leads with the one condition whose index is to be used; the others only narrow. The page is cut
/// first and given its identifiers after it. Where the index is entered is one condition: of two, PostgreSQL may enter by the wider one
/// and read through years.
///
/// What began before a day and lasts into it is either not long, and then began at most [`LONG`] before it, or one of the few that have an
/// index of their own. Only a list of a day looks into that, and nothing else is searched for them (`OFFSET 0`).
macro_rules! appointment_list {
    ($lead:literal) => {
        appointments!(concat!(
            "(SELECT * FROM (",
            page_of!(
                "appointment",
                $lead,
                "$3::timestamptz",
                "$4"
            ),
            " UNION ALL ",
            page_of!(
                "(SELECT * FROM appointment a
                  WHERE $1::timestamptz IS NOT NULL AND a.ends_at - a.starts_at > interval '4 hours'
                    AND tstzrange(a.starts_at, a.ends_at) && tstzrange($1::timestamptz, $2::timestamptz)
                    AND a.starts_at < $1::timestamptz - interval '4 hours' OFFSET 0)",
                $lead,
                "$11::timestamptz",
                "$12"
            ),
            ") AS a ORDER BY a.starts_at, a.id LIMIT $10) AS a ORDER BY a.starts_at, a.id"
        ))
    };
}

/// Longer than this are those in the index `appointment_long`.
const LONG: SignedDuration = SignedDuration::from_hours(4);

/// A page of appointments by start, from behind the given one on.
pub async fn appointments(
    db: Reader<'_>,
    filter: &AppointmentFilter,
    after: Option<(Timestamp, AppointmentId)>,
    limit: i64,
) -> Result<Vec<Appointment>, Broken> {
    let sql = if filter.identifier.is_some() {
        appointment_list!(
            "a.id = (SELECT i.appointment_id FROM appointment_identifier i WHERE i.system = $8 AND i.value = $9)"
        )
    } else if filter.patient.is_some() {
        appointment_list!("a.patient_id = $5")
    } else if filter.practitioner.is_some() {
        appointment_list!("a.practitioner_id = $6")
    } else {
        appointment_list!("true")
    };
    // No appointment has the id zero, so this is where those begin that are not long.
    let earliest = filter.during.and_then(|(from, _)| from.checked_sub(LONG).ok());
    let near =
        after.max(earliest.map(|earliest| (earliest, AppointmentId::from_uuid(Uuid::nil()))));
    let rows = db
        .read(sql!(
            sql,
            filter.during.map(|(from, _)| from),
            filter.during.map(|(_, until)| until),
            near.map(|(start, _)| start),
            near.map(|(_, id)| id),
            filter.patient,
            filter.practitioner,
            filter.status.map(AppointmentStatus::as_str),
            filter.identifier.as_ref().map(|one| one.system.clone()),
            filter.identifier.as_ref().map(|one| one.value.clone()),
            limit,
            after.map(|(start, _)| start),
            after.map(|(_, id)| id),
        ))
        .await?;
    rows.iter().map(appointment).collect()
}

/// A page of an appointment's steps, oldest first, from behind the given version on.
pub async fn steps(
    db: Reader<'_>,
    id: AppointmentId,
    after: i32,
    limit: i64,
) -> Result<Vec<HistoryEntry>, Broken> {
    let rows = db
        .read(sql!(
            "SELECT version, at, actor, from_status, to_status, starts_at, ends_at, reason
             FROM history WHERE appointment_id = $1 AND version > $2 ORDER BY version LIMIT $3",
            id,
            after,
            limit,
        ))
        .await?;
    rows.iter()
        .map(|row| {
            Ok(HistoryEntry {
                version: row.get("version"),
                at: row.get("at"),
                actor: row.get("actor"),
                from: row.get::<_, Option<&str>>("from_status").map(status).transpose()?,
                to: status(row.get("to_status"))?,
                start: row.get("starts_at"),
                end: row.get("ends_at"),
                reason: row.get::<_, Option<String>>("reason").map(Sensitive::new),
            })
        })
        .collect()
}

/// The appointment that has one of these identifiers.
pub async fn appointment_holding(
    db: Reader<'_>,
    identifiers: &[Identifier],
) -> Result<Option<AppointmentId>, Broken> {
    let (systems, values) = columns(identifiers);
    let rows = db
        .read(sql!(
            "SELECT i.appointment_id FROM appointment_identifier i
             JOIN unnest($1::text[], $2::text[]) AS wanted (system, value) USING (system, value)
             ORDER BY i.system, i.value LIMIT 1",
            systems,
            values,
        ))
        .await?;
    Ok(rows.first().map(|row| row.get(0)))
}

/// How far ahead free times are looked for.
const LOOK_AHEAD: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Up to three free times of the wanted length for both who would meet: the gaps between what they have, each entered on a grid of a
/// quarter of an hour (or of the length, when that is shorter) counted from the wanted start, and filled one after the other.
pub async fn free_times(
    db: Reader<'_>,
    taken: &Taken,
    earliest: Timestamp,
) -> Result<Vec<FreeTime>, Broken> {
    let duration = taken.slot.duration();
    let Ok(latest) = earliest.checked_add(LOOK_AHEAD) else { return Ok(Vec::new()) };
    let rows = db
        .read(sql!(
            "WITH look AS (
                 SELECT tstzrange($3, $4) AS ahead, make_interval(secs => $6) AS duration, least($6, 900) AS grid
             ), busy AS (
                 SELECT r.during FROM reservation r
                 WHERE r.resource_id = $1 AND r.during && tstzrange($3, $4) AND r.appointment_id <> $7
                   AND lower(r.during) >= date_trunc('year', $3::timestamptz, 'UTC') AND lower(r.during) < $4
                 UNION ALL
                 SELECT r.during FROM reservation r
                 WHERE r.resource_id = $2 AND r.during && tstzrange($3, $4) AND r.appointment_id <> $7
                   AND lower(r.during) >= date_trunc('year', $3::timestamptz, 'UTC') AND lower(r.during) < $4
             ), gap AS (
                 SELECT $5::timestamptz + make_interval(secs => look.grid * ceil(extract(epoch FROM lower(open) - $5::timestamptz)::float8 / look.grid)) AS opens,
                        upper(open) - look.duration AS closes, look.duration
                 FROM look, unnest(multirange(look.ahead) - coalesce((SELECT range_agg(during) FROM busy), '{}')) AS open
             )
             SELECT free.start AS starts_at, free.start + gap.duration AS ends_at
             FROM gap, generate_series(gap.opens, least(gap.closes, gap.opens + 2 * gap.duration), gap.duration) AS free (start)
             ORDER BY free.start LIMIT 3",
            taken.practitioner,
            taken.patient,
            earliest,
            latest,
            taken.slot.start(),
            duration.as_secs_f64(),
            taken.appointment,
        ))
        .await?;
    Ok(rows
        .iter()
        .map(|row| FreeTime { start: row.get("starts_at"), end: row.get("ends_at") })
        .collect())
}

fn appointment(row: &Row) -> Result<Appointment, Broken> {
    let cancelled_by: Option<&str> = row.get("cancelled_by");
    let cancel_reason: Option<String> = row.get("cancel_reason");
    let Json(identifiers) = row.get("identifiers");
    Ok(Appointment {
        id: row.get("id"),
        version: row.get("version"),
        patient: row.get("patient_id"),
        practitioner: row.get("practitioner_id"),
        slot: Slot::stored(row.get("starts_at"), row.get("ends_at")),
        status: status(row.get("status"))?,
        service_type: row.get("service_type"),
        reason: row.get::<_, Option<String>>("reason").map(Sensitive::new),
        back_dated: row.get("back_dated"),
        identifiers,
        cancelled: cancelled_by.map(|by| CancellationView {
            by: if by == author(CancelledBy::Patient) {
                CancelledBy::Patient
            } else {
                CancelledBy::Hospital
            },
            reason: cancel_reason.map(Sensitive::new),
        }),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    })
}

fn status(text: &str) -> Result<AppointmentStatus, Broken> {
    AppointmentStatus::parse(text)
        .ok_or_else(|| Broken::defect("reading an appointment", format!("unknown status {text}")))
}
