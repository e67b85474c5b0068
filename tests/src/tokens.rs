//! Tokens of many devices, signed here, because a process for each takes longer than the test.

use std::path::Path;
use std::process::Command;

use jsonwebtoken::{EncodingKey, Header};
use serde_json::Value;

use crate::binary::binary;

/// Signs as `godwit token` does.
pub struct Tokens {
    header: Header,
    claims: Value,
    key: EncodingKey,
}

impl Tokens {
    /// With the development key in a server's data directory.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        let mut command = Command::new(binary());
        command.args(["token", "--as", "pattern", "--device", "pattern", "--data"]).arg(data);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let pattern = String::from_utf8(output.stdout).unwrap();
        Self {
            header: jsonwebtoken::decode_header(pattern.trim()).unwrap(),
            claims: jsonwebtoken::dangerous::insecure_decode_claims(pattern.trim()).unwrap(),
            key: EncodingKey::from_ed_pem(&std::fs::read(data.join("dev-key.pem")).unwrap()).unwrap(),
        }
    }

    /// A device's token.
    #[must_use]
    pub fn of(&self, user: &str, device: &str) -> String {
        let mut claims = self.claims.clone();
        (claims["sub"], claims["did"]) = (user.into(), device.into());
        jsonwebtoken::encode(&self.header, &claims, &self.key).unwrap()
    }
}
