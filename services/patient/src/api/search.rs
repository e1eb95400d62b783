use axum::extract::State;
use hospital_contracts::patient::{Identifier, PatientStatus, PatientView};
use hospital_kit::http::{
    Allowed, Answer, Cursor, Limit, ListProblems, Page, Problem, Query, Staff,
};
use hospital_types::{PatientId, parse_date, text};
use serde::Deserialize;

use super::App;
use crate::{
    contact,
    duplicate::words,
    patient::Patient,
    store::{self, Search},
};

const WORDS_MAX: usize = 8;

/// What to search for; everything given must hold.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct SearchQuery {
    /// Beginnings of words of the name, in any order, without regard to accents and case.
    #[param(example = "zoe mul")]
    name: Option<String>,
    /// With its country code. A plus that came unescaped, and so as a space, is understood.
    #[param(example = "+16175550100")]
    phone: Option<String>,
    #[param(format = Date)]
    birth_date: Option<String>,
    /// `system|value`.
    #[param(example = "urn:example:mrn|12345")]
    identifier: Option<String>,
    /// `active` or `inactive`.
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
    fn search(&self) -> Result<Search, Problem> {
        Ok(Search {
            words: filter("name", self.name.as_deref(), name)?.unwrap_or_default(),
            phone: filter("phone", self.phone.as_deref(), phone)?,
            birth_date: filter("birthDate", self.birth_date.as_deref(), |given| {
                parse_date(given).map_err(|e| e.to_string())
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
    let words = words(&text(given, 200).map_err(|e| e.to_string())?);
    if (1..=WORDS_MAX).contains(&words.len()) {
        Ok(words)
    } else {
        Err(format!("must have 1 to {WORDS_MAX} words"))
    }
}

fn phone(given: &str) -> Result<String, String> {
    let plus = match given.strip_prefix(' ') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => format!("+{rest}"),
        _ => given.to_owned(),
    };
    contact::phone(&plus).map_err(|e| e.to_string())
}

fn identifier(given: &str) -> Result<Identifier, String> {
    let wrong = || "must be a system and a value: system|value".to_owned();
    let (system, value) = given.split_once('|').ok_or_else(wrong)?;
    let part = |part| text(part, 200).map_err(|_| wrong());
    Ok(Identifier { system: part(system)?, value: part(value)? })
}

/// Searches patients; who was registered first comes first.
#[utoipa::path(
    get, path = "/patients", tag = "Patients", params(SearchQuery),
    responses((status = 200, description = "A page of patients.", body = Page<PatientView>), ListProblems),
)]
pub(super) async fn search(
    State(app): State<App>,
    _: Allowed<Staff>,
    Query(query): Query<SearchQuery>,
) -> Result<Answer, Problem> {
    let after = query.cursor.as_ref().map(Cursor::decode::<PatientId>).transpose()?;
    let found = store::search(&app.db, query.search()?, after, query.limit.rows()).await?;
    let items = found.iter().map(Patient::view).collect();
    Ok(Answer::plain(&Page::from_rows(items, query.limit, |last: &PatientView| last.id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unescaped_plus_is_understood() {
        assert_eq!(phone(" 16175550100").as_deref(), Ok("+16175550100"));
        assert_eq!(phone("+1 617 555 0100").as_deref(), Ok("+16175550100"));
        assert!(phone("16175550100").is_err());
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
