//! A log in memory that fails the way real ones do: appends land in order per partition, any of them may be
//! reported as failed whether it landed or not, and what is queued may be lost with its producer.

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::fault::{Fault, Faults};

/// One partition's records: when each was appended, and what it is.
#[derive(Default)]
pub struct Partition {
    /// In the order of their offsets.
    pub records: Vec<(u64, Bytes)>,
}

impl Partition {
    /// The record at an offset.
    #[must_use]
    pub fn read(&self, offset: usize) -> Option<(u64, Bytes)> {
        self.records.get(offset).cloned()
    }
}

struct Item<T> {
    bytes: Bytes,
    /// None: nobody waits for the report any more, but it may still land.
    tag: Option<T>,
    landed: bool,
}

/// Appends to one partition on behalf of one owner.
pub struct Producer<T> {
    queue: Vec<Item<T>>,
}

impl<T> Default for Producer<T> {
    fn default() -> Self {
        Self { queue: Vec::new() }
    }
}

impl<T> Producer<T> {
    /// Queues a record.
    pub fn append(&mut self, bytes: Bytes, tag: T) {
        self.queue.push(Item { bytes, tag: Some(tag), landed: false });
    }

    /// Whether nothing is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Something happens: a few records land, one is reported, or one times out. At most one report.
    pub fn advance(
        &mut self,
        log: &mut Partition,
        now_us: u64,
        rng: &mut SmallRng,
        faults: &Faults,
    ) -> Option<(T, bool)> {
        if self.queue.is_empty() {
            return None;
        }
        if faults.times_out(rng) {
            return self.time_out(rng, faults);
        }
        let count = if rng.random_bool(0.5) { 1 } else { 3 };
        for item in self.queue.iter_mut().take(count).filter(|item| !item.landed) {
            let repeated = faults.happens(Fault::RepeatedAppend, rng, 0.02);
            let times = if repeated { 2 } else { 1 };
            (0..times).for_each(|_| log.records.push((now_us, item.bytes.clone())));
            item.landed = true;
        }
        if rng.random_bool(0.7) {
            let item = self.queue.remove(0);
            return item.tag.map(|tag| (tag, true));
        }
        None
    }

    /// Any queued record is given up; the first may land later all the same.
    fn time_out(&mut self, rng: &mut SmallRng, faults: &Faults) -> Option<(T, bool)> {
        let i = rng.random_range(0..self.queue.len());
        if self.queue.get(i).is_some_and(|item| item.tag.is_none()) {
            return None;
        }
        let has_landed = self.queue.get(i).is_some_and(|item| item.landed);
        let lands = !has_landed && i == 0 && rng.random_bool(0.5);
        let fault = if lands || has_landed { Fault::LateAppend } else { Fault::LostAppend };
        if !faults.happens(fault, rng, 1.0) {
            return None;
        }
        let mut item = self.queue.remove(i);
        let tag = item.tag.take();
        if lands {
            self.queue.insert(0, item);
        }
        tag.map(|tag| (tag, false))
    }
}
