//! Tokens: only what an issuer signed is taken, and it says what was signed.

use std::sync::OnceLock;

use jsonwebtoken::{Algorithm, DecodingKey};

use crate::clock::Now;
use crate::verify::Keys;

/// The public half of an Ed25519 key, and the tokens that were signed with it for the issuer "app"; the last is of
/// the issuer "other", with HMAC. All of them expire at [`EXPIRY_S`].
const PUBLIC: [u8; 32] = [
    253, 23, 36, 56, 90, 160, 199, 91, 100, 251, 120, 205, 96, 47, 161, 217, 145, 253, 235, 247, 107, 19,
    197, 142, 215, 2, 234, 200, 53, 233, 246, 24,
];
const SECRET: &[u8] = b"a key of thirty-two bytes, or so!";
const EXPIRY_S: u64 = 2_000_000_000;
/// Each with the user and the device that it names.
const SIGNED: [(&str, &str, &str); 3] = [
    (
        "ann",
        "phone",
        concat!(
            "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.",
            "eyJpc3MiOiJhcHAiLCJhdWQiOiJnb2R3aXQiLCJzdWIiOiJhbm4iLCJkaWQiOiJwaG9uZSIsImV4cCI6MjAwMDAwMDAwMH0.",
            "SzhHg8vbTHVv0wdlD6Gj-X2RcEjCwHHNzaQGt361cDMlJ_iFHtToECuH6rlv8ce2Q5y3n8GEJoGBYpklyHcVCA",
        ),
    ),
    (
        "bob",
        "desk",
        concat!(
            "eyJhbGciOiJFZERTQSJ9.",
            "eyJpc3MiOiJhcHAiLCJhdWQiOiJnb2R3aXQiLCJzdWIiOiJib2IiLCJkaWQiOiJkZXNrIiwiZXhwIjoyMDAwMDAwMDAwLCJu",
            "YmYiOjEwMDAwMDAwMDB9.",
            "_W8IvpNKQnL2NAiAV4Me9BQnpPuuHGQmxevfobqltDFeAOY2n3hflZuxB0VtIY1TC2OvVVGUI7dUmr8mMbCuCQ",
        ),
    ),
    (
        "cid",
        "pad",
        concat!(
            "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIn0.",
            "eyJpc3MiOiJvdGhlciIsImF1ZCI6WyJnb2R3aXQiXSwic3ViIjoiY2lkIiwiZGlkIjoicGFkIiwiZXhwIjoyMDAwMDAwMDAwfQ.",
            "hDs_K6NKIvUq3Ch6kadiZWKECZh1vkzTxEkuPoWDAD0",
        ),
    ),
];

/// The bytes are a token, or (after a first byte of 0 to 63) say how tokens that were signed are put together anew:
/// whatever is taken was signed as it is, and names whom it names.
pub fn token(bytes: &[u8]) {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    let keys = KEYS.get_or_init(keys);
    let text = match bytes {
        [0..=63, edits @ ..] => edited(edits),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    };
    if let Ok(verified) = keys.check(&text, at_s(EXPIRY_S - 1_000)) {
        let told = (verified.user.as_str(), verified.device.as_str());
        let claims = |token: &str| token.rsplit_once('.').map(|(signed, _)| signed.to_owned());
        let signed = SIGNED.iter().find(|(_, _, token)| claims(token) == claims(&text));
        assert_eq!(
            signed.map(|(user, device, _)| (*user, *device)),
            Some(told),
            "not what was signed: {text}"
        );
        assert!(keys.check(&text, at_s(EXPIRY_S + 1_000)).is_err(), "taken after its time: {text}");
    }
}

fn at_s(wall_s: u64) -> Now {
    Now { ms: 0, wall_us: wall_s * 1_000_000 }
}

/// A part of one token, a part of another, a part of a third; and then single letters of it changed.
fn edited(edits: &[u8]) -> String {
    let (parts, edits) = edits.split_at(edits.len().min(3));
    let of = |i: usize| {
        let which = parts.get(i).map_or(0, |which| usize::from(*which));
        let token = SIGNED.get(which % SIGNED.len()).map_or("", |(_, _, token)| token);
        token.split('.').nth(i).unwrap_or_default()
    };
    let mut text = [of(0), of(1), of(2)].join(".").into_bytes();
    for edit in edits.as_chunks().0 {
        let [low, high, letter]: &[u8; 3] = edit;
        let place = usize::from(u16::from_le_bytes([*low, *high])) % (text.len() + 1);
        match text.get_mut(place) {
            Some(byte) => *byte = *letter,
            None => text.push(*letter),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn keys() -> Keys {
    let public = (None, DecodingKey::from_ed_der(&PUBLIC));
    // Under the same name as the other issuer's, so that a token can ask for the wrong one.
    let trap = (Some("k1".into()), DecodingKey::from_ed_der(&PUBLIC));
    let secret = (Some("k1".into()), DecodingKey::from_secret(SECRET));
    Keys::new().with_issuer("app", "godwit", Algorithm::EdDSA, vec![trap, public]).with_issuer(
        "other",
        "godwit",
        Algorithm::HS256,
        vec![secret],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_is_taken() {
        for (user, device, token) in SIGNED {
            let verified = keys().check(token, at_s(EXPIRY_S)).unwrap();
            assert_eq!((verified.user.as_str(), verified.device.as_str()), (user, device));
        }
        assert_eq!(edited(&[1, 1, 1]), SIGNED[1].2);
        assert_ne!(edited(&[1, 1, 1, 5, 0, b'x']), SIGNED[1].2);
    }
}
