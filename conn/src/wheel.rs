//! A hashed timing wheel (Varghese and Lauck, 1987): one deadline for each slot of the table, armed, moved
//! and disarmed in constant time, at twelve bytes a slot. It knows times and slots, never what is due.

/// Width of a bucket in ms: deadlines fire up to this much late, never early.
const TICK_MS: u64 = 64;
/// Buckets: a deadline beyond the last of them fires early, and is armed again by whoever looks.
const BUCKETS: u32 = 4096;
const NONE: u32 = u32::MAX;

/// Deadlines by slot.
#[derive(Debug)]
pub struct Wheel {
    /// First entry of each bucket.
    heads: Box<[u32]>,
    entries: Vec<Entry>,
    /// The bucket that is emptied next, in ticks.
    tick: u64,
    armed: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    next: u32,
    prev: u32,
    /// NONE when not armed.
    bucket: u32,
}

const IDLE: Entry = Entry { next: NONE, prev: NONE, bucket: NONE };

impl Wheel {
    /// An empty wheel.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        let heads = vec![NONE; index(BUCKETS)].into_boxed_slice();
        Self { heads, entries: Vec::new(), tick: now_ms / TICK_MS, armed: 0 }
    }

    /// Sets the deadline of a slot, or moves it.
    pub fn arm(&mut self, slot: u32, due_ms: u64) {
        self.disarm(slot);
        if index(slot) >= self.entries.len() {
            self.entries.resize(index(slot) + 1, IDLE);
        }
        let tick = due_ms.div_ceil(TICK_MS).clamp(self.tick, self.tick + u64::from(BUCKETS) - 1);
        let bucket = u32::try_from(tick % u64::from(BUCKETS)).unwrap_or(0);
        let next = self.head(bucket);
        self.set(slot, Entry { next, prev: NONE, bucket });
        self.link_prev(next, slot);
        self.set_head(bucket, slot);
        self.armed += 1;
    }

    /// Forgets the deadline of a slot.
    pub fn disarm(&mut self, slot: u32) {
        let Some(entry) = self.entries.get(index(slot)).copied().filter(|entry| entry.bucket != NONE) else {
            return;
        };
        match self.entries.get_mut(index(entry.prev)) {
            Some(prev) => prev.next = entry.next,
            None => self.set_head(entry.bucket, entry.next),
        }
        self.link_prev(entry.next, entry.prev);
        self.set(slot, IDLE);
        self.armed -= 1;
    }

    /// Takes out at most `max` slots whose time has come.
    pub fn expire(&mut self, now_ms: u64, max: usize, due: &mut Vec<u32>) {
        let now_tick = now_ms / TICK_MS;
        while self.tick <= now_tick && due.len() < max {
            let bucket = u32::try_from(self.tick % u64::from(BUCKETS)).unwrap_or(0);
            let slot = self.head(bucket);
            if slot != NONE {
                self.disarm(slot);
                due.push(slot);
            } else if self.armed == 0 {
                self.tick = now_tick + 1;
            } else {
                self.tick += 1;
            }
        }
    }

    /// How long nothing can be due, in ms, of at most `max_ms`; looks no further than that.
    #[must_use]
    pub fn quiet_ms(&self, now_ms: u64, max_ms: u64) -> u64 {
        let buckets = if self.armed == 0 { 0 } else { (max_ms / TICK_MS + 1).min(u64::from(BUCKETS)) };
        let ahead = (0..buckets).find(|ahead| {
            let bucket = (self.tick + ahead) % u64::from(BUCKETS);
            u32::try_from(bucket).is_ok_and(|bucket| self.head(bucket) != NONE)
        });
        ahead.map_or(max_ms, |ahead| ((self.tick + ahead) * TICK_MS).saturating_sub(now_ms).min(max_ms))
    }

    fn head(&self, bucket: u32) -> u32 {
        self.heads.get(index(bucket)).copied().unwrap_or(NONE)
    }

    fn set_head(&mut self, bucket: u32, slot: u32) {
        if let Some(head) = self.heads.get_mut(index(bucket)) {
            *head = slot;
        }
    }

    fn set(&mut self, slot: u32, to: Entry) {
        if let Some(entry) = self.entries.get_mut(index(slot)) {
            *entry = to;
        }
    }

    fn link_prev(&mut self, slot: u32, prev: u32) {
        if let Some(entry) = self.entries.get_mut(index(slot)) {
            entry.prev = prev;
        }
    }
}

fn index(slot: u32) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_is_far_away_comes_early_and_is_armed_again() {
        let mut wheel = Wheel::new(0);
        wheel.arm(0, 10_000_000);
        let mut due = Vec::new();
        wheel.expire(u64::from(BUCKETS) * TICK_MS, 10, &mut due);
        assert_eq!(due, [0]);
        assert_eq!(wheel.quiet_ms(0, 1_000), 1_000);
    }

    #[test]
    fn a_budget_leaves_the_rest_for_the_next_turn() {
        let mut wheel = Wheel::new(0);
        (0..10).for_each(|slot| wheel.arm(slot, 100));
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        wheel.expire(1_000, 4, &mut first);
        assert_eq!(wheel.quiet_ms(1_000, 1_000), 0);
        wheel.expire(1_000, 100, &mut rest);
        assert_eq!((first.len(), rest.len()), (4, 6));
    }

    proptest! {
        /// Against a map: each deadline fires once, not before its time, at most a tick after it.
        #[test]
        fn fires_like_a_map(steps in prop::collection::vec((0u32..20, 0u64..5_000, 0u64..700, any::<bool>()), 1..200)) {
            let (mut wheel, mut model, mut now) = (Wheel::new(0), BTreeMap::new(), 0);
            for (slot, delay, pass, arm) in steps {
                if arm {
                    wheel.arm(slot, now + delay);
                    model.insert(slot, now + delay);
                } else {
                    wheel.disarm(slot);
                    model.remove(&slot);
                }
                if let Some(first) = model.values().min() {
                    prop_assert!(now + wheel.quiet_ms(now, 1_000) <= first + TICK_MS);
                }
                now += pass;
                let mut due = Vec::new();
                wheel.expire(now, usize::MAX, &mut due);
                for slot in due {
                    prop_assert!(model.remove(&slot).is_some_and(|due| due <= now));
                }
                prop_assert!(model.values().all(|due| *due + TICK_MS > now));
            }
        }
    }
}
