//! The session, driven by a scripted device, a scripted log and a scripted owner.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use bytes::Bytes;
use conn::Now;
use conn::session::{Action, Appended, Deadline, Denied, Rules, Session, Verified};
use proptest::prelude::*;
use prost::Message;
use proto::close::Close;
use proto::v1::{self, client_frame::Frame as C, server_frame::Frame as S};
use proto::{Code, ConversationId, DeviceId, UserId};
use storage::log::{AppendError, Partitions, Topic};

fn rules() -> Rules {
    Rules {
        node: "n1".into(),
        incarnation: 7,
        reactor: 2,
        partitions: Partitions { messages: 16, timelines: 8 },
        unauthenticated_ms: 10_000,
        sign_in_ms: 20_000,
        idle_ms: 60_000,
        sync_ms: 10_000,
        heartbeat_ms: (20_000, 25_000),
        frame_cost_us: 1_000,
        burst_us: 1_000_000,
        calls_max: 2,
        group_members_max: 500,
    }
}

struct Peer {
    rules: Rules,
    now: Now,
    session: Session,
    actions: Vec<Action>,
}

impl Peer {
    fn new() -> Self {
        let now = Now { ms: 1_000, wall_us: 5 };
        Self { rules: rules(), now, session: Session::new(1, now), actions: Vec::new() }
    }

    fn signed_in() -> Self {
        let mut peer = Self::new();
        peer.join();
        peer.session.on_report(&peer.rules, Appended::Start, Ok(()), &mut peer.actions);
        peer.result(100, 10);
        assert!(matches!(peer.expect(), S::SignInResult(r) if r.epoch == 100 && r.head == 10));
        peer
    }

    fn join(&mut self) {
        self.send(1, C::SignIn(sign_in()));
        assert_eq!(self.next(), Action::Verify("token".into()));
        assert!(!self.session.reads());
        self.session.on_verified(&self.rules, 9, Ok(ann()), &mut self.actions);
        assert!(matches!(self.next(), Action::Append { what: Appended::Start, .. }));
    }

    fn result(&mut self, epoch: u64, head: u64) {
        let result = v1::SessionResult { epoch, head, first: 1, ..Default::default() };
        self.session.on_result(&self.rules, self.now, &result, &mut self.actions);
    }

    fn send(&mut self, request_id: u64, frame: C) {
        let frame = v1::ClientFrame { request_id, frame: Some(frame) };
        self.session.on_message(&self.rules, self.now, &frame.encode_to_vec(), &mut self.actions);
    }

    fn report(&mut self, number: u32, outcome: Result<(), AppendError>) {
        self.session.on_report(&self.rules, Appended::Send(number), outcome, &mut self.actions);
    }

    fn refuse(&mut self, number: u32) {
        self.session.on_refused(&self.rules, Appended::Send(number), &mut self.actions);
    }

    fn next(&mut self) -> Action {
        assert!(!self.actions.is_empty(), "nothing happened");
        self.actions.remove(0)
    }

    fn expect(&mut self) -> S {
        match self.next() {
            Action::Write(frame) => frame.frame.unwrap(),
            Action::WriteEncoded(bytes) => v1::ServerFrame::decode(bytes).unwrap().frame.unwrap(),
            other => panic!("not a frame: {other:?}"),
        }
    }

    fn expect_error(&mut self, code: Code) {
        match self.expect() {
            S::Error(error) => assert_eq!(Code::from_number(error.code), Some(code), "{error:?}"),
            other => panic!("not an error: {other:?}"),
        }
    }

    fn expect_append(&mut self, what: Appended) {
        match self.next() {
            Action::Append { what: this, .. } => assert_eq!(this, what),
            other => panic!("not an append: {other:?}"),
        }
    }

    fn expect_close(&mut self, close: Close) {
        match self.expect() {
            S::Kick(kick) => assert_eq!(kick.code, close.number()),
            other => panic!("not a kick: {other:?}"),
        }
        assert_eq!(self.next(), Action::Close(close));
        self.expect_nothing();
        assert!(self.session.is_closing());
    }

    fn expect_nothing(&self) {
        assert_eq!(self.actions, []);
    }
}

fn sign_in() -> v1::SignIn {
    v1::SignIn { token: "token".into(), protocol: 1, device_class: "phone".into(), ..Default::default() }
}

fn ann() -> Verified {
    Verified { user: UserId::new("ann").unwrap(), device: DeviceId::new("d1").unwrap() }
}

fn text(to: &str, epoch: u64, n: u64) -> v1::Send {
    sized(to, epoch, n, 5)
}

fn sized(to: &str, epoch: u64, n: u64, bytes: usize) -> v1::Send {
    let message = v1::Message { kind: 1, data: Bytes::from(vec![b'x'; bytes]) };
    v1::Send {
        to: Some(v1::send::To::User(to.into())),
        epoch,
        n,
        body: Some(v1::send::Body::Message(message)),
    }
}

fn void(to: &str, epoch: u64, n: u64) -> v1::Send {
    v1::Send { body: Some(v1::send::Body::Void(v1::Void {})), ..text(to, epoch, n) }
}

fn group(body: v1::send::Body) -> v1::Send {
    let to = Some(v1::send::To::Group(Bytes::from_static(&[1; 16])));
    v1::Send { to, epoch: 100, n: 1, body: Some(body) }
}

#[test]
fn signing_in_records_the_session_with_a_new_number_and_says_what_the_owner_said() {
    let mut peer = Peer::new();
    peer.send(3, C::SignIn(sign_in()));
    peer.next();
    peer.session.on_verified(&peer.rules, 9, Ok(ann()), &mut peer.actions);
    let Action::Append { topic, partition, record, what } = peer.next() else { panic!() };
    assert_eq!((topic, what), (Topic::Timelines, Appended::Start));
    assert_eq!(partition, proto::partition::of_user(&ann().user, 8));
    let start = v1::SessionStart {
        user: "ann".into(),
        device: "d1".into(),
        device_class: "phone".into(),
        fence: Some(v1::Fence { node: "n1".into(), incarnation: 7, reactor: 2, link: 9 }),
    };
    let expected = v1::timeline_record::Record::SessionStart(start);
    assert_eq!(v1::TimelineRecord::decode(record).unwrap().record, Some(expected));
    assert!(!peer.session.roster(&peer.rules).unwrap().confirmed);

    peer.result(100, 10);
    let Action::Write(frame) = peer.next() else { panic!() };
    assert_eq!(frame.reply_to, 3);
    let Some(S::SignInResult(result)) = frame.frame else { panic!() };
    assert_eq!((result.epoch, result.head, result.heartbeat_max_ms), (100, 10, 25_000));
    let roster = peer.session.roster(&peer.rules).unwrap();
    assert_eq!((roster.confirmed, roster.told, roster.link.unwrap().link), (true, 10, 9));
}

#[test]
fn a_token_that_does_not_verify_is_answered_and_the_link_closed() {
    for (denied, code, close) in [
        (Denied::Bad("signature"), Code::BadToken, Close::Unauthorized),
        (Denied::Expired, Code::TokenExpired, Close::Unauthorized),
        (Denied::Busy, Code::Busy, Close::Overloaded),
    ] {
        let mut peer = Peer::new();
        peer.send(1, C::SignIn(sign_in()));
        peer.next();
        peer.session.on_verified(&peer.rules, 9, Err(denied), &mut peer.actions);
        peer.expect_error(code);
        peer.expect_close(close);
    }
}

#[test]
fn what_a_state_does_not_allow_ends_the_link() {
    let mut peer = Peer::new();
    peer.send(1, C::Ping(v1::Ping::default()));
    peer.expect_error(Code::NotSignedIn);
    peer.expect_close(Close::OutOfState);

    let mut peer = Peer::new();
    peer.send(1, C::SignIn(v1::SignIn { protocol: 2, ..sign_in() }));
    peer.expect_close(Close::UnsupportedProtocol);

    let mut peer = Peer::signed_in();
    peer.send(2, C::SignIn(sign_in()));
    peer.expect_append(Appended::End);
    peer.expect_close(Close::OutOfState);

    let mut peer = Peer::signed_in();
    peer.send(0, C::Send(text("bob", 100, 1)));
    peer.expect_append(Appended::End);
    peer.expect_close(Close::Malformed);

    let mut peer = Peer::signed_in();
    peer.session.on_message(&peer.rules, peer.now, &[0xff; 9], &mut peer.actions);
    peer.expect_append(Appended::End);
    peer.expect_close(Close::Malformed);
}

#[test]
fn an_oversized_token_or_class_ends_the_link() {
    let long = "x".repeat(5_000);
    for sign_in in [
        v1::SignIn { token: long.clone(), ..sign_in() },
        v1::SignIn { device_class: long[..33].into(), ..sign_in() },
        v1::SignIn { client: long[..65].into(), ..sign_in() },
    ] {
        let mut peer = Peer::new();
        peer.send(1, C::SignIn(sign_in));
        peer.expect_error(Code::TooLarge);
        peer.expect_close(Close::Malformed);
    }
}

#[test]
fn unknown_frames_are_skipped_and_requests_answered() {
    let mut peer = Peer::signed_in();
    let unknown = v1::ClientFrame { request_id: 0, frame: None };
    peer.session.on_message(&peer.rules, peer.now, &unknown.encode_to_vec(), &mut peer.actions);
    peer.expect_nothing();
    let unknown = v1::ClientFrame { request_id: 4, frame: None };
    peer.session.on_message(&peer.rules, peer.now, &unknown.encode_to_vec(), &mut peer.actions);
    peer.expect_error(Code::UnknownFrame);
    peer.send(5, C::Ping(v1::Ping::default()));
    assert!(matches!(peer.expect(), S::Pong(_)));
}

#[test]
fn acks_leave_in_the_order_of_the_sends() {
    let mut peer = Peer::signed_in();
    for n in 1..=3 {
        peer.send(10 + n, C::Send(text("bob", 100, n)));
        peer.expect_append(Appended::Send(u32::try_from(n).unwrap()));
    }
    peer.report(2, Ok(()));
    peer.expect_nothing();
    peer.report(1, Ok(()));
    for reply_to in [11, 12] {
        let Action::Write(frame) = peer.next() else { panic!() };
        assert_eq!((frame.reply_to, frame.frame), (reply_to, Some(S::SendAck(v1::SendAck {}))));
    }
    peer.expect_nothing();
    peer.report(3, Ok(()));
    assert!(matches!(peer.expect(), S::SendAck(_)));
    assert!(!peer.session.sends());
}

#[test]
fn nothing_is_acknowledged_after_a_send_that_failed() {
    let mut peer = Peer::signed_in();
    for n in 1..=4 {
        peer.send(n, C::Send(text("bob", 100, n)));
        peer.next();
    }
    peer.report(4, Ok(()));
    peer.report(3, Err(AppendError::Timeout));
    peer.expect_nothing();
    assert!(!peer.session.reads());
    peer.send(5, C::Send(text("bob", 100, 5)));
    peer.expect_nothing();
    peer.report(1, Ok(()));
    assert!(matches!(peer.expect(), S::SendAck(_)));
    peer.report(2, Ok(()));
    assert!(matches!(peer.expect(), S::SendAck(_)));
    peer.expect_append(Appended::End);
    peer.expect_close(Close::AppendFailed);
}

#[test]
fn a_refused_send_comes_before_any_other() {
    let mut peer = Peer::signed_in();
    peer.send(1, C::Send(text("bob", 100, 1)));
    peer.expect_append(Appended::Send(1));
    peer.send(2, C::Send(text("bob", 100, 2)));
    peer.expect_append(Appended::Send(2));
    peer.refuse(2);
    peer.expect_error(Code::Busy);
    peer.send(3, C::Send(text("carol", 100, 1)));
    peer.expect_error(Code::RefusedEarlier);
    peer.send(4, C::Send(text("bob", 100, 3)));
    peer.expect_error(Code::RefusedEarlier);
    peer.send(5, C::Send(text("bob", 100, 2)));
    peer.expect_append(Appended::Send(2));
    peer.send(6, C::Send(text("carol", 100, 1)));
    peer.expect_append(Appended::Send(3));
    peer.report(1, Ok(()));
    assert!(matches!(peer.next(), Action::Write(f) if f.reply_to == 1));
    peer.report(2, Ok(()));
    assert!(matches!(peer.next(), Action::Write(f) if f.reply_to == 5));
}

#[test]
fn what_is_refused_for_good_is_voided_under_its_number() {
    let mut peer = Peer::signed_in();
    peer.send(1, C::Send(sized("bob", 100, 1, proto::limits::BODY_BYTES_MAX + 1)));
    let S::Error(error) = peer.expect() else { panic!() };
    assert_eq!((error.code, error.retry()), (Code::TooLarge.number(), v1::Retry::Never));
    let bob = UserId::new("bob").unwrap();
    let conversation = ConversationId::direct(&ann().user, &bob).to_bytes();
    assert_eq!(error.send, Some(v1::SendRef { conversation, epoch: 100, n: 1 }));
    peer.send(2, C::Send(text("bob", 100, 1)));
    peer.expect_error(Code::InvalidArgument);
    peer.send(3, C::Send(text("bob", 100, 2)));
    peer.expect_error(Code::RefusedEarlier);
    peer.send(4, C::Send(void("bob", 100, 1)));
    peer.expect_append(Appended::Send(1));
    peer.send(5, C::Send(sized("bob", 100, 2, proto::limits::BODY_BYTES_MAX)));
    peer.expect_append(Appended::Send(2));
}

#[test]
fn sends_that_make_no_sense_are_refused_and_those_to_nowhere_only_answered() {
    use v1::send::Body;
    let many = (0..501).map(|i| i.to_string()).collect::<Vec<_>>();
    let create = |key: &str, name: usize, members: Vec<String>| {
        Body::CreateGroup(v1::CreateGroup { request_key: key.into(), name: "x".repeat(name), members })
    };
    for (code, send) in [
        (Code::InvalidArgument, v1::Send { body: None, ..text("bob", 100, 1) }),
        (
            Code::InvalidArgument,
            v1::Send { body: Some(Body::LeaveGroup(v1::LeaveGroup {})), ..text("bob", 100, 1) },
        ),
        (Code::InvalidArgument, group(Body::Block(v1::Block {}))),
        (Code::InvalidArgument, group(create("", 0, vec![]))),
        (Code::TooLarge, group(create(&"k".repeat(65), 0, vec![]))),
        (Code::TooLarge, group(create("k", 257, vec![]))),
        (Code::TooLarge, group(create("k", 1, many.clone()))),
        (Code::InvalidArgument, group(create("k", 1, vec![String::new()]))),
        (Code::InvalidArgument, group(Body::AddMembers(v1::AddMembers { users: vec![] }))),
        (Code::TooLarge, group(Body::RemoveMembers(v1::RemoveMembers { users: many.clone() }))),
        (Code::TooLarge, group(Body::RenameGroup(v1::RenameGroup { name: "n".repeat(257) }))),
    ] {
        let mut peer = Peer::signed_in();
        peer.send(1, C::Send(send));
        peer.expect_error(code);
        peer.send(2, C::Send(text("bob", 100, 7)));
        peer.expect_error(Code::RefusedEarlier);
    }
    let group = |bytes: &'static [u8]| Some(v1::send::To::Group(Bytes::from_static(bytes)));
    for send in [
        text("", 100, 1),
        text(&"u".repeat(65), 100, 1),
        v1::Send { to: group(&[1; 15]), ..text("bob", 100, 1) },
        v1::Send { to: None, ..text("bob", 100, 1) },
    ] {
        let mut peer = Peer::signed_in();
        peer.send(1, C::Send(send));
        peer.expect_error(Code::InvalidArgument);
        peer.send(2, C::Send(text("bob", 100, 1)));
        peer.expect_append(Appended::Send(1));
    }
}

#[test]
fn numbers_that_cannot_be_end_the_link() {
    for (send, close) in [
        (text("bob", 100, 0), Close::Malformed),
        (text("bob", 0, 1), Close::Malformed),
        (text("bob", 101, 1), Close::OutOfState),
    ] {
        let mut peer = Peer::signed_in();
        peer.send(1, C::Send(send));
        peer.expect_append(Appended::End);
        peer.expect_close(close);
    }
}

#[test]
fn the_sixty_fifth_unacknowledged_send_ends_the_link() {
    let mut peer = Peer::signed_in();
    for n in 1..=64 {
        peer.send(n, C::Send(text("bob", 100, n)));
        peer.next();
    }
    peer.send(65, C::Send(text("bob", 100, 65)));
    peer.expect_append(Appended::End);
    peer.expect_close(Close::TooManyUnacked);
    peer.report(1, Ok(()));
    peer.expect_nothing();
}

#[test]
fn sends_of_an_older_epoch_are_taken_before_the_session_is_confirmed() {
    let mut peer = Peer::new();
    peer.join();
    peer.send(2, C::Send(text("bob", 50, 3)));
    peer.expect_append(Appended::Send(1));
    peer.report(1, Ok(()));
    assert!(matches!(peer.expect(), S::SendAck(_)));
    peer.send(3, C::Sync(v1::Sync::default()));
    peer.expect_append(Appended::End);
    peer.expect_close(Close::OutOfState);
}

#[test]
fn a_session_that_was_never_recorded_is_not_ended_in_the_log() {
    let mut peer = Peer::new();
    peer.join();
    peer.session.on_refused(&peer.rules, Appended::Start, &mut peer.actions);
    peer.expect_close(Close::Overloaded);

    let mut peer = Peer::new();
    peer.join();
    peer.session.on_report(&peer.rules, Appended::Start, Err(AppendError::Timeout), &mut peer.actions);
    peer.expect_append(Appended::End);
    peer.expect_close(Close::AppendFailed);
}

#[test]
fn every_way_to_go_ends_the_session_once_and_a_kick_or_a_lost_lease_never() {
    let mut peer = Peer::signed_in();
    peer.session.on_gone(&peer.rules, &mut peer.actions);
    peer.expect_append(Appended::End);
    peer.expect_nothing();

    let mut peer = Peer::signed_in();
    let kick = v1::LinkKick { link: None, code: Close::Replaced.number(), reason: "newer".into() };
    peer.session.on_kick(&kick, &mut peer.actions);
    peer.expect_close(Close::Replaced);
    peer.session.on_gone(&peer.rules, &mut peer.actions);
    peer.expect_nothing();

    let mut peer = Peer::signed_in();
    peer.session.on_close(&peer.rules, Close::LeaseLost, &mut peer.actions);
    peer.expect_close(Close::LeaseLost);
}

#[test]
fn leaving_waits_for_the_sends_that_were_taken() {
    let mut peer = Peer::signed_in();
    peer.send(1, C::Send(text("bob", 100, 1)));
    peer.next();
    peer.session.on_leave(&peer.rules, Close::GoingAway, &mut peer.actions);
    peer.expect_nothing();
    assert!(!peer.session.reads());
    peer.report(1, Ok(()));
    assert!(matches!(peer.expect(), S::SendAck(_)));
    peer.expect_append(Appended::End);
    peer.expect_close(Close::GoingAway);
}

#[test]
fn lost_reports_close_only_links_that_wait_for_one() {
    let mut peer = Peer::signed_in();
    peer.session.on_reports_lost(&peer.rules, &mut peer.actions);
    peer.expect_nothing();
    peer.send(1, C::Send(text("bob", 100, 1)));
    peer.next();
    peer.session.on_reports_lost(&peer.rules, &mut peer.actions);
    peer.expect_append(Appended::End);
    peer.expect_close(Close::AppendFailed);
}

#[test]
fn a_push_without_room_becomes_a_hint_and_a_later_push_clears_the_mark() {
    let frame = |seq| {
        let entry = v1::Entry { seq, ..Default::default() };
        let push = S::Push(v1::Push { entries: vec![entry] });
        Bytes::from(v1::ServerFrame { reply_to: 0, frame: Some(push) }.encode_to_vec())
    };
    let mut peer = Peer::signed_in();
    peer.session.on_push(11, &frame(11), true, &mut peer.actions);
    assert!(matches!(peer.expect(), S::Push(p) if p.entries[0].seq == 11));
    peer.session.on_push(12, &frame(12), false, &mut peer.actions);
    peer.expect_nothing();
    peer.session.on_room(&mut peer.actions);
    assert!(matches!(peer.expect(), S::SyncHint(h) if h.head == 12));
    peer.session.on_room(&mut peer.actions);
    peer.expect_nothing();
    peer.session.on_push(13, &frame(13), false, &mut peer.actions);
    peer.session.on_push(14, &frame(14), true, &mut peer.actions);
    peer.next();
    peer.session.on_room(&mut peer.actions);
    peer.expect_nothing();
    assert_eq!(peer.session.roster(&peer.rules).unwrap().told, 14);
}

#[test]
fn a_push_before_the_confirmation_is_a_hint_after_it() {
    let mut peer = Peer::new();
    peer.join();
    peer.session.on_push(11, &Bytes::new(), true, &mut peer.actions);
    peer.expect_nothing();
    peer.result(100, 10);
    assert!(matches!(peer.expect(), S::SignInResult(_)));
    assert!(matches!(peer.expect(), S::SyncHint(h) if h.head == 11));
    peer.result(100, 12);
    assert!(matches!(peer.expect(), S::SyncHint(h) if h.head == 12));
}

#[test]
fn acks_never_go_back_nor_above_what_was_told() {
    let mut peer = Peer::signed_in();
    peer.send(0, C::Ack(v1::Ack { seq: 8 }));
    assert_eq!(peer.next(), Action::Acked);
    peer.send(0, C::Ack(v1::Ack { seq: 5 }));
    peer.send(0, C::Ack(v1::Ack { seq: 99 }));
    peer.expect_nothing();
    let cursor = v1::Cursor { user: "ann".into(), device: "d1".into(), seq: 10 };
    assert_eq!(peer.session.take_cursor(), Some(cursor));
    assert_eq!(peer.session.take_cursor(), None);
    peer.send(0, C::Ack(v1::Ack { seq: 10 }));
    peer.expect_nothing();
}

#[test]
fn one_sync_at_a_time_and_its_answer_is_what_the_device_was_told() {
    let mut peer = Peer::signed_in();
    peer.send(5, C::Sync(v1::Sync { after: 3, limit: 50 }));
    let Action::Ask(_, ask) = peer.next() else { panic!() };
    assert_eq!((ask.after, ask.limit, ask.user.as_str()), (3, 50, "ann"));
    peer.send(6, C::Sync(v1::Sync::default()));
    peer.expect_error(Code::Busy);
    let page = v1::SyncPage { head: 12, first: 1, ..Default::default() };
    let result = Some(v1::sync_answer::Result::Page(page.encode_to_vec().into()));
    let answer = v1::SyncAnswer { link: None, request_id: ask.request_id, result, told: 12 };
    peer.session.on_sync_answer(answer.clone(), &mut peer.actions);
    let Action::WriteEncoded(bytes) = peer.next() else { panic!() };
    let expected = v1::ServerFrame { reply_to: 5, frame: Some(S::SyncPage(page)) };
    assert_eq!(v1::ServerFrame::decode(bytes).unwrap(), expected);
    assert_eq!(peer.session.roster(&peer.rules).unwrap().told, 12);
    peer.session.on_sync_answer(answer, &mut peer.actions);
    peer.expect_nothing();
    peer.send(7, C::Sync(v1::Sync::default()));
    peer.next();
    peer.session.on_sync_lost(&mut peer.actions);
    peer.expect_error(Code::Unavailable);
}

#[test]
fn a_sync_without_an_answer_ends_at_its_deadline_and_a_late_answer_is_not_the_next_one() {
    let mut peer = Peer::signed_in();
    peer.now.ms = 5_000;
    let ask = |peer: &mut Peer| {
        peer.send(5, C::Sync(v1::Sync { after: 3, limit: 50 }));
        let Action::Ask(_, ask) = peer.next() else { panic!() };
        ask
    };
    let page = |ask: &v1::SyncAsk, head| {
        let page = v1::SyncPage { head, first: 1, ..Default::default() };
        let result = Some(v1::sync_answer::Result::Page(page.encode_to_vec().into()));
        v1::SyncAnswer { link: None, request_id: ask.request_id, result, told: head }
    };
    let older = ask(&mut peer);
    assert_eq!(peer.session.deadline(&peer.rules), Some((15_000, Deadline::Sync)));
    peer.now.ms = 14_999;
    peer.session.on_deadline(&peer.rules, peer.now, Deadline::Sync, &mut peer.actions);
    peer.expect_nothing();
    peer.now.ms = 15_000;
    peer.session.on_deadline(&peer.rules, peer.now, Deadline::Sync, &mut peer.actions);
    peer.expect_error(Code::Unavailable);
    // The link goes on, and the device may even use the same id again.
    assert_eq!(peer.session.deadline(&peer.rules), Some((65_000, Deadline::Idle)));
    let newer = ask(&mut peer);
    peer.session.on_sync_answer(page(&older, 12), &mut peer.actions);
    peer.expect_nothing();
    assert_eq!(peer.session.roster(&peer.rules).unwrap().told, 10);
    peer.session.on_sync_answer(page(&newer, 13), &mut peer.actions);
    assert!(matches!(peer.expect(), S::SyncPage(page) if page.head == 13));
}

#[test]
fn calls_are_bounded_and_answered_by_their_id() {
    let mut peer = Peer::signed_in();
    for id in [5, 6] {
        peer.send(id, C::Call(v1::Call::default()));
        assert!(matches!(peer.next(), Action::Call { request_id, .. } if request_id == id));
    }
    peer.send(7, C::Call(v1::Call::default()));
    peer.expect_error(Code::Busy);
    let ok = v1::link_call_result::Result::Ok(v1::CallResult { response: Bytes::from_static(b"r") });
    peer.session.on_call_result(6, ok, &mut peer.actions);
    let Action::Write(frame) = peer.next() else { panic!() };
    assert_eq!(frame.reply_to, 6);
    peer.send(8, C::Call(v1::Call::default()));
    assert!(matches!(peer.next(), Action::Call { .. }));
}

#[test]
fn each_deadline_has_its_time_and_its_code() {
    let late = |peer: &mut Peer, ms: u64, kind| {
        assert_eq!(peer.session.deadline(&peer.rules), Some((ms, kind)));
        peer.session.on_deadline(&peer.rules, Now { ms: ms - 1, wall_us: 0 }, kind, &mut peer.actions);
        peer.expect_nothing();
        peer.session.on_deadline(&peer.rules, Now { ms, wall_us: 0 }, kind, &mut peer.actions);
    };
    let mut peer = Peer::new();
    late(&mut peer, 11_000, Deadline::Unauthenticated);
    peer.expect_close(Close::SignInTimeout);
    assert_eq!(peer.session.deadline(&peer.rules), None);

    let mut peer = Peer::new();
    peer.join();
    late(&mut peer, 21_000, Deadline::SignIn);
    peer.expect_append(Appended::End);
    peer.expect_close(Close::SignInTimeout);

    let mut peer = Peer::signed_in();
    peer.now.ms = 50_000;
    peer.send(0, C::Ack(v1::Ack { seq: 0 }));
    late(&mut peer, 110_000, Deadline::Idle);
    peer.expect_append(Appended::End);
    peer.expect_close(Close::IdleTimeout);
}

#[test]
fn above_the_rate_requests_are_turned_down_and_a_flood_ends_the_link() {
    let mut peer = Peer::signed_in();
    for _ in 0..999 {
        peer.send(0, C::Ping(v1::Ping::default()));
        peer.next();
    }
    peer.send(1, C::Send(text("bob", 100, 1)));
    let S::Error(error) = peer.expect() else { panic!() };
    assert_eq!((error.code, error.after_ms), (Code::RateLimited.number(), 1));
    peer.send(2, C::Send(text("bob", 100, 2)));
    peer.expect_error(Code::RateLimited);
    peer.now.ms += 10;
    peer.send(3, C::Send(text("bob", 100, 1)));
    peer.expect_append(Appended::Send(1));
    for _ in 0..5_000 {
        peer.send(0, C::Ping(v1::Ping::default()));
    }
    let last = peer.actions.len();
    peer.actions.drain(..last - 3);
    peer.expect_append(Appended::End);
    peer.expect_close(Close::RateExceeded);
}

#[derive(Clone, Debug)]
enum Step {
    Send { to: u8, epoch: u64, n: u64 },
    Taken(bool),
    Report { index: u8, ok: bool },
    Bytes(Vec<u8>),
    Push(u64, bool),
    Result(u64),
    Room,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0u8..3, 98u64..101, 1u64..4).prop_map(|(to, epoch, n)| Step::Send { to, epoch, n }),
        2 => any::<bool>().prop_map(Step::Taken),
        5 => (any::<u8>(), prop::bool::weighted(0.95)).prop_map(|(index, ok)| Step::Report { index, ok }),
        1 => prop::collection::vec(any::<u8>(), 0..12).prop_map(Step::Bytes),
        1 => (0u64..40, any::<bool>()).prop_map(|(seq, room)| Step::Push(seq, room)),
        1 => (0u64..40).prop_map(Step::Result),
        1 => Just(Step::Room),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever comes: acknowledgements are a prefix of what was taken, in order and only of what landed;
    /// what is appended is in an order that lets nothing overtake a refused send; after Close nothing.
    #[test]
    fn acks_are_a_prefix_of_the_sends_whatever_happens(steps in steps()) {
        let mut peer = Peer::signed_in();
        let (mut taken, mut landed, mut acked) = (Vec::new(), Vec::new(), 0usize);
        let (mut takes, mut request) = (true, 10u64);
        let mut refused: Option<(u8, u64, u64)> = None;
        for step in steps {
            let closing = peer.session.is_closing();
            match &step {
                Step::Send { to, epoch, n } => {
                    request += 1;
                    peer.send(request, C::Send(text(&format!("u{to}"), *epoch, *n)));
                    let append = peer.actions.iter().find_map(|action| match action {
                        Action::Append { what: Appended::Send(number), .. } => Some(*number),
                        _ => None,
                    });
                    if let Some(number) = append {
                        prop_assert!(refused.is_none_or(|this| this == (*to, *epoch, *n)));
                        if takes {
                            refused = None;
                            taken.push((request, number));
                            landed.push(None);
                        } else {
                            refused = Some((*to, *epoch, *n));
                            peer.refuse(number);
                        }
                    }
                }
                Step::Taken(yes) => takes = *yes,
                Step::Report { index, ok } => {
                    let open: Vec<_> = (0..landed.len()).filter(|i| landed[*i].is_none()).collect();
                    if !open.is_empty() {
                        let i = open[usize::from(*index) % open.len()];
                        landed[i] = Some(*ok);
                        peer.report(taken[i].1, if *ok { Ok(()) } else { Err(AppendError::Timeout) });
                    }
                }
                Step::Bytes(bytes) => {
                    peer.session.on_message(&peer.rules, peer.now, bytes, &mut peer.actions);
                }
                Step::Push(seq, room) => {
                    peer.session.on_push(*seq, &Bytes::from_static(&[0x08, 0]), *room, &mut peer.actions);
                }
                Step::Result(head) => peer.result(100, *head),
                Step::Room => peer.session.on_room(&mut peer.actions),
            }
            prop_assert!(!closing || peer.actions.is_empty(), "after the end: {:?}", peer.actions);
            for action in peer.actions.drain(..) {
                if let Action::Write(v1::ServerFrame { reply_to, frame: Some(S::SendAck(_)) }) = action {
                    prop_assert_eq!(reply_to, taken[acked].0);
                    prop_assert_eq!(landed[acked], Some(true));
                    acked += 1;
                }
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut peer = Peer::signed_in();
        peer.session.on_message(&peer.rules, peer.now, &bytes, &mut peer.actions);
        let mut peer = Peer::new();
        peer.session.on_message(&peer.rules, peer.now, &bytes, &mut peer.actions);
    }
}
