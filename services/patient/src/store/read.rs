//! Reads by what names one patient, and who looks like somebody.

use hospital_contracts::patient::PatientStanding;
use hospital_kit::{
    db::{Reader, Tx},
    outcome::{Broken, Outcome},
    sql,
};
use hospital_types::{PatientId, Sensitive};

use super::{BirthColumns, Born, columns, name, patient, select_patient, status};
use crate::{
    contact::without_extension,
    duplicate::Likeness,
    fold,
    patient::{Demographics, Patient},
    refused::{RegisterRefused, Taken},
};

pub(crate) async fn find(db: Reader<'_>, id: PatientId) -> Result<Option<Patient>, Broken> {
    let rows = db.read(sql!(select_patient!("WHERE p.id = $1"), id)).await?;
    Ok(rows.first().map(patient))
}

pub(crate) async fn exists(db: Reader<'_>, id: PatientId) -> Result<bool, Broken> {
    let rows = db.read(sql!("SELECT 1 FROM patient WHERE id = $1", id)).await?;
    Ok(!rows.is_empty())
}

/// The status of each of these patients that there is.
pub(crate) async fn standings(
    db: Reader<'_>,
    ids: Vec<PatientId>,
) -> Result<Vec<PatientStanding>, Broken> {
    let rows = db.read(sql!("SELECT id, status FROM patient WHERE id = ANY ($1)", ids)).await?;
    Ok(rows
        .iter()
        .map(|row| PatientStanding { id: row.get(0), status: status(row.get(1)) })
        .collect())
}

/// The number that the next temporary name is made of.
pub(crate) async fn next_temporary(tx: &mut Tx<RegisterRefused>) -> Outcome<u64, RegisterRefused> {
    let rows = tx.read(sql!("SELECT nextval('temporary_name')")).await?;
    let number: i64 = rows.first().map_or(0, |row| row.get(0));
    Ok(number.unsigned_abs())
}

/// Whether somebody who is not identified is called so.
pub(crate) async fn is_called(
    tx: &mut Tx<RegisterRefused>,
    temporary: &str,
) -> Outcome<bool, RegisterRefused> {
    let rows = tx
        .read(sql!(
            "SELECT 1 FROM patient WHERE temporary_name = $1 AND given_name = '' AND family_name = ''",
            temporary.to_owned(),
        ))
        .await?;
    Ok(!rows.is_empty())
}

/// Somebody who shares an identifier, a birth date or a phone number with a new patient.
pub(crate) struct Alike {
    pub(crate) id: PatientId,
    pub(crate) likeness: Likeness,
    pub(crate) has_identifier: bool,
}

/// Those are looked at who have an identifier, the birth date as far as it is known, the phone
/// number, or the very same names and about the same birth date.
pub(crate) async fn alike(
    tx: &mut Tx<RegisterRefused>,
    d: &Demographics,
) -> Outcome<Vec<Alike>, RegisterRefused> {
    let (systems, values) = columns(&d.identifiers);
    let born = Born::on(d.birth.as_ref().map(|birth| *birth.date.expose()));
    let phone = d.phone.as_ref().map(|p| without_extension(p.expose()).to_owned());
    let rows = tx
        .read(sql!(
            "WITH same AS (
                 SELECT i.patient_id FROM unnest($1::text[], $2::text[]) AS n (system, value) JOIN patient_identifier i USING (system, value)
             ), near AS (
                 SELECT patient_id AS id FROM same
                 UNION (SELECT p.id FROM unnest($3::text[], $4::date[], $5::date[]) AS b (precision, low, high) CROSS JOIN LATERAL (
                            SELECT p.id FROM patient p
                            WHERE p.birth_precision = b.precision AND p.birth_date >= b.low AND p.birth_date <= b.high
                            ORDER BY p.birth_date, p.id LIMIT 500) AS p)
                 UNION (SELECT id FROM patient WHERE split_part(phone, ';', 1) = $6 LIMIT 100)
                 UNION (SELECT n.patient_id FROM patient_name n
                        WHERE n.word = $7 AND (
                            SELECT EXISTS (
                                SELECT 1 FROM unnest($3::text[], $4::date[], $5::date[]) AS b (precision, low, high)
                                WHERE p.birth_precision = b.precision AND p.birth_date >= b.low AND p.birth_date <= b.high)
                            FROM patient p WHERE p.id = n.patient_id)
                        LIMIT 100)
             )
             SELECT p.*, p.id IN (SELECT patient_id FROM same) AS has_identifier
             FROM near CROSS JOIN LATERAL (
                 SELECT p.id, p.given_name, p.family_name, p.birth_date, p.birth_precision, p.birth_estimated, p.phone
                 FROM patient p WHERE p.id = near.id LIMIT 1) AS p",
            systems,
            values,
            born.precisions,
            born.low,
            born.high,
            phone,
            fold::whole(&d.names()),
        ))
        .await?;
    Ok(rows
        .iter()
        .map(|row| Alike {
            id: row.get("id"),
            likeness: Likeness {
                given_name: name(row, "given_name").map(Sensitive::into_exposed),
                family_name: name(row, "family_name").map(Sensitive::into_exposed),
                birth_date: BirthColumns::read(row).map(|birth| birth.date.into_exposed()),
                phone: row.get("phone"),
            },
            has_identifier: row.get("has_identifier"),
        })
        .collect())
}

/// Who has one of the identifiers that were wanted.
pub(crate) async fn owner_of(db: Reader<'_>, taken: &Taken) -> Result<Option<PatientId>, Broken> {
    let (systems, values) = columns(taken.wanted.expose());
    let rows = db
        .read(sql!(
            "SELECT i.patient_id
             FROM unnest($1::text[], $2::text[]) AS n (system, value) JOIN patient_identifier i USING (system, value)
             WHERE i.patient_id IS DISTINCT FROM $3::uuid LIMIT 1",
            systems,
            values,
            taken.wanted_by,
        ))
        .await?;
    Ok(rows.first().map(|row| row.get(0)))
}
