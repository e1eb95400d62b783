use axum::extract::State;
use hospital_contracts::patient::{Identifier, PatientStatus, PatientView};
use hospital_kit::http::{
    Allowed, Answer, Cursor, Limit, ListProblems, Page, Problem, Query, Staff,
};
use hospital_types::{PartialDate, PatientId, text};
use serde::Deserialize;

use super::{
    App,
    told::{Told, may_browse},
};
use crate::{
    contact::Country,
    fold,
    patient::Patient,
    store::{self, Search},
};

const WORDS_MAX: usize = 8;

/// What to search for; everything given must hold.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct SearchQuery {
    /// Beginnings of words of the name, in any order, without regard to case, accents, apostrophes
    /// and whether they are written together. Who is found by it comes in the order of the
    /// alphabet.
    #[param(example = "zoe mul")]
    name: Option<String>,
    /// Without a country code it is one of the facility's country, without an extension any. A plus
    /// that came unescaped, and so as a space, is understood.
    #[param(min_length = 3, example = "+16175550100")]
    phone: Option<String>,
    /// `1980`, `1980-06` or `1980-06-05`. Finds all who may be born then; without a
    /// name, the earliest first.
    #[param(example = "1990-01-02", pattern = "^[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?$")]
    birth_date: Option<String>,
    /// `system|value`.
    #[param(example = "urn:example:mrn|12345")]
    identifier: Option<String>,
    #[param(pattern = "^(active|inactive)$")]
    status: Option<String>,
    /// How many at most.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `nextCursor` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

impl SearchQuery {
    /// Whether it says whom to look for.
    const fn is_for_somebody(&self) -> bool {
        self.name.is_some()
            || self.phone.is_some()
            || self.birth_date.is_some()
            || self.identifier.is_some()
    }

    fn search(&self, country: Country) -> Result<Search, Problem> {
        Ok(Search {
            words: filter("name", self.name.as_deref(), name)?.unwrap_or_default(),
            phone: filter("phone", self.phone.as_deref(), |given| phone(given, country))?,
            birth_date: filter("birthDate", self.birth_date.as_deref(), |given| {
                given.parse::<PartialDate>().map_err(|e| e.to_string())
            })?,
            identifier: filter("identifier", self.identifier.as_deref(), identifier)?,
            status: filter("status", self.status.as_deref(), |given| {
                PatientStatus::parse(given).ok_or_else(|| "must be active or inactive".to_owned())
            })?,
        })
    }
}

fn filter<T>(
    name: &str,
    given: Option<&str>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, Problem> {
    given.map(parse).transpose().map_err(|e| {
        let detail = format!("A query parameter is not accepted: {name} {e}.");
        Problem::new(400, "invalid-query", detail)
    })
}

fn name(given: &str) -> Result<Vec<String>, String> {
    let words = fold::asked(&text(given, 200).map_err(|e| e.to_string())?);
    if (1..=WORDS_MAX).contains(&words.len()) {
        Ok(words)
    } else {
        Err(format!("must have 1 to {WORDS_MAX} words"))
    }
}

fn phone(given: &str, country: Country) -> Result<String, String> {
    let plus = match given.strip_prefix(' ') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => format!("+{rest}"),
        _ => given.to_owned(),
    };
    country.phone(&plus).map_err(|e| e.to_string())
}

fn identifier(given: &str) -> Result<Identifier, String> {
    let wrong = || "must be a system and a value: system|value".to_owned();
    let (system, value) = given.split_once('|').ok_or_else(wrong)?;
    let part = |part| text(part, 200).map_err(|_| wrong());
    Ok(Identifier { system: part(system)?, value: part(value)? })
}

/// Searches patients; who was registered first comes first, unless a name or a birth date is asked
/// for. Each is told as far as the caller's role needs it. Whoever is not of the desk says whom
/// they look for: by name, phone, birth date or identifier.
#[utoipa::path(
    get, path = "/patients", tag = "Patients", params(SearchQuery),
    responses((status = 200, description = "A page of patients.", body = Page<PatientView>), ListProblems),
)]
pub(super) async fn search(
    State(app): State<App>,
    who: Allowed<Staff>,
    Query(query): Query<SearchQuery>,
) -> Result<Answer, Problem> {
    if !query.is_for_somebody() && !may_browse(&who) {
        let detail = "Your role looks for somebody: give name, phone, birthDate or identifier.";
        return Err(Problem::new(400, "filter-missing", detail));
    }
    let after = query.cursor.as_ref().map(Cursor::decode::<PatientId>).transpose()?;
    let search = query.search(app.country)?;
    let (rows, all_folded) = (query.limit.rows(), app.all_folded.get());
    let found = store::search(app.db.reader(&who.cause), search, after, rows, all_folded).await?;
    let page = Page::from_rows(found, query.limit, |last: &Patient| last.id);
    let items = page.items.iter().map(|patient| Told::to(&who, patient)).collect();
    Ok(Answer::plain(&Page::<Told> { items, next_cursor: page.next_cursor }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unescaped_plus_is_understood() {
        let germany = Country::parse("DE").unwrap();
        let phone = |given| phone(given, germany);
        assert_eq!(phone(" 16175550100").as_deref(), Ok("+16175550100"));
        assert_eq!(phone("+1 617 555 0100").as_deref(), Ok("+16175550100"));
        assert_eq!(phone("030 123456").as_deref(), Ok("+4930123456"));
        assert!(phone("617-CALL-ME").is_err());
    }

    #[test]
    fn an_identifier_splits_at_the_first_bar() {
        let found = identifier("urn:x|a|b").unwrap();
        assert_eq!((found.system.as_str(), found.value.as_str()), ("urn:x", "a|b"));
        for given in ["", "x", "|", "x|", "|x", "x|\0"] {
            assert!(identifier(given).is_err(), "{given:?}");
        }
    }

    #[test]
    fn a_name_is_one_to_eight_words() {
        assert_eq!(name("Zoë Mül").unwrap(), ["zoe", "mul"]);
        for given in ["", " ", "\0", "a\nb", "a b c d e f g h i"] {
            assert!(name(given).is_err(), "{given:?}");
        }
    }
}
