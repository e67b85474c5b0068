//! The keys that tokens are verified with: an issuer's, from a JWKS file, or development mode's. Refuses
//! keys that protect nothing. Never logs or prints key material.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet};

/// The shortest HMAC secret, in bytes: what SHA-256 puts out (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;
/// The shortest RSA modulus, in bytes (RFC 7518, 3.3).
const MODULUS_BYTES_MIN: usize = 256;
/// Different bytes that a random secret of the shortest length has at the very least.
const SECRET_VALUES_MIN: usize = 12;
/// What examples and default configurations call their secrets.
const PLACEHOLDERS: [&str; 8] =
    ["secret", "changeme", "change-me", "password", "example", "default", "123456", "abcdef"];

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
    let mut seen = [false; 256];
    secret.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    let values = seen.iter().filter(|seen| **seen).count();
    (values < SECRET_VALUES_MIN)
        .then(|| format!("is a secret of only {values} different bytes: make a random one"))
}
