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
use hospital_types::{PatientId, PractitionerId, Role, Roles};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, JwkSet, ThumbprintHash},
};
use serde_json::json;

use crate::{clock::Clock, config::AuthConfig, outcome::Broken};

/// Whom a token speaks for.
#[derive(Clone, Debug)]
pub struct Claims {
    pub subject: String,
    pub roles: Roles,
    pub patient: Option<PatientId>,
    pub practitioner: Option<PractitionerId>,
}

/// An Ed25519 key of the platform's own.
pub struct SigningKey {
    pem: String,
    encoding: EncodingKey,
    public: Jwk,
    kid: String,
    issuer: String,
    audience: String,
    roles_claim: String,
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
            roles_claim: defaults.roles_claim,
            clock: Clock::system(),
        })
    }

    /// Loads a key that [`save`](Self::save) wrote, or any Ed25519 key in PKCS#8 PEM.
    pub fn load(path: &Path) -> Result<Self, Broken> {
        let pem = std::fs::read_to_string(path).map_err(|e| {
            Broken::defect("reading the signing key", format!("{}: {e}", path.display()))
        })?;
        Self::from_pem(&pem)
    }

    /// Writes the key as PEM that only its owner may read. What was at `path` is replaced as a whole or not at all.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}.new", std::process::id()));
        let beside = PathBuf::from(beside);
        let written = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)
            .and_then(|mut file| file.write_all(self.pem.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&beside, path));
        if written.is_err() {
            // Best effort: the failure itself is what the caller must hear of.
            let _ = std::fs::remove_file(&beside);
        }
        written
    }

    /// The issuer and audience that its tokens name, where their roles stand, and the clock that dates them.
    #[must_use]
    pub fn issuing(mut self, auth: &AuthConfig, clock: Clock) -> Self {
        self.issuer.clone_from(&auth.issuer);
        self.audience.clone_from(&auth.audience);
        self.roles_claim.clone_from(&auth.roles_claim);
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
        let roles: Vec<_> = claims.roles.iter().map(Role::as_str).collect();
        let mut wire = json!({
            "iss": self.issuer, "aud": self.audience, "sub": claims.subject,
            "iat": now, "nbf": now, "exp": now.saturating_add(ttl),
        });
        if let Some(patient) = claims.patient {
            wire["patient"] = json!(patient);
        }
        if let Some(practitioner) = claims.practitioner {
            wire["practitioner"] = json!(practitioner);
        }
        *self.roles_claim.split('.').fold(&mut wire, |at, name| &mut at[name]) = json!(roles);
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
/// Made anew long before it expires, so that no token ends under way.
const USED_FOR_S: i64 = 1800;

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
            practitioner: None,
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
                    && (*from..from + USED_FOR_S).contains(&now)
                {
                    return Ok(token.clone());
                }
                let token = key.sign(claims, TTL)?;
                *made = Some((token.clone(), now));
                Ok(token)
            }
            // Read every time: whoever keeps the file replaces it before the token in it expires.
            Source::File(path) => match std::fs::read_to_string(path) {
                Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
                Ok(_) => Err(Broken::unavailable(
                    "reading the service token",
                    format!("{} is empty", path.display()),
                )),
                Err(e) => Err(Broken::unavailable(
                    "reading the service token",
                    format!("{}: {e}", path.display()),
                )),
            },
            Source::None => Err(Broken::defect(
                "making a service token",
                "neither auth.signing_key_file nor auth.service_token_file is set",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::auth::Authority;

    #[test]
    fn a_saved_key_is_its_owners_and_the_same_when_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        std::fs::write(&path, "what was there").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let key = SigningKey::generate().unwrap();
        key.save(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(SigningKey::load(&path).unwrap().jwks(), key.jwks());
        assert!(!serde_json::to_string(&key.jwks()).unwrap().contains("\"d\""), "the public half");

        std::fs::write(&path, "no key").unwrap();
        let error = SigningKey::load(&path).err().unwrap().to_string();
        assert!(error.starts_with("reading the signing key: "), "{error}");
        let error = SigningKey::load(&dir.path().join("none")).err().unwrap().to_string();
        assert!(error.contains("none: No such file"), "{error}");
    }

    #[tokio::test]
    async fn a_service_token_is_kept_and_renewed_before_it_expires() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        SigningKey::generate().unwrap().save(&path).unwrap();
        let auth = AuthConfig {
            signing_key_file: Some(path),
            roles_claim: "realm_access.roles".into(),
            ..AuthConfig::default()
        };
        let clock = Clock::system();
        let tokens = TokenSource::new(&auth, &clock, "appointment").unwrap();
        let authority = Authority::new(&auth, clock.clone()).unwrap();
        let first = tokens.token().unwrap();
        assert_eq!(tokens.token().unwrap(), first);
        let actor = authority.verify(&first).await.unwrap();
        assert_eq!(actor.subject, "service:appointment");
        assert_eq!(actor.roles, Roles::of(&[Role::Service]));
        clock.advance(Duration::from_secs(1801));
        assert!(authority.verify(&first).await.is_ok());
        let second = tokens.token().unwrap();
        assert_ne!(second, first);
        clock.step_back(Duration::from_secs(3600));
        assert!(authority.verify(&tokens.token().unwrap()).await.is_ok(), "a clock set back");
    }

    #[test]
    fn somebody_elses_service_token_comes_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let auth = AuthConfig { service_token_file: Some(path.clone()), ..AuthConfig::default() };
        let tokens = TokenSource::new(&auth, &Clock::system(), "billing").unwrap();
        assert!(tokens.token().unwrap_err().to_string().contains("No such file"));
        std::fs::write(&path, "\n").unwrap();
        assert!(tokens.token().unwrap_err().to_string().contains("is empty"));
        for token in ["a.b.c", "d.e.f"] {
            std::fs::write(&path, format!("{token}\n")).unwrap();
            assert_eq!(tokens.token().unwrap(), token);
        }
        let none = TokenSource::new(&AuthConfig::default(), &Clock::system(), "billing").unwrap();
        assert!(none.token().unwrap_err().to_string().contains("auth.service_token_file"));
    }
}
