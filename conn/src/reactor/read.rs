//! Reading links: each a little, in turn, until it would block. Bytes are kept only where a frame is not
//! whole, or where it may not be acted on yet.

use std::io::{ErrorKind, Read};

use proto::close::Close;
use proto::limits::UNAUTHENTICATED_BYTES_MAX;

use super::{READ_BYTES_MAX, Reactor, enqueue};
use crate::codec;
use crate::table::{Link, Partial};

impl Reactor {
    pub(super) fn read_ready(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(slot) = self.ready.pop_front() else { return };
            if let Some(link) = self.table.get_mut(slot) {
                link.queued = false;
                self.read(slot);
            }
        }
    }

    /// Acts on bytes that had to wait: the token is verified by now.
    pub(super) fn resume(&mut self, slot: u32) {
        self.feed(slot, &[]);
        if let Some(link) = self.table.get_mut(slot) {
            enqueue(&mut self.ready, slot, &mut link.queued);
        }
    }

    fn read(&mut self, slot: u32) {
        let Some(link) = self.table.get_mut(slot) else { return };
        if !link.readable {
            return;
        }
        if link.is_closing() {
            return self.discard(slot);
        }
        if self.appends.full && link.session.sends() {
            if !std::mem::replace(&mut link.held, true) {
                self.held.push(link.session.link());
            }
            return;
        }
        if !link.session.reads() || link.waiting() > self.caps.high {
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let limit = link.read_max().min(scratch.len());
        let read = link.stream.read(scratch.get_mut(..limit).unwrap_or_default());
        match read {
            Ok(0) => self.gone(slot),
            Ok(count) => {
                self.tally.bytes_in += u64::try_from(count).unwrap_or(0);
                self.take(slot, scratch.get(..count).unwrap_or_default());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => link.readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                enqueue(&mut self.ready, slot, &mut link.queued);
            }
            Err(_) => self.gone(slot),
        }
        self.scratch = scratch;
    }

    fn take(&mut self, slot: u32, bytes: &[u8]) {
        if let Some(guest) = self.table.get_mut(slot).and_then(|link| link.guest.as_mut()) {
            guest.bytes += bytes.len();
        }
        self.feed(slot, bytes);
        let Some(link) = self.table.get_mut(slot) else { return };
        enqueue(&mut self.ready, slot, &mut link.queued);
        let spent = link.guest.as_ref().is_some_and(|guest| guest.bytes >= UNAUTHENTICATED_BYTES_MAX);
        if spent && link.session.reads() {
            self.close(slot, Close::UnauthenticatedBudget);
        } else if link.partial.is_some() && self.buffered > self.parts.config.buffered_bytes_max {
            self.close(slot, Close::Overloaded);
        }
    }

    /// Acts on every whole frame; keeps the rest.
    fn feed(&mut self, slot: u32, bytes: &[u8]) {
        let Some(link) = self.table.get_mut(slot) else { return };
        let kept = link.partial.take();
        let before = kept.as_ref().map_or(0, |partial| partial.bytes.capacity());
        let rest = match kept {
            Some(mut partial) => {
                // Exactly as much: doubling would take twice what a stranger may have.
                partial.bytes.reserve_exact(bytes.len());
                partial.bytes.extend_from_slice(bytes);
                let used = self.act_on(slot, &partial.bytes);
                partial.bytes.drain(..used);
                partial.trimmed()
            }
            None => {
                let used = self.act_on(slot, bytes);
                bytes.get(used..).and_then(Partial::of)
            }
        };
        let after = rest.as_ref().map_or(0, |partial| partial.bytes.capacity());
        self.buffered = (self.buffered + after).saturating_sub(before);
        match self.table.get_mut(slot) {
            Some(link) => link.partial = rest,
            None => self.buffered = self.buffered.saturating_sub(after),
        }
    }

    /// How many bytes were acted on.
    fn act_on(&mut self, slot: u32, bytes: &[u8]) -> usize {
        let mut used = 0;
        loop {
            let Some(link) = self.table.get_mut(slot).filter(|link| !link.is_closing()) else {
                return bytes.len();
            };
            if !link.session.reads() {
                return used;
            }
            match codec::first(bytes.get(used..).unwrap_or_default()) {
                Ok(Some((message, end))) => {
                    used += end;
                    self.tally.frames_in += 1;
                    link.session.on_message(&self.rules, self.now, message, &mut self.actions);
                    self.perform(slot);
                }
                Ok(None) => return used,
                Err(close) => {
                    self.close(slot, close);
                    return bytes.len();
                }
            }
        }
    }

    /// A closed link's last bytes are read, so that its socket can end without a reset.
    fn discard(&mut self, slot: u32) {
        let Some(link) = self.table.get_mut(slot) else { return };
        match link.stream.read(&mut self.scratch) {
            Ok(0) => {
                if link.outbox.is_none() {
                    self.remove(slot);
                }
            }
            Ok(_) => enqueue(&mut self.ready, slot, &mut link.queued),
            Err(error) if error.kind() == ErrorKind::WouldBlock => link.readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                enqueue(&mut self.ready, slot, &mut link.queued);
            }
            Err(_) => self.remove(slot),
        }
    }
}

impl Link {
    /// Bytes that may be read of it at once.
    fn read_max(&self) -> usize {
        let left = |guest: &crate::table::Guest| UNAUTHENTICATED_BYTES_MAX.saturating_sub(guest.bytes);
        self.guest.as_deref().map_or(READ_BYTES_MAX, left).max(1)
    }
}

impl Partial {
    fn of(bytes: &[u8]) -> Option<Box<Self>> {
        (!bytes.is_empty()).then(|| Box::new(Self { bytes: bytes.to_vec() }))
    }

    /// What is left after whole frames were taken out, in no more room than it needs.
    fn trimmed(self: Box<Self>) -> Option<Box<Self>> {
        if self.bytes.capacity() > 2 * self.bytes.len() { Self::of(&self.bytes) } else { Some(self) }
    }
}
