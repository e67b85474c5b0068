//! Frames that are small and mean much: nesting, repetition, extreme numbers. Each is answered or ends its link, in
//! bounded time, and takes no memory that stays.

use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use proto::close::Close;
use proto::frame::prefix;
use proto::limits::CLIENT_FRAME_BYTES_MAX;
use proto::v1::{self, client_frame::Frame as C, send::Body, send::To, server_frame::Frame as S};
use proto::{Code, ConversationId, DeviceId, UserId};
use tests::{DEADLINE, Device, frame_bytes, within};

use crate::{MIB, World};

/// No bomb keeps its own link waiting for longer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How often each is thrown: what stayed of all of them would be twice what may be taken.
const ROUNDS: usize = 100;

/// Sends bytes on a link of its own, and hears what comes of them; a ping tells the end of the answers.
fn throw(world: &World, bomb: &[u8]) -> Vec<S> {
    let (mut link, _) = world.signed_in("bomber", "phone");
    let begun = Instant::now();
    link.write(&[bomb, &frame_bytes(9_999, C::Ping(v1::Ping::default()))[..]].concat());
    let mut heard = Vec::new();
    while let Some((id, frame)) = link.next() {
        let over = matches!(frame, S::Kick(_)) || id == 9_999;
        if id != 9_999 {
            heard.push(frame);
        }
        if over {
            break;
        }
    }
    assert!(begun.elapsed() < ANSWER_MAX, "{:?} for {heard:?}", begun.elapsed());
    heard
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&prefix(message.len())[..], message].concat()
}

fn kicked(heard: &[S], close: Close) -> bool {
    matches!(heard, [S::Kick(kick)] if kick.code == close.number())
}

fn errors(heard: &[S]) -> Vec<Code> {
    let code = |frame: &S| match frame {
        S::Error(error) => Code::from_number(error.code),
        _ => None,
    };
    heard.iter().filter_map(code).collect()
}

#[test]
fn nesting_and_repetition_are_an_error_or_the_last_of_them() {
    let world = World::start(&[]);
    // Once for what a first time takes.
    throw(&world, &frame_bytes(2, C::Sync(v1::Sync::default())));
    world.under_attack("bombs", 8 * MIB, || {
        for _ in 0..ROUNDS {
            // Groups in groups, unknown and never ended; and ended.
            assert!(kicked(&throw(&world, &framed(&[0x5b; 60_000])), Close::Malformed));
            let ended = [[0x5b; 30_000], [0x5c; 30_000]].concat();
            assert!(kicked(&throw(&world, &framed(&ended)), Close::Malformed));
            // Unknown messages in messages are bytes, however deep they are meant.
            let deep = (0..1_000).fold(Vec::new(), |inner: Vec<u8>, _| {
                let mut outer = vec![0x5a];
                prost::encoding::encode_varint(inner.len() as u64, &mut outer);
                [outer, inner].concat()
            });
            assert_eq!(throw(&world, &framed(&deep)), []);
            // Six thousand syncs in one frame are one sync.
            let one =
                v1::ClientFrame { request_id: 5, frame: Some(C::Sync(v1::Sync { after: 1, limit: 1 })) };
            let (mut link, _) = world.signed_in("bomber", "phone");
            link.write(&framed(&one.encode_to_vec().repeat(6_000)));
            // Another would be told that there is one already.
            link.expect_error(5, Code::StaleRead);
            link.send(6, C::Ping(v1::Ping::default()));
            assert!(matches!(link.next(), Some((6, S::Pong(_)))));
        }
    });
}

#[test]
fn lists_beyond_their_limits_are_turned_down_whole() {
    let world = World::start(&[]);
    let (user, device) = (UserId::new("bomber").unwrap(), DeviceId::new("phone").unwrap());
    let group = ConversationId::group(&user, &device, "key").unwrap().to_bytes();
    let names = |count: usize| (0..count).map(|i| format!("{i}")).collect::<Vec<String>>();
    world.under_attack("long lists", 8 * MIB, || {
        let create = |members| {
            Body::CreateGroup(v1::CreateGroup { request_key: "key".into(), name: "all".into(), members })
        };
        // A hundred thousand members do not fit into any frame; ten thousand fit, and are too many.
        let whole = send(&group, create(names(100_000)));
        assert!(whole.len() > CLIENT_FRAME_BYTES_MAX);
        assert!(kicked(&throw(&world, &whole[..CLIENT_FRAME_BYTES_MAX]), Close::FrameTooLarge));
        for _ in 0..ROUNDS {
            for body in [
                create(names(10_000)),
                create(vec![String::new(); 20_000]),
                Body::AddMembers(v1::AddMembers { users: names(10_000) }),
                Body::RemoveMembers(v1::RemoveMembers { users: names(10_000) }),
            ] {
                assert_eq!(errors(&throw(&world, &send(&group, body))), [Code::TooLarge]);
            }
        }
        let name = "x".repeat(60_000);
        let rename = Body::RenameGroup(v1::RenameGroup { name: name.clone() });
        assert_eq!(errors(&throw(&world, &send(&group, rename))), [Code::TooLarge]);
        let key = v1::CreateGroup { request_key: name, ..v1::CreateGroup::default() };
        assert_eq!(errors(&throw(&world, &send(&group, Body::CreateGroup(key)))), [Code::TooLarge]);
    });
}

/// In an epoch that any present one is above of: what is turned down is turned down before that matters.
fn send(group: &Bytes, body: Body) -> Vec<u8> {
    let to = Some(To::Group(group.clone()));
    frame_bytes(2, C::Send(v1::Send { to, epoch: 1, n: 1, body: Some(body) })).to_vec()
}

#[test]
fn extreme_numbers_are_answered_and_the_link_goes_on() {
    let world = World::start(&["conn.cursors_every_ms=50"]);
    let (mut link, epoch) = world.signed_in("bomber", "desk");
    link.send(2, tests::text("bomber", epoch, 1));
    assert!(matches!(link.expect(), S::SendAck(_) | S::Push(_)));
    let most = u64::MAX;
    let call = |method: &str, request: Vec<u8>| {
        frame_bytes(7, C::Call(v1::Call { method: format!("godwit.v1.{method}"), request: request.into() }))
    };
    let of = Some(v1::history_request::Of::User("bomber".into()));
    let history = |from, backward, min_no| {
        let request = v1::HistoryRequest { of: of.clone(), from, backward, limit: u32::MAX, min_no };
        call("Conversations/History", request.encode_to_vec())
    };
    let members = |min_no| {
        let request = v1::MembersRequest {
            group: Bytes::from(vec![1; 16]),
            min_no,
            limit: u32::MAX,
            ..v1::MembersRequest::default()
        };
        call("Groups/Members", request.encode_to_vec())
    };
    world.under_attack("extreme numbers", 8 * MIB, || {
        for bomb in [
            frame_bytes(7, C::Sync(v1::Sync { after: most, limit: u32::MAX })),
            frame_bytes(7, C::Sync(v1::Sync { after: 0, limit: u32::MAX })),
            history(most, false, 0),
            history(most, true, most),
            history(0, true, 0),
            members(most),
            call("Groups/Members", vec![0xff; 60_000]),
            call(&"x".repeat(60_000), Vec::new()),
            frame_bytes(0, C::Ack(v1::Ack { seq: most })),
            frame_bytes(7, C::Ping(v1::Ping { battery: Some(u32::MAX) })),
        ] {
            let heard = throw(&world, &bomb);
            assert!(!heard.iter().any(|frame| matches!(frame, S::Kick(_))), "{heard:?}");
        }
        // A number that was never granted, and the highest there is.
        for n in [2, most] {
            let (mut link, epoch) = world.signed_in("bomber", "phone");
            link.send(2, tests::text("bomber", epoch, n));
            assert_eq!(gap(&mut link), Code::OutOfOrder);
        }
        let future = frame_bytes(2, tests::text("bomber", most, most));
        assert!(kicked(&throw(&world, &future), Close::OutOfState));
    });
    // What was acknowledged beyond its end is acknowledged up to there.
    let result = within(DEADLINE, "the cursor is stored", || {
        let result = world.device().sign_in(&world.token("bomber", "phone"));
        (result.cursor > 0).then_some(result)
    });
    assert!(result.cursor <= result.head, "{result:?}");
}

/// The error that tells of a gap; it follows the ack.
fn gap(link: &mut Device) -> Code {
    loop {
        if let S::Error(error) = link.expect() {
            return Code::from_number(error.code).unwrap();
        }
    }
}
