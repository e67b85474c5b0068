//! Too much waits for links, and from them: those are closed that have held the most of it, for the longest.

use proto::close::Close;

use super::Reactor;
use crate::table::Link;

impl Reactor {
    /// Closes links while more waits than seven eighths of what may, until it is three quarters. At the end of a turn
    /// nothing waits but for links that take no more, and of frames that are not whole.
    pub(super) fn shed(&mut self) {
        let eighth = self.parts.config.buffered_bytes_max / 8;
        if self.buffered <= 7 * eighth {
            return;
        }
        let now_ms = self.now.ms;
        let mut holders: Vec<_> =
            self.table.iter().filter_map(|(slot, link)| Some((weight(link, now_ms)?, slot))).collect();
        holders.sort_unstable();
        while self.buffered > 6 * eighth
            && let Some((_, slot)) = holders.pop()
        {
            self.close_holder(slot);
        }
        self.flush_dirty();
    }

    fn close_holder(&mut self, slot: u32) {
        if self.table.get(slot).is_some_and(|link| link.outbox.is_some()) {
            self.abandon(slot, Close::WriteStall);
            self.perform(slot);
        } else {
            self.close(slot, Close::Overloaded);
        }
    }
}

/// The bytes that a link holds, times how long it has, in ms.
fn weight(link: &Link, now_ms: u64) -> Option<u128> {
    let partial = link.partial.as_ref().map(|partial| (partial.bytes.capacity(), link.session.since_ms()));
    let outbox = link.outbox.as_ref().map(|outbox| (outbox.bytes(), outbox.waiting_ms));
    let held = partial.into_iter().chain(outbox);
    held.map(|(bytes, since_ms)| bytes as u128 * u128::from(now_ms.saturating_sub(since_ms) + 1)).max()
}
