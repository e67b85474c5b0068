//! What is never in a log, whatever its level: tokens, and what people say.

use bytes::Bytes;
use client::development::{Key, find_key};
use prost::Message;
use proto::v1::{self, client_frame::Frame as C, send::Body, send::To, server_frame::Frame as S};
use proto::{DeviceId, UserId};
use tests::{Backends, Device, Server, forged, sign_in, within};

/// What is said: nobody else says it.
const BODY: &[u8] = b"the quick brown fox meets the lazy dog at nine";

/// The ways in which Rust, and others, write bytes.
fn written(bytes: &[u8]) -> Vec<String> {
    let decimal: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![String::from_utf8_lossy(bytes).into(), decimal.join(", "), decimal.join(","), hex]
}

/// Talks, signs in well and badly, syncs and asks: none of what is secret in that is in the log.
fn talks(server: &Server) {
    let key = Key::read(&find_key(&server.data())).unwrap();
    let token = |user| key.token(&UserId::new(user).unwrap(), &DeviceId::new("phone").unwrap(), 600);
    let tokens = [token("ann"), token("bob"), forged(&token("cat"))];
    let [mut ann, mut bob, mut cat] = [0; 3].map(|_| Device::connect(server.address()));
    let epoch = ann.sign_in(&tokens[0]).epoch;
    bob.sign_in(&tokens[1]);
    cat.send(1, C::SignIn(sign_in(&tokens[2])));
    assert!(matches!(cat.expect(), S::Error(_)));
    let body = Some(Body::Message(v1::Message { kind: 1, data: Bytes::from_static(BODY) }));
    ann.send(2, C::Send(v1::Send { to: Some(To::User("bob".into())), epoch, n: 1, body }));
    assert!(matches!(bob.expect(), S::Push(_)));
    bob.send(2, C::Sync(v1::Sync::default()));
    assert!(matches!(bob.expect(), S::SyncPage(page) if page.entries.len() == 1));
    let of = Some(v1::history_request::Of::User("ann".into()));
    let history = v1::HistoryRequest { of, min_no: 1, ..v1::HistoryRequest::default() };
    let request = Bytes::from(history.encode_to_vec());
    within(tests::DEADLINE, "the tables know the message", || {
        let request = request.clone();
        bob.send(3, C::Call(v1::Call { method: "godwit.v1.Conversations/History".into(), request }));
        matches!(bob.expect(), S::CallResult(_)).then_some(())
    });
    // A body that is a record which does not decode, and a frame that does not.
    bob.write(&[5, 0x22, 0x7f, 1, 2, 3]);
    assert!(matches!(bob.expect(), S::Kick(_)));
    within(tests::DEADLINE, "the log says much", || server.log().contains("TRACE").then_some(()));
    let log = server.log();
    for token in &tokens {
        let [_, payload, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
        for part in [payload, signature] {
            assert!(!log.contains(&part[..20]), "a token is in the log");
        }
    }
    for way in written(BODY) {
        assert!(!log.contains(&way), "a body is in the log, as {way}");
    }
}

#[test]
fn no_token_and_no_body_is_in_the_log_of_a_process_that_logs_everything() {
    let dir = tempfile::tempdir().unwrap();
    talks(&Server::start(dir.path(), "server", &["--set", "logs.level=trace"]));
}

#[test]
fn nor_in_that_of_one_on_kafka_and_cql() {
    let Some(backends) = Backends::find("a log without bodies on real back ends") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut arguments = vec!["--set", "logs.level=trace", "--name", "one"];
    arguments.extend(["--set", "storage.messages_partitions=2", "--set", "storage.timelines_partitions=2"]);
    arguments.extend(["--log", &backends.log, "--store", &backends.store]);
    talks(&Server::start(dir.path(), "server", &arguments));
}
