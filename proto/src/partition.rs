//! Which partition of a log a key belongs to. Frozen: the data on disk depends on it.

use xxhash_rust::xxh3::xxh3_64;

use crate::ids::{ConversationId, UserId};

/// A partition of one of the logs, counted from 0.
pub type Partition = u32;

fn of(key: &[u8], count: u32) -> Partition {
    let partition = xxh3_64(key) % u64::from(count.max(1));
    u32::try_from(partition).expect("below a u32")
}

/// The partition of the messages log that owns a conversation, of `count`.
#[must_use]
pub fn of_conversation(id: &ConversationId, count: u32) -> Partition {
    of(id.as_bytes(), count)
}

/// The partition of the timelines log that owns a user, of `count`.
#[must_use]
pub fn of_user(user: &UserId, count: u32) -> Partition {
    of(user.as_str().as_bytes(), count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_frozen() {
        let partitions: Vec<_> =
            ["ann", "bob", "carol"].iter().map(|u| of_user(&UserId::new(u).unwrap(), 64)).collect();
        assert_eq!(partitions, FROZEN);
    }

    const FROZEN: [u32; 3] = [8, 37, 36];
}
