//! The keys whose signatures are trusted, and where they come from.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use super::SigningKey;
use crate::{
    client::{cause, http_client, read_body},
    clock::Clock,
    config::AuthConfig,
    outcome::Broken,
};

/// How often a file is read again, at most, when a token names a key that is not known.
const FILE_PAUSE: SignedDuration = SignedDuration::from_secs(5);
/// The same for an address, behind which is somebody else's server.
const URL_PAUSE: SignedDuration = SignedDuration::from_secs(10);
/// A set older than this is looked up anew unasked, so that a withdrawn key ends.
const FRESH: SignedDuration = SignedDuration::from_secs(300);
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
const SET_BYTES_MAX: usize = 256 * 1024;

/// A key and the one algorithm that it is for.
pub(super) type Trusted = (Algorithm, DecodingKey);

pub(super) struct Keys {
    /// The platform's own key, which no set from elsewhere can replace.
    own: HashMap<String, Trusted>,
    source: Source,
    set: RwLock<Set>,
    /// Counts the changes of the set.
    generation: AtomicU64,
    looked_up: tokio::sync::Mutex<Option<Timestamp>>,
    /// How long the set is trusted while it cannot be looked up.
    stale_max: SignedDuration,
    clock: Clock,
}

#[derive(Default)]
struct Set {
    jwks: Vec<Jwk>,
    keys: HashMap<String, Trusted>,
    /// When it was read last.
    read: Option<Timestamp>,
    /// Why it could not be read since.
    failed: Option<String>,
}

enum Source {
    None,
    File(PathBuf),
    Url { url: String, http: reqwest::Client },
}

impl Keys {
    /// Reads the keys that are at hand. Those at an address are fetched when the first token comes, since the server there may
    /// start later than this one.
    pub(super) fn new(config: &AuthConfig, clock: Clock) -> Result<Self, Broken> {
        let own = match &config.signing_key_file {
            Some(path) => trusted(&SigningKey::load(path)?.jwks().keys),
            None => HashMap::new(),
        };
        let (mut set, mut looked_up) = (Set::default(), None);
        let source = if let Some(path) = &config.jwks_file {
            set = read_file(path).map_err(|e| {
                Broken::defect("reading auth.jwks_file", format!("{}: {e}", path.display()))
            })?;
            looked_up = Some(clock.now());
            set.read = looked_up;
            Source::File(path.clone())
        } else if let Some(url) = &config.jwks_url {
            Source::Url { url: url.clone(), http: http_client()? }
        } else if own.is_empty() {
            return Err(Broken::defect(
                "finding out whose tokens to trust",
                "set one of auth.jwks_file, auth.jwks_url, auth.signing_key_file",
            ));
        } else {
            Source::None
        };
        Ok(Self {
            own,
            source,
            set: RwLock::new(set),
            generation: AtomicU64::new(0),
            looked_up: tokio::sync::Mutex::new(looked_up),
            stale_max: SignedDuration::from_secs(
                i64::try_from(config.jwks_stale_max_s).unwrap_or(i64::MAX),
            ),
            clock,
        })
    }

    /// What was verified under another generation must be verified again.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) async fn find(&self, kid: &str) -> Option<Trusted> {
        if let Some(known) = self.known(kid) {
            return Some(known);
        }
        self.look_up().await;
        self.known(kid)
    }

    fn known(&self, kid: &str) -> Option<Trusted> {
        let set = self.set.read().unwrap_or_else(PoisonError::into_inner);
        self.own.get(kid).or_else(|| set.keys.get(kid)).cloned()
    }

    /// Looks an old set up anew. Whoever comes while somebody else does goes on with the keys that are known.
    pub(super) async fn keep_fresh(&self) {
        if matches!(self.source, Source::None) {
            return;
        }
        // Before the first look-up there is no set to keep fresh; `find` fetches it, and waits for it.
        if let Ok(mut looked_up) = self.looked_up.try_lock()
            && looked_up.is_some()
            && self.is_due(*looked_up, FRESH.min(self.stale_max))
        {
            *looked_up = Some(self.clock.now());
            self.replace().await;
        }
    }

    async fn look_up(&self) {
        let pause = match self.source {
            Source::None => return,
            Source::File(_) => FILE_PAUSE,
            Source::Url { .. } => URL_PAUSE,
        };
        let mut looked_up = self.looked_up.lock().await;
        if self.is_due(*looked_up, pause) {
            *looked_up = Some(self.clock.now());
            self.replace().await;
        }
    }

    fn is_due(&self, last: Option<Timestamp>, pause: SignedDuration) -> bool {
        let now = self.clock.now();
        // A clock that was set back does not put the next look-up off.
        last.is_none_or(|last| now < last || now.duration_since(last) >= pause)
    }

    /// A failure keeps the keys that are known, for a while: a key that was withdrawn because
    /// somebody has stolen it ends even when that somebody keeps the set from being looked up.
    async fn replace(&self) {
        let read = match &self.source {
            Source::None => return,
            Source::File(path) => read_file(path),
            Source::Url { url, http } => fetch(http, url).await,
        };
        let now = self.clock.now();
        let mut set = self.set.write().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(new) => {
                let changed = set.jwks != new.jwks;
                *set = Set { read: Some(now), ..new };
                if changed {
                    self.generation.fetch_add(1, Ordering::Release);
                    tracing::info!(keys = set.keys.len(), "the set of trusted keys has changed");
                }
            }
            Err(reason) => {
                let age = set.read.map(|read| now.duration_since(read));
                if set.keys.is_empty() {
                    tracing::error!(
                        reason,
                        "the key set cannot be looked up; no key of it is known"
                    );
                } else if age.is_some_and(|age| age >= self.stale_max) {
                    tracing::error!(
                        reason,
                        "the key set could not be looked up for auth.jwks_stale_max_s; its keys are trusted no more"
                    );
                    *set = Set { read: set.read, ..Set::default() };
                    self.generation.fetch_add(1, Ordering::Release);
                } else {
                    tracing::warn!(reason, "the key set cannot be looked up; the known keys stay");
                }
                set.failed = Some(reason);
            }
        }
    }

    pub(super) fn are_known(&self) -> Result<(), String> {
        let set = self.set.read().unwrap_or_else(PoisonError::into_inner);
        let Some(reason) = &set.failed else { return Ok(()) };
        let since = set.read.map_or_else(|| "the start".to_owned(), |read| read.to_string());
        let trusted =
            if set.keys.is_empty() { "none of its keys is trusted" } else { "its keys stay" };
        Err(format!("the key set was not read since {since}, and {trusted}: {reason}"))
    }
}

fn read_file(path: &Path) -> Result<Set, String> {
    std::fs::read(path).map_err(|e| e.to_string()).and_then(|bytes| parse(&bytes))
}

async fn fetch(http: &reqwest::Client, url: &str) -> Result<Set, String> {
    let response = http.get(url).timeout(FETCH_TIMEOUT).send().await.map_err(cause)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("it answered {}", response.status()));
    }
    parse(&read_body(response, SET_BYTES_MAX).await?)
}

fn parse(bytes: &[u8]) -> Result<Set, String> {
    /// Each key on its own: one of a kind that is not known here must not hide the others.
    #[derive(Deserialize)]
    struct AnySet {
        keys: Vec<Value>,
    }
    let any: AnySet =
        serde_json::from_slice(bytes).map_err(|e| format!("it is no JSON Web Key set: {e}"))?;
    let jwks: Vec<Jwk> =
        any.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect();
    let keys = trusted(&jwks);
    if keys.is_empty() {
        return Err("it has no key with a kid for EdDSA, ES256 or RS256 signatures".to_owned());
    }
    Ok(Set { jwks, keys, ..Set::default() })
}

/// The keys that may sign, each with its algorithm.
fn trusted(jwks: &[Jwk]) -> HashMap<String, Trusted> {
    jwks.iter()
        .filter_map(|jwk| {
            let (algorithm, name) = match &jwk.algorithm {
                AlgorithmParameters::OctetKeyPair(p) if p.curve == EllipticCurve::Ed25519 => {
                    (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
                }
                AlgorithmParameters::EllipticCurve(p) if p.curve == EllipticCurve::P256 => {
                    (Algorithm::ES256, KeyAlgorithm::ES256)
                }
                AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
                _ => return None,
            };
            let signs = matches!(&jwk.common.public_key_use, None | Some(PublicKeyUse::Signature))
                && jwk.common.key_algorithm.is_none_or(|named| named == name);
            let kid = jwk.common.key_id.clone().filter(|_| signs)?;
            Some((kid, (algorithm, DecodingKey::from_jwk(jwk).ok()?)))
        })
        .collect()
}
