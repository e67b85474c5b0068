//! The rows of a stage that are in memory: which of them are stored as they are, and what they weigh.
//! Never looks into a row.
//!
//! ```text
//! load ──▶ stored as it is ──change──▶ dirty ──written at its tick──▶ stored as it is ──evict──▶ gone
//!                                       └─change─┘ (an earlier write landing leaves it dirty)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use proto::Tick;

/// What a row takes in memory.
pub(crate) trait Weigh {
    /// Bytes of it, with those on the heap.
    fn weight(&self) -> usize;
}

/// Bytes that an id has on the heap: short ones are kept in place.
pub(crate) fn id_heap(id: &str) -> usize {
    if id.len() > 24 { id.len() + 16 } else { 0 }
}

#[derive(Debug)]
struct Slot<R> {
    row: Box<R>,
    /// The tick of the last change.
    at: Tick,
    /// The tick at which the tables have it, as far as is known; at most `at`.
    stored: Tick,
    weight: usize,
    /// Looked at since the hand went by.
    used: bool,
}

/// A row that is not stored as it is.
pub(crate) struct Dirty<'a, K, R> {
    pub(crate) key: &'a K,
    pub(crate) row: &'a R,
    pub(crate) at: Tick,
    /// What changed after this tick is not stored, as far as is known.
    pub(crate) stored: Tick,
}

/// Rows by key.
#[derive(Debug)]
pub(crate) struct Rows<K, R> {
    slots: BTreeMap<K, Slot<R>>,
    dirty: BTreeSet<K>,
    /// Where the search for a row to evict goes on.
    hand: Option<K>,
    bytes: usize,
}

impl<K, R> Default for Rows<K, R> {
    fn default() -> Self {
        Self { slots: BTreeMap::new(), dirty: BTreeSet::new(), hand: None, bytes: 0 }
    }
}

impl<K: Ord + Clone, R: Weigh> Rows<K, R> {
    /// Bytes of a slot beside its row: a tree is filled to two thirds, an allocation has a header.
    const SLOT_BYTES: usize = size_of::<(K, Slot<R>)>() * 3 / 2 + 16;

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.slots.contains_key(key)
    }

    /// Takes a row as it is stored. One that is in memory stays as it is.
    pub(crate) fn load(&mut self, key: K, row: R, at: Tick) {
        if self.contains(&key) {
            return;
        }
        let weight = row.weight() + Self::SLOT_BYTES;
        self.bytes += weight;
        self.slots.insert(key, Slot { row: Box::new(row), at, stored: at, weight, used: true });
    }

    pub(crate) fn get(&self, key: &K) -> Option<&R> {
        self.slots.get(key).map(|slot| &*slot.row)
    }

    /// The row for a record to work on; none where the row has it in already.
    ///
    /// # Panics
    /// The row is not loaded: without it the record cannot be judged.
    pub(crate) fn open(&mut self, key: &K, tick: Tick) -> Option<&mut R> {
        let slot = self.slots.get_mut(key).expect("a record's keys are loaded before it is stepped");
        slot.used = true;
        (slot.at < tick).then_some(&mut *slot.row)
    }

    /// Notes that the record of this tick changed the row.
    pub(crate) fn changed(&mut self, key: &K, tick: Tick) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if slot.at == slot.stored {
            self.dirty.insert(key.clone());
        }
        slot.at = tick;
        let weight = slot.row.weight() + Self::SLOT_BYTES;
        self.bytes = self.bytes + weight - slot.weight;
        slot.weight = weight;
    }

    /// The rows that are not stored as they are, in the order of their keys.
    pub(crate) fn dirty(&self) -> impl Iterator<Item = Dirty<'_, K, R>> {
        self.dirty.iter().filter_map(|key| {
            let slot = self.slots.get(key)?;
            let row: &R = &slot.row;
            Some(Dirty { key, row, at: slot.at, stored: slot.stored })
        })
    }

    /// A write of the row as it was at `tick` landed. Returns the row for forgetting what was only kept
    /// for the write.
    pub(crate) fn written(&mut self, key: &K, tick: Tick) -> Option<&mut R> {
        let slot = self.slots.get_mut(key)?;
        slot.stored = slot.stored.max(tick.min(slot.at));
        if slot.at == slot.stored {
            self.dirty.remove(key);
        }
        Some(&mut slot.row)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets rows that are stored as they are and were not used since the hand last passed them, until
    /// `bytes_max` holds. At most two rounds.
    pub(crate) fn evict(&mut self, bytes_max: usize) {
        let mut left = 2 * self.slots.len();
        while self.bytes > bytes_max && left > 0 {
            let from = self.hand.take().map_or(Bound::Unbounded, Bound::Excluded);
            let mut gone = Vec::new();
            let mut over = self.bytes - bytes_max;
            for (key, slot) in self.slots.range_mut((from, Bound::Unbounded)) {
                left = left.saturating_sub(1);
                if slot.at == slot.stored && !std::mem::take(&mut slot.used) {
                    over = over.saturating_sub(slot.weight);
                    gone.push(key.clone());
                }
                if over == 0 || left == 0 {
                    self.hand = Some(key.clone());
                    break;
                }
            }
            for key in gone {
                self.bytes -= self.slots.remove(&key).map_or(0, |slot| slot.weight);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weigh for u64 {
        fn weight(&self) -> usize {
            1_000
        }
    }

    fn rows(keys: std::ops::Range<u32>) -> Rows<u32, u64> {
        let mut rows = Rows::default();
        keys.for_each(|key| rows.load(key, 0, Tick(5)));
        rows
    }

    #[test]
    fn a_record_that_the_row_has_in_is_not_opened() {
        let mut rows = rows(0..1);
        assert!(rows.open(&0, Tick(5)).is_none());
        assert!(rows.open(&0, Tick(6)).is_some());
    }

    #[test]
    fn only_what_is_stored_as_it_is_may_go() {
        let mut rows = rows(0..3);
        *rows.open(&1, Tick(6)).unwrap() += 1;
        rows.changed(&1, Tick(6));
        rows.evict(0);
        assert!(!rows.contains(&0) && rows.contains(&1) && !rows.contains(&2));
        rows.changed(&1, Tick(8));
        rows.written(&1, Tick(6));
        rows.evict(0);
        assert_eq!(
            rows.dirty().map(|d| (*d.key, d.at, d.stored)).collect::<Vec<_>>(),
            [(1, Tick(8), Tick(6))]
        );
        rows.written(&1, Tick(8));
        assert_eq!(rows.dirty().count(), 0);
        rows.evict(0);
        assert_eq!((rows.contains(&1), rows.bytes()), (false, 0));
    }

    #[test]
    fn eviction_stops_at_the_cap_and_spares_what_is_used() {
        let mut rows = rows(0..10);
        let each = rows.bytes() / 10;
        rows.evict(9 * each);
        assert_eq!(rows.bytes(), 9 * each);
        rows.open(&5, Tick(6));
        rows.evict(each);
        assert_eq!(rows.bytes(), each);
        assert!(rows.contains(&5));
    }
}
