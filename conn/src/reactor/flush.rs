//! Writing: once a turn for each link that has something, many frames at a time. And how links end.

use std::net::Shutdown;

use proto::close::Close;

use super::{Reactor, enqueue};
use crate::outbox::Flushed;
use crate::table::Link;

impl Reactor {
    pub(super) fn flush_dirty(&mut self) {
        while let Some(slot) = self.dirty.pop_front() {
            if let Some(link) = self.table.get_mut(slot) {
                link.dirty = false;
                self.flush(slot);
            }
        }
    }

    fn flush(&mut self, slot: u32) {
        let Some(link) = self.table.get_mut(slot) else { return };
        match link.write_out(&mut self.buffered) {
            None => {}
            Some(Err(_)) => return self.gone(slot),
            Some(Ok(Flushed::Empty)) => self.emptied(slot),
            Some(Ok(Flushed::Blocked { progress })) => {
                link.block(self.now.ms.max(1), progress);
                self.arm(slot);
            }
        }
        self.end_if_due(slot);
    }

    fn emptied(&mut self, slot: u32) {
        let Some(link) = self.table.get_mut(slot) else { return };
        if let Some(outbox) = link.outbox.take() {
            self.spare.put(outbox);
        }
        if link.is_closing() {
            if !std::mem::replace(&mut link.shut, true) {
                let _ = link.stream.shutdown(Shutdown::Write);
                enqueue(&mut self.ready, slot, &mut link.queued);
            }
            return;
        }
        if link.readable {
            enqueue(&mut self.ready, slot, &mut link.queued);
        }
        link.session.on_room(&mut self.actions);
        self.perform(slot);
    }

    fn end_if_due(&mut self, slot: u32) {
        if self.table.get(slot).is_some_and(|link| link.is_closing() && link.drop_ms <= self.now.ms) {
            self.remove(slot);
        }
    }

    /// Closes a link for a reason of ours.
    pub(super) fn close(&mut self, slot: u32, close: Close) {
        if let Some(link) = self.table.get_mut(slot) {
            link.session.on_close(&self.rules, close, &mut self.actions);
            self.perform(slot);
        }
    }

    /// The last action of a session: from here on the link only writes what waits.
    pub(super) fn finish(&mut self, slot: u32, close: Close) {
        // Dropped before it came to that.
        if self.table.get(slot).is_none_or(Link::is_closing) {
            return;
        }
        self.parts.metrics.close(close);
        self.keep_cursor(slot);
        let Some(link) = self.table.get_mut(slot) else { return };
        if let Some(partial) = link.partial.take() {
            self.buffered = self.buffered.saturating_sub(partial.bytes.capacity());
        }
        // Whoever was silent is not waited for.
        let silent = matches!(close, Close::SignInTimeout | Close::IdleTimeout | Close::WriteStall);
        let linger_ms = if silent { 0 } else { self.parts.config.linger_ms };
        link.drop_ms = (self.now.ms + linger_ms).max(1);
        enqueue(&mut self.dirty, slot, &mut link.dirty);
        self.arm(slot);
    }

    /// Drops a link that has more waiting than it may, or takes nothing: no last word would get through.
    pub(super) fn abandon(&mut self, slot: u32, close: Close) {
        self.keep_cursor(slot);
        let Some(link) = self.table.get_mut(slot) else { return };
        self.parts.metrics.close(close);
        link.session.on_gone(&self.rules, &mut self.actions);
        link.drop_ms = 1;
        if let Some(outbox) = link.outbox.take() {
            self.buffered = self.buffered.saturating_sub(outbox.bytes());
        }
        enqueue(&mut self.dirty, slot, &mut link.dirty);
    }

    /// The other side ended the link, or it broke.
    pub(super) fn gone(&mut self, slot: u32) {
        let Some(link) = self.table.get_mut(slot) else { return };
        link.session.on_gone(&self.rules, &mut self.actions);
        self.perform(slot);
        self.keep_cursor(slot);
        self.remove(slot);
    }

    /// Forgets a link; its socket closes.
    pub(super) fn remove(&mut self, slot: u32) {
        self.wheel.disarm(slot);
        let Some(mut link) = self.table.remove(slot) else { return };
        if let Some(outbox) = link.outbox.take() {
            self.buffered = self.buffered.saturating_sub(outbox.bytes());
        }
        if let Some(partial) = link.partial.take() {
            self.buffered = self.buffered.saturating_sub(partial.bytes.capacity());
        }
        if let Some(guest) = link.guest.take() {
            self.forget_guest(guest.address);
        }
        if link.live {
            self.parts.metrics.live_links.dec();
        }
    }

    fn keep_cursor(&mut self, slot: u32) {
        let Some(link) = self.table.get_mut(slot) else { return };
        if let (Some(partition), Some(cursor)) = (link.session.partition(), link.session.take_cursor()) {
            self.cursors.keep(partition, cursor);
        }
    }
}
