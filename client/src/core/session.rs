//! What the server says on a link, and what follows from it.

use proto::close::{self, Close};
use proto::{Code, ConversationId, limits, v1};
use v1::server_frame::Frame;

use super::link::{Going, Link, Session, heartbeat_ms};
use super::{Cause, Device, Event, Millis, Settings};
use crate::backoff::Backoff;
use crate::outbox::{Acked, Number, Refusal, Voided};
use crate::store::Change;

/// The protocol revision that this speaks.
const PROTOCOL: u32 = 1;
const CLIENT: &str = concat!("godwit-rust/", env!("CARGO_PKG_VERSION"));
/// Between links. A server that has no room asks for more; without being asked, everybody is back within half a
/// minute of the end of an outage.
const RECONNECT: Backoff = Backoff::new(500, 20_000);
/// Between a refusal and the same send again.
const RESEND: Backoff = Backoff::new(100, 10_000);
/// A link that was signed in for this long ends a row of failures.
const LASTING_MS: u64 = 5_000;
/// What a server that is out of reach of its log still writes there: it gives up after 30 s (Kafka's delivery timeout as
/// set), on its own clock.
const ECHO_MS: u64 = 60_000;
/// Addresses of a GoAway that are taken, and bytes of one.
const ADDRESSES_MAX: usize = 16;
const ADDRESS_BYTES_MAX: usize = 256;

/// When there is to be another link.
#[derive(Clone, Copy, Debug)]
pub(super) enum Again {
    Now,
    Pause { least_ms: u64 },
    Never,
}

pub(super) fn sign_in(settings: &Settings, token: String) -> v1::SignIn {
    v1::SignIn {
        token,
        protocol: PROTOCOL,
        device_class: settings.device_class.clone(),
        client: CLIENT.to_owned(),
        resume_ticket: bytes::Bytes::new(),
    }
}

impl Device {
    /// A frame has come over the link.
    pub fn handle_frame(&mut self, now: Millis, frame: v1::ServerFrame) {
        let Link::Up(wire) = &mut self.link else { return };
        wire.heard(now);
        let request = frame.reply_to;
        let is_live = wire.session.is_some();
        match frame.frame {
            Some(Frame::SignInResult(result)) => self.on_sign_in_result(now, &result),
            Some(Frame::SendAck(_)) => self.on_ack(now, request),
            Some(Frame::Push(push)) if is_live => self.cursor.push(push.entries),
            Some(Frame::SyncPage(page)) if is_live => self.cursor.page(request, page, now, &mut self.dice),
            Some(Frame::SyncHint(hint)) if is_live => self.cursor.hear(hint.head),
            Some(Frame::CallResult(result)) => {
                if let Some(call) = self.calls.answered(request) {
                    self.called.push_back((call, Ok(result.response)));
                }
            }
            Some(Frame::GoAway(away)) => self.on_go_away(now, away),
            Some(Frame::Kick(kick)) => self.on_kick(now, kick),
            Some(Frame::Error(error)) => self.on_error(now, request, error),
            // A Pong has said all by coming. Notices are not for this revision of the client, and a frame
            // of no kind that is known here is skipped, as the protocol says.
            Some(
                Frame::Pong(_) | Frame::Notice(_) | Frame::Push(_) | Frame::SyncPage(_) | Frame::SyncHint(_),
            )
            | None => {}
        }
    }

    /// Ends the link, if there is one, and decides about the next.
    pub(super) fn end(&mut self, now: Millis, cause: Cause, again: Again) {
        if let Link::Up(wire) = &self.link {
            self.disconnect = true;
            let since = wire.session.as_ref().map(|session| session.since);
            if since.is_some_and(|since| now >= since.after(LASTING_MS)) {
                self.failures = 0;
            }
            if since.is_none() && wire.token.is_none() && !matches!(cause, Cause::SignIn { .. }) {
                self.echo_until = now.after(ECHO_MS);
            }
        }
        let retry_in_ms = match again {
            Again::Never => None,
            Again::Now => Some(0),
            Again::Pause { least_ms } => {
                // All that were asked to wait so long come spread over as long again.
                let spread = self.dice.below(least_ms + 1);
                Some(RECONNECT.pause_ms(self.failures, least_ms, &mut self.dice).max(least_ms + spread))
            }
        };
        self.failures = self.failures.saturating_add(u32::from(!matches!(again, Again::Now)));
        self.link = Link::Down { retry_at: retry_in_ms.map(|ms| now.after(ms)) };
        self.outbox.relink(0);
        self.cursor.link_ended();
        self.calls.link_ended();
        self.events.push_back(Event::Disconnected { cause, retry_in_ms });
    }

    /// Gives numbers to what may have them.
    pub(super) fn number(&mut self) {
        let Link::Up(wire) = &self.link else { return };
        let Some(session) = &wire.session else { return };
        let (writes, changed) = (&mut self.writes, &mut self.changed);
        self.outbox.number(session.epoch, |local, number| {
            writes.push_back(Change::Numbered { local, number });
            *changed += 1;
            *changed
        });
    }

    /// The event that an entry is, if it turns down a send of this device.
    pub(super) fn rejected(&self, entry: &v1::Entry) -> Option<Event> {
        let Some(v1::entry::Event::Rejected(rejected)) = &entry.event else { return None };
        let own =
            entry.sender == self.settings.user.as_str() && entry.device == self.settings.device.as_str();
        if !own {
            return None;
        }
        Some(Event::Rejected {
            conversation: ConversationId::from_slice(&entry.conversation).ok()?,
            number: Number { epoch: entry.epoch, n: entry.n },
            code: rejected.code,
            name: rejected.name.clone(),
        })
    }

    fn on_sign_in_result(&mut self, now: Millis, result: &v1::SignInResult) {
        let beat = heartbeat_ms(result, &mut self.dice);
        let Link::Up(wire) = &mut self.link else { return };
        if wire.session.is_some() {
            return self.cursor.hear(result.head);
        }
        if result.epoch <= self.outbox.epoch() {
            let cause = Cause::Protocol("the epoch did not rise");
            return self.end(now, cause, Again::Pause { least_ms: 0 });
        }
        let told = result.limits.unwrap_or_default();
        wire.session = Some(Session {
            epoch: result.epoch,
            since: now,
            heartbeat_ms: beat,
            sync_entries_max: told.sync_entries_max,
        });
        self.outbox.set_window(or(told.unacked_sends_max, limits::UNACKED_SENDS_MAX));
        self.body_bytes_max = or(told.body_bytes_max, limits::BODY_BYTES_MAX).min(limits::BODY_BYTES_MAX);
        self.cursor.signed_in(result, self.settings.start);
        self.write_cursor();
        self.events.push_back(Event::Connected { epoch: result.epoch, head: result.head });
        self.number();
    }

    fn on_ack(&mut self, now: Millis, request: u64) {
        if let Some(Acked { sent, is_said, is_stuck }) = self.outbox.acked(request) {
            self.change(Change::Done(sent.local));
            if is_said {
                self.events.push_back(Event::Acked(sent));
            }
            if is_stuck {
                return self.stuck(now, 0);
            }
            self.number();
        }
        self.leave_if_done(now);
    }

    fn on_go_away(&mut self, now: Millis, away: v1::GoAway) {
        let within_ms = u64::from(away.within_ms);
        let move_at = now.after(self.dice.below(within_ms + 1));
        let Link::Up(wire) = &mut self.link else { return };
        wire.going = Some(Going { move_at, until: now.after(within_ms), moving: false });
        let usable = away.addresses.into_iter().filter(|a| !a.is_empty() && a.len() <= ADDRESS_BYTES_MAX);
        self.addresses = usable.take(ADDRESSES_MAX).collect();
        if wire.session.is_none() {
            return self.end(now, Cause::GoAway, Again::Pause { least_ms: 0 });
        }
        self.leave_if_done(now);
    }

    fn leave_if_done(&mut self, now: Millis) {
        let unanswered = self.outbox.unanswered();
        let Link::Up(wire) = &mut self.link else { return };
        let due = wire.leaves(now, unanswered);
        self.link_due(now, &due);
    }

    fn on_kick(&mut self, now: Millis, kick: v1::Kick) {
        let v1::Kick { code, reason, after_ms } = kick;
        let cause = Cause::Closed { code, reason: reason.clone() };
        let is_echo = code == Close::Replaced.number() && now < self.echo_until;
        if is_echo || close::reconnects(code) {
            return self.end(now, cause, Again::Pause { least_ms: u64::from(after_ms) });
        }
        self.events.push_back(Event::Kicked { code, reason });
        self.end(now, cause, Again::Never);
    }

    fn on_error(&mut self, now: Millis, request: u64, error: v1::Error) {
        let Link::Up(wire) = &self.link else { return };
        if request != 0 && request == wire.sign_in && wire.session.is_none() {
            return self.on_sign_in_error(now, error);
        }
        if self.outbox.owes(request) {
            return self.on_send_error(now, request, error);
        }
        if self.cursor.is_asked(request) {
            let after_ms = u64::from(error.after_ms);
            return self.cursor.sync_failed(request, after_ms, now, &mut self.dice);
        }
        if self.calls.owes(request) {
            if let Some((call, why)) = self.calls.failed(request, &error, now, &mut self.dice) {
                self.called.push_back((call, Err(why)));
            }
            return;
        }
        if error.code == Code::OutOfOrder.number() {
            self.outbox.rewind();
            self.pause_sends(now, error.after_ms);
        }
    }

    fn on_sign_in_error(&mut self, now: Millis, error: v1::Error) {
        let again = match error.retry() {
            v1::Retry::Never | v1::Retry::Reauth => Again::Never,
            _ => Again::Pause { least_ms: u64::from(error.after_ms) },
        };
        let v1::Error { code, name, detail, .. } = error;
        self.end(now, Cause::SignIn { code, name, detail }, again);
    }

    fn on_send_error(&mut self, now: Millis, request: u64, error: v1::Error) {
        match error.retry() {
            v1::Retry::Never => self.on_refused_for_good(now, request, error),
            v1::Retry::Backoff | v1::Retry::After => {
                let follows = error.code == Code::RefusedEarlier.number();
                match self.outbox.refused(request, follows) {
                    // What follows a refusal that is known waits with it; any other waits for itself.
                    Refusal::Again if !(follows && self.outbox.is_refused()) => {
                        self.pause_sends(now, error.after_ms);
                    }
                    Refusal::Again | Refusal::OldNews => {}
                    Refusal::Stuck => return self.stuck(now, error.after_ms),
                }
                self.leave_if_done(now);
            }
            v1::Retry::Resync => {
                self.outbox.refused(request, true);
                self.outbox.rewind();
                self.pause_sends(now, error.after_ms);
            }
            v1::Retry::Reauth | v1::Retry::Redirect => {
                let v1::Error { code, name, .. } = error;
                let cause = Cause::Closed { code, reason: name };
                self.end(now, cause, Again::Pause { least_ms: u64::from(error.after_ms) });
            }
        }
    }

    fn on_refused_for_good(&mut self, now: Millis, request: u64, error: v1::Error) {
        match self.outbox.void(request, self.changed + 1) {
            Some(Voided::Now(sent)) => {
                self.change(Change::Voided(sent.local));
                let v1::Error { code, name, detail, .. } = error;
                self.events.push_back(Event::Refused { sent, code, name, detail });
            }
            Some(Voided::Gone(local)) => {
                self.change(Change::Done(local));
                self.stuck(now, 0);
            }
            None => {}
        }
    }

    /// What was refused does not come again, and until it does this link refuses everything else: another one.
    fn stuck(&mut self, now: Millis, least_ms: u32) {
        let cause = Cause::Protocol("a number was refused that is not kept any more");
        self.end(now, cause, Again::Pause { least_ms: least_ms.into() });
    }

    fn pause_sends(&mut self, now: Millis, least_ms: u32) {
        let pause = RESEND.pause_ms(self.outbox.refusals(), u64::from(least_ms), &mut self.dice);
        self.outbox.pause(now.after(pause));
    }
}

fn or(told: u32, else_: usize) -> usize {
    usize::try_from(told).ok().filter(|told| *told > 0).unwrap_or(else_)
}
