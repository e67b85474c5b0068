//! Tokens that are not good, or not this device's.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::EncodingKey;
use proto::Code;
use proto::close::Close;
use proto::v1::client_frame::Frame as C;
use serde_json::{Value, json};
use tests::{binary, forged, sign_in};

use crate::{World, goes_on, token};

/// A token with one other claim, signed with the server's own key.
fn with_claim(data: &Path, token: &str, name: &str, value: Value) -> String {
    let mut claims: Value = jsonwebtoken::dangerous::insecure_decode_claims(token).unwrap();
    claims[name] = value;
    let pem = std::fs::read(data.join("dev-key.pem")).unwrap();
    let key = EncodingKey::from_ed_pem(&pem).unwrap();
    jsonwebtoken::encode(&jsonwebtoken::decode_header(token).unwrap(), &claims, &key).unwrap()
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_bad_token_is_told_from_an_expired_one() {
    let world = World::start();
    let data = world.server.data();
    let good = token(&data, "cat", "phone");
    let other = |name: &str, value: Value| with_claim(&data, &good, name, value);
    let (unsigned, _) = good.rsplit_once('.').unwrap();
    let cases = [
        ("garbage".to_owned(), Code::BadToken),
        (String::new(), Code::BadToken),
        (forged(&good), Code::BadToken),
        (format!("{unsigned}."), Code::BadToken),
        (other("aud", json!("another service")), Code::BadToken),
        (other("iss", json!("somebody else")), Code::BadToken),
        (other("sub", json!("")), Code::BadToken),
        (other("did", Value::Null), Code::BadToken),
        (other("nbf", json!(now_s() + 3_600)), Code::BadToken),
        (other("exp", json!(now_s() - 3_600)), Code::TokenExpired),
    ];
    for (token, code) in cases {
        let mut link = world.device();
        link.send(1, C::SignIn(sign_in(&token)));
        link.expect_error(1, code);
        link.expect_kick(Close::Unauthorized);
    }
    assert!(!world.server.log().contains(&good[..20]), "no token in the log");
    world.ends_well();
}

#[test]
fn a_token_for_another_device_does_not_sign_this_one_in() {
    let world = World::start();
    let data = world.server.data();
    let tablet = token(&data, "cat", "tablet");
    let mut command = Command::new(binary());
    command.args(["chat", "--json", "--device", "phone", "--token", &tablet]);
    command.args(["--server", &world.server.address().to_string(), "--state"]).arg(data.join("cat"));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("the token is for device tablet"));
    // On the wire a token is the device: whoever uses it takes that device's place, and no other's.
    let (mut phone, _) = world.signed_in("cat", "phone");
    let (mut first, _) = world.signed_in("cat", "tablet");
    let mut second = world.device();
    second.sign_in(&tablet);
    first.expect_kick(Close::Replaced);
    goes_on(&mut phone);
    world.ends_well();
}
