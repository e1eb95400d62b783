//! The platform's own key, and the tokens made with it.

use std::{
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use ed25519_dalek::{
    SigningKey as Ed25519,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes, spki::der::pem::LineEnding},
};
use hospital_types::{PatientId, Role, Roles};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, JwkSet, ThumbprintHash},
};
use serde::Serialize;

use crate::{clock::Clock, config::AuthConfig, outcome::Broken};

/// Whom a token speaks for.
#[derive(Clone, Debug)]
pub struct Claims {
    pub subject: String,
    pub roles: Roles,
    pub patient: Option<PatientId>,
}

#[derive(Serialize)]
struct Wire<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    iat: i64,
    nbf: i64,
    exp: i64,
    roles: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patient: Option<PatientId>,
}

/// An Ed25519 key of the platform's own.
pub struct SigningKey {
    pem: String,
    encoding: EncodingKey,
    public: Jwk,
    kid: String,
    issuer: String,
    audience: String,
    clock: Clock,
}

impl SigningKey {
    /// Makes a new key from the machine's randomness.
    pub fn generate() -> Result<Self, Broken> {
        let mut seed = [0_u8; 32];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut f| std::io::Read::read_exact(&mut f, &mut seed))
            .map_err(|e| Broken::defect("reading randomness", e))?;
        // Without the public half: the token library takes a key of exactly this form.
        let pem = KeypairBytes { secret_key: seed, public_key: None }
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|e| Broken::defect("writing the signing key", e))?;
        Self::from_pem(&pem)
    }

    pub fn from_pem(pem: &str) -> Result<Self, Broken> {
        let wrong = |e| Broken::defect("reading the signing key", e);
        // Checked first by the library that made it: the token library's own error says little.
        Ed25519::from_pkcs8_pem(pem).map_err(|e| Broken::defect("reading the signing key", e))?;
        let encoding = EncodingKey::from_ed_pem(pem.as_bytes()).map_err(wrong)?;
        let mut public = Jwk::from_encoding_key(&encoding, Algorithm::EdDSA).map_err(wrong)?;
        let kid = public.thumbprint(ThumbprintHash::SHA256).map_err(wrong)?;
        public.common.key_id = Some(kid.clone());
        let defaults = AuthConfig::default();
        Ok(Self {
            pem: pem.to_owned(),
            encoding,
            public,
            kid,
            issuer: defaults.issuer,
            audience: defaults.audience,
            clock: Clock::system(),
        })
    }

    /// Loads a key; `path` must be readable by its owner only in practice, which `save` sees to.
    pub fn load(path: &Path) -> Result<Self, Broken> {
        let pem = std::fs::read_to_string(path).map_err(|e| {
            Broken::defect("reading the signing key", format!("{}: {e}", path.display()))
        })?;
        Self::from_pem(&pem)
    }

    /// Writes the key as PEM that only its owner may read.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(self.pem.as_bytes())
    }

    /// The issuer and audience that its tokens name, and the clock that dates them.
    #[must_use]
    pub fn issuing(mut self, auth: &AuthConfig, clock: Clock) -> Self {
        self.issuer.clone_from(&auth.issuer);
        self.audience.clone_from(&auth.audience);
        self.clock = clock;
        self
    }

    #[cfg(test)]
    pub(super) fn pem(&self) -> String {
        self.pem.clone()
    }

    /// The public half, for whoever is to trust it.
    pub fn jwks(&self) -> JwkSet {
        JwkSet { keys: vec![self.public.clone()] }
    }

    pub fn sign(&self, claims: &Claims, ttl: Duration) -> Result<String, Broken> {
        let now = self.clock.now().as_second();
        let ttl = i64::try_from(ttl.as_secs()).map_err(|e| Broken::defect("signing a token", e))?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.kid.clone());
        let wire = Wire {
            iss: &self.issuer,
            aud: &self.audience,
            sub: &claims.subject,
            iat: now,
            nbf: now,
            exp: now + ttl,
            roles: claims.roles.iter().map(Role::as_str).collect(),
            patient: claims.patient,
        };
        jsonwebtoken::encode(&header, &wire, &self.encoding)
            .map_err(|e| Broken::defect("signing a token", e))
    }
}

/// The tokens with which one service asks another.
pub struct TokenSource(Source);

enum Source {
    Key { key: Box<SigningKey>, claims: Claims, made: Mutex<Option<(String, i64)>>, clock: Clock },
    File(PathBuf),
    None,
}

const TTL: Duration = Duration::from_secs(3600);

impl TokenSource {
    pub fn new(auth: &AuthConfig, clock: &Clock, service: &str) -> Result<Self, Broken> {
        if let Some(path) = &auth.service_token_file {
            return Ok(Self(Source::File(path.clone())));
        }
        let Some(path) = &auth.signing_key_file else { return Ok(Self(Source::None)) };
        let key = SigningKey::load(path)?.issuing(auth, clock.clone());
        let claims = Claims {
            subject: format!("service:{service}"),
            roles: Roles::of(&[Role::Service]),
            patient: None,
        };
        Ok(Self(Source::Key {
            key: Box::new(key),
            claims,
            made: Mutex::default(),
            clock: clock.clone(),
        }))
    }

    pub fn token(&self) -> Result<String, Broken> {
        match &self.0 {
            Source::Key { key, claims, made, clock } => {
                let now = clock.now().as_second();
                let mut made = made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if let Some((token, from)) = &*made
                    && (*from..from + 1800).contains(&now)
                {
                    return Ok(token.clone());
                }
                let token = key.sign(claims, TTL)?;
                *made = Some((token.clone(), now));
                Ok(token)
            }
            Source::File(path) => std::fs::read_to_string(path)
                .map(|t| t.trim().to_owned())
                .map_err(|e| Broken::unavailable("reading the service token", e)),
            Source::None => Err(Broken::defect(
                "making a service token",
                "neither auth.signing_key_file nor auth.service_token_file is set",
            )),
        }
    }
}
