//! Tokens that nobody signed, or that were signed for another purpose, in all the ways that are known from elsewhere.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use client::development::{AUDIENCE, ISSUER, KEY_ID, Key, find_key};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proto::close::Close;
use proto::v1::{client_frame::Frame as C, server_frame::Frame as S};
use proto::{Code, DeviceId, UserId};
use serde_json::{Value, json};
use tests::{Device, sign_in};

use crate::{MIB, World};

fn claims() -> Value {
    json!({ "sub": "cat", "did": "phone", "iss": ISSUER, "aud": AUDIENCE, "exp": 4_000_000_000_u64 })
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// HMAC-SHA-256 under bytes that everybody knows.
fn with_hmac(kid: Option<&str>, secret: &[u8]) -> String {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(secret)).unwrap()
}

/// Every forgery, with a name for the one that gets through.
fn forgeries(world: &World) -> Vec<(&'static str, String)> {
    let good = world.token("cat", "phone");
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let set: Value = serde_json::from_str(&world.key.jwks()).unwrap();
    let x = set["keys"][0]["x"].as_str().unwrap();
    let public = URL_SAFE_NO_PAD.decode(x).unwrap();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode([&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0][..], &public].concat())
    );
    let other = Key::generate();
    let theirs = other.token(&UserId::new("cat").unwrap(), &DeviceId::new("phone").unwrap(), 600);
    let jwk = serde_json::from_str::<Value>(&other.jwks()).unwrap()["keys"][0].clone();
    let their_signature = theirs.rsplit('.').next().unwrap();
    let under = |header: Value| format!("{}.{payload}.{their_signature}", part(&header));
    let changed = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        format!("{header}.{}.{signature}", part(&claims))
    };
    let twice = URL_SAFE_NO_PAD.encode(format!("{{\"sub\":\"ann\",{}", &claims().to_string()[1..]));
    let mut all = vec![
        ("of another key", theirs.clone()),
        ("without algorithm", format!("{}.{payload}.", part(&json!({ "alg": "none" })))),
        ("without algorithm, signed", format!("{}.{payload}.{signature}", part(&json!({ "alg": "None" })))),
        ("no algorithm at all", format!("{}.{payload}.{signature}", part(&json!({ "typ": "JWT" })))),
        ("HMAC under the public key", with_hmac(None, &public)),
        ("HMAC under the public key's text", with_hmac(Some(KEY_ID), x.as_bytes())),
        ("HMAC under the public key's PEM", with_hmac(Some(KEY_ID), pem.as_bytes())),
        ("HMAC under nothing", with_hmac(Some(KEY_ID), b"")),
        ("brings its own key", under(json!({ "alg": "EdDSA", "jwk": jwk }))),
        ("says where its key is", under(json!({ "alg": "EdDSA", "jku": "http://127.0.0.1:1/keys" }))),
        (
            "brings a chain",
            under(json!({ "alg": "EdDSA", "x5c": [STANDARD.encode(&public)], "x5u": "http://x/" })),
        ),
        ("names a file as its key", under(json!({ "alg": "EdDSA", "kid": "../../dev-key.pem" }))),
        ("names a query as its key", under(json!({ "alg": "EdDSA", "kid": "' OR 1=1 --" }))),
        ("says what must be understood", under(json!({ "alg": "EdDSA", "crit": ["b64"], "b64": false }))),
        ("a header of kilobytes", under(json!({ "alg": "EdDSA", "kid": "x".repeat(2_500) }))),
        ("nested", format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode("[".repeat(2_500)))),
        ("another user", changed("sub", json!("ann"))),
        ("another device", changed("did", json!("desk"))),
        ("for longer", changed("exp", json!(9_000_000_000_u64))),
        ("for ever", changed("exp", json!(1e300))),
        ("two users", format!("{header}.{twice}.{signature}")),
        ("four parts", format!("{good}.{signature}")),
        ("two parts", format!("{header}.{payload}")),
        ("signed by nothing", format!("{header}.{payload}.{}", URL_SAFE_NO_PAD.encode([0; 64]))),
        ("a longer signature", format!("{good}AA")),
        (
            "padded",
            format!("{header}.{payload}.{}", URL_SAFE.encode(URL_SAFE_NO_PAD.decode(signature).unwrap())),
        ),
        ("with spaces", format!(" {good}")),
        ("with a line's end", format!("{good}\n")),
        ("of a bearer", format!("Bearer {good}")),
    ];
    // A signature's scalar plus the group's order verifies where nobody looks at it.
    all.push(("another form of the signature", format!("{header}.{payload}.{}", plus_order(signature))));
    all
}

/// Adds the order of the group to the second half of an Ed25519 signature.
fn plus_order(signature: &str) -> String {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut carry = 0_u16;
    for (byte, more) in bytes[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(more) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

fn is_turned_down(link: &mut Device, name: &str, token: &str) {
    link.send(1, C::SignIn(sign_in(token)));
    match link.next() {
        Some((1, S::Error(error))) => {
            assert_eq!(Code::from_number(error.code), Some(Code::BadToken), "{name}: {error:?}");
        }
        other => panic!("{name}: {other:?}"),
    }
    link.expect_kick(Close::Unauthorized);
}

#[test]
fn what_nobody_signed_signs_nobody_in() {
    let world = World::start(&[]);
    let forgeries = forgeries(&world);
    world.under_attack("forged tokens", 8 * MIB, || {
        for (name, token) in forgeries.iter().cycle().take(4 * forgeries.len()) {
            is_turned_down(&mut world.device(), name, token);
        }
    });
    // And the one that they were made of does.
    world.signed_in("cat", "phone");
    let log = world.server.log();
    assert!(forgeries.iter().all(|(_, token)| !log.contains(&token[..30])), "a token is in the log");
    assert!(find_key(&world.server.data()).exists());
}

#[test]
fn a_token_that_is_replayed_is_one_session_however_many_use_it() {
    const REPLAYS: usize = 100;
    let world = World::start(&[]);
    let token = world.token("cat", "phone");
    let links = world.under_attack("a replayed token", 8 * MIB, || {
        (0..REPLAYS)
            .map(|_| {
                let mut link = world.device();
                link.sign_in(&token);
                link
            })
            .collect::<Vec<Device>>()
    });
    let mut links = links.into_iter().rev();
    let mut last = links.next().unwrap();
    links.for_each(|mut link| link.expect_kick(Close::Replaced));
    last.send(5, C::Ping(proto::v1::Ping::default()));
    assert!(matches!(last.expect(), S::Pong(_)));
    assert_eq!(world.closes(Close::Replaced), (REPLAYS - 1) as f64);
}
