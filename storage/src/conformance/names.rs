//! Keys that no other run has used, and a small seeded generator. Never reads a clock.

use std::hash::{BuildHasher, RandomState};

use proto::partition::Partition;
use proto::{ConversationId, DeviceId, UserId};

/// Hands out keys under a prefix of its own.
pub struct Names {
    prefix: u64,
}

impl Default for Names {
    fn default() -> Self {
        Self { prefix: RandomState::new().hash_one("names") }
    }
}

impl Names {
    /// A user.
    #[must_use]
    pub fn user(&self, name: &str) -> UserId {
        UserId::new(&format!("{:016x}-{name}", self.prefix)).unwrap()
    }

    /// A device. Devices need no prefix: their user has one.
    #[must_use]
    pub fn device(&self, name: &str) -> DeviceId {
        DeviceId::new(name).unwrap()
    }

    /// A conversation.
    #[must_use]
    pub fn conversation(&self, name: &str) -> ConversationId {
        ConversationId::group(&self.user("creator"), &self.device("phone"), name).unwrap()
    }

    /// A partition number that only this run uses, for tables that are keyed by one.
    #[must_use]
    pub fn partition(&self, salt: u32) -> Partition {
        let low = u32::try_from(self.prefix & 0x00ff_ffff).unwrap();
        (low << 4) + (salt & 0xf)
    }
}

/// A seeded generator (splitmix64), so that a failure can be run again.
pub struct Dice(pub u64);

impl Dice {
    /// A number below `below`.
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    /// Puts a slice into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = usize::try_from(self.roll(i as u64 + 1)).unwrap();
            items.swap(i, j);
        }
    }
}
