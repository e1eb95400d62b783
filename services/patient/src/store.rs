//! Every SQL statement of the service.

use hospital_contracts::patient::{Address, Gender, Identifier, PatientStanding, PatientStatus};
use hospital_kit::{
    db::{Db, Statement, Tx},
    outcome::{Broken, Outcome},
    sql,
};
use hospital_types::{PatientId, Sensitive};
use jiff::civil::Date;
use tokio_postgres::{Row, types::Json};
use uuid::Uuid;

use crate::{
    duplicate::{Likeness, words},
    patient::{Demographics, Patient},
    refused::{ChangeRefused, RegisterRefused, Taken},
};

pub(crate) fn insert(tx: &mut Tx<RegisterRefused>, patient: &Patient) {
    let d = &patient.demographics;
    tx.write(sql!(
        "INSERT INTO patient (id, version, status, given_name, family_name, birth_date, gender, phone, email, language, address,
                              created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)",
        patient.id,
        patient.version,
        patient.status.as_str(),
        d.given_name.expose().clone(),
        d.family_name.expose().clone(),
        *d.birth_date.expose(),
        d.gender.as_str(),
        d.phone.as_ref().map(|p| p.expose().clone()),
        d.email.as_ref().map(|e| e.expose().clone()),
        d.language.clone(),
        d.address.as_ref().map(|a| Json(a.expose().clone())),
        patient.created_at,
    ));
    insert_names(tx, patient.id, d);
    if !d.identifiers.is_empty() {
        let taken = RegisterRefused::IdentifierTaken(Taken::of(&d.identifiers, None));
        insert_identifiers(tx, patient.id, d, taken);
    }
}

fn insert_names<R>(tx: &mut Tx<R>, id: PatientId, d: &Demographics) {
    let mut all = words(d.given_name.expose());
    all.extend(words(d.family_name.expose()));
    tx.write(sql!(
        "INSERT INTO patient_name (patient_id, word) SELECT $1, w FROM unnest($2::text[]) AS w ON CONFLICT DO NOTHING",
        id,
        all,
    ));
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
    patient: &Patient,
    change: &'static str,
    reason: Option<&Sensitive<String>>,
) {
    let (now, actor) = (tx.now(), tx.actor().subject.clone());
    tx.write(sql!(
        "INSERT INTO patient_history (patient_id, version, at, actor, change, reason) VALUES ($1, $2, $3, $4, $5, $6)",
        patient.id,
        patient.version,
        now,
        actor,
        change,
        reason.map(|r| r.expose().clone()),
    ));
}

pub(crate) fn update_demographics(tx: &mut Tx<ChangeRefused>, patient: &Patient) {
    let d = &patient.demographics;
    tx.write(sql!(
        "UPDATE patient SET given_name = $2, family_name = $3, birth_date = $4, gender = $5, phone = $6, email = $7, language = $8,
                address = $9
         WHERE id = $1",
        patient.id,
        d.given_name.expose().clone(),
        d.family_name.expose().clone(),
        *d.birth_date.expose(),
        d.gender.as_str(),
        d.phone.as_ref().map(|p| p.expose().clone()),
        d.email.as_ref().map(|e| e.expose().clone()),
        d.language.clone(),
        d.address.as_ref().map(|a| Json(a.expose().clone())),
    ));
}

pub(crate) fn replace_names(tx: &mut Tx<ChangeRefused>, patient: &Patient) {
    tx.write(sql!("DELETE FROM patient_name WHERE patient_id = $1", patient.id));
    insert_names(tx, patient.id, &patient.demographics);
}

pub(crate) fn replace_identifiers(tx: &mut Tx<ChangeRefused>, patient: &Patient) {
    let d = &patient.demographics;
    tx.write(sql!("DELETE FROM patient_identifier WHERE patient_id = $1", patient.id));
    let taken = ChangeRefused::IdentifierTaken(Taken::of(&d.identifiers, Some(patient.id)));
    insert_identifiers(tx, patient.id, d, taken);
}

pub(crate) fn update_version(tx: &mut Tx<ChangeRefused>, patient: &Patient) {
    tx.write(sql!(
        "UPDATE patient SET version = $2, status = $3, updated_at = $4 WHERE id = $1",
        patient.id,
        patient.version,
        patient.status.as_str(),
        patient.updated_at,
    ));
}

/// Somebody who shares an identifier, a birth date or a phone number with a new patient.
pub(crate) struct Alike {
    pub(crate) id: PatientId,
    pub(crate) likeness: Likeness,
    pub(crate) has_identifier: bool,
}

pub(crate) async fn alike(
    tx: &mut Tx<RegisterRefused>,
    d: &Demographics,
) -> Outcome<Vec<Alike>, RegisterRefused> {
    let (systems, values) = columns(&d.identifiers);
    let rows = tx
        .read(sql!(
            "WITH same AS (
                 SELECT i.patient_id FROM unnest($3::text[], $4::text[]) AS n (system, value) JOIN patient_identifier i USING (system, value)
             ), near AS (
                 SELECT patient_id AS id FROM same
                 UNION (SELECT id FROM patient WHERE birth_date = $1 LIMIT 500)
                 UNION (SELECT id FROM patient WHERE phone = $2 LIMIT 100)
             )
             SELECT p.id, p.given_name, p.family_name, p.birth_date, p.phone, p.id IN (SELECT patient_id FROM same) AS has_identifier
             FROM near JOIN patient p USING (id)",
            *d.birth_date.expose(),
            d.phone.as_ref().map(|p| p.expose().clone()),
            systems,
            values,
        ))
        .await?;
    Ok(rows
        .iter()
        .map(|row| Alike {
            id: row.get("id"),
            likeness: Likeness {
                given_name: row.get("given_name"),
                family_name: row.get("family_name"),
                birth_date: row.get("birth_date"),
                phone: row.get("phone"),
            },
            has_identifier: row.get("has_identifier"),
        })
        .collect())
}

/// Who has one of the identifiers that were wanted.
pub(crate) async fn owner_of(db: &Db, taken: &Taken) -> Result<Option<PatientId>, Broken> {
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

/// Identifiers as two arrays, for `unnest`.
fn columns(identifiers: &[Identifier]) -> (Vec<String>, Vec<String>) {
    identifiers.iter().map(|i| (i.system.clone(), i.value.clone())).unzip()
}

/// The columns of a patient, for `FROM patient p`. Identifiers are ordered as Rust orders them.
macro_rules! select_patient {
    ($rest:literal $(, $more:literal)*) => {
        concat!(
            "SELECT p.id, p.version, p.status, p.given_name, p.family_name, p.birth_date, p.gender, p.phone, p.email, p.language,
                    p.address, p.created_at, p.updated_at,
                    coalesce((SELECT jsonb_agg(jsonb_build_object('system', i.system, 'value', i.value)
                                               ORDER BY i.system COLLATE \"C\", i.value COLLATE \"C\")
                              FROM patient_identifier i WHERE i.patient_id = p.id), '[]') AS identifiers
             FROM patient p ",
            $rest
            $(, $more)*
        )
    };
}

pub(crate) async fn for_update(
    tx: &mut Tx<ChangeRefused>,
    id: PatientId,
) -> Outcome<Option<Patient>, ChangeRefused> {
    let rows = tx.read(sql!(select_patient!("WHERE p.id = $1 FOR NO KEY UPDATE OF p"), id)).await?;
    Ok(rows.first().map(patient))
}

pub(crate) async fn find(db: &Db, id: PatientId) -> Result<Option<Patient>, Broken> {
    let rows = db.read(sql!(select_patient!("WHERE p.id = $1"), id)).await?;
    Ok(rows.first().map(patient))
}

pub(crate) async fn exists(db: &Db, id: PatientId) -> Result<bool, Broken> {
    let rows = db.read(sql!("SELECT 1 FROM patient WHERE id = $1", id)).await?;
    Ok(!rows.is_empty())
}

/// The status of each of these patients that there is.
pub(crate) async fn standings(
    db: &Db,
    ids: Vec<PatientId>,
) -> Result<Vec<PatientStanding>, Broken> {
    let rows = db.read(sql!("SELECT id, status FROM patient WHERE id = ANY ($1)", ids)).await?;
    Ok(rows
        .iter()
        .map(|row| PatientStanding { id: row.get(0), status: status(row.get(1)) })
        .collect())
}

fn status(text: &str) -> PatientStatus {
    PatientStatus::parse(text).expect("patient_status allows no other")
}

/// What a search asks for; everything given must hold.
#[derive(Default)]
pub(crate) struct Search {
    pub(crate) words: Vec<String>,
    pub(crate) phone: Option<String>,
    pub(crate) birth_date: Option<Date>,
    pub(crate) identifier: Option<Identifier>,
    pub(crate) status: Option<PatientStatus>,
}

/// A page of the patients whose ids `$ids` finds, by rising id; `$limit` is its size. The largest size stands there as a number too:
/// a plan is made once for all values, and from a parameter alone a tenth of all patients would be expected, and sorted.
macro_rules! page {
    ($limit:literal, $($ids:literal),+) => {
        select_patient!(
            "JOIN (SELECT p.id FROM patient p ",
            $($ids,)+
            " ORDER BY p.id LIMIT 201) AS page ON page.id = p.id ORDER BY p.id LIMIT ",
            $limit
        )
    };
}

/// A search that begins at what an index finds by `$by`, and keeps those that everything else that was given holds for. Each way to
/// begin is a statement of its own, for an index does not serve `$1 IS NULL OR …`.
macro_rules! search_by {
    ($by:literal) => {
        page!(
            "$2",
            $by,
            " AND p.id > $1
              AND NOT EXISTS (SELECT 1 FROM unnest($3::text[]) AS asked (word) WHERE NOT EXISTS (
                      SELECT 1 FROM patient_name n WHERE n.patient_id = p.id AND starts_with(n.word, asked.word)))
              AND ($4::text IS NULL OR p.phone = $4)
              AND ($5::date IS NULL OR p.birth_date = $5)
              AND ($6::text IS NULL
                   OR p.id = (SELECT i.patient_id FROM patient_identifier i WHERE i.system = $6 AND i.value = $7::text))
              AND ($8::text IS NULL OR p.status = $8)"
        )
    };
}

impl Search {
    /// The statement that begins with what finds the fewest.
    fn statement(mut self, after: Uuid, limit: i64) -> Statement {
        let sql = if self.identifier.is_some() {
            search_by!(
                "WHERE p.id = (SELECT i.patient_id FROM patient_identifier i WHERE i.system = $6 AND i.value = $7)"
            )
        } else if self.phone.is_some() {
            search_by!("WHERE p.phone = $4")
        } else if self.birth_date.is_some() {
            search_by!("WHERE p.birth_date = $5")
        } else if !self.words.is_empty() {
            // From the first word up to the last character that there is: a range, so that nothing in a word is a wildcard.
            search_by!(
                "JOIN (SELECT DISTINCT n.patient_id FROM patient_name n
                       WHERE n.word >= ($3::text[])[1] AND n.word < ($3::text[])[1] || chr(1114111) AND n.patient_id > $1
                       ORDER BY n.patient_id) AS named ON named.patient_id = p.id
                 WHERE true"
            )
        } else if let Some(status) = self.status {
            let sql = page!("$2", "WHERE p.status = $3 AND p.id > $1");
            return sql!(sql, after, limit, status.as_str());
        } else {
            return sql!(page!("$2", "WHERE p.id > $1"), after, limit);
        };
        // The longest word comes first, for it finds the fewest.
        self.words.sort_by_key(|word| std::cmp::Reverse(word.chars().count()));
        let (system, value) = self.identifier.map(|i| (i.system, i.value)).unzip();
        let status = self.status.map(PatientStatus::as_str);
        sql!(sql, after, limit, self.words, self.phone, self.birth_date, system, value, status)
    }
}

/// One page by rising id, after `after`.
pub(crate) async fn search(
    db: &Db,
    search: Search,
    after: Option<PatientId>,
    limit: i64,
) -> Result<Vec<Patient>, Broken> {
    let after = after.map_or(Uuid::nil(), PatientId::uuid);
    let rows = db.read(search.statement(after, limit)).await?;
    Ok(rows.iter().map(patient).collect())
}

fn patient(row: &Row) -> Patient {
    let Json(identifiers): Json<Vec<Identifier>> = row.get("identifiers");
    let text = |name: &str| row.get::<_, Option<String>>(name).map(Sensitive::new);
    Patient {
        id: row.get("id"),
        version: row.get("version"),
        status: status(row.get("status")),
        demographics: Demographics {
            given_name: Sensitive::new(row.get("given_name")),
            family_name: Sensitive::new(row.get("family_name")),
            birth_date: Sensitive::new(row.get("birth_date")),
            gender: Gender::parse(row.get("gender")).expect("patient_gender allows no other"),
            phone: text("phone"),
            email: text("email"),
            language: row.get("language"),
            address: row
                .get::<_, Option<Json<Address>>>("address")
                .map(|Json(a)| Sensitive::new(a)),
            identifiers,
        },
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    }
}
