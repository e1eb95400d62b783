//! What a registration, a change or a new folding writes.

use std::convert::Infallible;

use hospital_contracts::patient::PatientStatus;
use hospital_kit::{cause::Cause, db::Tx, outcome::Outcome, sql};
use hospital_types::{DatePrecision, PartialDate, PatientId, Sensitive};
use tokio_postgres::{Row, types::Json};
use uuid::Uuid;

use super::{BirthColumns, columns, patient, select_patient, status};
use crate::{
    fold,
    patient::{Demographics, Patient},
    refused::{ChangeRefused, RegisterRefused, Taken},
};

/// What `patient_to_enter` compares with `patient.entries`.
macro_rules! entered {
    ($given:literal, $family:literal, $birth:literal, $precision:literal, $status:literal) => {
        concat!(
            "'",
            fold::fold_version!(),
            "' || ",
            $given,
            " || '/' || ",
            $family,
            " || '/' || (",
            $birth,
            " - date '0001-01-01')::text || ",
            $precision,
            " || '/' || ",
            $status
        )
    };
    () => {
        entered!("given_name", "family_name", "birth_date", "birth_precision", "status")
    };
}

pub(crate) fn insert(tx: &mut Tx<RegisterRefused>, patient: &Patient) {
    let d = &patient.demographics;
    let birth = BirthColumns::of(d);
    tx.write(sql!(
        concat!(
            "INSERT INTO patient (id, version, status, given_name, family_name, temporary_name, birth_date, birth_precision, birth_estimated,
                              gender, phone, email, language, address, created_at, updated_at, folded, words, entries)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15, $16, $17, ",
            entered!("$4::text", "$5::text", "$7::date", "$8::text", "$3::text"),
            ")"
        ),
        patient.id,
        patient.version,
        patient.status.as_str(),
        text_or_none(d.given_name.as_ref()),
        text_or_none(d.family_name.as_ref()),
        exposed(d.temporary_name.as_ref()),
        birth.date,
        birth.precision,
        birth.estimated,
        d.gender.as_str(),
        exposed(d.phone.as_ref()),
        exposed(d.email.as_ref()),
        d.language.clone(),
        d.address.as_ref().map(|a| Json(a.expose().clone())),
        patient.created_at,
        folded(d),
        Named::of(patient).words(),
    ));
    insert_names(tx, &[Named::of(patient)]);
    if !d.identifiers.is_empty() {
        let taken = RegisterRefused::IdentifierTaken(Taken::of(&d.identifiers, None));
        insert_identifiers(tx, patient.id, d, taken);
    }
}

fn exposed(text: Option<&Sensitive<String>>) -> Option<String> {
    text.map(|text| text.expose().clone())
}

/// A name that there is not is an empty text: the version before reads a text.
fn text_or_none(name: Option<&Sensitive<String>>) -> String {
    exposed(name).unwrap_or_default()
}

/// What the version before compares with the names: that it has nothing to fold. A temporary name
/// never changes.
fn folded(d: &Demographics) -> String {
    let (given, family) =
        (text_or_none(d.given_name.as_ref()), text_or_none(d.family_name.as_ref()));
    format!("1/{given}/{family}")
}

/// Whose entries are written: what they are made of.
struct Named<'a> {
    id: PatientId,
    names: Vec<&'a str>,
    temporary: Option<&'a str>,
    born: [i32; 3],
    inactive: bool,
}

impl<'a> Named<'a> {
    fn of(patient: &'a Patient) -> Self {
        let d = &patient.demographics;
        Self {
            id: patient.id,
            names: d.names(),
            temporary: d.temporary(),
            born: year_month_day(d.birth.as_ref().map(|birth| *birth.date.expose())),
            inactive: patient.status == PatientStatus::Inactive,
        }
    }

    fn read(row: &'a Row) -> Self {
        let names: [&str; 2] = [row.get("given_name"), row.get("family_name")];
        Self {
            id: row.get("id"),
            names: names.into_iter().filter(|name| !name.is_empty()).collect(),
            temporary: row.get("temporary_name"),
            born: year_month_day(BirthColumns::read(row).map(|birth| birth.date.into_exposed())),
            inactive: status(row.get("status")) == PatientStatus::Inactive,
        }
    }
}

impl Named<'_> {
    fn words(&self) -> Option<String> {
        fold::searched(&self.names, self.temporary)
    }
}

/// 0 for what is not known.
fn year_month_day(birth: Option<PartialDate>) -> [i32; 3] {
    let Some(birth) = birth else { return [0; 3] };
    let (first, precision) = (birth.first(), birth.precision());
    let month = if precision == DatePrecision::Year { 0 } else { first.month().into() };
    let day = if precision == DatePrecision::Day { first.day().into() } else { 0 };
    [first.year().into(), month, day]
}

/// Writes the entries that patients are found by.
fn insert_names<R>(tx: &mut Tx<R>, patients: &[Named<'_>]) {
    let (mut owners, mut words, mut all) = (Vec::new(), Vec::new(), Vec::new());
    let (mut years, mut months, mut days) = (Vec::new(), Vec::new(), Vec::new());
    let mut inactive = Vec::new();
    for patient in patients {
        for entry in fold::entries(&patient.names, patient.temporary) {
            owners.push(patient.id);
            let [year, month, day] = patient.born;
            let searched = entry.is_searched();
            years.push(searched.then_some(year));
            months.push(month);
            days.push(day);
            inactive.push(searched.then_some(patient.inactive));
            words.push(entry.word);
            all.push(entry.words);
        }
    }
    tx.write(sql!(
        "INSERT INTO patient_name (patient_id, word, words, born, born_month, born_day, inactive)
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::integer[],
                              $6::integer[], $7::boolean[])
         ON CONFLICT DO NOTHING",
        owners,
        words,
        all,
        years,
        months,
        days,
        inactive,
    ));
}

/// Writes the entries of up to `limit` patients after `after` anew, if they were made of something
/// else, otherwise, or not at all; gives the last of them.
pub(crate) async fn fold_some(
    tx: &mut Tx<Infallible>,
    after: Option<PatientId>,
    limit: i64,
) -> Outcome<Option<PatientId>, Infallible> {
    let rows = tx
        .read(sql!(
            concat!(
                "SELECT id, given_name, family_name, temporary_name, birth_date, birth_precision, birth_estimated, status FROM patient
                 WHERE entries IS DISTINCT FROM ",
                entered!(),
                " AND id > $1 ORDER BY id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED"
            ),
            after.map_or(Uuid::nil(), PatientId::uuid),
            limit,
        ))
        .await?;
    let patients: Vec<Named<'_>> = rows.iter().map(Named::read).collect();
    let ids: Vec<PatientId> = patients.iter().map(|patient| patient.id).collect();
    let Some(last) = ids.last().copied() else { return Ok(None) };
    let words: Vec<Option<String>> = patients.iter().map(Named::words).collect();
    tx.write(sql!("DELETE FROM patient_name WHERE patient_id = ANY ($1)", ids.clone()));
    insert_names(tx, &patients);
    tx.write(sql!(
        concat!(
            "UPDATE patient p
             SET folded = '1/' || given_name || '/' || family_name, words = w.words, entries = ",
            entered!(),
            " FROM unnest($1::uuid[], $2::text[]) AS w (id, words) WHERE p.id = w.id"
        ),
        ids,
        words,
    ));
    Ok(Some(last))
}

pub(crate) async fn for_update(
    tx: &mut Tx<ChangeRefused>,
    id: PatientId,
) -> Outcome<Option<Patient>, ChangeRefused> {
    let rows = tx.read(sql!(select_patient!("WHERE p.id = $1 FOR NO KEY UPDATE OF p"), id)).await?;
    Ok(rows.first().map(patient))
}

fn insert_identifiers<R>(tx: &mut Tx<R>, id: PatientId, d: &Demographics, refused: R) {
    let (systems, values) = columns(&d.identifiers);
    tx.write(sql!(
        "INSERT INTO patient_identifier (patient_id, system, value)
         SELECT $1, i.system, i.value FROM unnest($2::text[], $3::text[]) AS i (system, value) ORDER BY 2, 3",
        id,
        systems,
        values,
    ))
    .refuse_on("patient_identifier_taken", refused);
}

pub(crate) fn insert_history<R>(
    tx: &mut Tx<R>,
    cause: &Cause,
    patient: &Patient,
    change: &'static str,
    reason: Option<&Sensitive<String>>,
) {
    let now = tx.now();
    tx.write(sql!(
        "INSERT INTO patient_history (patient_id, version, at, actor, change, reason) VALUES ($1, $2, $3, $4, $5, $6)",
        patient.id,
        patient.version,
        now,
        cause.actor.subject.clone(),
        change,
        reason.map(|r| r.expose().clone()),
    ));
}

pub(crate) fn update_demographics(tx: &mut Tx<ChangeRefused>, patient: &Patient) {
    let d = &patient.demographics;
    let birth = BirthColumns::of(d);
    tx.write(sql!(
        "UPDATE patient SET given_name = $2, family_name = $3, birth_date = $4, birth_precision = $5, birth_estimated = $6, gender = $7,
                phone = $8, email = $9, language = $10, address = $11,
                folded = CASE WHEN given_name = $2 AND family_name = $3 THEN folded ELSE $12 END
         WHERE id = $1",
        patient.id,
        text_or_none(d.given_name.as_ref()),
        text_or_none(d.family_name.as_ref()),
        birth.date,
        birth.precision,
        birth.estimated,
        d.gender.as_str(),
        exposed(d.phone.as_ref()),
        exposed(d.email.as_ref()),
        d.language.clone(),
        d.address.as_ref().map(|a| Json(a.expose().clone())),
        folded(d),
    ))
    // Whoever was called so before and is unknown again, while somebody else is called so.
    .refuse_on("patient_temporary_name_taken", ChangeRefused::NameMissing);
}

/// Writes the entries anew; [`update_version`] then says so.
pub(crate) fn replace_names(tx: &mut Tx<ChangeRefused>, patient: &Patient) {
    tx.write(sql!("DELETE FROM patient_name WHERE patient_id = $1", patient.id));
    insert_names(tx, &[Named::of(patient)]);
}

pub(crate) fn replace_identifiers(tx: &mut Tx<ChangeRefused>, patient: &Patient) {
    let d = &patient.demographics;
    tx.write(sql!("DELETE FROM patient_identifier WHERE patient_id = $1", patient.id));
    let taken = ChangeRefused::IdentifierTaken(Taken::of(&d.identifiers, Some(patient.id)));
    insert_identifiers(tx, patient.id, d, taken);
}

/// The last of a change. `entered` says whether the entries were replaced, of what is written now.
pub(crate) fn update_version(tx: &mut Tx<ChangeRefused>, patient: &Patient, entered: bool) {
    tx.write(sql!(
        concat!(
            "UPDATE patient SET version = $2, status = $3, updated_at = $4,
                    words = CASE WHEN $5 THEN $6 ELSE words END, entries = CASE WHEN $5 THEN ",
            entered!("given_name", "family_name", "birth_date", "birth_precision", "$3::text"),
            " ELSE entries END WHERE id = $1"
        ),
        patient.id,
        patient.version,
        patient.status.as_str(),
        patient.updated_at,
        entered,
        Named::of(patient).words(),
    ));
}
