//! Acting on what other threads have for this reactor.

use bytes::Bytes;
use prost::Message;
use proto::close::Close;
use proto::partition::Partition;
use proto::v1::link_call_result::Result as CallResult;
use proto::v1::{self, down};
use proto::{Code, Fault};
use storage::log::{AppendError, Tag};

use super::Reactor;
use crate::mailbox::Mail;
use crate::roster;
use crate::session::{Denied, Verified};
use crate::uplink::{Name, Purpose};

/// Letters of one turn.
const BUDGET: usize = 4_096;

/// A link that is gone is signed off once in so many ms.
const SIGN_OFF_MS: u64 = 1_000;

impl Reactor {
    pub(super) fn take_mail(&mut self) {
        // Also where letters of the turn before are left: who posts wakes nobody until everything was taken once more.
        if self.inbox.len() <= BUDGET {
            self.mailbox.take(&mut self.inbox, &mut self.missed);
        }
        for _ in 0..BUDGET {
            // What comes after a new incarnation is for that one.
            if self.is_reincarnating() {
                break;
            }
            let Some(mail) = self.inbox.pop_front() else { break };
            self.open(mail);
        }
        self.mark_missed();
        self.answer_lost();
        if self.appends.full {
            self.release_held();
        }
    }

    fn open(&mut self, mail: Mail) {
        match mail {
            Mail::Verified { link, outcome } => self.verified(link, outcome),
            Mail::Reports(outcomes) => outcomes.into_iter().for_each(|outcome| self.reported(outcome)),
            Mail::ReportsLost { generation } => self.reports_lost(generation),
            Mail::CallResult { link, request_id, result } => {
                let Some(slot) = self.table.find(link) else { return };
                let max = self.caps.max / 2;
                let Some(link) = self.table.get_mut(slot) else { return };
                let result = fitting(result, link.waiting(), max);
                link.session.on_call_result(request_id, result, &mut self.actions);
                self.perform(slot);
            }
            Mail::Down { partition, term, link, down } => {
                if self.is_current(partition, term) {
                    self.down(partition, link, *down);
                }
            }
            Mail::Push { partition, term, links, last, frame } => {
                if self.is_current(partition, term) {
                    links.into_iter().for_each(|link| self.push(partition, link, last, &frame));
                }
            }
            Mail::Roster { partition, term, from, reply } => {
                if self.is_current(partition, term) && self.rules.incarnation != 0 {
                    let _ = reply.send(roster::part(&self.table, &self.rules, partition, from));
                }
            }
            Mail::StreamLost(partition) => self.lost.push(partition),
            Mail::Incarnation(incarnation) => self.new_incarnation(incarnation),
            Mail::Drain(done) => self.begin_drain(done),
            Mail::Stop => self.stopped = true,
        }
    }

    /// Frames of a term below one that was seen are not for this node any more.
    fn is_current(&mut self, partition: Partition, term: u64) -> bool {
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        let Some(seen) = self.terms.get_mut(index) else { return false };
        *seen = term.max(*seen);
        *seen == term
    }

    fn verified(&mut self, link: u64, outcome: Result<Verified, Denied>) {
        let Some(slot) = self.table.find(link) else { return };
        if self.rules.incarnation == 0 {
            return self.close(slot, Close::Overloaded);
        }
        self.parts.metrics.sign_in(match &outcome {
            Ok(_) => "verified",
            Err(Denied::Expired) => "expired",
            Err(_) => "denied",
        });
        let number = if outcome.is_ok() { self.table.number(slot) } else { link };
        let Some(link) = self.table.get_mut(slot) else { return };
        link.session.on_verified(&self.rules, number, outcome, &mut self.actions);
        let guest = if link.session.is_verified() { link.guest.take() } else { None };
        if let Some(guest) = guest {
            self.forget_guest(guest.address);
        }
        self.perform(slot);
        self.arm(slot);
        self.resume(slot);
    }

    fn reported(&mut self, (tag, outcome): (Tag, Result<(), AppendError>)) {
        let name = Name::of_tag(tag);
        self.appends.reported(name.generation);
        match outcome {
            Ok(()) => self.tally.landed += 1,
            Err(_) => self.tally.failed += 1,
        }
        match name.purpose {
            Purpose::Session(link, what) => {
                let Some(slot) = self.table.find(link) else { return };
                let Some(link) = self.table.get_mut(slot) else { return };
                link.session.on_report(&self.rules, what, outcome, &mut self.actions);
                self.perform(slot);
            }
            Purpose::End(partition) if outcome.is_err() => self.parts.downlink.break_stream(partition),
            Purpose::End(_) | Purpose::Cursors(_) => {}
        }
    }

    fn reports_lost(&mut self, generation: u16) {
        self.appends.lost(generation);
        self.for_all(|reactor, slot| {
            if let Some(link) = reactor.table.get_mut(slot) {
                link.session.on_reports_lost(&reactor.rules, &mut reactor.actions);
                reactor.perform(slot);
            }
        });
        // Sign-offs may be among what was lost.
        self.parts.downlink.break_all();
    }

    fn down(&mut self, partition: Partition, number: u64, down: down::Down) {
        let Some(slot) = self.table.find(number) else {
            if !matches!(down, down::Down::Kick(_)) {
                self.sign_off(partition, number);
            }
            return;
        };
        let room = self.has_room(slot);
        let Some(link) = self.table.get_mut(slot) else { return };
        let (session, out) = (&mut link.session, &mut self.actions);
        let mut confirmed = false;
        match down {
            down::Down::Result(result) => {
                let live = session.is_live();
                session.on_result(&self.rules, self.now, &result, out);
                confirmed = !live && session.is_live();
                link.live |= confirmed;
            }
            down::Down::Hint(hint) => session.on_hint(hint.head, room, out),
            down::Down::Kick(kick) => session.on_kick(&kick, out),
            down::Down::SyncAnswer(answer) => session.on_sync_answer(answer, out),
            down::Down::Error(v1::LinkError { error: Some(error), .. }) => session.on_error(error, room, out),
            down::Down::Error(_) | down::Down::Open(_) | down::Down::Push(_) => {}
        }
        self.perform(slot);
        if confirmed {
            self.parts.metrics.sign_in("confirmed");
            self.parts.metrics.live_links.inc();
            self.arm(slot);
        }
    }

    fn push(&mut self, partition: Partition, number: u64, last: u64, frame: &Bytes) {
        let Some(slot) = self.table.find(number) else { return self.sign_off(partition, number) };
        let room = self.has_room(slot);
        let Some(link) = self.table.get_mut(slot) else { return };
        link.session.on_push(last, frame, room, &mut self.actions);
        if self.actions.is_empty() {
            self.tally.marked += 1;
        } else {
            self.tally.written += 1;
        }
        self.perform(slot);
    }

    /// Someone thinks that this link is here. Until they have read that it is not, they push on: a record for
    /// each push would be many for nothing.
    fn sign_off(&mut self, partition: Partition, number: u64) {
        if self.now.ms >= self.signed_off_ms + SIGN_OFF_MS {
            self.signed_off.clear();
            self.signed_off_ms = self.now.ms;
        }
        if !self.signed_off.insert(number) {
            return;
        }
        let record = self.rules.session_end(number, "");
        self.append_end(partition, record);
    }

    /// Links whose pushes found no room in the mailbox are hinted.
    fn mark_missed(&mut self) {
        for (number, last) in std::mem::take(&mut self.missed) {
            let Some(slot) = self.table.find(number) else { continue };
            let room = self.has_room(slot);
            let Some(link) = self.table.get_mut(slot) else { continue };
            self.tally.marked += 1;
            link.session.on_hint(last, room, &mut self.actions);
            self.perform(slot);
        }
    }

    /// Syncs that were asked over a stream that is gone.
    fn answer_lost(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        if lost.is_empty() {
            return;
        }
        self.for_all(|reactor, slot| {
            let Some(link) = reactor.table.get_mut(slot) else { return };
            if link.session.partition().is_some_and(|partition| lost.contains(&partition)) {
                link.session.on_sync_lost(&mut reactor.actions);
                reactor.perform(slot);
            }
        });
    }

    /// Whether droppable frames are added to what waits for a link. Where nothing does, they are, whatever others have
    /// waiting.
    fn has_room(&self, slot: u32) -> bool {
        let waiting = self.table.get(slot).and_then(|link| link.outbox.as_ref());
        let has_room = self.buffered <= self.parts.config.buffered_bytes_max;
        waiting.is_none_or(|outbox| has_room && outbox.bytes() <= self.caps.high)
    }

    fn for_all(&mut self, mut each: impl FnMut(&mut Self, u32)) {
        let slots = u32::try_from(self.table.slots()).unwrap_or(u32::MAX);
        (0..slots).for_each(|slot| each(self, slot));
    }
}

/// An answer, or that it does not fit beside what waits: then the device is to read that first.
fn fitting(result: CallResult, waiting: usize, max: usize) -> CallResult {
    match result {
        CallResult::Ok(ok) if waiting > 0 && waiting + ok.encoded_len() > max => {
            let fault = Fault::new(Code::Busy, "answers before this one wait to be read");
            CallResult::Error(fault.to_error(None))
        }
        result => result,
    }
}
