//! Carrying out what sessions want.

use bytes::Bytes;
use proto::close::Close;
use proto::partition::Partition;
use storage::log::{Append, Topic};

use super::{Reactor, enqueue};
use crate::call::{CallRequest, Reply};
use crate::outbox::{Caps, Outbox, Verdict};
use crate::session::{Action, Appended, Denied};
use crate::uplink::Purpose;
use crate::verify::Job;

/// The reactor's share of what is appended and not reported.
#[derive(Debug)]
pub(super) struct Appends {
    pub(super) in_flight: usize,
    max: usize,
    /// Of the producer that took them.
    generation: u16,
    /// The log took no more, and has not been seen with room since.
    pub(super) full: bool,
}

impl Appends {
    pub(super) fn new(max: usize) -> Self {
        Self { in_flight: 0, max: max.max(1), generation: 0, full: false }
    }

    fn taken(&mut self, generation: u16) {
        if self.generation != generation {
            self.generation = generation;
            self.in_flight = 0;
        }
        self.in_flight += 1;
    }

    pub(super) fn reported(&mut self, generation: u16) {
        if self.generation == generation {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
    }

    pub(super) fn lost(&mut self, generation: u16) {
        if self.generation == generation {
            self.in_flight = 0;
        }
    }

    pub(super) fn depth(&self) -> (usize, usize) {
        (self.in_flight, self.max)
    }

    fn has_room(&self) -> bool {
        self.in_flight <= self.max / 2
    }
}

impl Reactor {
    /// Carries out the actions that a session left, and those that come of them.
    pub(super) fn perform(&mut self, slot: u32) {
        while !self.actions.is_empty() {
            let mut actions = std::mem::take(&mut self.actions);
            for action in actions.drain(..) {
                self.act(slot, action);
            }
            if self.actions.is_empty() {
                self.actions = actions;
            }
        }
    }

    fn act(&mut self, slot: u32, action: Action) {
        let Some(link) = self.table.get_mut(slot) else { return };
        match action {
            Action::Write(frame) => self.write(slot, |outbox, caps| outbox.push(&frame, caps)),
            Action::WriteEncoded(frame) => self.write(slot, |outbox, caps| outbox.push_encoded(&frame, caps)),
            Action::Verify(token) => {
                let link_number = link.session.link();
                let job = Job { token, now: self.now, link: link_number, mailbox: self.mailbox.clone() };
                if !self.parts.pool.submit(job) {
                    self.parts.metrics.sign_in("busy");
                    link.session.on_verified(&self.rules, link_number, Err(Denied::Busy), &mut self.actions);
                }
            }
            Action::Append { topic, partition, record, what } => {
                self.append_for(slot, (topic, partition), record, what);
            }
            Action::Ask(partition, ask) => {
                if !self.parts.downlink.ask(partition, ask) {
                    link.session.on_sync_lost(&mut self.actions);
                }
                self.arm(slot);
            }
            Action::Call { request_id, call } => {
                let reply = Reply::new(self.mailbox.clone(), link.session.link(), request_id);
                // A request that is not taken is dropped, and that answers it.
                let _ = self.parts.calls.try_send(CallRequest { call, reply });
            }
            Action::Acked => {
                if let Some(partition) = link.session.partition() {
                    self.cursors.acked(partition, link.session.link());
                }
            }
            Action::Close(close) => self.finish(slot, close),
        }
    }

    fn write(&mut self, slot: u32, push: impl FnOnce(&mut Outbox, Caps) -> Verdict) {
        let Some(link) = self.table.get_mut(slot).filter(|link| !link.is_closing()) else { return };
        let outbox = link.outbox.get_or_insert_with(|| self.spare.take());
        let before = outbox.bytes();
        let verdict = push(outbox, self.caps);
        let added = outbox.bytes() - before;
        self.buffered += added;
        self.tally.frames_out += 1;
        self.tally.bytes_out += u64::try_from(added).unwrap_or(0);
        enqueue(&mut self.dirty, slot, &mut link.dirty);
        let over = verdict == Verdict::HighWater && self.buffered > self.parts.config.buffered_bytes_max;
        if verdict == Verdict::Overflow || (over && !self.drains(slot)) {
            self.abandon(slot, Close::WriteStall);
        }
    }

    /// Writes at once what waits for a link: whether little is left.
    fn drains(&mut self, slot: u32) -> bool {
        let Some(link) = self.table.get_mut(slot) else { return true };
        // What comes of it, an error too, is seen at the end of the turn.
        link.write_out(&mut self.buffered).is_some() && link.waiting() <= self.caps.high
    }

    fn append_for(&mut self, slot: u32, place: (Topic, Partition), record: Bytes, what: Appended) {
        let Some(link) = self.table.get(slot) else { return };
        if what == Appended::End {
            return self.append_end(place.1, record);
        }
        let purpose = Purpose::Session(link.session.link(), what);
        if !self.append(place, record, purpose)
            && let Some(link) = self.table.get_mut(slot)
        {
            link.session.on_refused(&self.rules, what, &mut self.actions);
        }
    }

    /// A SessionEnd that is not taken breaks the stream: the next roster says that the link is gone.
    pub(super) fn append_end(&mut self, partition: Partition, record: Bytes) {
        if !self.append((Topic::Timelines, partition), record, Purpose::End(partition)) {
            self.parts.downlink.break_stream(partition);
        }
    }

    /// False where the log does not take the record.
    pub(super) fn append(&mut self, place: (Topic, Partition), record: Bytes, purpose: Purpose) -> bool {
        if self.appends.in_flight < self.appends.max {
            let (verdict, generation) = self.parts.uplink.append(place, record, purpose, self.number);
            if verdict == Append::Queued {
                self.appends.taken(generation);
                self.tally.queued += 1;
                return true;
            }
        }
        self.tally.refused += 1;
        self.appends.full = true;
        false
    }

    /// Reads the links that were held back, once the log has room.
    pub(super) fn release_held(&mut self) {
        let (depth, cap) = self.parts.uplink.depth();
        if !self.appends.full || !self.appends.has_room() || depth > cap / 2 || !self.parts.uplink.is_up() {
            return;
        }
        self.appends.full = false;
        for number in std::mem::take(&mut self.held) {
            let Some(slot) = self.table.find(number) else { continue };
            if let Some(link) = self.table.get_mut(slot) {
                link.held = false;
                enqueue(&mut self.ready, slot, &mut link.queued);
            }
        }
    }
}
