//! A link from accept to close: its session, what waits for it, and whatever a device, an owner and the log may do
//! to it in whatever order.

use std::io::{self, Write};

use bytes::{Buf, Bytes};
use prost::Message;
use proto::close::Close;
use proto::frame::PREFIX_BYTES_MAX;
use proto::limits::{CLIENT_FRAME_BYTES_MAX, UNACKED_SENDS_MAX};
use proto::v1::{self, client_frame::Frame, down, link_call_result, server_frame};
use storage::log::{AppendError, Partitions, Topic};

use crate::clock::Now;
use crate::codec;
use crate::outbox::{Caps, Flushed, Outbox, Verdict};
use crate::session::{Action, Appended, Denied, Rules, Session, Verified};

const CAPS: Caps = Caps { high: 4 * 1024, max: 256 * 1024 };
/// Bytes of one piece that a device writes.
const PIECE_BYTES_MAX: usize = 64;

/// The bytes are a script: each step a letter, and what it takes. Whatever it says, nothing panics; before the token
/// is verified nothing is appended or asked; sends are acknowledged once, in order, and never more are open than may
/// be; what waits stays within its cap; and after the close nothing is said.
pub fn link(bytes: &[u8]) {
    let mut link = Link::new();
    let mut script = bytes;
    while link.gone.is_none() && script.has_remaining() {
        let letter = script.get_u8();
        link.step(letter, &mut script);
        link.holds();
    }
}

struct Link {
    rules: Rules,
    now: Now,
    session: Session,
    partial: Vec<u8>,
    outbox: Outbox,
    actions: Vec<Action>,
    verified: bool,
    /// The log takes no records.
    full: bool,
    /// Appends that were taken and not reported.
    unreported: Vec<Appended>,
    calls: Vec<u64>,
    asks: Vec<v1::SyncAsk>,
    /// Sends that were taken and not acknowledged.
    sends_open: usize,
    gone: Option<Close>,
    /// There was no room: from here on nothing is carried out.
    dropped: bool,
}

impl Link {
    fn new() -> Self {
        let now = Now { ms: 1_000, wall_us: 1 };
        Self {
            rules: rules(),
            now,
            session: Session::new(1, now),
            partial: Vec::new(),
            outbox: Outbox::default(),
            actions: Vec::new(),
            verified: false,
            full: false,
            unreported: Vec::new(),
            calls: Vec::new(),
            asks: Vec::new(),
            sends_open: 0,
            gone: None,
            dropped: false,
        }
    }

    fn step(&mut self, letter: u8, script: &mut &[u8]) {
        let (rules, out) = (&self.rules, &mut self.actions);
        match letter % 20 {
            0 => self.write(&piece(script)),
            1 => self.write(&sign_in()),
            2 => self.write(&send(u64::from(byte(script)), u64::from(byte(script)))),
            3 => self.verified(byte(script)),
            4 => self.report(usize::from(byte(script)), byte(script)),
            5 => self.full = !self.full,
            6 => self.down(&piece(script)),
            7 => self.down(&result(u64::from(byte(script)))),
            8 => {
                let frame = Bytes::from(vec![0; 16 * usize::from(byte(script))]);
                let room = self.outbox.bytes() <= CAPS.high;
                self.session.on_push(u64::from(byte(script)), &frame, room, out);
            }
            9 => self.answer(byte(script)),
            10 => self.session.on_sync_lost(out),
            11 => self.call_result(&piece(script)),
            12 => self.pass_time(u64::from(byte(script)) * 300),
            13 => self.flush(usize::from(byte(script)) * 16),
            14 => self.session.on_go_away(Close::GoingAway, 5_000, out),
            15 => self.session.on_leave(rules, Close::GoingAway, out),
            16 => self.session.on_reports_lost(rules, out),
            17 => self.session.on_close(rules, Close::Overloaded, out),
            18 => drop(self.session.take_cursor()),
            _ => {
                self.session.on_gone(rules, out);
                self.gone = Some(Close::GoingAway);
            }
        }
        self.perform();
    }

    /// What the reactor does with bytes that were read.
    fn write(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        while self.session.reads() && self.gone.is_none() {
            match codec::first(&self.partial) {
                Ok(Some((message, end))) => {
                    self.session.on_message(&self.rules, self.now, message, &mut self.actions);
                    self.partial.drain(..end);
                }
                Ok(None) => return,
                Err(close) => {
                    self.session.on_close(&self.rules, close, &mut self.actions);
                    self.partial.clear();
                }
            }
            self.perform();
        }
    }

    fn perform(&mut self) {
        while !self.actions.is_empty() {
            for action in std::mem::take(&mut self.actions) {
                self.act(action);
            }
        }
    }

    fn act(&mut self, action: Action) {
        if self.dropped {
            return;
        }
        assert!(
            self.gone.is_none() || matches!(action, Action::Append { what: Appended::End, .. }),
            "{action:?}"
        );
        match action {
            Action::Write(frame) => {
                self.spoken(&frame);
                let verdict = self.outbox.push(&frame, CAPS);
                self.room(verdict);
            }
            Action::WriteEncoded(frame) => {
                let verdict = self.outbox.push_encoded(&frame, CAPS);
                self.room(verdict);
            }
            Action::Verify(token) => assert!(!token.is_empty() && !self.verified),
            Action::Append { topic, what, .. } => self.append(topic, what),
            Action::Ask(_, ask) => {
                assert!(self.session.is_live());
                self.asks.push(ask);
            }
            Action::Call { request_id, call } => {
                assert!(self.verified && call.user == "ann");
                self.calls.push(request_id);
            }
            Action::Acked => assert!(self.verified),
            Action::Close(close) => self.gone = Some(close),
        }
    }

    fn append(&mut self, topic: Topic, what: Appended) {
        assert!(self.verified, "{what:?} of a device that nobody verified");
        assert_eq!(topic == Topic::Messages, matches!(what, Appended::Send(_)));
        if what == Appended::End {
            return;
        }
        self.sends_open += usize::from(topic == Topic::Messages);
        if self.full {
            self.sends_open -= usize::from(topic == Topic::Messages);
            self.session.on_refused(&self.rules, what, &mut self.actions);
        } else {
            self.unreported.push(what);
        }
    }

    /// Notes what the device is told of its sends.
    fn spoken(&mut self, frame: &v1::ServerFrame) {
        match &frame.frame {
            Some(server_frame::Frame::SendAck(_)) => {
                self.sends_open = self.sends_open.checked_sub(1).expect("an ack for no send");
            }
            Some(server_frame::Frame::SignInResult(_)) => assert!(self.verified),
            _ => {}
        }
    }

    /// A link without room is dropped without a word.
    fn room(&mut self, verdict: Verdict) {
        if verdict == Verdict::Overflow && self.gone.is_none() {
            self.actions.clear();
            self.session.on_gone(&self.rules, &mut self.actions);
            (self.gone, self.dropped) = (Some(Close::WriteStall), true);
        }
    }

    fn verified(&mut self, how: u8) {
        let ann =
            || Verified { user: "ann".parse().expect("an id"), device: "phone".parse().expect("an id") };
        let outcome = match how % 4 {
            0 => Err(Denied::Bad("signature")),
            1 => Err(Denied::Busy),
            _ => Ok(ann()),
        };
        let was = self.session.is_verified();
        let ok = outcome.is_ok();
        self.session.on_verified(&self.rules, 2, outcome, &mut self.actions);
        self.verified |= self.session.is_verified();
        assert!(was || ok || !self.session.is_verified());
        self.perform();
        self.write(&[]);
    }

    fn report(&mut self, which: usize, how: u8) {
        if self.unreported.is_empty() {
            return;
        }
        let what = self.unreported.remove(which % self.unreported.len());
        let outcome = if how % 8 == 7 { Err(AppendError::Timeout) } else { Ok(()) };
        self.session.on_report(&self.rules, what, outcome, &mut self.actions);
    }

    /// What the reactor does with a frame of the owner's.
    fn down(&mut self, bytes: &[u8]) {
        let Ok(v1::Down { down: Some(frame) }) = v1::Down::decode(bytes) else { return };
        let (session, out) = (&mut self.session, &mut self.actions);
        let room = self.outbox.bytes() <= CAPS.high;
        match frame {
            down::Down::Result(result) => session.on_result(&self.rules, self.now, &result, out),
            down::Down::Hint(hint) => session.on_hint(hint.head, room, out),
            down::Down::Kick(kick) => session.on_kick(&kick, out),
            down::Down::SyncAnswer(answer) => session.on_sync_answer(answer, out),
            down::Down::Error(v1::LinkError { error: Some(error), .. }) => session.on_error(error, room, out),
            down::Down::Push(push) => session.on_push(push.last, &push.frame, room, out),
            down::Down::Error(_) | down::Down::Open(_) => {}
        }
    }

    fn answer(&mut self, how: u8) {
        let Some(ask) = self.asks.pop() else { return };
        let page = Bytes::from(vec![0; usize::from(how) * 64]);
        let result = (how > 0).then_some(v1::sync_answer::Result::Page(page));
        let answer =
            v1::SyncAnswer { link: ask.link, request_id: ask.request_id, result, told: u64::from(how) };
        self.session.on_sync_answer(answer, &mut self.actions);
    }

    fn call_result(&mut self, bytes: &[u8]) {
        let Some(request_id) = self.calls.pop() else { return };
        let result = v1::LinkCallResult::decode(bytes).ok().and_then(|result| result.result);
        let result = result.unwrap_or(link_call_result::Result::Ok(v1::CallResult::default()));
        self.session.on_call_result(request_id, result, &mut self.actions);
    }

    fn pass_time(&mut self, ms: u64) {
        self.now.ms += ms;
        if let Some((_, kind)) = self.session.deadline(&self.rules) {
            self.session.on_deadline(&self.rules, self.now, kind, &mut self.actions);
        }
    }

    fn flush(&mut self, bytes: usize) {
        let flushed = self.outbox.flush(&mut Narrow(bytes));
        if matches!(flushed, Ok(Flushed::Empty)) {
            self.session.on_room(&mut self.actions);
        }
    }

    /// What holds after every step.
    fn holds(&self) {
        assert!(self.outbox.bytes() <= CAPS.max + PREFIX_BYTES_MAX, "{} bytes wait", self.outbox.bytes());
        assert!(self.sends_open <= UNACKED_SENDS_MAX, "{} sends are open", self.sends_open);
        assert!(self.calls.len() <= usize::from(self.rules.calls_max), "{} calls", self.calls.len());
        let kept = CLIENT_FRAME_BYTES_MAX + PREFIX_BYTES_MAX;
        assert!(!self.session.reads() || self.partial.len() <= kept, "{} bytes are kept", self.partial.len());
        assert!(self.gone.is_none() || self.session.is_closing());
    }
}

/// A socket that takes so many bytes.
struct Narrow(usize);

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn byte(script: &mut &[u8]) -> u8 {
    script.try_get_u8().unwrap_or(0)
}

/// Bytes of the script, their number in front.
fn piece(script: &mut &[u8]) -> Bytes {
    let length = usize::from(byte(script)).min(PIECE_BYTES_MAX).min(script.remaining());
    script.copy_to_bytes(length)
}

fn framed(request_id: u64, frame: Frame) -> Bytes {
    proto::frame::to_bytes(&v1::ClientFrame { request_id, frame: Some(frame) })
}

fn sign_in() -> Bytes {
    framed(1, Frame::SignIn(v1::SignIn { token: "token".into(), protocol: 1, ..v1::SignIn::default() }))
}

fn send(epoch: u64, n: u64) -> Bytes {
    let body = Some(v1::send::Body::Message(v1::Message { kind: 1, data: Bytes::from_static(b"hi") }));
    framed(1 + n, Frame::Send(v1::Send { to: Some(v1::send::To::User("bob".into())), epoch, n, body }))
}

fn result(head: u64) -> Bytes {
    let result = v1::SessionResult { epoch: 100, head, first: 1, ..v1::SessionResult::default() };
    v1::Down { down: Some(down::Down::Result(result)) }.encode_to_vec().into()
}

fn rules() -> Rules {
    Rules {
        node: "n".into(),
        incarnation: 7,
        reactor: 0,
        partitions: Partitions { messages: 4, timelines: 4 },
        unauthenticated_ms: 10_000,
        sign_in_ms: 30_000,
        idle_ms: 55_000,
        sync_ms: 10_000,
        heartbeat_ms: (20_000, 25_000),
        frame_cost_us: 1_000,
        burst_us: 2_000_000,
        calls_max: 8,
        group_members_max: 500,
    }
}
