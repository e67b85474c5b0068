//! The node over real sockets, with a log whose faults are scripted and an owner that confirms sessions.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::cast_possible_truncation, clippy::disallowed_methods, reason = "a test")]

mod support;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use conn::{Config, Unready};
use proto::Code;
use proto::close::Close;
use proto::v1::{self, client_frame::Frame as C, down, server_frame::Frame as S, timeline_record, up};
use storage::log::{Append, AppendError, Topic};
use support::*;

fn ping() -> C {
    C::Ping(v1::Ping::default())
}

#[test]
fn a_session_from_sign_in_to_hanging_up() {
    let world = World::start(config());
    let mut ann = world.device();
    let result = ann.sign_in(&token("ann", "d1"));
    assert_eq!((result.head, result.heartbeat_max_ms), (10, 25_000));
    ann.send(0, ping());
    assert!(matches!(ann.expect(), S::Pong(_)));
    for n in 1..=3 {
        ann.send(10 + n, text("bob", result.epoch, n));
    }
    (1..=3).for_each(|n| ann.expect_ack(10 + n));
    let sends = world.log.sends();
    assert_eq!(sends.iter().map(|s| s.send.as_ref().unwrap().n).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(sends.iter().all(|s| (s.user.as_str(), s.device.as_str()) == ("ann", "d1")));
    let link = world.link_of("ann");
    ann.hang_up();
    until("the session is ended", || world.log.ends() == [link.link]);
    until("the link is gone", || world.node.links() == 0);
}

#[test]
fn what_is_sent_right_behind_the_sign_in_waits_for_the_token() {
    let world = World::start(config());
    let mut ann = world.device();
    let mut bytes = BytesMut::new();
    bytes.extend_from_slice(&frame_bytes(1, C::SignIn(sign_in(&token("ann", "d1")))));
    bytes.extend_from_slice(&frame_bytes(2, text("bob", 5, 9)));
    bytes.extend_from_slice(&frame_bytes(3, ping()));
    ann.write(&bytes);
    let mut replies: Vec<u64> = (0..3).map(|_| ann.next().unwrap().0).collect();
    replies.sort_unstable();
    assert_eq!(replies, [1, 2, 3]);
    assert_eq!(world.log.sends().len(), 1);
}

#[test]
fn bad_bytes_end_the_link_with_their_code() {
    let world = World::start(config());
    let cases: [(&[u8], Close); 3] = [
        (&[0xff, 0xff, 0xff, 0x7f], Close::FrameTooLarge),
        (&[0xff; 8], Close::Malformed),
        (&[4, 0xff, 0xff, 0xff, 0xff], Close::Malformed),
    ];
    for (bytes, close) in cases {
        let mut link = world.device();
        link.write(bytes);
        link.expect_kick(close);
        let mut ann = world.signed_in("ann", "d1");
        ann.write(bytes);
        ann.expect_kick(close);
    }
    let mut link = world.device();
    link.send(5, ping());
    link.expect_error(5, Code::NotSignedIn);
    link.expect_kick(Close::OutOfState);
    let mut link = world.device();
    link.send(5, C::SignIn(sign_in("no.such.token")));
    link.expect_error(5, Code::BadToken);
    link.expect_kick(Close::Unauthorized);
    let mut link = world.device();
    link.write(&frame_bytes(1, C::SignIn(sign_in(&token("ann", "d1"))))[..40]);
    link.hang_up();
    until("all links are gone", || world.node.links() == 0);
}

#[test]
fn a_body_one_byte_over_the_limit_is_refused_and_voided() {
    let world = World::start(config());
    let mut ann = world.device();
    let epoch = ann.sign_in(&token("ann", "d1")).epoch;
    let C::Send(mut send) = text("bob", epoch, 1) else { panic!() };
    let data = Bytes::from(vec![0; proto::limits::BODY_BYTES_MAX + 1]);
    send.body = Some(v1::send::Body::Message(v1::Message { kind: 1, data: data.clone() }));
    ann.send(2, C::Send(send.clone()));
    ann.expect_error(2, Code::TooLarge);
    send.body = Some(v1::send::Body::Void(v1::Void {}));
    ann.send(3, C::Send(send.clone()));
    ann.expect_ack(3);
    send.n = 2;
    send.body = Some(v1::send::Body::Message(v1::Message { kind: 1, data: data.slice(1..) }));
    ann.send(4, C::Send(send));
    ann.expect_ack(4);
}

#[test]
fn who_is_not_signed_in_gets_eight_kib_and_a_fixed_time() {
    let world = World::start(Config { unauthenticated_timeout_ms: 600, ..config() });
    let mut link = world.device();
    // A frame that could be one, but does not end.
    link.write(&[0x80, 0x80, 0x04]);
    link.write(&vec![0; 9_000]);
    link.expect_kick(Close::UnauthenticatedBudget);

    let begin = Instant::now();
    let mut link = world.device();
    link.write(&[0x80]);
    link.expect_kick(Close::SignInTimeout);
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(550) && took < Duration::from_millis(3_000), "{took:?}");
}

#[test]
fn silence_ends_a_live_link_and_a_ping_keeps_it() {
    let times = Config { heartbeat_min_ms: 100, heartbeat_max_ms: 200, idle_timeout_ms: 3_000, ..config() };
    let world = World::start(times);
    let mut silent = world.signed_in("silent", "d1");
    let mut ann = world.signed_in("ann", "d1");
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(6_000) {
        ann.send(0, ping());
        assert!(matches!(ann.expect(), S::Pong(_)));
        std::thread::sleep(Duration::from_millis(100));
    }
    silent.expect_kick(Close::IdleTimeout);
    let link = world.link_of("silent");
    assert_eq!(world.log.ends(), [link.link]);
}

#[test]
fn a_session_that_nobody_confirms_is_closed_and_ended() {
    let times = Config { unauthenticated_timeout_ms: 1_500, sign_in_timeout_ms: 2_000, ..config() };
    let world = World::start(times);
    let token = token("unconfirmed", "d1");
    let mut link = world.device();
    link.send(1, C::SignIn(sign_in(&token)));
    link.expect_kick(Close::SignInTimeout);
    assert_eq!(world.log.ends(), [world.link_of("unconfirmed").link]);
}

#[test]
fn a_full_log_refuses_and_the_same_number_goes_first_when_it_has_room() {
    let world = World::start(config());
    let mut ann = world.device();
    let epoch = ann.sign_in(&token("ann", "d1")).epoch;
    world.log.set(Topic::Messages, Mode::Refuse(Append::Full));
    ann.send(2, text("bob", epoch, 1));
    ann.send(3, text("bob", epoch, 2));
    ann.expect_error(2, Code::Busy);
    world.log.set(Topic::Messages, Mode::Land);
    ann.expect_error(3, Code::RefusedEarlier);
    ann.send(4, text("bob", epoch, 1));
    ann.send(5, text("bob", epoch, 2));
    ann.expect_ack(4);
    ann.expect_ack(5);
    assert_eq!(world.log.producers(), 1, "a log that is full was taken for dead");
}

#[test]
fn a_failed_append_closes_the_link_after_the_acks_before_it() {
    let world = World::start(config());
    let mut ann = world.device();
    let epoch = ann.sign_in(&token("ann", "d1")).epoch;
    ann.send(2, text("bob", epoch, 1));
    ann.expect_ack(2);
    world.log.set(Topic::Messages, Mode::Fail(AppendError::Timeout));
    ann.send(3, text("bob", epoch, 2));
    ann.send(4, text("bob", epoch, 3));
    ann.expect_kick(Close::AppendFailed);
    assert_eq!(world.log.ends(), [world.link_of("ann").link]);
}

#[test]
fn a_dead_producer_is_replaced_and_who_waited_for_it_is_closed() {
    let world = World::start(config());
    let (mut ann, mut bob) = (world.device(), world.signed_in("bob", "d1"));
    let epoch = ann.sign_in(&token("ann", "d1")).epoch;
    world.log.set(Topic::Messages, Mode::Hold);
    ann.send(2, text("bob", epoch, 1));
    until("the send is with the log", || world.log.sends().len() == 1);
    world.log.set(Topic::Messages, Mode::Fail(AppendError::Fatal));
    ann.expect_kick(Close::AppendFailed);
    until("there is another producer", || world.log.producers() == 2);
    until("streams are back", || world.node.ready().is_ok());
    world.log.set(Topic::Messages, Mode::Land);
    bob.send(0, ping());
    assert!(matches!(bob.expect(), S::Pong(_)));
    // One that had nothing under way says it of itself.
    world.log.set(Topic::Messages, Mode::Refuse(Append::Dead));
    let mut cat = world.device();
    let epoch = cat.sign_in(&token("cat", "d1")).epoch;
    cat.send(2, text("bob", epoch, 1));
    until("there is another producer again", || world.log.producers() == 3);
    world.log.set(Topic::Messages, Mode::Land);
    let mut ann = world.device();
    let epoch = ann.sign_in(&token("ann", "d1")).epoch;
    ann.send(2, text("bob", epoch, 1));
    ann.expect_ack(2);
}

#[test]
fn pushes_and_syncs_reach_the_link_and_its_told_is_in_the_roster() {
    let world = World::start(config());
    let mut ann = world.signed_in("ann", "d1");
    let partition = partition_of("ann");
    let mut stream = world.attach(partition, 2);
    let (roster, _) = stream.roster();
    let line = roster.links.iter().find(|link| link.user == "ann").unwrap();
    assert_eq!((line.confirmed, line.told, roster.incarnation), (true, 10, 7));
    let reactor = line.link.unwrap().reactor as usize;
    assert!(roster.bounds.len() == 2 && line.link.unwrap().link < roster.bounds[reactor]);

    let link = world.link_of("ann");
    let frame = push(11, 5);
    stream.say(down::Down::Push(v1::PushFrame { links: vec![link], first: 11, last: 11, frame }));
    assert!(matches!(ann.expect(), S::Push(p) if p.entries[0].seq == 11));
    stream.say(down::Down::Hint(v1::LinkHint { link: Some(link), head: 15 }));
    assert!(matches!(ann.expect(), S::SyncHint(h) if h.head == 15));
    ann.send(7, C::Sync(v1::Sync { after: 11, limit: 0 }));
    let Some(up::Up::Sync(ask)) = stream.next() else { panic!() };
    assert_eq!((ask.after, ask.user.as_str()), (11, "ann"));
    let page = prost::Message::encode_to_vec(&v1::SyncPage { head: 15, first: 1, ..Default::default() });
    let result = Some(v1::sync_answer::Result::Page(page.into()));
    stream.say(down::Down::SyncAnswer(v1::SyncAnswer {
        link: ask.link,
        request_id: ask.request_id,
        result,
        told: 15,
    }));
    assert!(matches!(ann.next(), Some((7, S::SyncPage(p))) if p.head == 15));
    let (roster, _) = world.attach(partition, 2).roster();
    assert_eq!(roster.links.iter().find(|link| link.user == "ann").unwrap().told, 15);
}

#[test]
fn a_lower_term_is_refused_and_a_higher_one_takes_over() {
    let world = World::start(config());
    let mut ann = world.signed_in("ann", "d1");
    let partition = partition_of("ann");
    let mut second = world.attach(partition, 5);
    second.roster();
    let mut first = world.attach(partition, 4);
    let Some(up::Up::Refused(refused)) = first.next() else { panic!() };
    assert_eq!(refused.term, 5);
    assert!(first.next().is_none());
    let mut third = world.attach(partition, 6);
    third.roster();
    assert!(second.next().is_none(), "the replaced stream ends");
    ann.send(7, C::Sync(v1::Sync { after: 0, limit: 0 }));
    assert!(matches!(third.next(), Some(up::Up::Sync(_))));
    // Unanswered when the stream goes: the device is told.
    drop(third);
    ann.expect_error(7, Code::Unavailable);
    ann.send(8, C::Sync(v1::Sync { after: 0, limit: 0 }));
    ann.expect_error(8, Code::Unavailable);
}

#[test]
fn who_has_the_whole_roster_gets_every_ask() {
    let world = World::start(config());
    let mut ann = world.signed_in("ann", "d1");
    for term in 2..1_000 {
        let mut stream = world.attach(partition_of("ann"), term);
        stream.roster();
        ann.send(term, C::Sync(v1::Sync { after: 0, limit: 0 }));
        let next = stream.next();
        assert!(matches!(next, Some(up::Up::Sync(_))), "{term}: {next:?}");
        drop(stream);
        ann.expect_error(term, Code::Unavailable);
    }
}

#[test]
fn frames_for_a_link_that_is_gone_are_answered_with_its_end_but_kicks_are_not() {
    let world = World::start(config());
    let mut stream = world.attach(0, 2);
    stream.roster();
    let gone = |link| Some(v1::LinkRef { reactor: 1, link });
    stream.say(down::Down::Kick(v1::LinkKick { link: gone(77), ..Default::default() }));
    stream.say(down::Down::Result(v1::SessionResult { link: gone(78), ..Default::default() }));
    stream.say(down::Down::Hint(v1::LinkHint { link: gone(79), head: 1 }));
    stream.say(down::Down::Hint(v1::LinkHint { link: gone(79), head: 2 }));
    let links = vec![gone(80).unwrap()];
    stream.say(down::Down::Push(v1::PushFrame { links, first: 1, last: 1, frame: push(1, 1) }));
    until("three ends, each once", || world.log.ends() == [78, 79, 80]);
    let Some(timeline_record::Record::SessionEnd(end)) = world.log.timelines().pop() else { panic!() };
    let fence = end.fence.unwrap();
    assert_eq!((fence.node.as_str(), fence.incarnation, fence.reactor), ("n1", 7, 1));
}

#[test]
fn an_end_that_cannot_be_appended_breaks_the_stream() {
    let world = World::start(config());
    for mode in [Mode::Refuse(Append::Full), Mode::Fail(AppendError::Timeout)] {
        let mut stream = world.attach(partition_of("ann"), 2);
        stream.roster();
        world.signed_in_over(&stream, "ann").hang_up_when(|| world.log.set(Topic::Timelines, mode));
        assert!(stream.next().is_none());
        world.log.set(Topic::Timelines, Mode::Land);
    }
}

#[test]
fn a_kick_of_the_owner_is_the_last_frame_and_needs_no_end() {
    let world = World::start(config());
    let mut ann = world.signed_in("ann", "d1");
    let mut stream = world.attach(partition_of("ann"), 2);
    stream.roster();
    let code = Close::Replaced.number();
    let kick = v1::LinkKick { link: Some(world.link_of("ann")), code, reason: "newer".into() };
    stream.say(down::Down::Kick(kick));
    ann.expect_kick(Close::Replaced);
    assert!(world.log.ends().is_empty());
}

#[test]
fn a_device_that_does_not_read_is_marked_then_hinted_or_closed() {
    let world = World::start(Config { write_stall_timeout_ms: 1_500, ..config() });
    let mut slow = world.signed_in("ann", "d1");
    let mut stream = world.attach(partition_of("ann"), 2);
    stream.roster();
    let link = world.link_of("ann");
    let flood = |from: u64, to: u64| {
        for seq in from..to {
            let frame = push(seq, 60_000);
            stream.say(down::Down::Push(v1::PushFrame { links: vec![link], first: seq, last: seq, frame }));
        }
    };
    flood(11, 400);
    // It reads again: some pushes, and a hint for what was left out between.
    let (mut pushed, mut told) = (0, 0);
    while told < 399 {
        match slow.expect() {
            S::Push(push) => {
                pushed += 1;
                told = push.entries[0].seq;
            }
            S::SyncHint(hint) => told = hint.head,
            other => panic!("{other:?}"),
        }
    }
    assert!(pushed < 389, "all {pushed} were pushed");
    // And then it never does. The kernel takes a few megabytes in, now more and now less, before anything waits.
    let mut seq = 400;
    until("the link is closed", || {
        flood(seq, seq + 20);
        seq += 20;
        world.log.ends().contains(&link.link)
    });
}

#[test]
fn who_holds_the_most_for_the_longest_is_closed_and_others_get_their_pushes() {
    // Below what is too much for one of them, and together more than may wait.
    let world = World::start(Config {
        reactors: 1,
        buffered_bytes_max: 2 * 1024 * 1024,
        write_stall_timeout_ms: 600_000,
        ..config()
    });
    let partition = partition_of("ann");
    let names = (0..).map(|i| format!("hog-{i}")).filter(|name| partition_of(name) == partition).take(40);
    let hogs: Vec<_> = names.map(|name| (world.signed_in(&name, "d1"), world.link_of(&name))).collect();
    let mut ann = world.signed_in("ann", "d1");
    let links: Vec<_> = hogs.iter().map(|(_, link)| *link).collect();
    let mut stream = world.attach(partition, 2);
    stream.roster();
    let to = |links: Vec<v1::LinkRef>, seq, bytes| {
        let frame = push(seq, bytes);
        stream.say(down::Down::Push(v1::PushFrame { links, first: seq, last: seq, frame }));
    };
    let mut seq = 11;
    until("some of them are closed", || {
        (0..50).for_each(|_| to(links.clone(), seq, 4_000));
        to(vec![world.link_of("ann")], seq, 10);
        assert!(matches!(ann.expect(), S::Push(p) if p.entries[0].seq == seq));
        seq += 1;
        !world.log.ends().is_empty()
    });
    let closed = world.log.ends();
    assert!(closed.iter().all(|closed| links.iter().any(|link| link.link == *closed)));
}

#[test]
fn answers_that_do_not_fit_are_refused_and_the_link_stays() {
    const CALLS: u64 = 8;
    let world = World::start(config());
    let mut ann = world.signed_in("ann", "d1");
    (1..=CALLS).for_each(|id| ann.send(id, C::Call(v1::Call { method: "m".into(), request: Bytes::new() })));
    let requests: Vec<_> = (0..CALLS).map(|_| world.call()).collect();
    let response = Bytes::from(vec![7; 550 * 1024]);
    for request in requests {
        let result = v1::CallResult { response: response.clone() };
        request.reply.send(v1::link_call_result::Result::Ok(result));
    }
    let mut answered = 0;
    for _ in 0..CALLS {
        match ann.expect() {
            S::CallResult(_) => answered += 1,
            S::Error(error) => assert_eq!(error.code, Code::Busy.number()),
            other => panic!("{other:?}"),
        }
    }
    assert!(answered > 0);
    ann.send(0, ping());
    assert!(matches!(ann.expect(), S::Pong(_)));
}

#[test]
fn a_device_that_is_not_read_is_not_taken_for_silent() {
    let (heartbeat_min_ms, heartbeat_max_ms, idle_timeout_ms) = (100, 200, 1_500);
    let world = World::start(Config { heartbeat_min_ms, heartbeat_max_ms, idle_timeout_ms, ..config() });
    let mut ann = world.device();
    let epoch = ann.sign_in(&token("ann", "d1")).epoch;
    world.log.set(Topic::Messages, Mode::Refuse(Append::Full));
    ann.send(2, text("bob", epoch, 1));
    ann.expect_error(2, Code::Busy);
    let began = Instant::now();
    let mut pings = 0;
    // The log is full for longer than a device may be silent, and this one is not.
    while began.elapsed() < Duration::from_millis(4 * idle_timeout_ms) {
        ann.send(0, ping());
        pings += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    world.log.set(Topic::Messages, Mode::Land);
    (0..pings).for_each(|_| assert!(matches!(ann.expect(), S::Pong(_))));
    ann.send(3, text("bob", epoch, 1));
    ann.expect_ack(3);
}

#[test]
fn a_device_that_floods_is_closed() {
    let world = World::start(Config { frames_per_s: 10, frames_burst: 100, ..config() });
    let mut ann = world.signed_in("ann", "d1");
    let pings: Vec<u8> = (0..300).flat_map(|_| frame_bytes(0, ping())).collect();
    ann.write(&pings);
    loop {
        match ann.expect() {
            S::Pong(_) => {}
            S::Kick(kick) => break assert_eq!(kick.code, Close::RateExceeded.number()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn acknowledged_seqs_reach_the_log_in_time_and_when_links_close() {
    let world = World::start(Config { cursors_every_ms: 100, ..config() });
    let cursors = || {
        let of = |record| match record {
            timeline_record::Record::Cursors(cursors) => Some(cursors.cursors),
            _ => None,
        };
        world
            .log
            .timelines()
            .into_iter()
            .filter_map(of)
            .flatten()
            .map(|c| (c.user, c.seq))
            .collect::<Vec<_>>()
    };
    let mut ann = world.signed_in("ann", "d1");
    ann.send(0, C::Ack(v1::Ack { seq: 4 }));
    until("the cursor is saved", || cursors() == [("ann".to_owned(), 4)]);
    ann.send(0, C::Ack(v1::Ack { seq: 6 }));
    ann.hang_up();
    until("the last one too", || cursors().contains(&("ann".to_owned(), 6)));
}

#[test]
fn calls_are_answered_or_nobody_is_there() {
    let world = World::start(config());
    let mut ann = world.signed_in("ann", "d1");
    let call = || C::Call(v1::Call { method: "m".into(), request: Bytes::new() });
    ann.send(5, call());
    let request = world.call();
    assert_eq!((request.call.user.as_str(), request.call.device.as_str()), ("ann", "d1"));
    let response = Bytes::from_static(b"answer");
    request.reply.send(v1::link_call_result::Result::Ok(v1::CallResult { response: response.clone() }));
    assert_eq!(ann.next(), Some((5, S::CallResult(v1::CallResult { response }))));
    ann.send(6, call());
    drop(world.call());
    ann.expect_error(6, Code::Unavailable);
}

#[test]
fn without_a_lease_no_link_lives_and_with_a_new_one_they_come_back() {
    let world = World::start(config());
    let mut ann = world.signed_in("ann", "d1");
    world.node.lease_lost();
    ann.expect_kick(Close::LeaseLost);
    assert!(world.node.ready().unwrap_err().contains(&Unready::NoLease));
    until("both reactors know", || {
        let mut early = world.device();
        matches!(early.next(), Some((0, S::Kick(kick))) if kick.code == Close::GoingAway.number())
    });
    world.node.set_incarnation(8);
    assert!(world.log.ends().is_empty());
    let mut stream = world.attach(partition_of("ann"), 2);
    let (roster, _) = stream.roster();
    assert_eq!((roster.incarnation, roster.links.len()), (8, 0));
    world.signed_in_over(&stream, "ann").hang_up_when(|| ());
}

#[test]
fn a_drain_tells_acknowledges_ends_and_comes_to_an_end() {
    let world = World::start(Config { drain_within_ms: 300, drain_timeout_ms: 5_000, ..config() });
    let mut ann = world.device();
    let epoch = ann.sign_in(&token("ann", "d1")).epoch;
    let mut bob = world.signed_in("bob", "d1");
    world.log.set(Topic::Messages, Mode::Hold);
    ann.send(2, text("bob", epoch, 1));
    until("the send is with the log", || world.log.sends().len() == 1);
    let node = world.node.clone();
    let drained = world.runtime.spawn(async move { node.drain().await });
    for device in [&mut ann, &mut bob] {
        assert!(matches!(device.expect(), S::GoAway(g) if g.within_ms == 300));
    }
    assert!(world.node.ready().unwrap_err().contains(&Unready::Draining));
    bob.expect_kick(Close::GoingAway);
    assert!(!drained.is_finished(), "a send is not acknowledged yet");
    world.log.set(Topic::Messages, Mode::Land);
    ann.expect_ack(2);
    ann.expect_kick(Close::GoingAway);
    world.runtime.block_on(drained).unwrap();
    assert_eq!(world.log.ends().len(), 2);
    assert!(std::net::TcpStream::connect(world.node.address()).is_err());
}

#[test]
fn a_drain_ends_in_time_whatever_the_log_does() {
    let world = World::start(Config { drain_within_ms: 200, drain_timeout_ms: 1_000, ..config() });
    let mut ann = world.device();
    let epoch = ann.sign_in(&token("ann", "d1")).epoch;
    world.log.set(Topic::Messages, Mode::Hold);
    ann.send(2, text("bob", epoch, 1));
    until("the send is with the log", || world.log.sends().len() == 1);
    let begun = Instant::now();
    world.runtime.block_on(world.node.drain());
    assert!(begun.elapsed() >= Duration::from_millis(1_000), "{:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(matches!(ann.expect(), S::GoAway(_)));
    // Nothing was said of the send: the device sends it again elsewhere.
    ann.expect_kick(Close::GoingAway);
}

#[test]
fn a_roster_comes_in_parts_and_is_complete() {
    let world = World::start(config());
    let partition = partition_of("u");
    let links: Vec<_> = (0..1_300)
        .map(|i| {
            let mut link = world.device();
            link.send(1, C::SignIn(sign_in(&token("u", &format!("d{i}")))));
            link
        })
        .collect();
    until("all are recorded", || world.starts.lock().unwrap().len() == links.len());
    let (roster, parts) = world.attach(partition, 2).roster();
    let mut numbers: Vec<_> =
        roster.links.iter().map(|l| (l.link.unwrap().reactor, l.link.unwrap().link)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), links.len());
    assert!(parts > 3, "{parts} parts");
    assert!(numbers.iter().all(|(reactor, link)| *link < roster.bounds[*reactor as usize]));
}

#[test]
fn one_address_cannot_hold_every_place_without_signing_in() {
    let world = World::start(Config { reactors: 1, unauthenticated_per_address_max: 3, ..config() });
    let guests: Vec<_> = (0..3).map(|_| world.device()).collect();
    until("three guests", || world.node.links() == 3);
    world.device().expect_kick(Close::Overloaded);
    drop(guests);
    until("the guests are gone", || world.node.links() == 0);
    world.signed_in("ann", "d1").hang_up();
}

fn partition_of(user: &str) -> u32 {
    proto::partition::of_user(&proto::UserId::new(user).unwrap(), PARTITIONS.timelines)
}

/// A device whose session was confirmed over a stream of the test's own.
struct SignedIn<'a> {
    device: Device,
    _world: &'a World,
}

impl World {
    fn signed_in_over(&self, stream: &Stream, user: &str) -> SignedIn<'_> {
        let before = self.starts.lock().unwrap().len();
        let mut device = self.device();
        device.send(1, C::SignIn(sign_in(&token(user, "d1"))));
        until("the session is recorded", || self.starts.lock().unwrap().len() > before);
        let link = Some(self.link_of(user));
        stream.say(down::Down::Result(v1::SessionResult { link, epoch: 5_000, ..Default::default() }));
        assert!(matches!(device.expect(), S::SignInResult(r) if r.epoch == 5_000));
        SignedIn { device, _world: self }
    }
}

impl SignedIn<'_> {
    fn hang_up_when(self, ready: impl FnOnce()) {
        ready();
        self.device.hang_up();
    }
}
