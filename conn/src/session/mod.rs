//! A link's session: what a device may say when, and what becomes of it.
//!
//! Sans-I/O. Frames and events go in, [`Action`]s come out, and the time is an argument. Nothing in here
//! knows a socket, a thread, a queue or a clock, so that a simulator drives the very code that runs.
//!
//! ```text
//!            SignIn             token verified              SessionResult
//!   Fresh ──────────▶ Verifying ──────────────▶ Joining ────────────────────▶ Live
//!                     (not read)                sends of older epochs taken    everything taken
//!   any state ── close, by whomever ──▶ Closing: nothing is taken, nothing is said any more
//! ```

mod leave;
mod push;
mod rate;
mod send;
mod sign_in;
mod sync;

use bytes::Bytes;
use compact_str::CompactString;
use prost::Message;
use proto::close::Close;
use proto::partition::{self, Partition};
use proto::v1::{self, client_frame, server_frame};
use proto::{Code, DeviceId, Fault, UserId};
use storage::log::{Partitions, Topic};

use crate::clock::Now;
use rate::Rate;
use send::{Refusal, Sends};
pub use sign_in::{Denied, Verified};

/// What is the same for every session of a reactor.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The node's name, as it stands in fences.
    pub node: String,
    /// The node's incarnation.
    pub incarnation: u64,
    /// The reactor's number within the node.
    pub reactor: u32,
    /// The partition counts of the logs.
    pub partitions: Partitions,
    /// From accept to a verified token, in ms.
    pub unauthenticated_ms: u64,
    /// From accept to the confirmed session, in ms.
    pub sign_in_ms: u64,
    /// Silence of a live link, in ms.
    pub idle_ms: u64,
    /// The range in which a device picks its heartbeat, in ms.
    pub heartbeat_ms: (u32, u32),
    /// The time that one frame of up to 4 KiB costs, in µs; larger ones cost more.
    pub frame_cost_us: u64,
    /// How far ahead of that rate a link may be, in µs.
    pub burst_us: u64,
    /// Calls of a link under way.
    pub calls_max: u8,
    /// Members of a group, as SignInResult tells devices.
    pub group_members_max: u32,
}

/// Which record an append was, among those of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Appended {
    /// The SessionStart.
    Start,
    /// A Submission; the number counts up within the session.
    Send(u32),
    /// The SessionEnd. Its outcome is not for the session, which is gone by then: where it fails, the
    /// partition's stream is to be broken.
    End,
}

/// What a session wants done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write this frame.
    Write(v1::ServerFrame),
    /// Write this ServerFrame, which is encoded, without a length.
    WriteEncoded(Bytes),
    /// Check this token, and report to [`Session::on_verified`].
    Verify(String),
    /// Append this record. Report the outcome to [`Session::on_report`], or to [`Session::on_refused`]
    /// before anything else if the log does not take it.
    Append {
        /// To which log.
        topic: Topic,
        /// To which of its partitions.
        partition: Partition,
        /// The record, encoded.
        record: Bytes,
        /// Its name for the report.
        what: Appended,
    },
    /// Ask the owner of the user's partition; the answer goes to [`Session::on_sync_answer`].
    Ask(Partition, v1::SyncAsk),
    /// Pass a call on; the answer goes to [`Session::on_call_result`].
    Call {
        /// To be given back with the answer.
        request_id: u64,
        /// The call, with who calls.
        call: v1::LinkCall,
    },
    /// The device acknowledged more: [`Session::take_cursor`] has something, sooner or later.
    Acked,
    /// Write what is queued, then close the socket. The last action of a session.
    Close(Close),
}

/// When a session ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deadline {
    /// The token was not verified in time.
    Unauthenticated,
    /// The session was not confirmed in time.
    SignIn,
    /// Nothing was heard.
    Idle,
}

#[derive(Debug)]
enum State {
    Fresh,
    Verifying(Box<sign_in::Wanted>),
    Joining { request_id: u64, recorded: bool },
    Live { epoch: u64 },
    Closing,
}

#[derive(Debug)]
struct Identity {
    user: UserId,
    device: DeviceId,
    partition: Partition,
}

/// The session of one link.
#[derive(Debug)]
pub struct Session {
    /// The link's number; a new one is given when the token is verified, see [`Session::on_verified`].
    link: u64,
    state: State,
    identity: Option<Identity>,
    /// Accept, until the session is live; the last frame, from then on. In ms.
    since_ms: u64,
    /// The highest seq that the device was told of.
    told: u64,
    /// The highest seq that it should have been told of and was not; 0 when there is none.
    behind: u64,
    /// The highest seq that the device acknowledged.
    acked: u64,
    /// Whether `acked` is above what was last taken.
    acked_is_new: bool,
    /// Whether a SessionStart was, or may have been, appended: then its end is appended as well.
    started: bool,
    /// No more sends are taken: one failed, or the link leaves.
    sends_over: bool,
    /// Taken and not acknowledged sends; kept only while there are some.
    sends: Option<Box<Sends>>,
    /// The number of the next send.
    sends_next: u32,
    /// The send that was refused and has to come before any other.
    refusal: Option<Box<Refusal>>,
    /// To close as soon as the sends that were taken are acknowledged.
    leaving: Option<Close>,
    /// The sync under way; 0 when there is none.
    sync: u64,
    /// Calls under way.
    calls: u8,
    rate: Rate,
}

impl Session {
    /// A session on a link that was accepted just now.
    #[must_use]
    pub fn new(link: u64, now: Now) -> Self {
        Self {
            link,
            state: State::Fresh,
            identity: None,
            since_ms: now.ms,
            told: 0,
            behind: 0,
            acked: 0,
            acked_is_new: false,
            started: false,
            sends_over: false,
            sends: None,
            sends_next: 1,
            refusal: None,
            leaving: None,
            sync: 0,
            calls: 0,
            rate: Rate::default(),
        }
    }

    /// Takes one message off the link: checks the rate, decodes it, acts on it.
    pub fn on_message(&mut self, rules: &Rules, now: Now, message: &[u8], out: &mut Vec<Action>) {
        if self.is_closing() {
            return;
        }
        let charged = self.rate.charge(rules, now, message.len());
        if charged == rate::Verdict::Flood {
            return self.kick(rules, Close::RateExceeded, out);
        }
        let Ok(frame) = v1::ClientFrame::decode(message) else {
            return self.kick(rules, Close::Malformed, out);
        };
        if let rate::Verdict::Over { after_ms } = charged {
            return self.on_excess(rules, now, frame, after_ms, out);
        }
        self.on_frame(rules, now, frame, out);
    }

    /// Takes one frame. Skips kinds of frames that it does not know.
    pub fn on_frame(&mut self, rules: &Rules, now: Now, frame: v1::ClientFrame, out: &mut Vec<Action>) {
        use client_frame::Frame;
        self.heard(now);
        let id = frame.request_id;
        match (&self.state, frame.frame) {
            (State::Closing, _) => {}
            (State::Fresh, Some(Frame::SignIn(sign_in))) => self.sign_in(rules, id, sign_in, out),
            (State::Fresh, _) => self.not_signed_in(rules, id, out),
            (State::Verifying(_), _) | (_, Some(Frame::SignIn(_))) => {
                self.kick(rules, Close::OutOfState, out);
            }
            (_, Some(Frame::Ping(_))) => {
                out.push(write(id, server_frame::Frame::Pong(v1::Pong::default())));
            }
            (_, Some(Frame::Ack(ack))) => self.ack(ack.seq, out),
            (_, None | Some(Frame::Notice(_))) => unknown(id, out),
            (_, Some(_)) if id == 0 => self.kick(rules, Close::Malformed, out),
            (_, Some(Frame::Send(send))) => self.send(rules, id, send, out),
            (_, Some(Frame::Call(call))) => self.call(rules, id, call, out),
            (State::Live { .. }, Some(Frame::Sync(sync))) => self.ask(rules, id, &sync, out),
            (State::Joining { .. }, Some(Frame::Sync(_))) => self.kick(rules, Close::OutOfState, out),
        }
    }

    /// The deadline in force, and when it is.
    #[must_use]
    pub fn deadline(&self, rules: &Rules) -> Option<(u64, Deadline)> {
        match self.state {
            State::Fresh | State::Verifying(_) => {
                Some((self.since_ms.saturating_add(rules.unauthenticated_ms), Deadline::Unauthenticated))
            }
            State::Joining { .. } => Some((self.since_ms.saturating_add(rules.sign_in_ms), Deadline::SignIn)),
            State::Live { .. } => Some((self.since_ms.saturating_add(rules.idle_ms), Deadline::Idle)),
            State::Closing => None,
        }
    }

    /// Ends the session if this deadline is in force and has passed.
    pub fn on_deadline(&mut self, rules: &Rules, now: Now, kind: Deadline, out: &mut Vec<Action>) {
        if self.deadline(rules).is_some_and(|(due_ms, in_force)| in_force == kind && due_ms <= now.ms) {
            let close = if kind == Deadline::Idle { Close::IdleTimeout } else { Close::SignInTimeout };
            self.kick(rules, close, out);
        }
    }

    /// The link's number.
    #[must_use]
    pub fn link(&self) -> u64 {
        self.link
    }

    /// Whether the device's bytes are wanted now. Not reading is how a link is held back.
    #[must_use]
    pub fn reads(&self) -> bool {
        !matches!(self.state, State::Verifying(_) | State::Closing) && !self.sends_over
    }

    /// Whether the token was verified.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.identity.is_some()
    }

    /// Whether the owner confirmed the session.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Live { .. })
    }

    /// Whether [`Action::Close`] was given.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing)
    }

    /// Whether the link has sent and is likely to send again: held back while the log's queue is full.
    #[must_use]
    pub fn sends(&self) -> bool {
        self.sends.is_some() || self.refusal.is_some()
    }

    /// The user's partition of the timelines log; none before the token is verified.
    #[must_use]
    pub fn partition(&self) -> Option<Partition> {
        self.identity.as_ref().map(|identity| identity.partition)
    }

    /// The session's line in the roster; none unless its SessionStart was, or may have been, appended.
    #[must_use]
    pub fn roster(&self, rules: &Rules) -> Option<v1::RosterLink> {
        let identity = self.identity.as_ref().filter(|_| self.started && !self.is_closing())?;
        Some(v1::RosterLink {
            link: Some(self.link_ref(rules)),
            user: identity.user.as_str().into(),
            device: identity.device.as_str().into(),
            confirmed: self.is_live(),
            told: self.told,
        })
    }

    fn heard(&mut self, now: Now) {
        if self.is_live() {
            self.since_ms = now.ms;
        }
    }

    fn link_ref(&self, rules: &Rules) -> v1::LinkRef {
        v1::LinkRef { reactor: rules.reactor, link: self.link }
    }

    fn fence(&self, rules: &Rules) -> v1::Fence {
        rules.fence(self.link)
    }

    fn not_signed_in(&mut self, rules: &Rules, id: u64, out: &mut Vec<Action>) {
        if id != 0 {
            out.push(error(id, &Fault::new(Code::NotSignedIn, "the first frame is SignIn"), None));
        }
        self.kick(rules, Close::OutOfState, out);
    }

    /// A frame above the rate: what asks for work is turned down, the rest is taken.
    fn on_excess(
        &mut self,
        rules: &Rules,
        now: Now,
        frame: v1::ClientFrame,
        after_ms: u32,
        out: &mut Vec<Action>,
    ) {
        use client_frame::Frame;
        let fault = Fault { code: Code::RateLimited, after_ms, detail: "frames above the rate".into() };
        let (id, signed_in) = (frame.request_id, self.is_verified());
        match frame.frame {
            Some(Frame::Send(send)) if signed_in && id != 0 => {
                self.heard(now);
                self.refuse_send(rules, id, &send, &fault, out);
            }
            Some(Frame::Sync(_) | Frame::Call(_)) if signed_in && id != 0 => {
                self.heard(now);
                out.push(error(id, &fault, None));
            }
            other => {
                let frame = v1::ClientFrame { request_id: id, frame: other };
                self.on_frame(rules, now, frame, out);
            }
        }
    }
}

impl Rules {
    /// The fence of a link of this reactor.
    #[must_use]
    pub fn fence(&self, link: u64) -> v1::Fence {
        v1::Fence { node: self.node.clone(), incarnation: self.incarnation, reactor: self.reactor, link }
    }

    /// The record that ends a session of this reactor; `user` is empty where it is no longer known.
    #[must_use]
    pub fn session_end(&self, link: u64, user: &str) -> Bytes {
        let end = v1::SessionEnd { fence: Some(self.fence(link)), user: user.into() };
        timeline_record(v1::timeline_record::Record::SessionEnd(end))
    }
}

fn timeline_record(record: v1::timeline_record::Record) -> Bytes {
    v1::TimelineRecord { record: Some(record) }.encode_to_vec().into()
}

fn write(reply_to: u64, frame: server_frame::Frame) -> Action {
    Action::Write(v1::ServerFrame { reply_to, frame: Some(frame) })
}

fn error(reply_to: u64, fault: &Fault, send: Option<v1::SendRef>) -> Action {
    write(reply_to, server_frame::Frame::Error(fault.to_error(send)))
}

/// Frames of a kind that is not known: skipped, but a request is answered.
fn unknown(id: u64, out: &mut Vec<Action>) {
    if id != 0 {
        out.push(error(id, &Fault::new(Code::UnknownFrame, "no such kind of frame"), None));
    }
}
