//! Sends that the server does not take: each is answered, and nothing overtakes it.

use bytes::Bytes;
use proto::Code;
use proto::close::Close;
use proto::limits::BODY_BYTES_MAX;
use proto::v1::{self, client_frame::Frame as C, send::To, server_frame::Frame as S};
use tests::{frame_bytes, text};

use crate::{World, goes_on};

fn message(to: To, epoch: u64, n: u64, bytes: usize) -> C {
    let message = v1::Message { kind: 1, data: Bytes::from(vec![b'x'; bytes]) };
    C::Send(v1::Send { to: Some(to), epoch, n, body: Some(v1::send::Body::Message(message)) })
}

#[test]
fn a_message_one_byte_over_the_limit_is_too_large_and_one_at_it_is_not() {
    let world = World::start();
    let (mut link, epoch) = world.signed_in("cat", "phone");
    let to = || To::User("dan".into());
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
    link.send(5, message(To::Group(Bytes::from_static(&[7; 16])), epoch, 1, 10));
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
    link.send(6, message(To::Group(Bytes::from_static(&[7; 15])), epoch, 1, 10));
    link.expect_error(6, Code::InvalidArgument);
    world.ends_well();
}

#[test]
fn nothing_overtakes_a_send_that_was_refused() {
    let world = World::start();
    let (mut link, epoch) = world.signed_in("cat", "phone");
    let to = || To::User("dan".into());
    link.send(2, message(to(), epoch, 1, BODY_BYTES_MAX + 1));
    link.expect_error(2, Code::TooLarge);
    link.send(3, text("dan", epoch, 2));
    link.expect_error(3, Code::RefusedEarlier);
    // Its number is given up, and everything goes on behind it.
    let void = v1::send::Body::Void(v1::Void::default());
    link.send(4, C::Send(v1::Send { to: Some(to()), epoch, n: 1, body: Some(void) }));
    link.expect_ack(4);
    link.send(5, text("dan", epoch, 2));
    link.expect_ack(5);
    world.ends_well();
}

#[test]
fn an_id_that_cannot_be_one_is_answered_and_the_link_goes_on() {
    let world = World::start();
    let wrong = [To::User(String::new()), To::User("x".repeat(65)), To::Group(vec![1; 15].into())];
    for to in wrong {
        let (mut link, epoch) = world.signed_in("cat", "phone");
        link.send(2, message(to, epoch, 1, 10));
        link.expect_error(2, Code::InvalidArgument);
        goes_on(&mut link);
    }
    world.ends_well();
}

#[test]
fn sends_beyond_those_that_may_be_unanswered_end_the_link_and_the_acknowledged_are_there() {
    let world = World::start();
    let (mut link, epoch) = world.signed_in("cat", "phone");
    let burst: Vec<u8> = (1..=500).flat_map(|n| frame_bytes(1 + n, text("bob", epoch, n))).collect();
    link.write(&burst);
    let mut acked = 0;
    while let Some((id, frame)) = link.next() {
        match frame {
            S::SendAck(_) => {
                acked += 1;
                assert_eq!(id, 1 + acked, "acks leave in the order of the sends");
            }
            S::Kick(kick) => assert_eq!(Close::from_number(kick.code), Some(Close::TooManyUnacked)),
            S::Push(_) | S::SyncHint(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let count = usize::try_from(acked).unwrap();
    assert!(count < 500, "nobody was stopped");
    world.bob.wait_count("all that was acknowledged", count, |event| event["sender"] == "cat");
}
