//! Who writes to whom, and what a device therefore has to see. Pure: everything follows from the numbers of
//! devices and messages, so that whoever judges needs to be told nothing else.
//!
//! ```text
//! device    0 1   2 3   4 5   6 7   8 9 │ 10 11 …
//! direct    └─┘   └─┘   └─┘   └─┴───┴─┘ │ └─┘
//! group     └────────── one ───────────┘ │ └─ the next
//! ```
//! With twins, 8 and 9 are second devices of the users of 6 and 7.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Every so-manieth message of a device goes to its group.
const GROUP_EVERY: u64 = 5;

/// The shape of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Circle {
    /// Devices of a group, an even number; 0 where all messages are direct.
    pub(crate) group: u64,
    /// Whether the last two devices of a group are second ones of the users of the two before.
    pub(crate) twins: bool,
}

/// A conversation, as one of its devices calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Room {
    Direct,
    Group,
}

impl Circle {
    /// Links come in multiples of this.
    pub(crate) fn unit(&self) -> u64 {
        self.group.max(2)
    }

    /// Where a device's message of this index goes, and how many of it went there before.
    pub(crate) fn place(&self, index: u64) -> (Room, u64) {
        if self.group == 0 {
            return (Room::Direct, index);
        }
        let before = index / GROUP_EVERY;
        if index % GROUP_EVERY == GROUP_EVERY - 1 {
            (Room::Group, before)
        } else {
            (Room::Direct, index - before)
        }
    }

    /// Whether a device is its user's second one.
    pub(crate) fn is_twin(&self, device: u64) -> bool {
        self.twins && self.group > 2 && device % self.group >= self.group - 2
    }

    /// The first device of a device's user.
    pub(crate) fn user(&self, device: u64) -> u64 {
        if self.is_twin(device) { device - 2 } else { device }
    }

    /// The first device of the user that a device writes to.
    pub(crate) fn peer(&self, device: u64) -> u64 {
        self.user(device) ^ 1
    }

    /// The device that makes the group of this one; none where there are no groups.
    pub(crate) fn founder(&self, device: u64) -> Option<u64> {
        (self.group > 0).then(|| device - device % self.group)
    }

    /// The devices that see what a device writes there, itself among them.
    pub(crate) fn audience(&self, device: u64, room: Room) -> Range<u64> {
        match (room, self.founder(device)) {
            (Room::Group, Some(founder)) => founder..founder + self.group,
            _ => {
                let first = self.user(device) & !1;
                first..first + if self.is_twin(first + 2) { 4 } else { 2 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_groups_there_are_pairs_and_nothing_else() {
        let circle = Circle::default();
        assert_eq!((circle.unit(), circle.founder(7), circle.is_twin(7)), (2, None, false));
        for index in 0..20 {
            assert_eq!(circle.place(index), (Room::Direct, index));
        }
        assert_eq!((circle.peer(6), circle.peer(7), circle.audience(7, Room::Direct)), (7, 6, 6..8));
    }

    #[test]
    fn messages_count_from_zero_in_each_conversation() {
        let circle = Circle { group: 10, twins: false };
        let mut counts = [0, 0];
        for index in 0..50 {
            let (room, nth) = circle.place(index);
            let count = &mut counts[usize::from(room == Room::Group)];
            assert_eq!(nth, *count);
            *count += 1;
        }
        assert_eq!(counts, [40, 10]);
    }

    #[test]
    fn an_audience_is_the_same_for_all_of_it() {
        let circle = Circle { group: 6, twins: true };
        for room in [Room::Direct, Room::Group] {
            for device in 0..24 {
                let audience = circle.audience(device, room);
                assert!(audience.contains(&device));
                assert!(audience.clone().all(|other| circle.audience(other, room) == audience));
                assert!(audience.contains(&circle.user(device)) && audience.contains(&circle.peer(device)));
            }
        }
        assert_eq!((circle.user(10), circle.peer(10), circle.founder(10)), (8, 9, Some(6)));
        assert_eq!((circle.audience(8, Room::Direct), circle.audience(6, Room::Direct)), (8..12, 6..8));
    }
}
