use std::{
    future::IntoFuture,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, http::StatusCode, routing::get};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hospital_types::{PatientId, PractitionerId, Roles};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use rsa::{
    RsaPrivateKey,
    pkcs8::{EncodePrivateKey, LineEnding},
    rand_core::OsRng,
};
use serde_json::json;

use super::*;
use crate::auth::{Claims, SigningKey};

const HOUR: Duration = Duration::from_secs(3600);

struct Fixture {
    key: SigningKey,
    authority: Authority,
    clock: Clock,
    jwks: PathBuf,
    _dir: tempfile::TempDir,
}

fn fixture() -> Fixture {
    fixture_of(AuthConfig::default())
}

fn fixture_of(config: AuthConfig) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let jwks = dir.path().join("jwks.json");
    let clock = Clock::system();
    let key = SigningKey::generate().unwrap();
    trust(&jwks, &[&key]);
    let config = AuthConfig { jwks_file: Some(jwks.clone()), ..config };
    let key = key.issuing(&config, clock.clone());
    let authority = Authority::new(&config, clock.clone()).unwrap();
    Fixture { key, authority, clock, jwks, _dir: dir }
}

fn set_of(keys: &[&SigningKey]) -> Value {
    let keys: Vec<Jwk> = keys.iter().flat_map(|key| key.jwks().keys).collect();
    json!({ "keys": keys })
}

fn trust(path: &Path, keys: &[&SigningKey]) {
    std::fs::write(path, set_of(keys).to_string()).unwrap();
}

fn claims() -> Claims {
    Claims {
        subject: "ann".into(),
        roles: Roles::of(&[Role::Cashier]),
        patient: Some(PatientId::new()),
        practitioner: Some(PractitionerId::new()),
    }
}

/// The claims of a good token, to be spoilt.
fn body() -> Value {
    json!({"iss": "hospital", "aud": "hospital", "sub": "eve", "roles": ["admin"], "exp": 9_999_999_999_i64})
}

impl Fixture {
    fn kid(&self) -> String {
        self.key.jwks().keys[0].common.key_id.clone().unwrap()
    }

    fn header(&self) -> Header {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.kid());
        header
    }

    /// A token of any content, signed with the trusted key.
    fn signed(&self, header: &Header, body: &Value) -> String {
        encode(header, body, &EncodingKey::from_ed_pem(self.key.pem().as_bytes()).unwrap()).unwrap()
    }

    async fn with(&self, change: impl FnOnce(&mut Value)) -> Result<Actor, TokenRejected> {
        let mut body = body();
        change(&mut body);
        self.authority.verify(&self.signed(&self.header(), &body)).await
    }
}

#[tokio::test]
async fn a_good_token_says_who_asks() {
    let f = fixture();
    let claims = claims();
    let token = f.key.sign(&claims, HOUR).unwrap();
    for _ in 0..2 {
        let actor = f.authority.verify(&token).await.unwrap();
        assert_eq!((actor.subject.as_str(), actor.roles), ("ann", claims.roles));
        assert_eq!((actor.patient, actor.practitioner), (claims.patient, claims.practitioner));
    }
}

#[tokio::test]
async fn time_is_judged_at_every_use() {
    let f = fixture();
    let token = f.key.sign(&claims(), HOUR).unwrap();
    assert!(f.authority.verify(&token).await.is_ok());
    f.clock.advance(HOUR + Duration::from_secs(20));
    assert!(f.authority.verify(&token).await.is_ok(), "within the leeway");
    f.clock.advance(Duration::from_secs(12));
    assert_eq!(f.authority.verify(&token).await, Err(TokenRejected::Expired));
    f.clock.step_back(2 * HOUR);
    assert_eq!(f.authority.verify(&token).await, Err(TokenRejected::NotYet));

    let fresh = fixture();
    assert_eq!(fresh.with(|b| b["exp"] = json!(1)).await, Err(TokenRejected::Expired));
    let later = fresh.clock.now().as_second() + 60;
    assert_eq!(fresh.with(|b| b["nbf"] = json!(later)).await, Err(TokenRejected::NotYet));
}

#[tokio::test]
async fn an_unsigned_token_is_rejected() {
    let f = fixture();
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for alg in ["none", "None", "NONE", ""] {
        let head = part(&json!({"alg": alg, "kid": f.kid()}));
        for signature in ["", "AAAA"] {
            let token = format!("{head}.{}.{signature}", part(&body()));
            assert_eq!(f.authority.verify(&token).await, Err(TokenRejected::Malformed));
        }
    }
    let head = part(&json!({"alg": "EdDSA", "kid": f.kid()}));
    let token = format!("{head}.{}.", part(&body()));
    assert_eq!(f.authority.verify(&token).await, Err(TokenRejected::Wrong));
}

#[tokio::test]
async fn a_public_key_is_no_shared_secret() {
    let f = fixture();
    let jwk = serde_json::to_value(&f.key.jwks().keys[0]).unwrap();
    let raw = URL_SAFE_NO_PAD.decode(jwk["x"].as_str().unwrap()).unwrap();
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(f.kid());
    for secret in [jwk.to_string().into_bytes(), raw, std::fs::read(&f.jwks).unwrap()] {
        let token = encode(&header, &body(), &EncodingKey::from_secret(&secret)).unwrap();
        assert_eq!(f.authority.verify(&token).await, Err(TokenRejected::Wrong));
    }
}

#[tokio::test]
async fn a_token_brings_no_key_of_its_own() {
    let f = fixture();
    let stranger = SigningKey::generate().unwrap();
    let theirs = EncodingKey::from_ed_pem(stranger.pem().as_bytes()).unwrap();
    let mut header = f.header();
    header.jwk = Some(stranger.jwks().keys[0].clone());
    header.jku = Some("http://127.0.0.1:1/jwks.json".into());
    let token = encode(&header, &body(), &theirs).unwrap();
    assert_eq!(f.authority.verify(&token).await, Err(TokenRejected::Wrong));
    header.kid = None;
    let token = encode(&header, &body(), &theirs).unwrap();
    assert_eq!(f.authority.verify(&token).await, Err(TokenRejected::UnknownKey));
    let token = stranger.sign(&claims(), HOUR).unwrap();
    assert_eq!(f.authority.verify(&token).await, Err(TokenRejected::UnknownKey));
}

#[tokio::test]
async fn what_is_for_somebody_else_or_says_too_little_is_rejected() {
    let f = fixture();
    assert!(f.with(|_| ()).await.is_ok());
    assert!(f.with(|b| b["aud"] = json!(["account", "hospital"])).await.is_ok());
    for spoil in [
        |b: &mut Value| b["iss"] = json!("other"),
        |b: &mut Value| b["aud"] = json!("other"),
        |b: &mut Value| b["aud"] = json!([]),
        |b: &mut Value| b["exp"] = json!("9999999999"),
        |b: &mut Value| b["exp"] = json!(null),
        |b: &mut Value| b["nbf"] = json!("soon"),
        |b: &mut Value| b["sub"] = json!(""),
        |b: &mut Value| b["sub"] = json!(7),
        |b: &mut Value| b["sub"] = json!("e\0ve"),
        |b: &mut Value| b["sub"] = json!("e".repeat(201)),
        |b: &mut Value| b["patient"] = json!("not an id"),
        |b: &mut Value| b["patient"] = json!(7),
        |b: &mut Value| b["practitioner"] = json!("not an id"),
    ] {
        let mut said = body();
        spoil(&mut said);
        assert_eq!(f.with(spoil).await, Err(TokenRejected::Wrong), "{said}");
    }
    for claim in ["iss", "aud", "exp", "sub"] {
        let without = |b: &mut Value| drop(b.as_object_mut().unwrap().remove(claim));
        assert_eq!(f.with(without).await, Err(TokenRejected::Wrong), "{claim}");
    }
    let mut header = f.header();
    header.crit = Some(vec!["exp".into()]);
    let token = f.signed(&header, &body());
    assert_eq!(f.authority.verify(&token).await, Err(TokenRejected::Wrong));
}

#[tokio::test]
async fn what_is_no_token_is_rejected() {
    let f = fixture();
    let good = f.key.sign(&claims(), HOUR).unwrap();
    assert!(f.authority.verify(&good).await.is_ok());
    let (before, signature) = good.rsplit_once('.').unwrap();
    let (head, said) = before.split_once('.').unwrap();
    for changed in [
        format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(body().to_string())),
        format!("{head}.{said}.{}", "A".repeat(signature.len())),
        format!("{good} "),
        format!("{good}.{good}"),
        before.to_owned(),
    ] {
        assert!(f.authority.verify(&changed).await.is_err(), "{changed}");
    }
    for text in ["", ".", "..", "a.b.c", "null", "\0", "é.é.é"] {
        assert_eq!(f.authority.verify(text).await, Err(TokenRejected::Malformed), "{text}");
    }
    let long = f.with(|b| b["note"] = json!("a".repeat(16 * 1024))).await;
    assert_eq!(long, Err(TokenRejected::TooLong), "though its signature is good");
}

#[tokio::test]
async fn roles_stand_where_the_settings_say() {
    let f = fixture_of(AuthConfig {
        roles_claim: "realm_access.roles".into(),
        ..AuthConfig::default()
    });
    let roles = async |change: fn(&mut Value)| f.with(change).await.unwrap().roles;
    assert_eq!(roles(|_| ()).await, Roles::default(), "not those of another claim");
    assert_eq!(
        roles(|b| b["realm_access"] = json!({"roles": ["cashier", "offline_access", 7]})).await,
        Roles::of(&[Role::Cashier])
    );
    assert_eq!(roles(|b| b["realm_access"] = json!("cashier")).await, Roles::default());
    assert_eq!(
        roles(|b| b["realm_access.roles"] = json!(["admin"])).await,
        Roles::of(&[Role::Admin]),
        "a name with dots of its own"
    );
}

#[tokio::test]
async fn each_key_is_for_one_algorithm() {
    let es256 = p256::SecretKey::random(&mut OsRng).to_pkcs8_pem(LineEnding::LF).unwrap();
    let rs256 = RsaPrivateKey::new(&mut OsRng, 2048).unwrap().to_pkcs8_pem(LineEnding::LF);
    let rs256 = rs256.unwrap();
    let keys = [
        ("es", Algorithm::ES256, EncodingKey::from_ec_pem(es256.as_bytes()).unwrap()),
        ("rs", Algorithm::RS256, EncodingKey::from_rsa_pem(rs256.as_bytes()).unwrap()),
    ];
    let f = fixture();
    let mut set = set_of(&[&f.key]);
    let list = set["keys"].as_array_mut().unwrap();
    for (kid, algorithm, key) in &keys {
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(key, *algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(kid);
        list.push(jwk.clone());
        jwk["kid"] = json!(format!("{kid}-for-encryption"));
        jwk["use"] = json!("enc");
        list.push(jwk);
    }
    list.push(json!({"kty": "AKP", "kid": "of the future", "alg": "ML-DSA-44", "pub": "AA"}));
    list.push(json!({"kty": "oct", "kid": "shared", "k": "c2VjcmV0"}));
    std::fs::write(&f.jwks, set.to_string()).unwrap();
    let config = AuthConfig { jwks_file: Some(f.jwks.clone()), ..AuthConfig::default() };
    let authority = Authority::new(&config, f.clock.clone()).unwrap();

    let token = |kid: &str, algorithm, key: &EncodingKey| {
        let mut header = Header::new(algorithm);
        header.kid = Some(kid.to_owned());
        encode(&header, &body(), key).unwrap()
    };
    for (kid, algorithm, key) in &keys {
        assert!(authority.verify(&token(kid, *algorithm, key)).await.is_ok(), "{kid}");
        let wrong = authority.verify(&token(&f.kid(), *algorithm, key)).await;
        assert_eq!(wrong, Err(TokenRejected::Wrong), "{kid} under the other's name");
        let wrong =
            authority.verify(&token(&format!("{kid}-for-encryption"), *algorithm, key)).await;
        assert_eq!(wrong, Err(TokenRejected::UnknownKey), "{kid}");
    }
    for algorithm in [Algorithm::RS512, Algorithm::PS256] {
        let wrong = authority.verify(&token("rs", algorithm, &keys[1].2)).await;
        assert_eq!(wrong, Err(TokenRejected::Wrong), "{algorithm:?}");
    }
    let shared = token("shared", Algorithm::HS256, &EncodingKey::from_secret(b"secret"));
    assert_eq!(authority.verify(&shared).await, Err(TokenRejected::UnknownKey));
    assert!(authority.verify(&f.key.sign(&claims(), HOUR).unwrap()).await.is_ok());
}

#[tokio::test]
async fn a_new_key_in_the_file_is_found_and_a_withdrawn_one_ends() {
    let f = fixture();
    let (old, new) = (&f.key, SigningKey::generate().unwrap());
    let (old_token, new_token) =
        (old.sign(&claims(), HOUR).unwrap(), new.sign(&claims(), HOUR).unwrap());
    assert!(f.authority.verify(&old_token).await.is_ok());
    trust(&f.jwks, &[&new]);
    assert_eq!(f.authority.verify(&new_token).await, Err(TokenRejected::UnknownKey), "too soon");
    assert!(f.authority.verify(&old_token).await.is_ok());
    f.clock.advance(Duration::from_secs(6));
    assert!(f.authority.verify(&new_token).await.is_ok());
    let withdrawn = f.authority.verify(&old_token).await;
    assert_eq!(withdrawn, Err(TokenRejected::UnknownKey), "though it was found good before");

    std::fs::write(&f.jwks, "half a fi").unwrap();
    f.clock.advance(Duration::from_secs(301));
    assert!(f.authority.verify(&new_token).await.is_ok(), "the known keys stay");
    trust(&f.jwks, &[old]);
    f.clock.advance(Duration::from_secs(301));
    let withdrawn = f.authority.verify(&new_token).await;
    assert_eq!(withdrawn, Err(TokenRejected::UnknownKey), "without a token of another key");
}

#[tokio::test]
async fn keys_at_an_address_are_fetched_late_and_rarely_and_outlive_its_failure() {
    let key = SigningKey::generate().unwrap();
    let (set, asked) = (set_of(&[&key]), Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&asked);
    // The first and the third time it fails.
    let routes = Router::new().route(
        "/certs",
        get(async move || match counted.fetch_add(1, Ordering::Relaxed) {
            0 | 2 => Err(StatusCode::BAD_GATEWAY),
            _ => Ok(Json(set.clone())),
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/certs", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(axum::serve(listener, routes).into_future());

    let clock = Clock::system();
    let config = AuthConfig { jwks_url: Some(url), ..AuthConfig::default() };
    let authority = Authority::new(&config, clock.clone()).unwrap();
    let token = key.sign(&claims(), HOUR).unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    for _ in 0..3 {
        assert_eq!(authority.verify(&token).await, Err(TokenRejected::UnknownKey));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1, "it failed, and is left alone for a while");
    clock.advance(Duration::from_secs(11));
    assert!(authority.verify(&token).await.is_ok());
    clock.advance(Duration::from_secs(11));
    let stranger = SigningKey::generate().unwrap().sign(&claims(), HOUR).unwrap();
    assert_eq!(authority.verify(&stranger).await, Err(TokenRejected::UnknownKey));
    assert!(authority.verify(&token).await.is_ok(), "the known keys stay");
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn keys_that_cannot_be_looked_up_for_long_are_trusted_no_more() {
    let f = fixture_of(AuthConfig { jwks_stale_max_s: 3600, ..AuthConfig::default() });
    let token = f.key.sign(&claims(), 10 * HOUR).unwrap();
    assert!(f.authority.verify(&token).await.is_ok());
    assert_eq!(f.authority.keys_are_known(), Ok(()));
    std::fs::remove_file(&f.jwks).unwrap();
    f.clock.advance(Duration::from_secs(3000));
    assert!(f.authority.verify(&token).await.is_ok(), "the known keys stay for a while");
    let told = f.authority.keys_are_known().unwrap_err();
    assert!(told.contains("its keys stay"), "{told}");
    f.clock.advance(Duration::from_secs(601));
    let stale = f.authority.verify(&token).await;
    assert_eq!(stale, Err(TokenRejected::UnknownKey), "though it was found good before");
    let told = f.authority.keys_are_known().unwrap_err();
    assert!(told.contains("none of its keys is trusted"), "{told}");

    trust(&f.jwks, &[&f.key]);
    f.clock.advance(Duration::from_secs(6));
    assert!(f.authority.verify(&token).await.is_ok(), "the set is back");
    assert_eq!(f.authority.keys_are_known(), Ok(()));
}

#[test]
fn without_anybody_to_trust_there_is_no_start() {
    let refused =
        |config: AuthConfig| Authority::new(&config, Clock::system()).err().unwrap().to_string();
    let error = refused(AuthConfig::default());
    assert!(error.contains("auth.jwks_file, auth.jwks_url, auth.signing_key_file"), "{error}");
    let error =
        refused(AuthConfig { jwks_file: Some("/nowhere/j".into()), ..AuthConfig::default() });
    assert!(error.contains("auth.jwks_file: /nowhere/j: No such file"), "{error}");
}

#[tokio::test]
async fn the_platforms_own_key_is_trusted_beside_an_issuers() {
    let f = fixture();
    let path = f.jwks.with_file_name("own.pem");
    let own = SigningKey::generate().unwrap();
    own.save(&path).unwrap();
    let config = AuthConfig {
        signing_key_file: Some(path),
        jwks_file: Some(f.jwks.clone()),
        ..AuthConfig::default()
    };
    let authority = Authority::new(&config, f.clock.clone()).unwrap();
    for key in [&own, &f.key] {
        assert!(authority.verify(&key.sign(&claims(), HOUR).unwrap()).await.is_ok());
    }
}
