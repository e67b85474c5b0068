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

mod action;
mod leave;
mod push;
mod rate;
mod rules;
mod send;
mod sign_in;
mod sync;

use prost::Message;
use proto::close::Close;
use proto::partition::Partition;
use proto::v1::{self, client_frame, server_frame};
use proto::{Code, DeviceId, Fault, UserId};

use crate::clock::Now;
pub use action::{Action, Appended, Deadline};
use rate::Rate;
pub use rules::Rules;
use send::{Refusal, Sends};
pub use sign_in::{Denied, Verified};
use sync::Asked;

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
    /// The sync under way.
    sync: Option<Box<Asked>>,
    /// How many syncs there were.
    syncs: u32,
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
            sync: None,
            syncs: 0,
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
            (State::Live { .. }, Some(Frame::Sync(sync))) => self.ask(rules, now, id, &sync, out),
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
            State::Live { .. } => {
                let idle = (self.since_ms.saturating_add(rules.idle_ms), Deadline::Idle);
                let sync = self.sync.as_ref().map(|asked| (asked.due_ms, Deadline::Sync));
                Some(sync.filter(|sync| sync.0 < idle.0).unwrap_or(idle))
            }
            State::Closing => None,
        }
    }

    /// Ends what the deadline is for, if it is in force and has passed.
    pub fn on_deadline(&mut self, rules: &Rules, now: Now, kind: Deadline, out: &mut Vec<Action>) {
        if self.deadline(rules).is_none_or(|(due_ms, in_force)| in_force != kind || due_ms > now.ms) {
            return;
        }
        match kind {
            Deadline::Sync => self.on_sync_lost(out),
            Deadline::Idle => self.kick(rules, Close::IdleTimeout, out),
            Deadline::Unauthenticated | Deadline::SignIn => self.kick(rules, Close::SignInTimeout, out),
        }
    }

    /// What the device may have said is not read at the moment, so it is not taken for silent.
    pub fn on_unread(&mut self, now: Now) {
        self.heard(now);
    }

    /// Since when the link is silent, or waits to be signed in, in ms.
    #[must_use]
    pub fn since_ms(&self) -> u64 {
        self.since_ms
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
