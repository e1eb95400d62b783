//! Judges tokens.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use hospital_types::{Actor, Id, Kind, Role};
use jsonwebtoken::Validation;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::keys::Keys;
use crate::{clock::Clock, config::AuthConfig, outcome::Broken};

/// Why a token is not accepted. Says nothing of what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRejected {
    #[error("it is too long")]
    TooLong,
    #[error("it is no signed token")]
    Malformed,
    #[error("it is signed by a key that is not trusted here")]
    UnknownKey,
    #[error("its signature, issuer or audience is wrong")]
    Wrong,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYet,
}

const TOKEN_BYTES_MAX: usize = 8192;
const SUBJECT_CHARS_MAX: usize = 200;
const CACHE_MAX: usize = 4096;

/// Judges tokens by the keys that the platform trusts.
pub struct Authority {
    keys: Keys,
    /// What was found good before, by its digest: checking a signature costs more than the rest of a request.
    good: Mutex<HashMap<[u8; 32], Good>>,
    config: AuthConfig,
    clock: Clock,
}

#[derive(Clone)]
struct Good {
    actor: Actor,
    not_before: i64,
    expires: i64,
    /// The keys' generation under which it was found good.
    generation: u64,
}

impl Authority {
    pub fn new(config: &AuthConfig, clock: Clock) -> Result<Self, Broken> {
        let keys = Keys::new(config, clock.clone())?;
        Ok(Self { keys, good: Mutex::default(), config: config.clone(), clock })
    }

    /// Whether the keys of the issuer's set are known and fresh enough to be trusted, as far as
    /// anybody has looked.
    ///
    /// # Errors
    /// Since when they are not.
    pub fn keys_are_known(&self) -> Result<(), String> {
        self.keys.are_known()
    }

    /// The actor that a token speaks for.
    pub async fn verify(&self, token: &str) -> Result<Actor, TokenRejected> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenRejected::TooLong);
        }
        self.keys.keep_fresh().await;
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let generation = self.keys.generation();
        let known = self.good().get(&digest).filter(|good| good.generation == generation).cloned();
        let good = match known {
            Some(good) => good,
            None => {
                let good = self.examine(token, generation).await?;
                let mut cache = self.good();
                if cache.len() >= CACHE_MAX {
                    cache.clear();
                }
                cache.insert(digest, good.clone());
                good
            }
        };
        let now = self.clock.now().as_second();
        let leeway = i64::try_from(self.config.leeway_s).unwrap_or(0);
        if now >= good.expires.saturating_add(leeway) {
            return Err(TokenRejected::Expired);
        }
        if now.saturating_add(leeway) < good.not_before {
            return Err(TokenRejected::NotYet);
        }
        Ok(good.actor)
    }

    fn good(&self) -> MutexGuard<'_, HashMap<[u8; 32], Good>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn examine(&self, token: &str, generation: u64) -> Result<Good, TokenRejected> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenRejected::Malformed)?;
        // An extension that its maker calls critical is not understood here.
        if header.crit.is_some() {
            return Err(TokenRejected::Wrong);
        }
        let kid = header.kid.ok_or(TokenRejected::UnknownKey)?;
        let (algorithm, key) = self.keys.find(&kid).await.ok_or(TokenRejected::UnknownKey)?;
        // The key says which algorithm it is for; what the token claims is only compared with it.
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Judged at every use, by the service's own clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let claims = jsonwebtoken::decode::<Value>(token, &key, &validation)
            .map_err(|_| TokenRejected::Wrong)?
            .claims;
        self.read(&claims, generation).ok_or(TokenRejected::Wrong)
    }

    fn read(&self, claims: &Value, generation: u64) -> Option<Good> {
        let path = &self.config.roles_claim;
        // Some issuers give claims the names of addresses, which have dots of their own.
        let at = claims.get(path);
        let roles = at
            .or_else(|| path.split('.').try_fold(claims, |at, name| at.get(name)))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|role| Role::parse(role.as_str()?))
            .collect();
        let (patient, practitioner) = (id(claims, "patient")?, id(claims, "practitioner")?);
        // It is written into every row that the actor changes, and PostgreSQL holds no NUL.
        let subject = claims.get("sub")?.as_str().filter(|subject| {
            (1..=SUBJECT_CHARS_MAX).contains(&subject.chars().count())
                && !subject.chars().any(char::is_control)
        })?;
        Some(Good {
            actor: Actor { subject: subject.to_owned(), roles, patient, practitioner },
            expires: claims.get("exp")?.as_i64()?,
            not_before: claims.get("nbf").map_or(Some(i64::MIN), Value::as_i64)?,
            generation,
        })
    }
}

/// A claim that need not be there; nothing at all if it is there and no id.
fn id<K: Kind>(claims: &Value, name: &str) -> Option<Option<Id<K>>> {
    match claims.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(id) => Some(Some(id.as_str()?.parse().ok()?)),
    }
}

#[cfg(test)]
mod tests;
