//! Deadlines of links, and the cursors that are due.

use proto::close::Close;
use proto::partition::Partition;
use proto::v1;
use storage::log::Topic;

use super::Reactor;
use crate::cursors;
use crate::outbox::Outbox;
use crate::session::Deadline;
use crate::table::Link;
use crate::uplink::Purpose;

/// Deadlines of one turn.
const BUDGET: usize = 4_096;
/// Partitions whose cursors are saved in one turn.
const SAVES: usize = 4;
/// For so long a device may take for what waits for it, and is not taken for silent meanwhile, in ms: a page of sync at
/// 2 KB/s.
const SLOW_MAX_MS: u64 = 300_000;

impl Reactor {
    pub(super) fn fire_deadlines(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(self.now.ms, BUDGET, &mut due);
        for slot in due.drain(..) {
            self.fire(slot);
        }
        self.due = due;
    }

    /// Sets the link's entry in the wheel to the earliest of its deadlines. Later ones are found when that
    /// one fires: a frame that is heard moves nothing.
    pub(super) fn arm(&mut self, slot: u32) {
        if let Some(due_ms) = self.table.get(slot).and_then(|link| self.due_ms(link)) {
            self.wheel.arm(slot, due_ms);
        }
    }

    fn fire(&mut self, slot: u32) {
        let Some(link) = self.table.get_mut(slot) else { return };
        if link.is_closing() && link.drop_ms <= self.now.ms {
            return self.remove(slot);
        }
        let stalled_ms = link.outbox.as_ref().map_or(0, |outbox| outbox.stalled_ms);
        let stall_ms = self.parts.config.write_stall_timeout_ms;
        if !link.is_closing() && stalled_ms != 0 && stalled_ms + stall_ms <= self.now.ms {
            self.abandon(slot, Close::WriteStall);
        } else if let Some((_, kind)) = link.session.deadline(&self.rules) {
            if kind == Deadline::Idle && is_unread(link, self.caps.high, self.now.ms) {
                link.session.on_unread(self.now);
            }
            link.session.on_deadline(&self.rules, self.now, kind, &mut self.actions);
        }
        self.perform(slot);
        self.arm(slot);
    }

    /// When the earliest deadline of a link is, in ms.
    fn due_ms(&self, link: &Link) -> Option<u64> {
        if link.is_closing() {
            return Some(link.drop_ms);
        }
        let stalled_ms = link.outbox.as_ref().map(|outbox| outbox.stalled_ms).filter(|ms| *ms != 0);
        let stall = stalled_ms.map(|ms| ms + self.parts.config.write_stall_timeout_ms);
        let session = link.session.deadline(&self.rules).map(|(ms, _)| ms);
        stall.into_iter().chain(session).min()
    }

    pub(super) fn save_cursors(&mut self) {
        for _ in 0..SAVES {
            let Some((partition, links)) = self.cursors.due_links(self.now.ms) else { break };
            let table = &mut self.table;
            let cursors: Vec<_> = links
                .into_iter()
                .filter_map(|number| {
                    let slot = table.find(number)?;
                    table.get_mut(slot)?.session.take_cursor()
                })
                .collect();
            if !self.save(partition, &cursors) {
                return;
            }
        }
        for _ in 0..SAVES {
            let Some((partition, cursors)) = self.cursors.due_records(self.now.ms) else { break };
            if !self.save(partition, &cursors) {
                return;
            }
        }
    }

    /// False where the log does not take all of them: the others are kept for later.
    fn save(&mut self, partition: Partition, cursors: &[v1::Cursor]) -> bool {
        let mut taken = true;
        for (some, record) in cursors::records(cursors) {
            taken = taken && self.append((Topic::Timelines, partition), record, Purpose::Cursors(partition));
            if !taken {
                some.iter().for_each(|cursor| self.cursors.keep(partition, cursor.clone()));
            }
        }
        if !taken {
            self.cursors.later(self.now.ms);
        }
        taken
    }
}

/// Whether the device may have said something that this side does not read at the moment: the log is full or slow, or the
/// device takes long for what it was sent.
fn is_unread(link: &Link, high: usize, now_ms: u64) -> bool {
    let takes_long = |outbox: &Outbox| outbox.bytes() > high && now_ms < outbox.waiting_ms + SLOW_MAX_MS;
    let is_held = link.held || !link.session.reads();
    link.readable && (is_held || link.outbox.as_deref().is_some_and(takes_long))
}
