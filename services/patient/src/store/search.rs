//! Searches: each way to begin is a statement of its own.

use hospital_contracts::patient::{Identifier, PatientStatus};
use hospital_kit::{
    db::{Reader, Statement},
    outcome::Broken,
    sql,
};
use hospital_types::{DatePrecision, PartialDate, PatientId};
use uuid::Uuid;

use super::{Born, patient, select_patient};
use crate::{fold, patient::Patient};

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
