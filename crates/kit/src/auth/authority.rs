//! Judges tokens.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use hospital_types::{Actor, PatientId, Role};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, JwkSet},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::SigningKey;
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
const CACHE_MAX: usize = 4096;
/// How often the key set is looked up anew, at most, when a token names a key that is not in it.
const REFRESH: Duration = Duration::from_secs(5);

/// Judges tokens by the keys that the platform trusts.
pub struct Authority {
    source: Source,
    keys: RwLock<HashMap<String, (Algorithm, DecodingKey)>>,
    refreshed: tokio::sync::Mutex<Option<Instant>>,
    /// What was found good before: checking a signature costs more than the rest of a request.
    good: Mutex<HashMap<[u8; 32], Good>>,
    config: AuthConfig,
    clock: Clock,
}

#[derive(Clone)]
struct Good {
    actor: Actor,
    not_before: i64,
    expires: i64,
}

enum Source {
    Fixed,
    File(PathBuf),
    Url { url: String, http: reqwest::Client },
}

impl Authority {
    pub fn new(config: &AuthConfig, clock: Clock) -> Result<Self, Broken> {
        let mut keys = HashMap::new();
        let source = if let Some(path) = &config.jwks_file {
            Source::File(path.clone())
        } else if let Some(url) = &config.jwks_url {
            Source::Url { url: url.clone(), http: crate::client::http_client()? }
        } else if let Some(path) = &config.signing_key_file {
            keys = trusted(&SigningKey::load(path)?.jwks());
            Source::Fixed
        } else {
            return Err(Broken::defect(
                "finding out whose tokens to trust",
                "set one of auth.jwks_file, auth.jwks_url, auth.signing_key_file",
            ));
        };
        Ok(Self {
            source,
            keys: RwLock::new(keys),
            refreshed: tokio::sync::Mutex::default(),
            good: Mutex::default(),
            config: config.clone(),
            clock,
        })
    }

    /// The actor that a token speaks for.
    pub async fn verify(&self, token: &str) -> Result<Actor, TokenRejected> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenRejected::TooLong);
        }
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let known = self.good.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned();
        let good = match known {
            Some(good) => good,
            None => {
                let good = self.examine(token).await?;
                let mut cache = self.good.lock().unwrap_or_else(PoisonError::into_inner);
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

    async fn examine(&self, token: &str) -> Result<Good, TokenRejected> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenRejected::Malformed)?;
        let kid = header.kid.ok_or(TokenRejected::UnknownKey)?;
        let (algorithm, key) = match self.key(&kid) {
            Some(found) => found,
            None => {
                self.refresh().await;
                self.key(&kid).ok_or(TokenRejected::UnknownKey)?
            }
        };
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
        self.read(&claims).ok_or(TokenRejected::Wrong)
    }

    fn read(&self, claims: &Value) -> Option<Good> {
        let roles = self.config.roles_claim.split('.').try_fold(claims, |at, name| at.get(name));
        let roles = roles
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|role| Role::parse(role.as_str()?))
            .collect();
        let patient = match claims.get("patient") {
            Some(id) => Some(id.as_str()?.parse::<PatientId>().ok()?),
            None => None,
        };
        Some(Good {
            actor: Actor { subject: claims.get("sub")?.as_str()?.to_owned(), roles, patient },
            expires: claims.get("exp")?.as_i64()?,
            not_before: claims.get("nbf").map_or(Some(i64::MIN), Value::as_i64)?,
        })
    }

    fn key(&self, kid: &str) -> Option<(Algorithm, DecodingKey)> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(kid).cloned()
    }

    /// Looks the key set up anew, at most every few seconds; a failure keeps the keys that are known.
    async fn refresh(&self) {
        let mut refreshed = self.refreshed.lock().await;
        if refreshed.is_some_and(|at| at.elapsed() < REFRESH) {
            return;
        }
        *refreshed = Some(Instant::now());
        let set: Result<JwkSet, String> = match &self.source {
            Source::Fixed => return,
            Source::File(path) => std::fs::read(path)
                .map_err(|e| e.to_string())
                .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string())),
            Source::Url { url, http } => fetch(http, url).await.map_err(|e| e.to_string()),
        };
        match set {
            Ok(set) => *self.keys.write().unwrap_or_else(PoisonError::into_inner) = trusted(&set),
            Err(e) => {
                tracing::warn!(error = e, "the key set cannot be looked up; the known keys stay");
            }
        }
    }
}

async fn fetch(http: &reqwest::Client, url: &str) -> reqwest::Result<JwkSet> {
    http.get(url).timeout(Duration::from_secs(3)).send().await?.error_for_status()?.json().await
}

/// The keys of a set that may sign, each with the one algorithm that it is for.
fn trusted(set: &JwkSet) -> HashMap<String, (Algorithm, DecodingKey)> {
    set.keys
        .iter()
        .filter_map(|jwk| {
            let algorithm = match &jwk.algorithm {
                AlgorithmParameters::OctetKeyPair(p) if p.curve == EllipticCurve::Ed25519 => {
                    Algorithm::EdDSA
                }
                AlgorithmParameters::EllipticCurve(p) if p.curve == EllipticCurve::P256 => {
                    Algorithm::ES256
                }
                AlgorithmParameters::RSA(_) => Algorithm::RS256,
                _ => return None,
            };
            Some((jwk.common.key_id.clone()?, (algorithm, DecodingKey::from_jwk(jwk).ok()?)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use hospital_types::Roles;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;
    use crate::auth::Claims;

    const HOUR: Duration = Duration::from_secs(3600);

    struct Fixture {
        key: SigningKey,
        authority: Authority,
        clock: Clock,
        _dir: tempfile::TempDir,
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jwks.json");
        let clock = Clock::system();
        let key = SigningKey::generate().unwrap();
        std::fs::write(&path, serde_json::to_vec(&key.jwks()).unwrap()).unwrap();
        let config = AuthConfig { jwks_file: Some(path), ..AuthConfig::default() };
        let key = key.issuing(&config, clock.clone());
        let authority = Authority::new(&config, clock.clone()).unwrap();
        Fixture { key, authority, clock, _dir: dir }
    }

    fn claims() -> Claims {
        Claims {
            subject: "ann".into(),
            roles: Roles::of(&[Role::Cashier]),
            patient: Some(PatientId::new()),
        }
    }

    #[tokio::test]
    async fn a_good_token_says_who_asks() {
        let f = fixture();
        let claims = claims();
        let token = f.key.sign(&claims, HOUR).unwrap();
        for _ in 0..2 {
            let actor = f.authority.verify(&token).await.unwrap();
            assert_eq!(
                (actor.subject.as_str(), actor.roles, actor.patient),
                ("ann", claims.roles, claims.patient)
            );
        }
    }

    #[tokio::test]
    async fn time_is_judged_at_every_use() {
        let f = fixture();
        let token = f.key.sign(&claims(), HOUR).unwrap();
        assert!(f.authority.verify(&token).await.is_ok());
        f.clock.advance(HOUR + Duration::from_secs(31));
        assert_eq!(f.authority.verify(&token).await, Err(TokenRejected::Expired));
        f.clock.step_back(2 * HOUR);
        assert_eq!(f.authority.verify(&token).await, Err(TokenRejected::NotYet));
    }

    #[tokio::test]
    async fn what_is_forged_or_for_somebody_else_is_rejected() {
        let f = fixture();
        let good = f.key.sign(&claims(), HOUR).unwrap();
        let kid = f.key.jwks().keys[0].common.key_id.clone().unwrap();
        let body = json!({"iss": "hospital", "aud": "hospital", "sub": "eve", "roles": ["admin"], "exp": 9_999_999_999_i64});

        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let none = format!("{}.{}.", part(&json!({"alg": "none", "kid": kid})), part(&body));
        assert!(f.authority.verify(&none).await.is_err());

        let public = serde_json::to_string(&f.key.jwks().keys[0]).unwrap();
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(kid);
        let confused =
            encode(&header, &body, &EncodingKey::from_secret(public.as_bytes())).unwrap();
        assert_eq!(f.authority.verify(&confused).await, Err(TokenRejected::Wrong));

        let stranger = SigningKey::generate().unwrap().sign(&claims(), HOUR).unwrap();
        assert_eq!(f.authority.verify(&stranger).await, Err(TokenRejected::UnknownKey));

        for config in [
            AuthConfig { issuer: "other".into(), ..AuthConfig::default() },
            AuthConfig { audience: "other".into(), ..AuthConfig::default() },
        ] {
            let key = SigningKey::from_pem(&f.key.pem()).unwrap().issuing(&config, Clock::system());
            let token = key.sign(&claims(), HOUR).unwrap();
            assert_eq!(f.authority.verify(&token).await, Err(TokenRejected::Wrong));
        }

        let mut changed = good.clone();
        changed.insert(good.find('.').unwrap() + 5, 'A');
        assert!(f.authority.verify(&changed).await.is_err());
        assert_eq!(f.authority.verify(&"a".repeat(16 * 1024)).await, Err(TokenRejected::TooLong));
        assert_eq!(f.authority.verify("").await, Err(TokenRejected::Malformed));
    }
}
