//! Request bodies: bounded, JSON, without a member that is unknown or stands there twice.

use std::{fmt, marker::PhantomData};

use axum::{
    extract::FromRequest,
    http::{HeaderMap, Request, header},
};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Problem, receive::too_large, strict::Strict};

/// The largest body that is read, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 65_536;

/// A JSON body that was read and not looked at yet, so that a handler can first say that the object in its path does not exist.
#[derive(Clone, Debug)]
pub struct Body<T> {
    bytes: Bytes,
    shape: PhantomData<fn() -> T>,
}

/// A merge patch (RFC 7396), sent as `application/merge-patch+json` or `application/json`.
#[derive(Clone, Debug)]
pub struct PatchBody<T>(Body<T>);

/// For requests that need no body: nothing, or an empty object.
#[derive(Clone, Debug)]
pub struct EmptyBody(Body<Empty>);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

impl<T: DeserializeOwned> Body<T> {
    /// Reads the body as `T`; 400 says what is not as the schema says, and where.
    pub fn parse(&self) -> Result<T, Problem> {
        parse(&self.bytes)
    }

    /// SHA-256 of the body in canonical form: members sorted, no white space.
    pub fn fingerprint(&self) -> [u8; 32] {
        let canonical = match serde_json::from_slice::<Value>(&self.bytes) {
            // Maps are sorted by member, and numbers keep their own text.
            Ok(value) => value.to_string().into_bytes(),
            Err(_) => self.bytes.to_vec(),
        };
        Sha256::digest(canonical).into()
    }

    /// The body as it came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl<T: DeserializeOwned> PatchBody<T> {
    pub fn parse(&self) -> Result<T, Problem> {
        self.0.parse()
    }

    pub fn fingerprint(&self) -> [u8; 32] {
        self.0.fingerprint()
    }
}

impl EmptyBody {
    pub fn parse(&self) -> Result<(), Problem> {
        if self.0.bytes.is_empty() {
            return Ok(());
        }
        self.0.parse().map(|Empty {}| ())
    }

    pub fn fingerprint(&self) -> [u8; 32] {
        if self.0.bytes.is_empty() {
            return Sha256::digest(b"{}").into();
        }
        self.0.fingerprint()
    }
}

impl<T, S: Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request<axum::body::Body>, _: &S) -> Result<Self, Problem> {
        let accepted = is_json(request.headers(), &["application/json"]);
        let bytes = read(request.into_body()).await?;
        accepted
            .then(|| Self { bytes, shape: PhantomData })
            .ok_or_else(|| unsupported("application/json"))
    }
}

impl<T, S: Sync> FromRequest<S> for PatchBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request<axum::body::Body>, _: &S) -> Result<Self, Problem> {
        let types = ["application/merge-patch+json", "application/json"];
        let accepted = is_json(request.headers(), &types);
        let bytes = read(request.into_body()).await?;
        accepted
            .then(|| Self(Body { bytes, shape: PhantomData }))
            .ok_or_else(|| unsupported("application/merge-patch+json or application/json"))
    }
}

impl<S: Sync> FromRequest<S> for EmptyBody {
    type Rejection = Problem;

    async fn from_request(request: Request<axum::body::Body>, _: &S) -> Result<Self, Problem> {
        let accepted = is_json(request.headers(), &["application/json"]);
        let bytes = read(request.into_body()).await?;
        (accepted || bytes.is_empty())
            .then(|| Self(Body { bytes, shape: PhantomData }))
            .ok_or_else(|| unsupported("application/json"))
    }
}

fn unsupported(wanted: &str) -> Problem {
    Problem::new(415, "unsupported-media-type", format!("Send the body as {wanted}."))
}

fn is_json(headers: &HeaderMap, types: &[&str]) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let mut parts = value.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let utf8 = parts.all(|p| {
        p.split_once('=').is_none_or(|(name, charset)| {
            !name.eq_ignore_ascii_case("charset")
                || charset.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
    });
    utf8 && types.iter().any(|t| t.eq_ignore_ascii_case(media))
}

async fn read(body: axum::body::Body) -> Result<Bytes, Problem> {
    axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|e| {
        use std::error::Error;
        let too_long = e.source().is_some_and(|e| e.is::<http_body_util::LengthLimitError>());
        if too_long {
            too_large()
        } else {
            Problem::new(400, "body-incomplete", "The body broke off.")
        }
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // Two passes: serde refuses a member that stands twice only where it reads into a struct.
    let unique: Result<UniqueMembers, _> = serde_json::from_slice(bytes);
    if let Err(e) = unique {
        return Err(malformed(&e));
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|e| malformed(&e))?;
    serde_path_to_error::deserialize(Strict(&value)).map_err(|e| {
        let pointer: String = e.path().iter().map(segment).collect();
        let reason = e.inner().to_string();
        // serde's text ends in the place, which the pointer says better.
        let reason = without_value(reason.split(" at line ").next().unwrap_or_default());
        Problem::new(
            400,
            "invalid-body",
            "The body is not what this request takes; `errors` says where.",
        )
        .fault(&pointer, &reason)
    })
}

/// serde's reason without the value that it may quote: what a client sent is not repeated in an error.
pub(super) fn without_value(reason: &str) -> String {
    let marks = ["unknown variant ", "invalid type: ", "invalid value: ", "invalid length: "];
    let Some((mark, at)) = marks.iter().find_map(|mark| Some((mark, reason.find(mark)?))) else {
        return reason.to_owned();
    };
    let kind = mark.trim_end_matches([':', ' ']).replace("variant", "value");
    let wanted = reason.rsplit_once("expected ").map_or("another", |(_, wanted)| wanted);
    format!("{}{kind}, expected {wanted}", &reason[..at])
}

fn malformed(e: &serde_json::Error) -> Problem {
    let (code, what) = if e.is_data() {
        ("invalid-body", "repeats a member")
    } else {
        ("malformed-json", "is not JSON")
    };
    let detail = format!("The body {what} at line {}, column {}.", e.line(), e.column());
    Problem::new(400, code, detail)
}

fn segment(segment: &serde_path_to_error::Segment) -> String {
    use serde_path_to_error::Segment;
    match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
        Segment::Enum { .. } | Segment::Unknown => String::new(),
    }
}

/// Accepts any JSON whose objects have no member twice; builds nothing.
struct UniqueMembers;

impl<'de> Deserialize<'de> for UniqueMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = UniqueMembers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<UniqueMembers, E> {
        Ok(UniqueMembers)
    }
    fn visit_i64<E>(self, _: i64) -> Result<UniqueMembers, E> {
        Ok(UniqueMembers)
    }
    fn visit_u64<E>(self, _: u64) -> Result<UniqueMembers, E> {
        Ok(UniqueMembers)
    }
    fn visit_f64<E>(self, _: f64) -> Result<UniqueMembers, E> {
        Ok(UniqueMembers)
    }
    fn visit_str<E>(self, _: &str) -> Result<UniqueMembers, E> {
        Ok(UniqueMembers)
    }
    fn visit_unit<E>(self) -> Result<UniqueMembers, E> {
        Ok(UniqueMembers)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<UniqueMembers, A::Error> {
        while seq.next_element::<UniqueMembers>()?.is_some() {}
        Ok(UniqueMembers)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMembers, A::Error> {
        let mut seen: Vec<String> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if seen.contains(&name) {
                return Err(serde::de::Error::custom("a member stands there twice"));
            }
            // An exact number comes as a map with one member of serde_json's own, whose value is no JSON.
            if name == NUMBER_TOKEN {
                map.next_value::<String>()?;
            } else {
                map.next_value::<UniqueMembers>()?;
            }
            seen.push(name);
        }
        Ok(UniqueMembers)
    }
}

/// How serde_json hands a number over with all its digits.
const NUMBER_TOKEN: &str = "$serde_json::private::Number";

/// Deserializes an optional field that may be absent and must not be null.
pub fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A member of a merge patch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// Not mentioned: stays as it is.
    #[default]
    Absent,
    /// Given as null: goes.
    Remove,
    Set(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<T>::deserialize(deserializer).map(|value| value.map_or(Self::Remove, Self::Set))
    }
}

impl<T> Patch<T> {
    /// The new value, when the member is mentioned.
    pub fn change(self) -> Option<Option<T>> {
        match self {
            Self::Absent => None,
            Self::Remove => Some(None),
            Self::Set(value) => Some(Some(value)),
        }
    }
}

impl<T: utoipa::PartialSchema> utoipa::PartialSchema for Patch<T> {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::schema::OneOfBuilder::new()
            .item(
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::Null),
            )
            .item(T::schema())
            .into()
    }
}
impl<T: utoipa::ToSchema> utoipa::ToSchema for Patch<T> {
    fn name() -> std::borrow::Cow<'static, str> {
        T::name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Thing {
        name: String,
        #[serde(default, deserialize_with = "not_null")]
        note: Option<String>,
        #[serde(default)]
        parts: Vec<Part>,
        #[serde(default)]
        patch: Patch<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Part {
        #[expect(dead_code, reason = "only its type matters here")]
        amount: serde_json::Number,
    }

    fn body(json: impl Into<Bytes>) -> Body<Thing> {
        Body { bytes: json.into(), shape: PhantomData }
    }

    #[test]
    fn good_bodies_parse() {
        let thing = body(r#"{"name":"a","note":"b","parts":[{"amount":0.070}],"patch":null}"#)
            .parse()
            .unwrap();
        assert_eq!(
            (thing.name.as_str(), thing.note.as_deref(), thing.parts.len()),
            ("a", Some("b"), 1)
        );
        assert_eq!(thing.patch, Patch::Remove);
        assert_eq!(body(r#"{"name":"a"}"#).parse().unwrap().patch, Patch::Absent);
    }

    #[test]
    fn what_is_not_as_the_schema_says_is_a_400() {
        let deep = "[".repeat(100_000);
        for json in [
            "",
            "null",
            "[]",
            "\"x\"",
            "{",
            "{\"name\":\"a\"} x",
            "{\"name\":\"a\",\"name\":\"b\"}",
            "{\"name\":1}",
            "{\"name\":null}",
            "{}",
            "{\"name\":\"a\",\"id\":1}",
            "{\"name\":\"a\",\"note\":null}",
            "{\"name\":\"a\",\"parts\":[{\"amount\":1,\"amount\":2}]}",
            "{\"name\":\"a\",\"parts\":{}}",
            &deep,
        ] {
            let problem = body(json.to_owned()).parse().unwrap_err();
            assert_eq!(problem.status(), 400, "{}", &json[..json.len().min(60)]);
        }
        assert_eq!(body(&b"{\"name\":\"\xff\"}"[..]).parse().unwrap_err().status(), 400);
    }

    #[test]
    fn the_fault_is_pointed_at_and_its_value_is_not_repeated() {
        let problem = body(r#"{"name":"a","parts":[{"amount":"secret"}]}"#).parse().unwrap_err();
        let text = String::from_utf8(problem.body()).unwrap();
        assert!(text.contains("/parts/0/amount"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn a_fingerprint_does_not_see_white_space_or_order() {
        let a = body(r#"{"name":"a","note":"b"}"#).fingerprint();
        assert_eq!(a, body(r#" { "note":"b", "name":"a" } "#).fingerprint());
        assert_ne!(a, body(r#"{"name":"a","note":"c"}"#).fingerprint());
    }
}
