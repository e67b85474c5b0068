//! A scripted server against the core: every transition, every error.

use prost::Message as _;
use proto::{Code, close::Close};

use super::*;
use crate::outbox::{Number, Sent};
use v1::server_frame::Frame as Down;

const HEARTBEAT_MS: u64 = 1_000;
const HEARTBEAT: u32 = 1_000;

/// A device with its store and a clock; what it writes is taken frame by frame.
struct Script {
    device: Device,
    saved: Saved,
    now: Millis,
    epoch: u64,
}

impl Script {
    fn new() -> Self {
        Self::of(Saved { cursor: Some(0), ..Saved::default() }, Start::All)
    }

    fn of(saved: Saved, start: Start) -> Self {
        let mut settings = Settings::new(user("ann"), DeviceId::new("phone").unwrap());
        settings.start = start;
        let device = Device::new(settings, saved.clone(), 7);
        Self { device, saved, now: Millis(1_000), epoch: 100 }
    }

    /// Signed in on a first link, with nothing in the timeline.
    fn live() -> Self {
        let mut script = Self::new();
        script.connect();
        script.sign_in(v1::SignInResult::default());
        script
    }

    fn connect(&mut self) {
        while self.device.poll_link() != Some(LinkAction::Connect { addresses: vec![] }) {
            let at = self.device.poll_deadline().expect("a link is wanted some time");
            self.wait(at.0 - self.now.0);
        }
        self.device.handle_connected(self.now, "token".into());
        let frame = self.device.poll_frame(self.now).unwrap();
        assert!(matches!(frame.frame, Some(Frame::SignIn(v1::SignIn { protocol: 1, .. }))));
    }

    fn sign_in(&mut self, mut result: v1::SignInResult) {
        self.epoch += 1;
        result.epoch = self.epoch;
        (result.heartbeat_min_ms, result.heartbeat_max_ms) = (HEARTBEAT, HEARTBEAT);
        let head = result.head;
        self.tell(0, Down::SignInResult(result));
        assert_eq!(self.device.poll_event(), Some(Event::Connected { epoch: self.epoch, head }));
    }

    fn tell(&mut self, reply_to: u64, frame: Down) {
        self.device.handle_frame(self.now, v1::ServerFrame { reply_to, frame: Some(frame) });
        self.store();
    }

    fn error(&mut self, reply_to: u64, code: Code) {
        self.tell(reply_to, Down::Error(proto::Fault::new(code, "why").to_error(None)));
    }

    fn store(&mut self) {
        while let Some(change) = self.device.poll_write() {
            self.saved.apply(&change);
        }
        self.device.handle_written();
    }

    fn wait(&mut self, ms: u64) {
        self.now = self.now.after(ms);
        self.device.handle_deadline(self.now);
        self.store();
    }

    fn say(&mut self, to: &str, text: &str) -> LocalId {
        let local = self.device.send(Target::User(user(to)), message(text)).unwrap();
        self.store();
        local
    }

    fn next(&mut self) -> Option<v1::ClientFrame> {
        self.device.poll_frame(self.now)
    }

    /// The sends that it writes now: (request, epoch - 100, n, text).
    fn sends(&mut self) -> Vec<(u64, u64, u64, String)> {
        std::iter::from_fn(|| self.device.poll_frame(self.now))
            .filter_map(|frame| match frame.frame {
                Some(Frame::Send(send)) => {
                    let text = match send.body {
                        Some(v1::send::Body::Message(m)) => String::from_utf8(m.data.to_vec()).unwrap(),
                        Some(v1::send::Body::Void(_)) => "void".into(),
                        other => format!("{other:?}"),
                    };
                    Some((frame.request_id, send.epoch - 100, send.n, text))
                }
                _ => None,
            })
            .collect()
    }

    /// The same without the request ids.
    fn said(&mut self) -> Vec<(u64, u64, String)> {
        self.sends().into_iter().map(|(_, epoch, n, text)| (epoch, n, text)).collect()
    }

    fn seqs(&mut self) -> Vec<u64> {
        self.events().iter().filter_map(seq).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.device.poll_event()).collect()
    }

    fn sync(&mut self) -> Option<(u64, u64)> {
        std::iter::from_fn(|| self.next()).find_map(|frame| match frame.frame {
            Some(Frame::Sync(sync)) => Some((frame.request_id, sync.after)),
            _ => None,
        })
    }

    fn push(&mut self, seqs: std::ops::RangeInclusive<u64>) {
        self.tell(0, Down::Push(v1::Push { entries: seqs.map(entry).collect() }));
    }

    fn page(&mut self, request: u64, seqs: std::ops::RangeInclusive<u64>, head: u64) {
        let page = v1::SyncPage { entries: seqs.map(entry).collect(), head, first: 1, truncated: false };
        self.tell(request, Down::SyncPage(page));
    }
}

fn user(text: &str) -> UserId {
    UserId::new(text).unwrap()
}

fn message(text: &str) -> v1::send::Body {
    v1::send::Body::Message(v1::Message { kind: 1, data: Bytes::copy_from_slice(text.as_bytes()) })
}

fn entry(seq: u64) -> v1::Entry {
    v1::Entry { seq, ..v1::Entry::default() }
}

fn seq(event: &Event) -> Option<u64> {
    if let Event::Entry(entry) = event { Some(entry.seq) } else { None }
}

fn s(text: &str) -> String {
    text.to_owned()
}

#[test]
fn sends_are_numbered_per_conversation_and_forgotten_when_acked() {
    let mut script = Script::live();
    let (a, _, c) = (script.say("bob", "a"), script.say("carol", "b"), script.say("bob", "c"));
    let sends = script.sends();
    let numbers: Vec<_> = sends.iter().map(|(_, epoch, n, text)| (*epoch, *n, text.as_str())).collect();
    assert_eq!(numbers, [(1, 1, "a"), (1, 1, "b"), (1, 2, "c")]);
    for (request, ..) in &sends {
        script.tell(*request, Down::SendAck(v1::SendAck {}));
    }
    let conversation = ConversationId::direct(&user("ann"), &user("bob"));
    let sent = |local, n| Event::Acked(Sent { local, conversation, number: Number { epoch: 101, n } });
    let events = script.events();
    assert_eq!((&events[0], &events[2]), (&sent(a, 1), &sent(c, 2)));
    assert!(script.saved.outbox.is_empty() && script.device.unacked() == 0);
    assert_eq!(script.saved.next_local, 3, "a local id is not used again");
}

#[test]
fn nothing_is_written_before_it_is_durable() {
    let mut script = Script::live();
    script.device.send(Target::User(user("bob")), message("a")).unwrap();
    assert!(script.device.is_write_urgent());
    assert_eq!(script.said(), []);
    script.store();
    assert_eq!(script.said(), [(1, 1, s("a"))]);
}

#[test]
fn a_new_link_gets_the_old_first_and_numbers_the_new_only_when_that_is_done() {
    let mut script = Script::live();
    script.say("bob", "a");
    script.say("carol", "b");
    assert_eq!(script.said().len(), 2);
    script.device.handle_closed(script.now);
    script.say("bob", "c");
    script.connect();
    let early = script.sends();
    assert_eq!((early[0].3.as_str(), early[1].3.as_str(), early.len()), ("a", "b", 2), "before the result");
    assert_eq!((early[0].1, early[0].2), (1, 1), "under its old number");
    script.events();
    script.sign_in(v1::SignInResult::default());
    assert_eq!(script.said(), [], "c waits");
    script.tell(early[0].0, Down::SendAck(v1::SendAck {}));
    assert_eq!(script.said(), []);
    script.tell(early[1].0, Down::SendAck(v1::SendAck {}));
    assert_eq!(script.said(), [(2, 1, s("c"))], "in the new epoch, from 1");
}

#[test]
fn a_restart_continues_from_the_store() {
    let mut script = Script::live();
    script.say("bob", "a");
    script.say("bob", "b");
    script.said();
    let mut again = Script::of(script.saved.clone(), Start::All);
    again.epoch = 200;
    again.connect();
    assert_eq!(again.said(), [(1, 1, s("a")), (1, 2, s("b"))]);
    assert_eq!(again.say("bob", "c"), LocalId(2));
    again.sign_in(v1::SignInResult::default());
    assert_eq!(again.said(), []);
}

#[test]
fn what_may_go_before_the_sign_in_is_bounded() {
    let mut script = Script::live();
    for _ in 0..40 {
        script.say("bob", &"x".repeat(1_000));
    }
    script.said();
    script.device.handle_closed(script.now);
    script.connect();
    let bytes: usize = std::iter::from_fn(|| script.next()).map(|frame| frame.encoded_len() + 3).sum();
    assert!((1_000..limits::UNAUTHENTICATED_BYTES_MAX - 100).contains(&bytes), "{bytes}");
}

#[test]
fn the_window_holds() {
    let mut script = Script::new();
    script.connect();
    let limits = Some(v1::Limits { unacked_sends_max: 3, ..v1::Limits::default() });
    script.sign_in(v1::SignInResult { limits, ..v1::SignInResult::default() });
    for i in 0..5 {
        script.say("bob", &i.to_string());
    }
    let sends = script.sends();
    assert_eq!(sends.len(), 3);
    script.error(0, Code::OutOfOrder);
    script.wait(HEARTBEAT_MS);
    assert_eq!(script.said(), [], "also when everything is to go again");
    script.tell(sends[0].0, Down::SendAck(v1::SendAck {}));
    assert_eq!(script.said(), [(1, 2, s("1"))], "one left, one goes; lowest first");
}

#[test]
fn a_refused_send_comes_again_first_and_the_rest_behind_it() {
    let mut script = Script::live();
    for text in ["a", "b", "c", "d"] {
        script.say("bob", text);
    }
    let sends = script.sends();
    script.error(sends[1].0, Code::Busy);
    script.error(sends[2].0, Code::RefusedEarlier);
    assert_eq!(script.said(), [], "after a pause");
    script.wait(200);
    let again = script.sends();
    let texts: Vec<_> = again.iter().map(|send| (send.2, send.3.as_str())).collect();
    assert_eq!(texts, [(2, "b"), (3, "c"), (4, "d")]);
    script.error(sends[3].0, Code::RefusedEarlier);
    assert_eq!(script.said(), [], "an answer to the first d is old news");
    for (request, ..) in [&sends[0], &again[0], &again[1], &again[2]] {
        script.tell(*request, Down::SendAck(v1::SendAck {}));
    }
    assert_eq!(script.device.unacked(), 0);
}

#[test]
fn a_link_that_waits_for_what_was_acknowledged_is_left() {
    for is_ack_first in [true, false] {
        let mut script = Script::live();
        script.say("bob", "a");
        script.say("bob", "b");
        let first = script.sends();
        script.error(0, Code::OutOfOrder);
        script.wait(HEARTBEAT_MS);
        let again = script.sends();
        // The first a landed, and the second one found no room: until a comes a third time, this link takes no b.
        let ack = Down::SendAck(v1::SendAck {});
        if is_ack_first {
            script.tell(first[0].0, ack);
            script.error(again[0].0, Code::Busy);
        } else {
            script.error(again[0].0, Code::Busy);
            script.tell(first[0].0, ack);
        }
        let events = script.events();
        let [Event::Acked(_), Event::Disconnected { cause: Cause::Protocol(_), retry_in_ms: Some(_) }] =
            events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!(script.device.poll_link(), Some(LinkAction::Disconnect));
        script.connect();
        script.sign_in(v1::SignInResult::default());
        assert_eq!(script.said(), [(1, 2, s("b"))]);
    }
}

#[test]
fn a_refusal_that_follows_nothing_known_is_waited_out_as_well() {
    let mut script = Script::live();
    script.say("bob", "a");
    let request = script.sends()[0].0;
    script.error(request, Code::RefusedEarlier);
    assert_eq!(script.said(), []);
    script.wait(101);
    assert_eq!(script.said(), [(1, 1, s("a"))]);
}

#[test]
fn pauses_after_refusals_grow_and_obey_the_server() {
    let mut script = Script::live();
    script.say("bob", "a");
    let mut longest = 0;
    for _ in 0..12 {
        let request = script.sends()[0].0;
        let mut error = proto::Fault::new(Code::RateLimited, "").to_error(None);
        error.after_ms = 500;
        script.tell(request, Down::Error(error));
        let pause = script.device.outbox.resume_at().unwrap().0 - script.now.0;
        assert!((500..=10_500).contains(&pause), "{pause}");
        longest = longest.max(pause);
        script.now = script.now.after(pause);
        script.device.outbox.resume(script.now);
    }
    assert!(longest > 2_000, "{longest}");
}

#[test]
fn a_send_refused_for_good_becomes_void_and_the_app_is_told() {
    let mut script = Script::live();
    let bad = script.say("bob", "bad");
    script.say("bob", "good");
    let sends = script.sends();
    script.error(sends[0].0, Code::TooLarge);
    script.error(sends[1].0, Code::RefusedEarlier);
    assert!(
        matches!(script.events()[..], [Event::Refused { sent: Sent { local, .. }, code: 1001, .. }] if local == bad)
    );
    let again = script.sends();
    let texts: Vec<_> = again.iter().map(|send| (send.2, send.3.as_str())).collect();
    assert_eq!(texts, [(1, "void"), (2, "good")]);
    assert!(matches!(script.saved.outbox[0].body, v1::send::Body::Void(_)), "stored as well");
    script.error(again[0].0, Code::InvalidArgument);
    let events = script.events();
    assert!(matches!(events[..], [Event::Disconnected { cause: Cause::Protocol(_), .. }]), "{events:?}");
    assert_eq!(script.saved.outbox.len(), 1, "a Void that is refused is given up");
}

#[test]
fn the_ack_of_a_void_is_no_ack_of_what_was_refused() {
    let mut script = Script::live();
    script.say("bob", "bad");
    let sends = script.sends();
    script.error(sends[0].0, Code::TooLarge);
    assert!(matches!(script.events()[..], [Event::Refused { .. }]));
    let again = script.sends();
    script.tell(again[0].0, Down::SendAck(v1::SendAck {}));
    assert_eq!(script.events(), []);
    assert_eq!(script.saved.outbox.len(), 0, "its number is done");
}

#[test]
fn out_of_order_sends_everything_again_lowest_first() {
    let mut script = Script::live();
    script.say("bob", "a");
    script.say("bob", "b");
    assert_eq!(script.said().len(), 2);
    script.error(0, Code::OutOfOrder);
    script.error(0, Code::OutOfOrder);
    script.wait(900);
    assert_eq!(script.said(), [(1, 1, s("a")), (1, 2, s("b"))], "once");
}

#[test]
fn a_failing_token_on_a_send_ends_the_link_only() {
    let mut script = Script::live();
    script.say("bob", "a");
    let request = script.sends()[0].0;
    script.error(request, Code::NotSignedIn);
    assert_eq!(script.device.poll_link(), Some(LinkAction::Disconnect));
    assert!(matches!(script.events()[..], [Event::Disconnected { retry_in_ms: Some(_), .. }]));
    assert_eq!(script.saved.outbox.len(), 1);
}

#[test]
fn pushes_are_taken_only_in_order_and_once() {
    let mut script = Script::live();
    script.push(1..=2);
    script.push(2..=3);
    assert_eq!(script.seqs(), [1, 2, 3]);
    script.push(6..=7);
    let (request, after) = script.sync().unwrap();
    assert_eq!((after, script.sync()), (3, None), "one Sync at a time");
    script.push(8..=8);
    assert_eq!(script.seqs(), Vec::<u64>::new());
    script.page(request, 4..=5, 8);
    assert_eq!(script.seqs(), [4, 5, 6, 7, 8], "what was pushed above the gap was held");
    assert_eq!(script.sync(), None);
}

#[test]
fn every_frame_that_names_a_seq_is_heard() {
    let mut script = Script::live();
    script.tell(0, Down::SyncHint(v1::SyncHint { head: 2 }));
    let (request, after) = script.sync().unwrap();
    assert_eq!(after, 0);
    script.page(request, 1..=1, 3);
    assert_eq!(script.sync().unwrap().1, 1, "a page that does not reach its own head is not the last");
    script.events();
    let mut script = Script::new();
    script.connect();
    script.sign_in(v1::SignInResult { head: 9, first: 1, ..v1::SignInResult::default() });
    assert_eq!(script.sync().unwrap().1, 0);
}

#[test]
fn a_sync_that_fails_is_asked_again_after_a_pause() {
    let mut script = Script::live();
    script.tell(0, Down::SyncHint(v1::SyncHint { head: 2 }));
    let (request, _) = script.sync().unwrap();
    script.error(request, Code::StaleRead);
    assert_eq!(script.sync(), None);
    script.wait(101);
    let (request, _) = script.sync().unwrap();
    script.page(request, 2..=2, 2);
    assert_eq!((script.seqs(), script.sync()), (vec![], None), "a page with a hole brings nothing");
    script.wait(201);
    assert!(script.sync().is_some());
    for _ in 0..20 {
        script.wait(HEARTBEAT_MS);
        script.tell(0, Down::Pong(v1::Pong {}));
    }
    assert!(script.sync().is_some(), "nor is one that is never answered waited for");
}

#[test]
fn what_is_no_longer_kept_is_skipped_and_told() {
    let mut script = Script::live();
    script.tell(0, Down::SyncHint(v1::SyncHint { head: 9 }));
    let (request, _) = script.sync().unwrap();
    script
        .tell(request, Down::SyncPage(v1::SyncPage { head: 9, first: 8, truncated: true, entries: vec![] }));
    assert_eq!(script.events(), [Event::Truncated { first: 8 }]);
    script.device.taken(script.now, 7);
    let (request, after) = script.sync().unwrap();
    assert_eq!(after, 7);
    script.page(request, 8..=9, 9);
    assert_eq!(script.seqs(), [8, 9]);
    script.tell(0, Down::SyncHint(v1::SyncHint { head: 12 }));
    let (request, _) = script.sync().unwrap();
    let absurd = v1::SyncPage { head: 12, first: u64::MAX, truncated: true, entries: vec![] };
    script.tell(request, Down::SyncPage(absurd));
    assert_eq!(script.events(), [], "a first above the head is none");
}

#[test]
fn a_new_device_begins_where_it_was_told_to() {
    let result = v1::SignInResult { head: 50, first: 11, best_cursor: 30, ..v1::SignInResult::default() };
    for (start, at) in [(Start::Latest(5), 45), (Start::Latest(500), 10), (Start::Best, 30), (Start::All, 10)]
    {
        let mut script = Script::of(Saved::default(), start);
        script.connect();
        script.sign_in(result.clone());
        assert_eq!(script.saved.cursor, Some(at), "{start:?}: chosen once, so stored at once");
        let frame = script.next().unwrap().frame;
        assert_eq!(frame, Some(Frame::Ack(v1::Ack { seq: at })));
        assert_eq!(script.sync().unwrap().1, at);
    }
}

#[test]
fn acks_are_cumulative_and_follow_the_store() {
    let mut script = Script::live();
    script.push(1..=100);
    script.events();
    script.device.taken(script.now, 10);
    script.device.taken(script.now, 11);
    assert_eq!(script.next(), None, "not at once");
    script.now = script.now.after(200);
    script.device.handle_deadline(script.now);
    assert_eq!(script.next(), None, "not before it is stored");
    script.store();
    assert_eq!(script.next().unwrap().frame, Some(Frame::Ack(v1::Ack { seq: 11 })));
    assert_eq!((script.next(), script.saved.cursor), (None, Some(11)));
    script.device.taken(script.now, 75);
    script.store();
    assert_eq!(script.next().unwrap().frame, Some(Frame::Ack(v1::Ack { seq: 75 })), "64 do not wait");
    script.device.taken(script.now, 1_000);
    assert_eq!(script.device.cursor(), 100, "no more than there was");
}

#[test]
fn an_app_that_takes_nothing_makes_nothing_grow() {
    let mut script = Script::live();
    for i in 0..100 {
        script.push(i * 100 + 1..=i * 100 + 100);
    }
    let waiting = script.seqs();
    assert!(waiting.len() < 600, "{}", waiting.len());
    let mut next = waiting.len() as u64 + 1;
    while let Some((request, after)) = script.sync() {
        assert_eq!(after + 1, next);
        script.page(request, next..=(next + 199).min(10_000), 10_000);
        next += script.seqs().len() as u64;
    }
    assert_eq!(next, 10_001, "and nothing is lost");
}

#[test]
fn an_idle_link_is_kept_and_a_silent_one_left() {
    let mut script = Script::live();
    script.wait(HEARTBEAT_MS - 1);
    assert_eq!(script.next(), None);
    script.wait(1);
    assert!(matches!(script.next().unwrap().frame, Some(Frame::Ping(_))));
    assert_eq!(script.next(), None);
    script.tell(0, Down::Pong(v1::Pong {}));
    script.wait(HEARTBEAT_MS);
    assert!(matches!(script.next().unwrap().frame, Some(Frame::Ping(_))));
    script.wait(HEARTBEAT_MS);
    let events = script.events();
    assert!(matches!(events[..], [Event::Disconnected { cause: Cause::Silent, .. }]), "{events:?}");
    assert_eq!(script.device.poll_link(), Some(LinkAction::Disconnect));
}

#[test]
fn a_sign_in_without_an_answer_ends() {
    let mut script = Script::new();
    script.connect();
    let at = script.device.poll_deadline().unwrap();
    script.wait(at.0 - script.now.0);
    assert!(matches!(script.events()[..], [Event::Disconnected { cause: Cause::Silent, .. }]));
}

#[test]
fn closes_below_3500_reconnect_and_the_others_do_not() {
    for close in Close::ALL {
        let mut script = Script::live();
        let kick = v1::Kick { code: close.number(), reason: s("x"), after_ms: 7_000 };
        script.tell(0, Down::Kick(kick));
        assert_eq!(script.device.poll_link(), Some(LinkAction::Disconnect));
        let events = script.events();
        if close.number() < 3500 {
            let [Event::Disconnected { retry_in_ms: Some(pause), .. }] = events[..] else {
                panic!("{events:?}")
            };
            assert!((7_000..=14_000).contains(&pause), "{pause}");
            script.connect();
        } else {
            assert!(matches!(
                events[..],
                [Event::Kicked { .. }, Event::Disconnected { retry_in_ms: None, .. }]
            ));
            assert_eq!((script.device.poll_link(), script.device.poll_deadline()), (None, None));
            script.device.reconnect();
            script.connect();
        }
    }
}

#[test]
fn a_refused_sign_in_waits_for_another_token() {
    let mut script = Script::new();
    script.connect();
    let request = 1;
    script.error(request, Code::TokenExpired);
    let events = script.events();
    assert!(matches!(
        events[..],
        [Event::Disconnected { cause: Cause::SignIn { code: 1101, .. }, retry_in_ms: None }]
    ));
    let mut script = Script::new();
    script.connect();
    script.error(request, Code::Unavailable);
    assert!(matches!(script.events()[..], [Event::Disconnected { retry_in_ms: Some(_), .. }]));
}

#[test]
fn failures_in_a_row_make_longer_pauses_until_a_link_lasts() {
    let mut script = Script::new();
    let mut pauses = vec![];
    for _ in 0..12 {
        while script.device.poll_link().is_none() {
            let at = script.device.poll_deadline().unwrap();
            script.wait(at.0 - script.now.0);
        }
        script.device.handle_connect_failed(script.now, s("refused"));
        let Some(Event::Disconnected { retry_in_ms: Some(pause), .. }) = script.device.poll_event() else {
            panic!()
        };
        pauses.push(pause);
    }
    assert!(
        pauses[0] <= 500 && pauses.iter().all(|p| *p <= 20_000) && pauses[6..].iter().any(|p| *p > 5_000)
    );
    script.connect();
    script.sign_in(v1::SignInResult::default());
    for _ in 0..8 {
        script.wait(700);
        script.tell(0, Down::Pong(v1::Pong {}));
    }
    script.device.handle_closed(script.now);
    assert!(matches!(script.events()[..], [Event::Disconnected { retry_in_ms: Some(0..=500), .. }]));
}

#[test]
fn a_link_moves_when_the_server_goes_away_and_nothing_is_lost() {
    let mut script = Script::live();
    script.say("bob", "a");
    let request = script.sends()[0].0;
    let addresses = vec![s("other:7100"), String::new()];
    script.tell(0, Down::GoAway(v1::GoAway { code: 3000, within_ms: 10_000, addresses }));
    while matches!(&script.device.link, Link::Up(wire) if wire.takes_sends()) {
        script.wait(100);
        script.tell(0, Down::Pong(v1::Pong {}));
    }
    assert!(script.device.is_live() && script.now < Millis(11_000), "what is on the way is waited for");
    script.say("bob", "b");
    assert_eq!(script.said(), [], "nothing new at the end");
    script.tell(request, Down::SendAck(v1::SendAck {}));
    let events = script.events();
    assert!(
        matches!(
            events[..],
            [Event::Acked(_), Event::Disconnected { cause: Cause::GoAway, retry_in_ms: Some(0) }]
        ),
        "{events:?}"
    );
    assert_eq!(script.device.poll_link(), Some(LinkAction::Disconnect));
    script.wait(0);
    assert_eq!(script.device.poll_link(), Some(LinkAction::Connect { addresses: vec![s("other:7100")] }));
    script.device.handle_connected(script.now, s("token"));
    assert_eq!(script.said(), [(1, 2, s("b"))], "under the number that it had got");
}

#[test]
fn a_server_that_goes_away_is_left_in_time_whether_it_answers_or_not() {
    let mut script = Script::live();
    script.say("bob", "a");
    script.said();
    let away = v1::GoAway { code: 3000, within_ms: 500, addresses: vec![] };
    script.tell(0, Down::GoAway(away));
    script.wait(500);
    assert!(matches!(script.events()[..], [Event::Disconnected { cause: Cause::GoAway, .. }]));
    assert_eq!(script.saved.outbox.len(), 1);
}

#[test]
fn a_call_goes_out_though_the_app_takes_no_events() {
    let mut script = Script::live();
    for _ in 0..EVENTS_MAX {
        script.say("bob", "a");
        let [(request, ..)] = script.sends()[..] else { panic!("one at a time") };
        script.tell(request, Down::SendAck(v1::SendAck {}));
    }
    script.say("bob", "b");
    assert!(script.next().is_none(), "what makes more events waits");
    script.device.call(script.now, "m", Bytes::new(), 5_000).unwrap();
    assert!(matches!(script.next().unwrap().frame, Some(Frame::Call(_))));
}

#[test]
fn calls_are_answered_or_time_out() {
    let mut script = Script::live();
    let call = script.device.call(script.now, "m", Bytes::from_static(b"q"), 5_000).unwrap();
    let frame = script.next().unwrap();
    assert!(matches!(frame.frame, Some(Frame::Call(ref c)) if c.method == "m"));
    script.tell(frame.request_id, Down::CallResult(v1::CallResult { response: Bytes::from_static(b"r") }));
    assert_eq!(script.device.poll_called(), Some((call, Ok(Bytes::from_static(b"r")))));

    let call = script.device.call(script.now, "m", Bytes::new(), 5_000).unwrap();
    let request = script.next().unwrap().request_id;
    script.error(request, Code::Unavailable);
    script.wait(101);
    let request = script.next().expect("asked again").request_id;
    script.error(request, Code::NotMember);
    let called = script.device.poll_called();
    assert!(matches!(called, Some((of, Err(CallError::Refused { code: 1200, .. }))) if of == call));

    let call = script.device.call(script.now, "m", Bytes::new(), 5_000).unwrap();
    script.next().unwrap();
    script.device.handle_closed(script.now);
    script.events();
    script.connect();
    script.sign_in(v1::SignInResult::default());
    assert!(matches!(script.next().unwrap().frame, Some(Frame::Call(_))), "again on the new link");
    script.wait(5_000);
    assert_eq!(script.device.poll_called(), Some((call, Err(CallError::TimedOut))));
    for _ in 0..crate::calls::CALLS_MAX {
        script.device.call(script.now, "m", Bytes::new(), 5_000).unwrap();
    }
    assert_eq!(script.device.call(script.now, "m", Bytes::new(), 1), Err(CallError::TooMany));
}

#[test]
fn a_rejection_of_an_own_send_is_an_event_behind_its_entry() {
    let mut script = Script::live();
    let conversation = ConversationId::direct(&user("ann"), &user("bob"));
    let rejected = |seq, device: &str| v1::Entry {
        seq,
        conversation: conversation.to_bytes(),
        sender: s("ann"),
        device: s(device),
        epoch: 101,
        n: 4,
        event: Some(v1::entry::Event::Rejected(v1::Rejected {
            code: 1202,
            name: s("BLOCKED"),
            detail: s(""),
        })),
        ..v1::Entry::default()
    };
    script.tell(0, Down::Push(v1::Push { entries: vec![rejected(1, "phone"), rejected(2, "desk")] }));
    let events = script.events();
    let expected =
        Event::Rejected { conversation, number: Number { epoch: 101, n: 4 }, code: 1202, name: s("BLOCKED") };
    assert_eq!(events.len(), 3);
    assert_eq!((seq(&events[0]), &events[1], seq(&events[2])), (Some(1), &expected, Some(2)));
}

/// Its first server was slow to have the sign-in in the log, and the device had gone to another one meanwhile.
#[test]
fn a_device_that_is_replaced_by_its_own_echo_comes_again() {
    let replaced = || Down::Kick(v1::Kick { code: Close::Replaced.number(), ..v1::Kick::default() });
    let retries = |script: &mut Script| {
        let retries = |event: &Event| match event {
            Event::Disconnected { retry_in_ms, .. } => Some(retry_in_ms.is_some()),
            _ => None,
        };
        script.events().iter().filter_map(retries).collect::<Vec<_>>()
    };
    for (after, is_echo) in [(0, true), (50_000, true), (70_000, false)] {
        let mut script = Script::new();
        script.connect();
        script.device.handle_closed(script.now);
        assert_eq!(retries(&mut script), [true]);
        script.connect();
        script.sign_in(v1::SignInResult::default());
        script.now = script.now.after(after);
        script.tell(0, replaced());
        assert_eq!(retries(&mut script), [is_echo], "{after} ms later");
    }
}

#[test]
fn a_group_that_no_frame_could_carry_is_not_taken() {
    let mut script = Script::live();
    let members = |count: usize, bytes: usize| -> Vec<_> {
        (0..count).map(|i| UserId::new(&format!("{i:0>bytes$}")).unwrap()).collect()
    };
    let most = members(limits::GROUP_MEMBERS_MAX, limits::ID_BYTES_MAX);
    script.device.create_group("most", "name", &most).unwrap();
    script.store();
    let frame = script.next().unwrap();
    assert!(frame.encoded_len() <= limits::CLIENT_FRAME_BYTES_MAX);
    let more = script.device.create_group("more", "name", &members(limits::GROUP_MEMBERS_MAX + 1, 9));
    assert!(matches!(more, Err(SendError::Invalid(_))), "{more:?}");
    let users = members(6_000, 16).iter().map(ToString::to_string).collect();
    let added = v1::send::Body::AddMembers(v1::AddMembers { users });
    let added = script.device.send(Target::User(user("bob")), added);
    assert!(matches!(added, Err(SendError::TooLarge { .. })), "{added:?}");
}

#[test]
fn an_app_cannot_send_too_much() {
    let mut script = Script::live();
    let to = Target::User(user("bob"));
    let max = limits::BODY_BYTES_MAX;
    assert!(script.device.send(to.clone(), message(&"x".repeat(max))).is_ok());
    let large = script.device.send(to.clone(), message(&"x".repeat(max + 1)));
    assert_eq!(large, Err(SendError::TooLarge { bytes: max + 1, max }));
    let void = script.device.send(to.clone(), v1::send::Body::Void(v1::Void {}));
    assert!(matches!(void, Err(SendError::Invalid(_))));
    let mut taken = 1;
    while script.device.send(to.clone(), message("x")).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 1024);
    script.device.close(script.now);
    assert_eq!(script.device.send(to, message("x")), Err(SendError::Closed));
}

#[test]
fn closing_ends_the_link_for_good() {
    let mut script = Script::live();
    script.push(1..=1);
    script.events();
    script.device.taken(script.now, 1);
    script.device.close(script.now);
    script.store();
    assert_eq!(script.saved.cursor, Some(1), "what was taken is stored");
    assert_eq!(script.device.poll_link(), Some(LinkAction::Disconnect));
    script.device.reconnect();
    assert_eq!((script.device.poll_link(), script.device.poll_deadline()), (None, None));
}

#[test]
fn an_epoch_that_does_not_rise_is_not_numbered_in() {
    let mut script = Script::live();
    script.say("bob", "a");
    script.said();
    script.device.handle_closed(script.now);
    script.events();
    script.connect();
    script.tell(0, Down::SignInResult(v1::SignInResult { epoch: 101, ..v1::SignInResult::default() }));
    assert!(matches!(
        script.events()[..],
        [Event::Disconnected { cause: Cause::Protocol(_), retry_in_ms: Some(_) }]
    ));
}

#[test]
fn bytes_that_are_no_frame_end_the_link() {
    let mut script = Script::live();
    script.device.handle_message(script.now, &[0xff; 9]);
    assert!(matches!(script.events()[..], [Event::Disconnected { cause: Cause::Protocol(_), .. }]));
    script.device.handle_message(script.now, &[0xff; 9]);
    assert_eq!(script.events(), [], "there is no link any more");
}

#[test]
fn a_device_is_small() {
    assert!(size_of::<Device>() < 1_024, "{}", size_of::<Device>());
}

proptest::proptest! {
    #[test]
    fn no_server_bytes_panic(messages in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..60), 0..20)) {
        let mut script = Script::live();
        script.say("bob", "a");
        script.said();
        for bytes in messages {
            script.device.handle_message(script.now, &bytes);
            script.store();
            script.wait(10);
            script.sends();
            script.events();
            if script.device.poll_link() == Some(LinkAction::Disconnect) {
                script.wait(60_000);
                script.connect();
            }
        }
    }
}
