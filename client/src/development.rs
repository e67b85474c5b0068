//! Tokens for trying things out: a key in a file, and JWTs signed with it. Not for production, where an
//! issuer of the app's own signs; never part of a client that does not ask for the `development` feature.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::Signer as _;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use proto::{DeviceId, UserId};
use serde_json::json;

use crate::clock;

/// The `iss` of development tokens.
pub const ISSUER: &str = "godwit-dev";
/// The `aud` of development tokens.
pub const AUDIENCE: &str = "godwit";
/// The `kid` of the development key.
pub const KEY_ID: &str = "godwit-dev";

/// Where a server in development mode keeps its key.
#[must_use]
pub fn find_key(data_dir: &Path) -> PathBuf {
    data_dir.join("dev-key.pem")
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// What the file system said.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Not an Ed25519 key as PKCS#8 in PEM.
    #[error("{0} is not an Ed25519 private key in PEM (PKCS#8)")]
    Format(PathBuf),
}

/// An Ed25519 key that signs tokens.
pub struct Key(SigningKey);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// A new key from the system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self(SigningKey::generate(&mut rand::rng()))
    }

    /// Reads a PKCS#8 PEM file.
    ///
    /// # Errors
    /// It cannot be read, or is no such key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| KeyError::Io { path: path.into(), error })?;
        SigningKey::from_pkcs8_pem(&text).map(Self).map_err(|_| KeyError::Format(path.into()))
    }

    /// Writes it as a PKCS#8 PEM file that only this user can read. An existing file is not replaced.
    ///
    /// # Errors
    /// What the file system said.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        let text = self.0.to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyError::Format(path.into()))?;
        write_private(path, text.as_bytes()).map_err(|error| KeyError::Io { path: path.into(), error })
    }

    /// The public half as a JWKS (RFC 7517, RFC 8037) with this one key.
    #[must_use]
    pub fn jwks(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.0.verifying_key().as_bytes());
        let key =
            json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": KEY_ID, "x": x });
        json!({ "keys": [key] }).to_string()
    }

    /// A token that signs this device of this user in for the next `life_s` seconds.
    #[must_use]
    pub fn token(&self, user: &UserId, device: &DeviceId, life_s: u64) -> String {
        self.token_at(user, device, clock::unix_s(), life_s)
    }

    fn token_at(&self, user: &UserId, device: &DeviceId, now_s: u64, life_s: u64) -> String {
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": KEY_ID });
        let claims = json!({
            "sub": user.as_str(),
            "did": device.as_str(),
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": now_s,
            "exp": now_s.saturating_add(life_s),
        });
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.0.sign(signed.as_bytes()).to_bytes());
        format!("{signed}.{signature}")
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, jwk::JwkSet};

    fn ids() -> (UserId, DeviceId) {
        (UserId::new("änn \"x\"").unwrap(), DeviceId::new("phone").unwrap())
    }

    fn verify(key: &Key, token: &str) -> Result<serde_json::Value, jsonwebtoken::errors::Error> {
        let set: JwkSet = serde_json::from_str(&key.jwks()).unwrap();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "sub", "iss", "aud"]);
        let jwk = set.find(KEY_ID).unwrap();
        decode(token, &DecodingKey::from_jwk(jwk)?, &validation).map(|data| data.claims)
    }

    #[test]
    fn a_token_verifies_with_the_public_key_and_no_other() {
        let (key, (user, device)) = (Key::generate(), ids());
        let token = key.token(&user, &device, 60);
        let claims = verify(&key, &token).unwrap();
        assert_eq!((claims["sub"].as_str(), claims["did"].as_str()), (Some("änn \"x\""), Some("phone")));
        assert!(verify(&Key::generate(), &token).is_err());
        let late = key.token_at(&user, &device, clock::unix_s() - 10_000, 60);
        assert!(verify(&key, &late).is_err(), "expired");
    }

    #[test]
    fn a_key_reads_back_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = find_key(dir.path());
        assert!(matches!(Key::read(&path), Err(KeyError::Io { .. })));
        let key = Key::generate();
        key.write(&path).unwrap();
        assert_eq!(Key::read(&path).unwrap().jwks(), key.jwks());
        assert!(matches!(Key::generate().write(&path), Err(KeyError::Io { .. })), "never replaced");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        std::fs::write(dir.path().join("other"), "no key").unwrap();
        assert!(matches!(Key::read(&dir.path().join("other")), Err(KeyError::Format(_))));
    }
}
