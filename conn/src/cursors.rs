//! What devices acknowledged, on its way to the log: gathered by partition, appended in few records.
//! A cursor that is lost costs a device some entries twice, nothing else.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use proto::partition::Partition;
use proto::v1;

/// Cursors of one record: with the longest ids it is half of what a record may be.
const RECORD_MAX: usize = 800;
/// Cursors of closed links that are kept for one partition.
const CLOSED_MAX: usize = 8_192;
/// How soon cursors of closed links are appended, in ms.
const CLOSED_EVERY_MS: u64 = 1_000;
/// How soon those are tried again that the log did not take, in ms.
const LATER_MS: u64 = 100;

/// The cursors of a reactor's links.
#[derive(Debug)]
pub(crate) struct Cursors {
    every_ms: u64,
    /// When the links are asked next.
    links_ms: u64,
    /// When the closed links' are due.
    closed_ms: u64,
    /// Links that acknowledged more, each once.
    links: BTreeMap<Partition, Vec<u64>>,
    closed: BTreeMap<Partition, Vec<v1::Cursor>>,
}

impl Cursors {
    pub(crate) fn new(every_ms: u64, now_ms: u64) -> Self {
        Self {
            every_ms,
            links_ms: now_ms + every_ms,
            closed_ms: now_ms,
            links: BTreeMap::new(),
            closed: BTreeMap::new(),
        }
    }

    /// A link has a cursor to take.
    pub(crate) fn acked(&mut self, partition: Partition, link: u64) {
        self.links.entry(partition).or_default().push(link);
    }

    /// A cursor that no link keeps any more.
    pub(crate) fn keep(&mut self, partition: Partition, cursor: v1::Cursor) {
        let closed = self.closed.entry(partition).or_default();
        if closed.len() < CLOSED_MAX {
            closed.push(cursor);
        }
    }

    /// The links of one partition whose cursors are due.
    pub(crate) fn due_links(&mut self, now_ms: u64) -> Option<(Partition, Vec<u64>)> {
        if now_ms < self.links_ms {
            return None;
        }
        let due = self.links.pop_first();
        if due.is_none() {
            self.links_ms = now_ms + self.every_ms;
        }
        due
    }

    /// The records of one partition that are due.
    pub(crate) fn due_records(&mut self, now_ms: u64) -> Option<(Partition, Vec<v1::Cursor>)> {
        if now_ms < self.closed_ms {
            return None;
        }
        let due = self.closed.pop_first();
        if due.is_none() {
            self.closed_ms = now_ms + CLOSED_EVERY_MS;
        }
        due
    }

    /// The log takes nothing at the moment: nothing is due for a while.
    pub(crate) fn later(&mut self, now_ms: u64) {
        self.links_ms = self.links_ms.max(now_ms + LATER_MS);
        self.closed_ms = self.closed_ms.max(now_ms + LATER_MS);
    }

    /// From now on everything is due.
    pub(crate) fn hurry(&mut self) {
        self.links_ms = 0;
        self.closed_ms = 0;
    }

    /// When something may be due, in ms.
    pub(crate) fn next_ms(&self) -> u64 {
        let links = if self.links.is_empty() { u64::MAX } else { self.links_ms };
        let closed = if self.closed.is_empty() { u64::MAX } else { self.closed_ms };
        links.min(closed)
    }
}

/// Cursors as records.
pub(crate) fn records(cursors: &[v1::Cursor]) -> impl Iterator<Item = (&[v1::Cursor], Bytes)> {
    cursors.chunks(RECORD_MAX).map(|some| {
        let cursors = v1::timeline_record::Record::Cursors(v1::Cursors { cursors: some.to_vec() });
        (some, v1::TimelineRecord { record: Some(cursors) }.encode_to_vec().into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::limits::{ID_BYTES_MAX, RECORD_BYTES_MAX};

    #[test]
    fn links_are_due_after_the_interval_and_closed_ones_sooner() {
        let mut cursors = Cursors::new(10_000, 0);
        cursors.acked(3, 7);
        cursors.acked(3, 8);
        assert_eq!(cursors.next_ms(), 10_000);
        assert_eq!(cursors.due_links(9_999), None);
        assert_eq!(cursors.due_links(10_000), Some((3, vec![7, 8])));
        assert_eq!(cursors.due_links(10_000), None);
        assert_eq!(cursors.next_ms(), u64::MAX);
        cursors.keep(1, v1::Cursor::default());
        assert!(cursors.next_ms() <= 11_000);
        assert_eq!(cursors.due_records(12_000).map(|(partition, _)| partition), Some(1));
    }

    #[test]
    fn a_log_that_takes_nothing_is_not_asked_again_at_once() {
        let mut cursors = Cursors::new(10_000, 0);
        cursors.acked(3, 7);
        cursors.keep(1, v1::Cursor::default());
        cursors.later(10_000);
        assert_eq!(cursors.next_ms(), 10_100);
        assert_eq!((cursors.due_links(10_099), cursors.due_records(10_099)), (None, None));
        assert!(cursors.due_links(10_100).is_some() && cursors.due_records(10_100).is_some());
    }

    #[test]
    fn a_record_of_the_longest_cursors_fits() {
        let id = "x".repeat(ID_BYTES_MAX);
        let cursor = v1::Cursor { user: id.clone(), device: id, seq: u64::MAX };
        let cursors = vec![cursor; RECORD_MAX + 1];
        let lengths: Vec<_> = records(&cursors).map(|(_, record)| record.len()).collect();
        assert_eq!(lengths.len(), 2);
        assert!(lengths[0] < RECORD_BYTES_MAX);
    }
}
