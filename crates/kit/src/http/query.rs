//! Query parameters, pages and their cursors.

use axum::{
    extract::FromRequestParts,
    http::{Uri, request::Parts},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{Problem, body::without_value};

/// Query parameters, every one of them known: another one, one that stands there twice or one that does not parse is a 400.
#[derive(Clone, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Query::<T>::from_request_parts(parts, state)
            .await
            .map(|query| Self(query.0))
            .map_err(|e| {
                use std::error::Error;
                // The innermost cause says what is wrong with which parameter, without the value.
                let cause = e.source().map_or_else(|| e.to_string(), ToString::to_string);
                let cause = without_values(&cause, &parts.uri);
                Problem::new(
                    400,
                    "invalid-query",
                    format!("A query parameter is not accepted: {cause}."),
                )
            })
    }
}

/// How many items a page holds: 1 to 200, 50 unless told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(u16);

impl Limit {
    pub fn get(self) -> usize {
        self.0.into()
    }

    /// One more than the page holds: whether there is a next page shows in whether it comes.
    pub fn rows(self) -> i64 {
        i64::from(self.0) + 1
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(50)
    }
}

impl utoipa::PartialSchema for Limit {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::Integer)
            .minimum(Some(1))
            .maximum(Some(200))
            .default(Some(50.into()))
            .into()
    }
}
impl ToSchema for Limit {}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse() {
            Ok(limit @ 1..=200) => Ok(Self(limit)),
            _ => Err(serde::de::Error::custom("limit takes a whole number from 1 to 200")),
        }
    }
}

/// Where a page ended: opaque to clients, and noticed when it was tampered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(Vec<u8>);

impl Cursor {
    pub fn encode(key: &impl Serialize) -> String {
        let mut bytes = serde_json::to_vec(key).expect("page keys are plain data");
        let tag = tag(&bytes);
        bytes.extend_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The key that the cursor was made from.
    pub fn decode<K: DeserializeOwned>(&self) -> Result<K, Problem> {
        serde_json::from_slice(&self.0).map_err(|_| {
            Problem::new(
                400,
                "invalid-query",
                "The cursor is of another list: begin with the first page.",
            )
        })
    }
}

impl utoipa::PartialSchema for Cursor {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some("^[A-Za-z0-9_-]{10,}$"))
            .into()
    }
}
impl ToSchema for Cursor {}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
        let (key, found) =
            bytes.split_at_checked(bytes.len().saturating_sub(6)).unwrap_or_default();
        if key.is_empty() || found != tag(key) {
            return Err(serde::de::Error::custom("cursor takes a nextCursor, unchanged"));
        }
        Ok(Self(key.to_vec()))
    }
}

fn tag(bytes: &[u8]) -> [u8; 6] {
    let digest = Sha256::new().chain_update(b"hospital page").chain_update(bytes).finalize();
    digest[..6].try_into().expect("a SHA-256 has 32 bytes")
}

/// A page of a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give it as `cursor` to get the next page; null on the last.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// The only page of a list that nothing is on.
    pub const fn empty() -> Self {
        Self { items: Vec::new(), next_cursor: None }
    }

    /// Makes a page from up to [`Limit::rows`] rows; `key` gives the key of the last item.
    pub fn from_rows<K: Serialize>(
        mut items: Vec<T>,
        limit: Limit,
        key: impl FnOnce(&T) -> K,
    ) -> Self {
        let more = items.len() > limit.get();
        items.truncate(limit.get());
        let next_cursor = items.last().filter(|_| more).map(|last| Cursor::encode(&key(last)));
        Self { items, next_cursor }
    }
}

/// The reason without any of the values that were sent: a parser's own text may quote them too.
fn without_values(reason: &str, uri: &Uri) -> String {
    type Pairs = Vec<(String, String)>;
    // What cannot be taken apart has no values that could be in the reason.
    let sent = axum::extract::Query::<Pairs>::try_from_uri(uri).map(|q| q.0).unwrap_or_default();
    let long = sent.iter().map(|(_, value)| value.as_str()).filter(|value| value.len() > 2);
    long.fold(without_value(reason), |reason, value| reason.replace(value, "…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Params {
        #[serde(default)]
        limit: Limit,
        cursor: Option<Cursor>,
    }

    async fn parse(query: &str) -> Result<Params, u16> {
        let request = axum::http::Request::get(format!("/x?{query}")).body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        Query::from_request_parts(&mut parts, &()).await.map(|q| q.0).map_err(|p| p.status())
    }

    #[tokio::test]
    async fn parameters_are_known_and_in_range() {
        assert_eq!(parse("").await.unwrap().limit.get(), 50);
        assert_eq!(parse("limit=200").await.unwrap().limit.get(), 200);
        for query in [
            "limit=0",
            "limit=-1",
            "limit=1e9",
            "limit=201",
            "x=1",
            "limit=1&limit=2",
            "cursor=abc",
        ] {
            assert_eq!(parse(query).await.unwrap_err(), 400, "{query}");
        }
    }

    #[test]
    fn what_was_sent_is_not_repeated() {
        for (reason, told) in [
            (
                "status: unknown variant `Ann`, expected `booked` or `arrived`",
                "status: unknown value, expected `booked` or `arrived`",
            ),
            ("invalid type: string \"Ann expected \", expected u16", "invalid type, expected u16"),
            (
                "limit takes a whole number from 1 to 200",
                "limit takes a whole number from 1 to 200",
            ),
            ("missing field `name`", "missing field `name`"),
        ] {
            assert_eq!(without_value(reason), told);
        }
        let uri = Uri::from_static("/x?date=Ann%20Lee&limit=5");
        assert_eq!(
            without_values("date: not a date: \"Ann Lee\" 5", &uri),
            "date: not a date: \"…\" 5"
        );
    }

    #[tokio::test]
    async fn a_cursor_comes_back_unchanged_or_not_at_all() {
        let cursor = Cursor::encode(&("Lee", 7));
        let parsed = parse(&format!("cursor={cursor}")).await.unwrap().cursor.unwrap();
        assert_eq!(parsed.decode::<(String, i32)>().unwrap(), ("Lee".to_owned(), 7));
        assert_eq!(parsed.decode::<i32>().unwrap_err().status(), 400);
        let tampered = format!("{}A", &cursor[..cursor.len() - 1]);
        assert_eq!(parse(&format!("cursor={tampered}")).await.unwrap_err(), 400);
    }

    #[test]
    fn a_full_page_has_a_next_one_only_when_there_is_more() {
        let page = |n: i32| Page::from_rows((0..n).collect(), Limit(3), |last| *last);
        assert_eq!(page(3).next_cursor, None);
        assert_eq!(page(4).items, [0, 1, 2]);
        assert!(page(4).next_cursor.is_some());
    }
}
