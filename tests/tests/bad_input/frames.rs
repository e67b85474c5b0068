//! Bytes and frames that no client sends: broken, too long, unknown, or out of their state.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use proto::Code;
use proto::close::Close;
use proto::limits::{CLIENT_FRAME_BYTES_MAX, UNAUTHENTICATED_BYTES_MAX};
use proto::v1::{self, client_frame::Frame as C};
use tests::{frame_bytes, sign_in, text};

use crate::{World, goes_on, token};

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
    let world = World::with(&["--set", "conn.unauthenticated_timeout_ms=3000"]);
    let begun = Instant::now();
    let mut link = world.device();
    let frame = frame_bytes(1, C::SignIn(sign_in("x.y.z")));
    link.write(&frame[..frame.len() / 2]);
    link.expect_kick(Close::SignInTimeout);
    assert!(begun.elapsed() >= Duration::from_millis(2_900), "{:?}", begun.elapsed());
    world.ends_well();
}

#[test]
fn an_oversized_frame_is_refused_at_its_length() {
    let world = World::start();
    for mut link in [world.device(), world.signed_in("cat", "phone").0] {
        link.write(&proto::frame::prefix(CLIENT_FRAME_BYTES_MAX + 1));
        link.expect_kick(Close::FrameTooLarge);
    }
    world.ends_well();
}

#[test]
fn an_unknown_frame_is_answered_and_the_link_goes_on() {
    let world = World::start();
    let (mut link, _) = world.signed_in("cat", "phone");
    // Field 99 of ClientFrame, as a later revision might have it, under request 7.
    link.write(&[6, 0x08, 7, 0x9a, 0x06, 0x01, b'x']);
    link.expect_error(7, Code::UnknownFrame);
    goes_on(&mut link);
    world.ends_well();
}

#[test]
fn bytes_that_are_no_frame_are_malformed() {
    let world = World::start();
    let length_without_end = [0xff; 6];
    let no_message = [4, 0xff, 0xff, 0xff, 0xff];
    let longer_than_its_frame = [2, 0x22, 0x7f];
    let without_an_id = frame_bytes(0, text("bob", 1, 1));
    for bytes in [&length_without_end[..], &no_message, &longer_than_its_frame, &without_an_id] {
        let (mut link, _) = world.signed_in("cat", "phone");
        link.write(bytes);
        link.expect_kick(Close::Malformed);
    }
    world.ends_well();
}

#[test]
fn a_frame_out_of_its_state_ends_the_link() {
    let world = World::start();
    let (mut link, _) = world.signed_in("cat", "phone");
    link.send(9, C::SignIn(sign_in(&token(&world.server.data(), "cat", "phone"))));
    link.expect_kick(Close::OutOfState);
    // An epoch that was never granted.
    let (mut link, epoch) = world.signed_in("cat", "phone");
    link.send(2, text("bob", epoch + 1, 1));
    link.expect_kick(Close::OutOfState);
    world.ends_well();
}

#[test]
fn a_revision_that_is_not_spoken_is_told_so() {
    let world = World::start();
    let good = token(&world.server.data(), "cat", "phone");
    let mut link = world.device();
    link.send(1, C::SignIn(v1::SignIn { protocol: 2, ..sign_in(&good) }));
    link.expect_kick(Close::UnsupportedProtocol);
    world.ends_well();
}

#[test]
fn a_method_that_is_not_known_is_answered_and_the_link_goes_on() {
    let world = World::start();
    let (mut link, _) = world.signed_in("cat", "phone");
    link.send(2, C::Call(v1::Call { method: "godwit.v1.Kitchen/Cook".into(), ..v1::Call::default() }));
    link.expect_error(2, Code::UnknownMethod);
    goes_on(&mut link);
    world.ends_well();
}

#[test]
fn an_unauthenticated_frame_is_answered_and_ends_the_link() {
    let world = World::start();
    let call = v1::Call { method: "godwit.v1.Groups/Members".into(), ..v1::Call::default() };
    let (ping, ack) = (C::Ping(v1::Ping::default()), C::Ack(v1::Ack { seq: 1 }));
    for frame in [text("bob", 1, 1), C::Sync(v1::Sync::default()), C::Call(call), ping, ack] {
        let mut link = world.device();
        link.send(3, frame);
        link.expect_error(3, Code::NotSignedIn);
        link.expect_kick(Close::OutOfState);
    }
    let mut flood = world.device();
    let length = UNAUTHENTICATED_BYTES_MAX;
    flood.write(&[&proto::frame::prefix(length)[..], &vec![0; length]].concat());
    flood.expect_kick(Close::UnauthenticatedBudget);
    world.ends_well();
}
