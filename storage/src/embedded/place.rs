//! One partition of a topic in memory: what readers may see of it, and its newest records. Never
//! touches the engine.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::log::{Partition, Partitions, Record, Topic};

/// What readers may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// The first offset that is kept.
    pub(super) first: u64,
    /// The one after the last that is on disk.
    pub(super) next: u64,
    /// Whether records can still arrive.
    pub(super) open: bool,
}

/// The newest records, without a gap up to `View::next`.
#[derive(Debug, Default)]
struct Tail {
    records: VecDeque<Record>,
    bytes: usize,
}

/// One partition.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) topic: Topic,
    pub(super) partition: Partition,
    view: watch::Sender<View>,
    tail: Mutex<Tail>,
    tail_bytes_max: usize,
}

impl Place {
    fn new(topic: Topic, partition: Partition, tail_bytes_max: usize) -> Self {
        let view = watch::Sender::new(View { first: 0, next: 0, open: true });
        Self { topic, partition, view, tail: Mutex::default(), tail_bytes_max }
    }

    pub(super) fn view(&self) -> View {
        *self.view.borrow()
    }

    pub(super) fn watch(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    /// Shows records that are on disk now; they follow the last one shown.
    pub(super) fn show(&self, records: impl Iterator<Item = Record>) {
        let mut next = None;
        let mut tail = self.lock();
        for record in records {
            next = Some(record.offset + 1);
            tail.bytes += weight(&record);
            tail.records.push_back(record);
        }
        while tail.bytes > self.tail_bytes_max {
            let Some(oldest) = tail.records.pop_front() else { break };
            tail.bytes -= weight(&oldest);
        }
        drop(tail);
        if let Some(next) = next {
            self.view.send_modify(|view| view.next = next);
        }
    }

    /// Takes over what a look into the engine found.
    pub(super) fn reset(&self, first: u64, next: u64) {
        *self.lock() = Tail::default();
        self.view.send_replace(View { first, next, open: true });
    }

    /// Gives up the records below an offset.
    pub(super) fn trimmed(&self, first: u64) {
        let mut tail = self.lock();
        while tail.records.front().is_some_and(|record| record.offset < first) {
            if let Some(oldest) = tail.records.pop_front() {
                tail.bytes -= weight(&oldest);
            }
        }
        drop(tail);
        self.view.send_modify(|view| view.first = first);
    }

    /// Lets readers know that nothing more arrives.
    pub(super) fn close(&self) {
        self.view.send_modify(|view| view.open = false);
    }

    /// Records from an offset on, if the newest ones reach back to it: at most `max` of about
    /// `bytes_max`, at least one.
    pub(super) fn newest(&self, from: u64, max: usize, bytes_max: usize) -> Option<Vec<Record>> {
        let tail = self.lock();
        let oldest = tail.records.front()?.offset;
        let skip = usize::try_from(from.checked_sub(oldest)?).ok()?;
        let mut bytes = 0;
        let fits = |record: &&Record| {
            let room = bytes < bytes_max;
            bytes += weight(record);
            room
        };
        let records: Vec<_> = tail.records.iter().skip(skip).take(max).take_while(fits).cloned().collect();
        (!records.is_empty()).then_some(records)
    }

    fn lock(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn weight(record: &Record) -> usize {
    record.bytes.len() + size_of::<Record>()
}

/// Every partition of every topic.
#[derive(Debug)]
pub(super) struct Places {
    partitions: Partitions,
    all: Vec<Place>,
}

impl Places {
    pub(super) fn new(partitions: Partitions, tail_bytes: usize) -> Self {
        let of = |topic| (0..partitions.of(topic)).map(move |partition| (topic, partition));
        let names: Vec<_> = Topic::ALL.into_iter().flat_map(of).collect();
        let each = tail_bytes / names.len().max(1);
        let all = names.into_iter().map(|(topic, partition)| Place::new(topic, partition, each)).collect();
        Self { partitions, all }
    }

    pub(super) fn partitions(&self) -> Partitions {
        self.partitions
    }

    /// The number of a partition among all of them; none where it does not exist.
    pub(super) fn index(&self, topic: Topic, partition: Partition) -> Option<usize> {
        let Partitions { messages, timelines } = self.partitions;
        let before = match topic {
            Topic::Messages => 0,
            Topic::Timelines => messages,
            Topic::Nodes => messages.checked_add(timelines)?,
        };
        let index = (partition < self.partitions.of(topic)).then(|| before.checked_add(partition))??;
        usize::try_from(index).ok()
    }

    pub(super) fn get(&self, index: usize) -> Option<&Place> {
        self.all.get(index)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Place> {
        self.all.iter()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn records(offsets: std::ops::Range<u64>) -> impl Iterator<Item = Record> {
        offsets.map(|offset| Record { offset, append_us: 1, bytes: Bytes::from(vec![0; 100]) })
    }

    fn offsets(records: Option<Vec<Record>>) -> Vec<u64> {
        records.unwrap_or_default().iter().map(|r| r.offset).collect()
    }

    #[test]
    fn the_tail_keeps_the_newest_and_no_more_than_its_bytes() {
        let place = Place::new(Topic::Messages, 0, 10 * (100 + size_of::<Record>()));
        place.reset(5, 20);
        assert_eq!(place.newest(20, 10, 1_000), None);
        place.show(records(20..28));
        assert_eq!(place.view(), View { first: 5, next: 28, open: true });
        assert_eq!(offsets(place.newest(20, 3, 10_000)), [20, 21, 22]);
        assert_eq!(offsets(place.newest(26, 10, 10_000)), [26, 27]);
        assert_eq!(offsets(place.newest(20, 10, 1)), [20], "at least one");
        assert_eq!(place.newest(19, 10, 10_000), None, "older than the tail");
        assert_eq!(place.newest(28, 10, 10_000), None, "not there yet");
        place.show(records(28..33));
        assert_eq!(place.newest(22, 10, 10_000), None);
        assert_eq!(offsets(place.newest(23, 20, 100_000)), (23..33).collect::<Vec<_>>());
        place.trimmed(30);
        assert_eq!((place.newest(29, 9, 9_999), place.view().first), (None, 30));
        assert_eq!(offsets(place.newest(30, 9, 9_999)), [30, 31, 32]);
    }

    #[test]
    fn every_partition_has_a_place_and_no_other() {
        let places = Places::new(Partitions { messages: 3, timelines: 2 }, 1_000);
        let index = |topic, partition| places.index(topic, partition);
        assert_eq!((index(Topic::Messages, 0), index(Topic::Messages, 2)), (Some(0), Some(2)));
        assert_eq!((index(Topic::Messages, 3), index(Topic::Timelines, 2)), (None, None));
        assert_eq!((index(Topic::Timelines, 1), index(Topic::Nodes, 0)), (Some(4), Some(5)));
        assert_eq!((index(Topic::Nodes, 1), index(Topic::Nodes, u32::MAX)), (None, None));
    }
}
