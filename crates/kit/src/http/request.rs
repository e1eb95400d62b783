//! What a handler asks for in its arguments: a role, a path id, an idempotency key, a version.

use std::{marker::PhantomData, ops::Deref};

use axum::{
    extract::{FromRequestParts, MatchedPath, RawPathParams},
    http::{HeaderMap, header, request::Parts},
};
use hospital_types::{Actor, Id, Kind, Role, Roles};
use sha2::{Digest, Sha256};

use super::Problem;
use crate::{auth::Authority, cause::Cause, idempotency::Request};

/// A set of roles that may do something. Asking for it in a handler's arguments is what authorises.
pub trait Permission: Send + Sync + 'static {
    const ROLES: Roles;
}

/// Registration and booking. `admin` may all that `front-desk` may.
pub struct FrontDesk;
impl Permission for FrontDesk {
    const ROLES: Roles = Roles::of(&[Role::FrontDesk, Role::Admin]);
}

/// Everybody who works here.
pub struct Staff;
impl Permission for Staff {
    const ROLES: Roles = Roles::of(&[
        Role::FrontDesk,
        Role::Practitioner,
        Role::Cashier,
        Role::BillingManager,
        Role::Admin,
    ]);
}

/// Whoever has a good token.
pub struct AnyRole;
impl Permission for AnyRole {
    const ROLES: Roles = Roles::of(&Role::ALL);
}

/// The caller, who has one of the permission's roles.
pub struct Allowed<P> {
    /// The request's, with the caller as its actor.
    pub cause: Cause,
    permission: PhantomData<fn() -> P>,
}

impl<P> Deref for Allowed<P> {
    type Target = Actor;

    fn deref(&self) -> &Actor {
        &self.cause.actor
    }
}

impl<P: Permission, S: Sync> FromRequestParts<S> for Allowed<P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(Identity(identity)) = parts.extensions.get::<Identity>() else {
            return Err(Problem::new(500, "internal", "This service has no token authority."));
        };
        let mut actor = identity.clone()?;
        // Only the roles that count here: whoever is let in as a patient sees what a patient sees, whatever else they are elsewhere.
        actor.roles = actor.roles.intersection(P::ROLES);
        if actor.roles == Roles::default() {
            return Err(Problem::new(403, "forbidden", "Your role may not do this."));
        }
        Ok(Self { cause: Cause::request(actor), permission: PhantomData })
    }
}

/// Who asks, found out once for each request, at the edge; or why nobody knows.
#[derive(Clone)]
pub(super) struct Identity(pub(super) Result<Actor, Problem>);

impl Identity {
    pub(super) async fn of(headers: &HeaderMap, authority: &Authority) -> Self {
        let Some(token) = bearer(headers) else {
            let detail = "Send a token: `Authorization: Bearer …`.";
            return Self(Err(unauthorized("token-missing", detail)));
        };
        Self(authority.verify(token).await.map_err(|e| {
            unauthorized("token-invalid", &format!("The token is not accepted: {e}."))
        }))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthorized(code: &str, detail: &str) -> Problem {
    Problem::new(401, code, detail).header("www-authenticate", "Bearer realm=\"hospital\"")
}

/// The id in the path. What is no UUID names nothing: 404.
pub struct PathId<K>(pub Id<K>);

impl<K: Kind, S: Send + Sync> FromRequestParts<S> for PathId<K> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::not_found())?;
        let (_, value) = params.iter().next().ok_or_else(Problem::not_found)?;
        value.parse().map(Self).map_err(|_| Problem::not_found())
    }
}

/// The request's idempotency key, if it has one, and the route that it belongs to.
#[derive(Clone, Debug)]
pub struct Keyed {
    pub key: Option<String>,
    /// Method and route template, such as `POST /payments`.
    pub route: String,
    /// The concrete path.
    pub path: String,
}

impl Keyed {
    /// The request as `idempotency` needs to know it. `body` is the fingerprint of its body.
    pub fn request(&self, name: &'static str, cause: &Cause, body: [u8; 32]) -> Request {
        let mut hash = Sha256::new();
        hash.update(self.path.as_bytes());
        hash.update([0]);
        hash.update(body);
        Request {
            name,
            cause: cause.clone(),
            key: self.key.clone(),
            route: self.route.clone(),
            fingerprint: hash.finalize().into(),
        }
    }
}

/// An `Idempotency-Key` that may be given.
#[derive(Clone, Debug)]
pub struct IdempotencyKey(pub Keyed);

/// An `Idempotency-Key` that must be given.
#[derive(Clone, Debug)]
pub struct RequiredIdempotencyKey(pub Keyed);

impl Deref for IdempotencyKey {
    type Target = Keyed;
    fn deref(&self) -> &Keyed {
        &self.0
    }
}
impl Deref for RequiredIdempotencyKey {
    type Target = Keyed;
    fn deref(&self) -> &Keyed {
        &self.0
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all("idempotency-key").iter();
        let key = match (values.next(), values.next()) {
            (None, _) => None,
            (Some(value), None) => Some(key_of(value.as_bytes())?),
            (Some(_), Some(_)) => {
                return Err(key_invalid("The Idempotency-Key stands there twice."));
            }
        };
        let template = parts
            .extensions
            .get::<MatchedPath>()
            .map_or_else(|| parts.uri.path(), MatchedPath::as_str);
        Ok(Self(Keyed {
            key,
            route: format!("{} {template}", parts.method),
            path: parts.uri.path().to_owned(),
        }))
    }
}

impl<S: Sync> FromRequestParts<S> for RequiredIdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let IdempotencyKey(keyed) = IdempotencyKey::from_request_parts(parts, state).await?;
        if keyed.key.is_none() {
            return Err(Problem::new(
                400,
                "idempotency-key-missing",
                "This request needs an Idempotency-Key, so that sending it twice does it once.",
            ));
        }
        Ok(Self(keyed))
    }
}

fn key_of(value: &[u8]) -> Result<String, Problem> {
    let text = str::from_utf8(value).ok().map(str::trim).filter(|text| {
        (1..=255).contains(&text.len()) && text.bytes().all(|b| (0x20..=0x7e).contains(&b))
    });
    text.map(ToOwned::to_owned)
        .ok_or_else(|| key_invalid("An Idempotency-Key has 1 to 255 printable ASCII characters."))
}

fn key_invalid(detail: &str) -> Problem {
    Problem::new(400, "idempotency-key-invalid", detail)
}

/// The version in `If-Match`, if one is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IfMatch(pub Option<i32>);

impl IfMatch {
    /// Whether a resource of this version is the one that the client saw.
    pub fn allows(self, version: i32) -> bool {
        self.0.is_none_or(|wanted| wanted == version)
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else { return Ok(Self(None)) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self(None));
        }
        let tag = text.strip_prefix("W/").unwrap_or(text);
        // Many clients leave the quotation marks out, which can be understood in one way only.
        tag.strip_prefix('"')
            .map_or(Some(tag), |t| t.strip_suffix('"'))
            .and_then(|t| t.parse().ok())
            .map(|version| Self(Some(version)))
            .ok_or_else(|| {
                Problem::new(400, "if-match-invalid", "If-Match takes one ETag, such as \"3\".")
            })
    }
}
