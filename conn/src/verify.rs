//! Checks tokens on threads of its own: a signature costs what a hundred heartbeats cost. The queue is
//! bounded, and whoever finds it full is told at once. No token leaves this file, in no log either.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use proto::{DeviceId, UserId};
use serde::Deserialize;

use crate::clock::Now;
use crate::mailbox::{Class, Mail, Mailbox};
use crate::session::{Denied, Verified};

/// Seconds by which the clocks of an issuer and of this node may differ.
const LEEWAY_S: f64 = 30.0;

/// Whose tokens are taken, and the keys that prove them.
#[derive(Clone, Default)]
pub struct Keys {
    issuers: HashMap<String, Issuer>,
}

#[derive(Clone)]
struct Issuer {
    validation: Validation,
    keys: Vec<(Option<String>, DecodingKey)>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    did: Option<String>,
    exp: f64,
    nbf: Option<f64>,
}

/// Only what is needed to choose the key; proves nothing.
#[derive(Deserialize)]
struct Issued {
    iss: Option<String>,
}

impl Keys {
    /// No issuer: every token is turned down.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes tokens of `issuer` for `audience`, signed with `algorithm` and no other, under a public key
    /// of these; a key with an id is only used for tokens that name it.
    #[must_use]
    pub fn with_issuer(
        mut self,
        issuer: &str,
        audience: &str,
        algorithm: Algorithm,
        keys: Vec<(Option<String>, DecodingKey)>,
    ) -> Self {
        let mut validation = Validation::new(algorithm);
        // Times are checked against the reactor's reading of the clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        self.issuers.insert(issuer.into(), Issuer { validation, keys });
        self
    }

    /// Checks a token: issuer, algorithm, signature, audience, time, and that it names a device.
    ///
    /// # Errors
    /// Which check failed.
    pub fn check(&self, token: &str, now: Now) -> Result<Verified, Denied> {
        let bad = |_| Denied::Bad("malformed");
        let header = decode_header(token).map_err(bad)?;
        let issued: Issued = insecure_decode_claims(token).map_err(bad)?;
        let issuer =
            issued.iss.and_then(|iss| self.issuers.get(&iss)).ok_or(Denied::Bad("unknown issuer"))?;
        let mut denied = Denied::Bad("no key for it");
        for (_, key) in issuer.keys.iter().filter(|(id, _)| id.is_none() || *id == header.kid) {
            match decode::<Claims>(token, key, &issuer.validation) {
                Ok(data) => return in_time(&data.claims, now).and_then(|()| named(&data.claims)),
                Err(error) => denied = why(error.kind()),
            }
        }
        Err(denied)
    }
}

fn named(claims: &Claims) -> Result<Verified, Denied> {
    let device = claims.did.as_deref().ok_or(Denied::Bad("no device (did)"))?;
    Ok(Verified {
        user: UserId::new(&claims.sub).map_err(|_| Denied::Bad("sub is not a user id"))?,
        device: DeviceId::new(device).map_err(|_| Denied::Bad("did is not a device id"))?,
    })
}

fn why(kind: &ErrorKind) -> Denied {
    match kind {
        ErrorKind::InvalidSignature => Denied::Bad("signature"),
        ErrorKind::InvalidAlgorithm => Denied::Bad("algorithm"),
        ErrorKind::InvalidAudience => Denied::Bad("audience"),
        ErrorKind::InvalidIssuer => Denied::Bad("issuer"),
        ErrorKind::MissingRequiredClaim(_) => Denied::Bad("a claim is missing"),
        _ => Denied::Bad("malformed"),
    }
}

fn in_time(claims: &Claims, now: Now) -> Result<(), Denied> {
    let now_s = Duration::from_micros(now.wall_us).as_secs_f64();
    if claims.exp + LEEWAY_S < now_s {
        return Err(Denied::Expired);
    }
    if claims.nbf.is_some_and(|nbf| nbf > now_s + LEEWAY_S) {
        return Err(Denied::Bad("not valid yet"));
    }
    Ok(())
}

/// A token to check, and who wants to know.
pub(crate) struct Job {
    pub(crate) token: String,
    pub(crate) now: Now,
    pub(crate) link: u64,
    pub(crate) mailbox: Arc<Mailbox>,
}

/// The threads that check. They end when the pool is dropped.
pub(crate) struct Pool {
    jobs: SyncSender<Job>,
}

impl Pool {
    pub(crate) fn start(threads: usize, queue_max: usize, keys: Keys) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel(queue_max);
        let (waiting, keys) = (Arc::new(Mutex::new(waiting)), Arc::new(keys));
        for number in 0..threads {
            let (waiting, keys) = (waiting.clone(), keys.clone());
            thread::Builder::new()
                .name(format!("conn-verify-{number}"))
                .spawn(move || work(&waiting, &keys))?;
        }
        Ok(Self { jobs })
    }

    /// Queues a token; false where the queue is full.
    pub(crate) fn submit(&self, job: Job) -> bool {
        self.jobs.try_send(job).is_ok()
    }
}

fn work(waiting: &Mutex<Receiver<Job>>, keys: &Keys) {
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let mail = Mail::Verified { link: job.link, outcome: keys.check(&job.token, job.now) };
        let _ = job.mailbox.post(mail, Class::Answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use ed25519_dalek::pkcs8::EncodePrivateKey;
    use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    const NOW: Now = Now { ms: 0, wall_us: 1_000_000_000_000 };

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn keys() -> Keys {
        let public = DecodingKey::from_ed_der(key(1).verifying_key().as_bytes());
        Keys::new().with_issuer("app", "godwit", Algorithm::EdDSA, vec![(None, public)])
    }

    fn claims() -> Value {
        json!({"iss": "app", "aud": "godwit", "sub": "ann", "did": "d1", "exp": 1_000_100})
    }

    fn sign(seed: u8, claims: &Value) -> String {
        let pem = key(seed).to_pkcs8_pem(LineEnding::LF).unwrap();
        encode(&Header::new(Algorithm::EdDSA), claims, &EncodingKey::from_ed_pem(pem.as_bytes()).unwrap())
            .unwrap()
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[name] = value;
        claims
    }

    #[test]
    fn a_good_token_names_user_and_device() {
        let verified = keys().check(&sign(1, &claims()), NOW).unwrap();
        assert_eq!((verified.user.as_str(), verified.device.as_str()), ("ann", "d1"));
    }

    #[test]
    fn every_other_token_is_turned_down_for_its_reason() {
        let expired = Now { ms: 0, wall_us: 1_000_131_000_000 };
        assert_eq!(keys().check(&sign(1, &claims()), expired), Err(Denied::Expired));
        for (token, why) in [
            (sign(2, &claims()), "signature"),
            (sign(1, &with("iss", json!("other"))), "unknown issuer"),
            (sign(1, &with("iss", Value::Null)), "unknown issuer"),
            (sign(1, &with("aud", json!("other"))), "audience"),
            (sign(1, &with("did", Value::Null)), "no device (did)"),
            (sign(1, &with("did", json!(""))), "did is not a device id"),
            (sign(1, &with("sub", json!("x".repeat(65)))), "sub is not a user id"),
            (sign(1, &with("exp", Value::Null)), "malformed"),
            (sign(1, &with("nbf", json!(1_000_031))), "not valid yet"),
            ("a.b.c".into(), "malformed"),
            (String::new(), "malformed"),
        ] {
            assert_eq!(keys().check(&token, NOW), Err(Denied::Bad(why)), "{token}");
        }
    }

    #[test]
    fn an_algorithm_that_is_not_the_issuers_is_not_tried() {
        // The public key as the secret of a symmetric signature: the classic confusion.
        let secret = EncodingKey::from_secret(key(1).verifying_key().as_bytes());
        let token = encode(&Header::new(Algorithm::HS256), &claims(), &secret).unwrap();
        assert_eq!(keys().check(&token, NOW), Err(Denied::Bad("algorithm")));
    }

    #[test]
    fn a_key_with_an_id_is_only_for_tokens_that_name_it() {
        let public = DecodingKey::from_ed_der(key(1).verifying_key().as_bytes());
        let keys =
            Keys::new().with_issuer("app", "godwit", Algorithm::EdDSA, vec![(Some("k1".into()), public)]);
        assert_eq!(keys.check(&sign(1, &claims()), NOW), Err(Denied::Bad("no key for it")));
    }
}
