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

/// A page of the patients that `$found` finds, in the order of their `place` and id, or of the id
/// alone; `$2` is its size. The largest size stands in `$found` as a number too: a plan is made
/// once for all values, and from a parameter alone a tenth of all patients would be expected, and
/// sorted. Each patient of the page is read by id, `LIMIT 1` says so: the planner would rather read
/// all of them.
macro_rules! page {
    (by place: $($found:expr),+) => { page!("found.place, found.id", "page.place, page.id", $($found),+) };
    (by id: $($found:expr),+) => { page!("found.id", "page.id", $($found),+) };
    ($order:literal, $page_order:literal, $($found:expr),+) => {
        concat!(
            "SELECT p.* FROM (SELECT * FROM (",
            $($found,)+
            ") AS found ORDER BY ",
            $order,
            " LIMIT $2) AS page CROSS JOIN LATERAL (",
            select_patient!("WHERE p.id = page.id LIMIT 1"),
            ") AS p ORDER BY ",
            $page_order
        )
    };
}

/// Whether an entry `$n` is of the only word.
macro_rules! has_word {
    ($n:literal) => {
        concat!($n, ".word >= $3 AND ", $n, ".word < $4")
    };
}

/// Whether the patient of an entry `$n` has the words that are asked for beside its own. Entries
/// without words are of one word, or were made by the version before.
macro_rules! has_others {
    ($n:literal) => {
        concat!(
            "($5::text[] IS NULL OR CASE
                      WHEN ",
            $n,
            ".words IS NOT NULL THEN ",
            $n,
            ".words LIKE ALL ($5)
                      ELSE NOT EXISTS (
                          SELECT 1 FROM unnest($5) AS asked (word) WHERE NOT EXISTS (
                              SELECT 1 FROM patient_name w WHERE w.patient_id = ",
            $n,
            ".patient_id AND ' ' || w.word LIKE asked.word))
                      END)"
        )
    };
}

/// Whether an entry `$n` is of somebody who has all of the words: it is in the range of one or two
/// of them, and its patient has the others.
macro_rules! has_words {
    ($n:literal) => {
        concat!($n, ".word >= $3 AND ", $n, ".word < $4 AND ", has_others!($n))
    };
}

/// Whether the patient of an entry `$n` of words written together does not have them apart, as far
/// as the entry tells: otherwise [`has_words`] finds them.
macro_rules! is_together_only {
    ($n:literal) => {
        concat!("(", $n, ".words LIKE ALL ($8::text[])) IS NOT TRUE")
    };
}

/// Whether an entry `$n` begins with all of the words written together. Who certainly has them
/// apart is found by [`has_words`], and left out without a look at their other entries: there may
/// be thousands.
macro_rules! has_together {
    ($n:literal) => {
        concat!(
            "EXISTS (SELECT 1 FROM unnest($6::text[], $7::text[]) AS t (low, high) WHERE ",
            $n,
            ".word >= t.low AND ",
            $n,
            ".word < t.high) AND ",
            is_together_only!($n)
        )
    };
}

/// The first entry of the patient `$id` that `$has`: the place that they have among those found.
/// `OFFSET 0` says to read the patient's entries: for the first of them the planner would rather
/// go through everybody's, in their order.
macro_rules! first_entry {
    ($has:ident, $id:literal) => {
        concat!(
            "(SELECT min(f.word) FROM (
                 SELECT f.patient_id, f.word, f.words FROM patient_name f WHERE f.patient_id = ",
            $id,
            " OFFSET 0) AS f WHERE ",
            $has!("f"),
            ")"
        )
    };
}

/// Whether a name was not asked for, or the patient `p` is found by it: as its words tell, or else
/// its entries.
macro_rules! named {
    () => {
        concat!(
            "($3::text IS NULL
              OR CASE WHEN $16::text[] IS NOT NULL AND p.words IS NOT NULL
                      THEN p.words LIKE ALL ($8) OR p.words LIKE ANY ($16)
                      ELSE EXISTS (SELECT 1 FROM patient_name n WHERE n.patient_id = p.id AND (",
            has_words!("n"),
            " OR ",
            has_together!("n"),
            ")) END)"
        )
    };
}

/// Whether everything that was asked for beside the name holds for the patient `p`.
macro_rules! holds {
    () => {
        "($9::text IS NULL
          OR (split_part(p.phone, ';', 1) = split_part($9, ';', 1) AND (position(';' IN $9) = 0 OR p.phone = $9)))
         AND ($10::text[] = '{}' OR EXISTS (
                  SELECT 1 FROM unnest($10, $11::date[], $12::date[]) AS b (precision, low, high)
                  WHERE p.birth_precision = b.precision AND p.birth_date >= b.low AND p.birth_date <= b.high))
         AND ($13::text IS NULL
              OR p.id = (SELECT i.patient_id FROM patient_identifier i WHERE i.system = $13 AND i.value = $14::text))
         AND ($15::text IS NULL OR p.status = $15)"
    };
}

/// A search that begins at what an index finds by `$by`, and keeps those that everything else that was given holds for. Each way to
/// begin is a statement of its own, for an index does not serve `$1 IS NULL OR …`.
macro_rules! search_by {
    ($by:literal) => {
        page!(
            by id: "SELECT p.id FROM patient p WHERE ",
            $by,
            " AND p.id > $1 AND ",
            holds!(),
            " AND ",
            named!(),
            " ORDER BY p.id LIMIT 201"
        )
    };
}

/// By birth date: by the first day that it may be, then by id. What is asked beside it is a query
/// of its own: otherwise the planner would take it for rare, and sort all who were born then. That
/// the precision is compared as part of a row leaves it one index, which has the order. `$of` is
/// what an index of some of the patients asks for.
macro_rules! by_birth {
    ($of:expr) => {
        page!(
            by place: "SELECT p.id, p.birth_date AS place
     FROM unnest($10::text[], $11::date[], $12::date[]) AS b (precision, low, high)
     CROSS JOIN (SELECT coalesce((SELECT a.birth_date FROM patient a WHERE a.id = $1), '-infinity') AS date) AS last CROSS JOIN LATERAL (
         SELECT * FROM (
             SELECT p.id, p.birth_date FROM patient p
             WHERE (p.birth_precision, p.birth_date, p.id) > (b.precision, greatest(b.low, last.date),
                                                              CASE WHEN last.date >= b.low THEN $1 ELSE '00000000-0000-0000-0000-000000000000' END)
               AND p.birth_precision = b.precision AND p.birth_date >= greatest(b.low, last.date) AND p.birth_date <= b.high AND ",
            $of,
            "(SELECT ",
            holds!(),
            " AND ",
            named!(),
            ") ORDER BY p.birth_precision, p.birth_date, p.id LIMIT 201) AS p ORDER BY p.birth_date, p.id LIMIT $2) AS p ORDER BY p.birth_date, p.id LIMIT 201"
        )
    };
}

/// Those found by the entries that `$has`, in each of the `$ranges`, after the entry `$last` of the
/// patient `$1`. What an entry has to be beside what is `$cheap` is a query of its own: otherwise
/// the planner would take it for rare, and sort all that are in the range.
macro_rules! found_by_name {
    ($of:expr, $has:ident, $cheap:expr, $ranges:literal, $last:literal, $only:expr) => {
        concat!(
            "SELECT n.id, n.word FROM last CROSS JOIN ",
            $ranges,
            " AS t (low, high) CROSS JOIN LATERAL (
         SELECT * FROM (
             SELECT n.patient_id AS id, n.word FROM patient_name n
             WHERE (n.word, n.patient_id) > (greatest(t.low, ",
            $last,
            "), CASE WHEN ",
            $last,
            " >= t.low THEN $1 ELSE '00000000-0000-0000-0000-000000000000' END)
               AND n.word < t.high AND ",
            $of,
            $cheap,
            " AND (SELECT (SELECT ",
            holds!(),
            " FROM patient p WHERE p.id = n.patient_id) AND n.word = ",
            first_entry!($has, "n.patient_id"),
            $only,
            ") ORDER BY n.word, n.patient_id LIMIT 201) AS n ORDER BY n.word, n.id LIMIT $2) AS n"
        )
    };
}

/// By a name of one word, in the order of [`by_name`]: a plan of a fraction of the size. `asked` is
/// not read; it has what only the others ask for.
macro_rules! by_word {
    ($of:expr) => {
        page!(
            by place: "WITH asked AS (SELECT $5::text[], $16::text[], $17::text[]), last AS MATERIALIZED (SELECT ",
            first_entry!(has_word, "$1"),
            " AS apart, ",
            first_entry!(has_together, "$1"),
            " AS together), apart AS MATERIALIZED (",
            found_by_name!($of, has_word, "true", "(SELECT $3::text, $4::text)", "last.apart", ""),
            " WHERE last.apart IS NOT NULL OR last.together IS NULL), together AS MATERIALIZED (",
            found_together!($of, has_word),
            together_after_apart!()
        )
    };
}

/// Those found by words written together, who do not have what `$has` apart: when the page has room
/// for them.
macro_rules! found_together {
    ($of:expr, $has:ident) => {
        found_by_name!(
            $of,
            has_together,
            is_together_only!("n"),
            "unnest($6::text[], $7::text[])",
            "CASE WHEN last.apart IS NULL THEN last.together END",
            concat!(" AND ", first_entry!($has, "n.patient_id"), " IS NULL")
        )
    };
}

macro_rules! together_after_apart {
    () => {
        " WHERE (SELECT count(*) FROM apart) < $2)
     SELECT id, '1' || word AS place FROM apart UNION ALL SELECT id, '2' || word FROM together"
    };
}

/// Of fewer entries than so many all are looked at, rather than those of another word in their
/// order.
macro_rules! few {
    () => {
        "100"
    };
}

/// Whether there are few entries from `$low` up to `$high`.
macro_rules! are_few {
    ($low:literal, $high:literal) => {
        concat!(
            "(SELECT count(*) FROM (SELECT 1 FROM patient_name n WHERE n.word >= ",
            $low,
            " AND n.word < ",
            $high,
            " LIMIT ",
            few!(),
            ") AS entries) < ",
            few!()
        )
    };
}

/// By name: first those who have all of the words, by the first entry that finds them, then by id;
/// then, if the page has room for them, those who have them written together. So a page reads no
/// more of the index than what it shows, however many begin like that: unless few of those have the
/// other words. Then others of the entries of several words are mostly few: `rare` are the first,
/// and whoever is found among them is put where they belong. A patient who is found by several
/// entries comes by the first. What is asked of the patient itself is a query of its own: joined,
/// the planner would take it for rare and begin there. `$of` is what an index of some of the
/// entries asks for.
macro_rules! by_name {
    ($of:expr) => {
        page!(
            by place: "WITH last AS MATERIALIZED (SELECT ",
            first_entry!(has_words, "$1"),
            " AS apart, ",
            first_entry!(has_together, "$1"),
            " AS together), rare AS MATERIALIZED (
         SELECT r.low, r.high FROM unnest($16::text[], $17::text[]) AS r (low, high)
         WHERE NOT ",
            are_few!("$3", "$4"),
            " AND ",
            are_few!("r.low", "r.high"),
            " LIMIT 1), among_few AS MATERIALIZED (
         SELECT n.id, n.word FROM last CROSS JOIN (
             SELECT few.id, ",
            first_entry!(has_words, "few.id"),
            " AS word FROM (
                 SELECT DISTINCT n.patient_id AS id FROM rare CROSS JOIN LATERAL (
                     SELECT n.patient_id FROM patient_name n
                     WHERE n.word >= rare.low AND n.word < rare.high AND ",
            $of,
            "(n.words LIKE ALL ($8)) IS NOT FALSE AND (SELECT ",
            holds!(),
            " FROM patient p WHERE p.id = n.patient_id) LIMIT ",
            few!(),
            ") AS n) AS few) AS n
         WHERE (last.apart IS NOT NULL OR last.together IS NULL)
           AND CASE WHEN last.apart IS NULL THEN n.word IS NOT NULL ELSE (n.word, n.id) > (last.apart, $1) END
         ORDER BY n.word, n.id LIMIT $2), apart AS MATERIALIZED (
         SELECT * FROM among_few UNION ALL (",
            found_by_name!(
                $of,
                has_words,
                has_others!("n"),
                "(SELECT $3::text, $4::text)",
                "last.apart",
                ""
            ),
            " WHERE (last.apart IS NOT NULL OR last.together IS NULL) AND NOT EXISTS (SELECT 1 FROM rare))), together AS MATERIALIZED (",
            found_together!($of, has_words),
            together_after_apart!()
        )
    };
}

/// What to look for in the index of names.
#[derive(Default)]
struct Names {
    /// The entries of a word, among those of the other words; while not everybody has such entries,
    /// those of the longest word.
    apart: Option<Range>,
    /// What the words of the patients so found are like, each after a space.
    others: Option<Vec<String>>,
    /// The same patients by other entries, of which there may be fewer.
    rare: Vec<Range>,
    /// The entries of all words, written together.
    together: Vec<Range>,
    /// What the words are like of who has all of them apart.
    all: Option<Vec<String>>,
    /// What one of the words is like of who has them together, once everybody's words are there.
    as_one: Option<Vec<String>>,
}

/// From the first of the entries that begin with a text up to the last character that there is:
/// nothing in a word is a wildcard.
struct Range {
    low: String,
    high: String,
}

impl Range {
    fn of(beginning: String) -> Self {
        Self { high: format!("{beginning}\u{10ffff}"), low: beginning }
    }

    fn columns(ranges: Vec<Self>) -> (Vec<String>, Vec<String>) {
        ranges.into_iter().map(|range| (range.low, range.high)).unzip()
    }
}

impl Names {
    /// The longest word leads, for it finds the fewest: mostly. Its entries are those of people who
    /// have the next two, or one, as far as their first letters tell.
    fn of(words: &[String], all_folded: bool) -> Self {
        let mut longest_first: Vec<&str> = words.iter().map(String::as_str).collect();
        longest_first.sort_by_key(|word| std::cmp::Reverse(word.chars().count()));
        let [word, rest @ ..] = &*longest_first else { return Self::default() };
        let all = words.concat();
        // Who has several words together may have them as one.
        let as_one = (!rest.is_empty()).then(|| all.clone());
        let together = fold::together(&all).into_iter().chain(as_one);
        let mut names = Self {
            apart: Some(Range::of((*word).to_owned())),
            others: None,
            rare: Vec::new(),
            together: together.map(Range::of).collect(),
            all: Some(words.iter().map(|word| like(' ', word)).collect()),
            as_one: all_folded.then(|| vec![like(' ', &all), like('\t', &all)]),
        };
        if rest.is_empty() {
            return names;
        }
        let among = if all_folded { &rest[..rest.len().min(2)] } else { &[] };
        if !among.is_empty() {
            names.apart = Some(Range::of(fold::among(among, word)));
            names.rare = (0..rest.len())
                .map(|i| {
                    let others = longest_first.iter().enumerate().filter(|(j, _)| *j != i + 1);
                    let others: Vec<&str> =
                        others.map(|(_, other)| *other).take(among.len()).collect();
                    Range::of(fold::among(&others, rest[i]))
                })
                .collect();
        }
        // A letter alone is in the entry already.
        let known = |i: usize, word: &str| i < among.len() && word.chars().count() == 1;
        let others = rest.iter().enumerate().filter(|(i, word)| !known(*i, word));
        names.others = Some(others.map(|(_, word)| like(' ', word)).collect());
        names
    }
}

/// A pattern of texts in which a word begins so, after a space or a tab.
fn like(after: char, word: &str) -> String {
    let mut pattern = format!("%{after}");
    for c in word.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// Entries of who may be born then, and has the status if one is asked for.
macro_rules! born_then {
    () => {
        "n.born = $18 AND ($19::integer IS NULL OR n.born_month IN (0, $19))
         AND ($20::integer IS NULL OR n.born_day IN (0, $20))
         AND ($15::text IS NULL OR n.inactive = ($15 = 'inactive')) AND "
    };
}

/// What a statement asks for beside what every one does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Further {
    AsOne,
    Rare,
    RareAndBirth,
}

impl Search {
    /// The statement that begins with what finds the fewest, and what it asks for beside the rest.
    fn begin(&self, all_folded: bool) -> (&'static str, Further) {
        if self.identifier.is_some() {
            let sql = search_by!(
                "p.id = (SELECT i.patient_id FROM patient_identifier i WHERE i.system = $13 AND i.value = $14)"
            );
            return (sql, Further::AsOne);
        }
        if self.phone.is_some() {
            let sql = search_by!("split_part(p.phone, ';', 1) = split_part($9, ';', 1)");
            return (sql, Further::AsOne);
        }
        // Of those born on a day most are found without entries that know it.
        let on_a_day = self.birth_date.is_some_and(|date| date.precision() == DatePrecision::Day);
        if self.words.is_empty() || on_a_day && !all_folded {
            let sql = match self.status {
                None => by_birth!(""),
                Some(PatientStatus::Active) => by_birth!("p.status = 'active' AND "),
                Some(PatientStatus::Inactive) => by_birth!("p.status = 'inactive' AND "),
            };
            return (sql, Further::AsOne);
        }
        let one = self.words.len() == 1;
        if self.birth_date.is_some() && all_folded {
            let sql = if one { by_word!(born_then!()) } else { by_name!(born_then!()) };
            return (sql, Further::RareAndBirth);
        }
        let sql = match (self.status.filter(|_| all_folded), one) {
            (None, true) => by_word!(""),
            (None, false) => by_name!(""),
            (Some(PatientStatus::Active), true) => by_word!("NOT n.inactive AND "),
            (Some(PatientStatus::Active), false) => by_name!("NOT n.inactive AND "),
            (Some(PatientStatus::Inactive), true) => by_word!("n.inactive AND "),
            (Some(PatientStatus::Inactive), false) => by_name!("n.inactive AND "),
        };
        (sql, Further::Rare)
    }

    fn statement(self, after: Uuid, limit: i64, all_folded: bool) -> Statement {
        let status = self.status.map(PatientStatus::as_str);
        let asks_for_somebody = !self.words.is_empty()
            || self.phone.is_some()
            || self.birth_date.is_some()
            || self.identifier.is_some();
        match status {
            _ if asks_for_somebody => {}
            Some(status) => {
                let sql = page!(by id: "SELECT p.id FROM patient p WHERE p.status = $3 AND p.id > $1 ORDER BY p.id LIMIT 201");
                return sql!(sql, after, limit, status);
            }
            None => {
                let sql = page!(by id: "SELECT p.id FROM patient p WHERE p.id > $1 ORDER BY p.id LIMIT 201");
                return sql!(sql, after, limit);
            }
        }
        let (sql, further) = self.begin(all_folded);
        let names = Names::of(&self.words, all_folded);
        let year = self.birth_date.map(|date| i32::from(date.first().year()));
        let month = self.birth_date.filter(|date| date.precision() != DatePrecision::Year);
        let month = month.map(|date| i32::from(date.first().month()));
        let day = self.birth_date.filter(|date| date.precision() == DatePrecision::Day);
        let day = day.map(|date| i32::from(date.first().day()));
        let born = Born::on(self.birth_date);
        let (low, high) = names.apart.map(|range| (range.low, range.high)).unzip();
        let (together_low, together_high) = Range::columns(names.together);
        let (system, value) = self.identifier.map(|i| (i.system, i.value)).unzip();
        let mut statement = sql!(
            sql,
            after,
            limit,
            low,
            high,
            names.others,
            together_low,
            together_high,
            names.all,
            self.phone,
            born.precisions,
            born.low,
            born.high,
            system,
            value,
            status,
        );
        if further == Further::AsOne {
            statement.values.push(Box::new(names.as_one));
        } else {
            let (low, high) = Range::columns(names.rare);
            statement.values.push(Box::new(low));
            statement.values.push(Box::new(high));
        }
        if further == Further::RareAndBirth {
            statement.values.push(Box::new(year));
            statement.values.push(Box::new(month));
            statement.values.push(Box::new(day));
        }
        statement
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
