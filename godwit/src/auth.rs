//! The keys that tokens are verified with: an issuer's, from a JWKS file, or development mode's own. Refuses
//! keys that protect nothing. Never logs or prints key material.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use client::development::{self, Key, KeyError};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

use crate::exit::{Exit, Failure};
use crate::settings::Auth;

/// The shortest HMAC secret, in bytes: what SHA-256 puts out (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;
/// The shortest RSA modulus, in bytes (RFC 7518, 3.3).
const MODULUS_BYTES_MIN: usize = 256;
/// Different bytes that a random secret of the shortest length has at the very least.
const SECRET_VALUES_MIN: usize = 12;
/// What examples and default configurations call their secrets.
const PLACEHOLDERS: [&str; 8] =
    ["secret", "changeme", "change-me", "password", "example", "default", "123456", "abcdef"];

/// The keys of the issuer that the settings name; none in development mode.
pub(crate) fn of_issuer(auth: &Auth) -> Result<Option<conn::Keys>, Failure> {
    let Auth::Jwks { file, algorithm, issuer, audience } = auth else { return Ok(None) };
    let keys = read(file, algorithm).with_context(|| format!("auth.jwks_file {}", file.display()));
    let (algorithm, keys) = keys.map_err(|error| Failure::new(Exit::Settings, error))?;
    Ok(Some(conn::Keys::new().with_issuer(issuer, audience, algorithm, keys)))
}

type Named = (Option<String>, DecodingKey);

/// The keys of development mode, which are made if there are none yet.
pub(crate) fn of_development(data: &Path) -> Result<conn::Keys, Failure> {
    let path = development::find_key(data);
    let key = match Key::read(&path) {
        Err(KeyError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(data).with_context(|| format!("creating {}", data.display()))?;
            let key = Key::generate();
            key.write(&path).map(|()| key)
        }
        read => read,
    };
    let key = key.map_err(|error| Failure::new(Exit::Data, error))?;
    let set: JwkSet = serde_json::from_str(&key.jwks()).context("the development key as JWKS")?;
    let keys = usable(&set, Algorithm::EdDSA)?;
    Ok(conn::Keys::new().with_issuer(development::ISSUER, development::AUDIENCE, Algorithm::EdDSA, keys))
}

fn read(file: &Path, algorithm: &str) -> anyhow::Result<(Algorithm, Vec<Named>)> {
    let text = std::fs::read_to_string(file)?;
    let algorithm: Algorithm = algorithm.parse().context("auth.algorithm")?;
    Ok((algorithm, read_set(&text, algorithm)?))
}

fn read_set(text: &str, algorithm: Algorithm) -> anyhow::Result<Vec<Named>> {
    // serde's own text may quote what it found, which is key material.
    let set: JwkSet = serde_json::from_str(text)
        .map_err(|error| anyhow!("is not a JWKS (line {}, column {})", error.line(), error.column()))?;
    usable(&set, algorithm)
}

/// What must hold of any text in the place of a JWKS file: it is keys for the algorithm, or a mistake. For tests and
/// fuzz targets.
pub fn check_keys(bytes: &[u8]) {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, RS256};
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for algorithm in [EdDSA, ES256, ES384, RS256, PS256, HS256, HS384, HS512] {
        match read_set(text, algorithm) {
            Ok(keys) => assert!(!keys.is_empty()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// The keys of a set that fit the algorithm, once all of the set's keys are found strong.
fn usable(set: &JwkSet, algorithm: Algorithm) -> anyhow::Result<Vec<Named>> {
    let weak = weak_keys(set);
    if !weak.is_empty() {
        return Err(anyhow!("refused: {}", weak.join("; ")));
    }
    let fitting = set.keys.iter().filter(|key| fits(key, algorithm));
    let keys: Result<Vec<Named>, _> =
        fitting.map(|key| Ok((key.common.key_id.clone(), DecodingKey::from_jwk(key)?))).collect();
    let keys =
        keys.map_err(|error: jsonwebtoken::errors::Error| anyhow!("has a key that cannot be used: {error}"))?;
    if keys.is_empty() {
        return Err(anyhow!(
            "has no key for {algorithm:?}: set auth.algorithm to what the issuer signs with"
        ));
    }
    Ok(keys)
}

fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512};
    let signs = key.common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
    let verifies = key.common.key_operations.as_ref().is_none_or(|of| of.contains(&KeyOperations::Verify));
    if !signs || !verifies {
        return false;
    }
    let named = key.common.key_algorithm.map(|named| named.to_string());
    if named.is_some_and(|named| named != format!("{algorithm:?}")) {
        return false;
    }
    match &key.algorithm {
        AlgorithmParameters::OctetKeyPair(pair) => pair.curve == EllipticCurve::Ed25519 && algorithm == EdDSA,
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => algorithm == ES256,
            EllipticCurve::P384 => algorithm == ES384,
            _ => false,
        },
        AlgorithmParameters::OctetKey(_) => matches!(algorithm, HS256 | HS384 | HS512),
        AlgorithmParameters::RSA(_) => !matches!(algorithm, HS256 | HS384 | HS512 | ES256 | ES384 | EdDSA),
        _ => false,
    }
}

/// Says what is wrong with the keys of a set, each by its place; nothing where all of them will do.
fn weak_keys(set: &JwkSet) -> Vec<String> {
    let named = |i: usize, key: &Jwk| match &key.common.key_id {
        Some(id) => format!("key {id:?}"),
        None => format!("key number {}", i + 1),
    };
    set.keys
        .iter()
        .enumerate()
        .filter_map(|(i, key)| Some(format!("{} {}", named(i, key), weakness(&key.algorithm)?)))
        .collect()
}

fn weakness(key: &AlgorithmParameters) -> Option<String> {
    let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
    match key {
        AlgorithmParameters::OctetKey(secret) => match decoded(&secret.value) {
            Ok(bytes) => weak_secret(&bytes),
            Err(_) => Some("is not base64url".into()),
        },
        AlgorithmParameters::RSA(rsa) => match decoded(&rsa.n) {
            Ok(bytes) if bytes.iter().skip_while(|byte| **byte == 0).count() >= MODULUS_BYTES_MIN => None,
            Ok(_) => Some(format!("is an RSA key of less than {} bits", MODULUS_BYTES_MIN * 8)),
            Err(_) => Some("is not base64url".into()),
        },
        AlgorithmParameters::EllipticCurve(_) | AlgorithmParameters::OctetKeyPair(_) => None,
        _ => Some("is of a type that tokens cannot be verified with".into()),
    }
}

fn weak_secret(secret: &[u8]) -> Option<String> {
    if secret.len() < SECRET_BYTES_MIN {
        return Some(format!(
            "is a secret of {} bytes; at least {SECRET_BYTES_MIN} are needed",
            secret.len()
        ));
    }
    let text = String::from_utf8_lossy(secret).to_ascii_lowercase();
    if PLACEHOLDERS.iter().any(|word| text.contains(word)) {
        return Some("is a placeholder, not a secret".into());
    }
    let values = secret.iter().collect::<std::collections::BTreeSet<_>>().len();
    (values < SECRET_VALUES_MIN)
        .then(|| format!("is a secret of only {values} different bytes: make a random one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(bytes: &[u8]) -> JwkSet {
        let k = URL_SAFE_NO_PAD.encode(bytes);
        serde_json::from_value(serde_json::json!({ "keys": [{ "kty": "oct", "kid": "a", "k": k }] })).unwrap()
    }

    fn problem(bytes: &[u8]) -> String {
        usable(&secret(bytes), Algorithm::HS256).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn secrets_that_protect_nothing_are_refused() {
        assert!(problem(b"short").contains("key \"a\" is a secret of 5 bytes"));
        assert!(problem(&[7; 64]).contains("only 1 different bytes"));
        assert!(problem(b"this-is-my-super-secret-key-for-hs256-tokens").contains("placeholder"));
        let random: Vec<u8> = (0..32_u32).map(|i| u8::try_from(i * 37 % 251).unwrap()).collect();
        assert_eq!(usable(&secret(&random), Algorithm::HS256).unwrap().len(), 1);
        assert!(
            usable(&secret(&random), Algorithm::EdDSA).unwrap_err().to_string().contains("no key for EdDSA")
        );
    }

    #[test]
    fn a_short_rsa_key_is_refused() {
        let n = URL_SAFE_NO_PAD.encode([0xC3; 128]);
        let set = serde_json::json!({ "keys": [{ "kty": "RSA", "n": n, "e": "AQAB" }] });
        let set: JwkSet = serde_json::from_value(set).unwrap();
        let problem = usable(&set, Algorithm::RS256).map(|_| ()).unwrap_err().to_string();
        assert!(problem.contains("key number 1 is an RSA key of less than 2048 bits"), "{problem}");
    }

    #[test]
    fn only_keys_for_signatures_verify_any() {
        let key = |more: serde_json::Value| {
            let k = URL_SAFE_NO_PAD.encode((0..32).map(|i| i * 7).collect::<Vec<u8>>());
            let mut key = serde_json::json!({ "kty": "oct", "kid": "a", "k": k });
            key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let set: JwkSet = serde_json::from_value(serde_json::json!({ "keys": [key] })).unwrap();
            fits(&set.keys[0], Algorithm::HS256)
        };
        assert!(key(serde_json::json!({})));
        assert!(key(serde_json::json!({ "use": "sig", "key_ops": ["sign", "verify"] })));
        assert!(!key(serde_json::json!({ "use": "enc" })));
        assert!(!key(serde_json::json!({ "key_ops": ["encrypt"] })));
        assert!(!key(serde_json::json!({ "alg": "HS512" })));
    }

    #[test]
    fn the_development_key_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        assert!(of_development(&data).is_ok());
        let made = std::fs::read(development::find_key(&data)).unwrap();
        assert!(of_development(&data).is_ok());
        assert_eq!(std::fs::read(development::find_key(&data)).unwrap(), made);
        std::fs::write(development::find_key(&data), "no key").unwrap();
        let failure = of_development(&data).map(|_| ()).unwrap_err();
        assert_eq!(failure.exit, Exit::Data);
    }

    #[test]
    fn a_broken_file_is_a_settings_mistake_that_quotes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.json");
        std::fs::write(&file, r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"#).unwrap();
        let auth = Auth::Jwks { file, algorithm: "EdDSA".into(), issuer: "i".into(), audience: "a".into() };
        let failure = of_issuer(&auth).map(|_| ()).unwrap_err();
        assert_eq!(failure.exit, Exit::Settings);
        assert!(failure.to_string().contains("is not a JWKS") && !failure.to_string().contains("c2VjcmV0"));
    }
}
