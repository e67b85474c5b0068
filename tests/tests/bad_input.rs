//! What a device can do wrong, against a whole server: each mistake gets its own error code or close code, and
//! nobody else notices.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test: what it does not expect ends it")]
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    reason = "a test: it reads the clock, and ends where it must"
)]

use std::net::Shutdown;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use jsonwebtoken::EncodingKey;
use proto::Code;
use proto::close::Close;
use proto::limits::{BODY_BYTES_MAX, CLIENT_FRAME_BYTES_MAX, UNAUTHENTICATED_BYTES_MAX};
use proto::v1::{self, client_frame::Frame as C, server_frame::Frame as S};
use serde_json::{Value, json};
use tests::{Chat, Device, Server, binary, frame_bytes, sign_in, text, texts};

/// A server, and two devices that talk before and after whatever happens.
struct World {
    server: Server,
    ann: Chat,
    bob: Chat,
    _dir: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path(), "server", arguments);
        let chat = |name: &str| {
            Chat::start(name, "phone", &[server.address()], &server.data(), &dir.path().join(name))
        };
        let (mut ann, bob) = (chat("ann"), chat("bob"));
        ann.say("bob", "before", 1);
        ann.wait("the ack", |event| event["event"] == "acked");
        Self { server, ann, bob, _dir: dir }
    }

    fn device(&self) -> Device {
        Device::connect(self.server.address())
    }

    /// A link that is signed in, and its epoch.
    fn signed_in(&self, user: &str, device: &str) -> (Device, u64) {
        let mut link = self.device();
        let result = link.sign_in(&token(&self.server.data(), user, device));
        (link, result.epoch)
    }

    /// What was acknowledged is there, in order; what comes now arrives; both links were never broken.
    fn ends_well(mut self) {
        self.ann.say("bob", "after", 2);
        self.bob.wait("what comes now", |event| event["text"] == "after");
        assert_eq!(texts(&self.bob.entries()), ["before", "after"]);
        for chat in [&self.ann, &self.bob] {
            let broken = |event: &Value| event["event"] == "disconnected" || event["event"] == "kicked";
            assert!(!chat.events().iter().any(broken), "{:#?}", chat.events());
        }
    }
}

/// A token as `godwit token` prints it.
fn token(data: &Path, user: &str, device: &str) -> String {
    let mut command = Command::new(binary());
    command.args(["token", "--as", user, "--device", device, "--data"]).arg(data);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

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

fn message(to: v1::send::To, epoch: u64, n: u64, bytes: usize) -> C {
    let message = v1::Message { kind: 1, data: Bytes::from(vec![b'x'; bytes]) };
    C::Send(v1::Send { to: Some(to), epoch, n, body: Some(v1::send::Body::Message(message)) })
}

#[test]
fn a_truncated_frame_is_never_acted_on() {
    let world = World::start();
    let (mut link, epoch) = world.signed_in("cat", "phone");
    let frame = frame_bytes(5, text("bob", epoch, 1));
    link.write(&frame[..frame.len() - 1]);
    link.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(link.next(), None, "the link ends without an answer");
    world.ends_well();
}

#[test]
fn half_a_frame_and_then_silence_ends_with_the_sign_in_timeout() {
    let world = World::with(&["--set", "conn.unauthenticated_timeout_ms=1000"]);
    let mut link = world.device();
    let frame = frame_bytes(1, C::SignIn(sign_in("x.y.z")));
    link.write(&frame[..frame.len() / 2]);
    let begun = Instant::now();
    link.expect_kick(Close::SignInTimeout);
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    world.ends_well();
}

#[test]
fn an_oversized_frame_is_refused_at_its_length() {
    let world = World::start();
    let (mut link, _) = world.signed_in("cat", "phone");
    link.write(&proto::frame::prefix(CLIENT_FRAME_BYTES_MAX + 1));
    link.expect_kick(Close::FrameTooLarge);
    world.ends_well();
}

#[test]
fn an_unknown_frame_is_answered_and_the_link_goes_on() {
    let world = World::start();
    let (mut link, _) = world.signed_in("cat", "phone");
    // Field 99 of ClientFrame, as a later revision might have it, under request 7.
    link.write(&[6, 0x08, 7, 0x9a, 0x06, 0x01, b'x']);
    link.expect_error(7, Code::UnknownFrame);
    link.send(8, C::Ping(v1::Ping::default()));
    assert!(matches!(link.expect(), S::Pong(_)));
    world.ends_well();
}

#[test]
fn bytes_that_are_no_frame_are_malformed() {
    let world = World::start();
    let (mut link, _) = world.signed_in("cat", "phone");
    link.write(&[4, 0xff, 0xff, 0xff, 0xff]);
    link.expect_kick(Close::Malformed);
    world.ends_well();
}

#[test]
fn a_frame_out_of_its_state_ends_the_link() {
    let world = World::start();
    let (mut link, _) = world.signed_in("cat", "phone");
    link.send(9, C::SignIn(sign_in(&token(&world.server.data(), "cat", "phone"))));
    link.expect_kick(Close::OutOfState);
    world.ends_well();
}

#[test]
fn an_unauthenticated_frame_is_answered_and_ends_the_link() {
    let world = World::start();
    let mut link = world.device();
    link.send(3, text("bob", 1, 1));
    link.expect_error(3, Code::NotSignedIn);
    link.expect_kick(Close::OutOfState);
    let mut flood = world.device();
    let length = UNAUTHENTICATED_BYTES_MAX;
    flood.write(&[&proto::frame::prefix(length)[..], &vec![0; length]].concat());
    flood.expect_kick(Close::UnauthenticatedBudget);
    world.ends_well();
}

#[test]
fn a_bad_token_is_told_from_an_expired_one() {
    let world = World::start();
    let data = world.server.data();
    let good = token(&data, "cat", "phone");
    let other = |name: &str, value: Value| with_claim(&data, &good, name, value);
    let (unsigned, signature) = good.rsplit_once('.').unwrap();
    let flipped: String = signature.chars().rev().collect();
    let cases = [
        ("garbage".to_owned(), Code::BadToken),
        (String::new(), Code::BadToken),
        (format!("{unsigned}.{flipped}"), Code::BadToken),
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
    phone.send(8, C::Ping(v1::Ping::default()));
    assert!(matches!(phone.expect(), S::Pong(_)));
    world.ends_well();
}

#[test]
fn a_message_one_byte_over_the_limit_is_too_large_and_one_at_it_is_not() {
    let world = World::start();
    let (mut link, epoch) = world.signed_in("cat", "phone");
    let to = || v1::send::To::User("dan".into());
    link.send(5, message(to(), epoch, 1, BODY_BYTES_MAX));
    link.expect_ack(5);
    link.send(6, message(to(), epoch, 2, BODY_BYTES_MAX + 1));
    // The ack of the first and its own push may be in between.
    let error = std::iter::from_fn(|| link.next()).find_map(|(id, frame)| match frame {
        S::Error(error) => Some((id, Code::from_number(error.code))),
        _ => None,
    });
    assert_eq!(error, Some((6, Some(Code::TooLarge))));
    world.ends_well();
}

#[test]
fn a_message_to_an_unknown_group_is_rejected_for_good() {
    let world = World::start();
    let (mut link, epoch) = world.signed_in("cat", "phone");
    link.send(5, message(v1::send::To::Group(Bytes::from_static(&[7; 16])), epoch, 1, 10));
    link.expect_ack(5);
    let rejection = std::iter::from_fn(|| link.next()).find_map(|(_, frame)| match frame {
        S::Push(push) => push.entries.into_iter().find_map(|entry| match entry.event {
            Some(v1::entry::Event::Rejected(rejected)) => Some(rejected.code),
            _ => None,
        }),
        _ => None,
    });
    assert_eq!(rejection.and_then(Code::from_number), Some(Code::NoSuchConversation));
    // Fifteen bytes are no group at all.
    link.send(6, message(v1::send::To::Group(Bytes::from_static(&[7; 15])), epoch, 1, 10));
    link.expect_error(6, Code::InvalidArgument);
    world.ends_well();
}
