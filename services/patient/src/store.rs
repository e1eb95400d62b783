//! Every SQL statement of the service.

use std::convert::Infallible;

use hospital_contracts::patient::{Address, Gender, Identifier, PatientStanding, PatientStatus};
use hospital_kit::{
    cause::Cause,
    db::{Reader, Statement, Tx},
    outcome::{Broken, Outcome},
    sql,
};
use hospital_types::{DatePrecision, PartialDate, PatientId, Sensitive};
use jiff::civil::Date;
use tokio_postgres::{Row, types::Json};
use uuid::Uuid;

use crate::{
    contact::without_extension,
    duplicate::Likeness,
    fold,
    patient::{Birth, Demographics, Patient},
    refused::{ChangeRefused, RegisterRefused, Taken},
};

pub(crate) fn insert(tx: &mut Tx<RegisterRefused>, patient: &Patient) {
    let d = &patient.demographics;
    let birth = BirthColumns::of(d);
    tx.write(sql!(
        "INSERT INTO patient (id, version, status, given_name, family_name, temporary_name, birth_date, birth_precision, birth_estimated,
                              gender, phone, email, language, address, created_at, updated_at, folded)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15, $16)",
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
    ));
    insert_names(tx, &[(patient.id, d.names(), d.temporary())]);
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

/// A birth date as it is stored: the first day that it may be, and how much of it is known.
struct BirthColumns {
    date: Date,
    precision: &'static str,
    estimated: bool,
}

impl BirthColumns {
    fn of(d: &Demographics) -> Self {
        match &d.birth {
            Some(birth) => {
                let date = *birth.date.expose();
                let (precision, estimated) = (date.precision().as_str(), birth.estimated);
                Self { date: date.first(), precision, estimated }
            }
            None => Self { date: Date::constant(1, 1, 1), precision: "none", estimated: false },
        }
    }

    fn read(row: &Row) -> Option<Birth> {
        let date: Date = row.get("birth_date");
        let precision = DatePrecision::parse(row.get("birth_precision"))?;
        let date = Sensitive::new(PartialDate::of(date, precision));
        Some(Birth { date, estimated: row.get("birth_estimated") })
    }
}

/// What `patient_to_fold` compares: the names that the entries are made of. A temporary name never
/// changes.
fn folded(d: &Demographics) -> String {
    let (given, family) =
        (text_or_none(d.given_name.as_ref()), text_or_none(d.family_name.as_ref()));
    format!("{}{given}/{family}", fold::fold_version!())
}

/// Writes the entries that patients are found by, from each one's names and temporary name.
fn insert_names<R>(tx: &mut Tx<R>, patients: &[(PatientId, Vec<&str>, Option<&str>)]) {
    let (mut owners, mut words, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for (id, names, temporary) in patients {
        for entry in fold::entries(names, *temporary) {
            owners.push(*id);
            words.push(entry.word);
            all.push(entry.words);
        }
    }
    tx.write(sql!(
        "INSERT INTO patient_name (patient_id, word, words)
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[]) ON CONFLICT DO NOTHING",
        owners,
        words,
        all,
    ));
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

/// Folds the names of up to `limit` patients after `after` anew, if they were folded otherwise or
/// not at all; gives the last of them.
pub(crate) async fn fold_some(
    tx: &mut Tx<Infallible>,
    after: Option<PatientId>,
    limit: i64,
) -> Outcome<Option<PatientId>, Infallible> {
    let rows = tx
        .read(sql!(
            concat!(
                "SELECT id, given_name, family_name, temporary_name FROM patient
                 WHERE folded IS DISTINCT FROM '",
                fold::fold_version!(),
                "' || given_name || '/' || family_name AND id > $1
                 ORDER BY id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED"
            ),
            after.map_or(Uuid::nil(), PatientId::uuid),
            limit,
        ))
        .await?;
    let patients: Vec<(PatientId, Vec<&str>, Option<&str>)> = rows
        .iter()
        .map(|row| {
            let names: [&str; 2] = [row.get("given_name"), row.get("family_name")];
            let names = names.into_iter().filter(|name| !name.is_empty()).collect();
            (row.get("id"), names, row.get("temporary_name"))
        })
        .collect();
    let ids: Vec<PatientId> = patients.iter().map(|(id, ..)| *id).collect();
    let Some(last) = ids.last().copied() else { return Ok(None) };
    tx.write(sql!("DELETE FROM patient_name WHERE patient_id = ANY ($1)", ids.clone()));
    insert_names(tx, &patients);
    tx.write(sql!(
        concat!(
            "UPDATE patient SET folded = '",
            fold::fold_version!(),
            "' || given_name || '/' || family_name WHERE id = ANY ($1)"
        ),
        ids,
    ));
    Ok(Some(last))
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

pub(crate) fn replace_names(tx: &mut Tx<ChangeRefused>, patient: &Patient) {
    let d = &patient.demographics;
    tx.write(sql!("DELETE FROM patient_name WHERE patient_id = $1", patient.id));
    insert_names(tx, &[(patient.id, d.names(), d.temporary())]);
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

/// A birth date to look for: for each precision that may be stored, between which first days. Who
/// may be born then is found, whether more or less is known of them than is asked.
#[derive(Default)]
struct Born {
    precisions: Vec<&'static str>,
    low: Vec<Date>,
    high: Vec<Date>,
}

impl Born {
    fn on(date: Option<PartialDate>) -> Self {
        let Some(date) = date else { return Self::default() };
        let low = |precision| PartialDate::of(date.first(), precision).first();
        Self {
            precisions: DatePrecision::ALL.map(DatePrecision::as_str).to_vec(),
            low: DatePrecision::ALL.map(low).to_vec(),
            high: vec![date.last(); 3],
        }
    }
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

/// Identifiers as two arrays, for `unnest`.
fn columns(identifiers: &[Identifier]) -> (Vec<String>, Vec<String>) {
    identifiers.iter().map(|i| (i.system.clone(), i.value.clone())).unzip()
}

/// The columns of a patient, for `FROM patient p`. Identifiers are ordered as Rust orders them.
macro_rules! select_patient {
    ($rest:literal $(, $more:literal)*) => {
        concat!(
            "SELECT p.id, p.version, p.status, p.given_name, p.family_name, p.temporary_name, p.birth_date, p.birth_precision,
                    p.birth_estimated, p.gender, p.phone, p.email, p.language, p.address, p.created_at, p.updated_at,
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

fn status(text: &str) -> PatientStatus {
    PatientStatus::parse(text).expect("patient_status allows no other")
}

/// What a search asks for; everything given must hold.
#[derive(Default)]
pub(crate) struct Search {
    pub(crate) words: Vec<String>,
    pub(crate) phone: Option<String>,
    pub(crate) birth_date: Option<PartialDate>,
    pub(crate) identifier: Option<Identifier>,
    pub(crate) status: Option<PatientStatus>,
}

/// A page of the patients that `$found` finds, in the order of `$order`; `$limit` is its size. The
/// largest size stands in `$found` as a number too: a plan is made once for all values, and from a
/// parameter alone a tenth of all patients would be expected, and sorted. Each patient of the page
/// is read by id, `LIMIT 1` says so: the planner would rather read all of them.
macro_rules! page {
    ($limit:literal, $order:literal, $($found:expr),+) => {
        concat!(
            "SELECT p.* FROM (",
            $($found,)+
            ") AS page CROSS JOIN LATERAL (",
            select_patient!("WHERE p.id = page.id LIMIT 1"),
            ") AS p ORDER BY ",
            $order,
            "p.id LIMIT ",
            $limit
        )
    };
}

/// Whether the patient of an entry `$n` of the index of names has the other words that the range
/// `r` asks for. Entries without words are of one word, or were made by the version before.
macro_rules! has_others {
    ($n:literal) => {
        concat!(
            "(r.others = '' OR CASE
                  WHEN ", $n, ".words IS NOT NULL THEN NOT EXISTS (
                      SELECT 1 FROM string_to_table(r.others, ' ') AS asked (word) WHERE position(' ' || asked.word IN ", $n, ".words) = 0)
                  ELSE NOT EXISTS (
                      SELECT 1 FROM string_to_table(r.others, ' ') AS asked (word) WHERE NOT EXISTS (
                          SELECT 1 FROM patient_name w WHERE w.patient_id = ", $n, ".patient_id AND starts_with(w.word, asked.word)))
                  END)"
        )
    };
}

/// Whether an entry `$n` is one that the range `r` asks for.
macro_rules! named {
    ($n:literal) => {
        concat!($n, ".word >= r.low AND ", $n, ".word < r.high AND ", has_others!($n))
    };
}

/// The ranges of entries that are asked for.
macro_rules! ranges {
    () => {
        "unnest($3::text[], $4::text[], $5::text[]) AS r (low, high, others)"
    };
}

/// The first entry by which the patient `$id` is found, which is the place that they have among
/// those found by name.
macro_rules! first_entry {
    ($id:literal) => {
        concat!(
            "(SELECT min(f.word) FROM ",
            ranges!(),
            " JOIN patient_name f ON f.patient_id = ",
            $id,
            " WHERE ",
            named!("f"),
            ")"
        )
    };
}

/// Whether everything that was asked for beside the name holds for the patient `p`.
macro_rules! holds {
    () => {
        "($6::text IS NULL
          OR (split_part(p.phone, ';', 1) = split_part($6, ';', 1) AND (position(';' IN $6) = 0 OR p.phone = $6)))
         AND ($7::text[] = '{}' OR EXISTS (
                  SELECT 1 FROM unnest($7, $8::date[], $9::date[]) AS b (precision, low, high)
                  WHERE p.birth_precision = b.precision AND p.birth_date >= b.low AND p.birth_date <= b.high))
         AND ($10::text IS NULL
              OR p.id = (SELECT i.patient_id FROM patient_identifier i WHERE i.system = $10 AND i.value = $11::text))
         AND ($12::text IS NULL OR p.status = $12)"
    };
}

/// A search that begins at what an index finds by `$by`, and keeps those that everything else that was given holds for. Each way to
/// begin is a statement of its own, for an index does not serve `$1 IS NULL OR …`.
macro_rules! search_by {
    ($by:literal) => {
        page!(
            "$2",
            "",
            "SELECT p.id FROM patient p WHERE ",
            $by,
            " AND p.id > $1 AND ",
            holds!(),
            " AND ($3::text[] = '{}' OR EXISTS (
                       SELECT 1 FROM ",
            ranges!(),
            " JOIN patient_name n ON n.patient_id = p.id WHERE ",
            named!("n"),
            ")) ORDER BY p.id LIMIT 201"
        )
    };
}

/// By birth date: by the first day that it may be, then by id.
const BY_BIRTH: &str = page!(
    "$2",
    "page.birth_date, ",
    "SELECT p.id, p.birth_date
     FROM unnest($7::text[], $8::date[], $9::date[]) AS b (precision, low, high)
     CROSS JOIN (SELECT coalesce((SELECT a.birth_date FROM patient a WHERE a.id = $1), '-infinity') AS date) AS last CROSS JOIN LATERAL (
         SELECT p.id, p.birth_date FROM patient p
         WHERE p.birth_precision = b.precision AND p.birth_date <= b.high
           AND (p.birth_date, p.id) > (greatest(b.low, last.date),
                                       CASE WHEN last.date >= b.low THEN $1 ELSE '00000000-0000-0000-0000-000000000000' END) AND ",
    holds!(),
    " AND ($3::text[] = '{}' OR EXISTS (
               SELECT 1 FROM ",
    ranges!(),
    " JOIN patient_name n ON n.patient_id = p.id WHERE ",
    named!("n"),
    ")) ORDER BY p.birth_date, p.id LIMIT 201) AS p ORDER BY p.birth_date, p.id LIMIT 201"
);

/// By name: by the first entry that finds the patient, then by id. So a page reads no more of the
/// index than what it shows, however many begin like that. A patient who is found by several
/// entries comes by the first. What is asked of the patient itself is a query of its own: joined,
/// the planner would take it for rare and begin there. The range has one lower end: of two,
/// PostgreSQL begins at either.
const BY_NAME: &str = page!(
    "$2",
    "page.word, ",
    "SELECT n.patient_id AS id, n.word FROM ",
    ranges!(),
    " CROSS JOIN (SELECT coalesce(",
    first_entry!("$1"),
    ", '') AS word) AS last CROSS JOIN LATERAL (
         SELECT n.patient_id, n.word FROM patient_name n
         WHERE (n.word, n.patient_id) > (greatest(r.low, last.word),
                                         CASE WHEN last.word >= r.low THEN $1 ELSE '00000000-0000-0000-0000-000000000000' END)
           AND n.word < r.high AND ",
    has_others!("n"),
    " AND n.word = ",
    first_entry!("n.patient_id"),
    " AND (SELECT ",
    holds!(),
    " FROM patient p WHERE p.id = n.patient_id) ORDER BY n.word, n.patient_id LIMIT $2) AS n ORDER BY n.word, n.patient_id LIMIT 201"
);

/// The ranges of the index of names in which those are who have all of the words.
#[derive(Default)]
struct Ranges {
    low: Vec<String>,
    high: Vec<String>,
    others: Vec<String>,
}

impl Ranges {
    /// Of two words and more: the entries of two of them, beginning with the longest, for it finds
    /// the fewest; and of all of them, written together. While not everybody has such entries,
    /// those of the longest word.
    fn of(words: &[String], all_folded: bool) -> Self {
        let mut ranges = Self::default();
        let together = words.concat();
        let mut longest_first: Vec<&String> = words.iter().collect();
        longest_first.sort_by_key(|word| std::cmp::Reverse(word.chars().count()));
        match &*longest_first {
            [] => {}
            [word] => ranges.push((*word).clone(), String::new()),
            [word, second, ..] => {
                let mut others: Vec<&str> =
                    longest_first.iter().skip(1).map(|w| w.as_str()).collect();
                let pair = fold::pair(second, word).filter(|_| all_folded);
                if pair.is_some() && second.chars().count() == 1 {
                    // The entry has it already.
                    others.remove(0);
                }
                ranges.push(pair.unwrap_or_else(|| (*word).clone()), others.join(" "));
                ranges.push(together, String::new());
            }
        }
        ranges
    }

    /// Up to the last character that there is: a range, so that nothing in a word is a wildcard.
    fn push(&mut self, low: String, others: String) {
        self.high.push(format!("{low}\u{10ffff}"));
        self.low.push(low);
        self.others.push(others);
    }
}

impl Search {
    /// The statement that begins with what finds the fewest.
    fn statement(self, after: Uuid, limit: i64, all_folded: bool) -> Statement {
        // A year has more births than most names have bearers.
        let few_born = self.birth_date.is_some_and(|date| date.precision() > DatePrecision::Year);
        let sql = if self.identifier.is_some() {
            search_by!(
                "p.id = (SELECT i.patient_id FROM patient_identifier i WHERE i.system = $10 AND i.value = $11)"
            )
        } else if self.phone.is_some() {
            search_by!("split_part(p.phone, ';', 1) = split_part($6, ';', 1)")
        } else if few_born || (self.birth_date.is_some() && self.words.is_empty()) {
            BY_BIRTH
        } else if !self.words.is_empty() {
            BY_NAME
        } else if let Some(status) = self.status {
            let sql = page!(
                "$2",
                "",
                "SELECT p.id FROM patient p WHERE p.status = $3 AND p.id > $1 ORDER BY p.id LIMIT 201"
            );
            return sql!(sql, after, limit, status.as_str());
        } else {
            let sql = page!(
                "$2",
                "",
                "SELECT p.id FROM patient p WHERE p.id > $1 ORDER BY p.id LIMIT 201"
            );
            return sql!(sql, after, limit);
        };
        let names = Ranges::of(&self.words, all_folded);
        let born = Born::on(self.birth_date);
        let (system, value) = self.identifier.map(|i| (i.system, i.value)).unzip();
        let status = self.status.map(PatientStatus::as_str);
        sql!(
            sql,
            after,
            limit,
            names.low,
            names.high,
            names.others,
            self.phone,
            born.precisions,
            born.low,
            born.high,
            system,
            value,
            status,
        )
    }
}

/// One page, after the patient `after`.
pub(crate) async fn search(
    db: Reader<'_>,
    search: Search,
    after: Option<PatientId>,
    limit: i64,
    all_folded: bool,
) -> Result<Vec<Patient>, Broken> {
    let after = after.map_or(Uuid::nil(), PatientId::uuid);
    let rows = db.read(search.statement(after, limit, all_folded)).await?;
    Ok(rows.iter().map(patient).collect())
}

fn name(row: &Row, column: &str) -> Option<Sensitive<String>> {
    let name: String = row.get(column);
    (!name.is_empty()).then(|| Sensitive::new(name))
}

fn patient(row: &Row) -> Patient {
    let Json(identifiers): Json<Vec<Identifier>> = row.get("identifiers");
    let text = |name: &str| row.get::<_, Option<String>>(name).map(Sensitive::new);
    Patient {
        id: row.get("id"),
        version: row.get("version"),
        status: status(row.get("status")),
        demographics: Demographics {
            given_name: name(row, "given_name"),
            family_name: name(row, "family_name"),
            temporary_name: text("temporary_name"),
            birth: BirthColumns::read(row),
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
