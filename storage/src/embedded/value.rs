//! The values of rows: a stamp in front of what the caller stores. Pure; frozen by the layout version.

use bytes::Bytes;
use proto::{DeviceId, Tick, UserId};

use crate::tables::{Checkpoint, Fence, SessionRow};

/// `stamp, rest`: a tick, or a record's append time.
pub(super) fn stamped(stamp: u64, rest: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(8 + rest.len());
    value.extend_from_slice(&stamp.to_be_bytes());
    value.extend_from_slice(rest);
    value
}

pub(super) fn stamp(value: &[u8]) -> Option<(u64, &[u8])> {
    let (stamp, rest) = value.split_first_chunk()?;
    Some((u64::from_be_bytes(*stamp), rest))
}

/// `tick, live, length of the user, user, device`.
pub(super) fn session(at: Tick, live: bool, session: &SessionRow) -> Vec<u8> {
    let (user, device) = (session.user.as_str().as_bytes(), session.device.as_str().as_bytes());
    let length = u8::try_from(user.len()).expect("an id has at most 64 bytes");
    stamped(at.0, &[&[u8::from(live), length], user, device].concat())
}

/// Whether a session's row says that it is there.
pub(super) fn is_live(value: &[u8]) -> bool {
    value.get(8) == Some(&1)
}

pub(super) fn read_session(fence: Fence, value: &[u8]) -> Option<SessionRow> {
    let (length, rest) = value.get(9..)?.split_first()?;
    let (user, device) = rest.split_at_checked(usize::from(*length))?;
    let user = UserId::new(std::str::from_utf8(user).ok()?).ok()?;
    let device = DeviceId::new(std::str::from_utf8(device).ok()?).ok()?;
    Some(SessionRow { fence, user, device })
}

/// `tick, offset, state`.
pub(super) fn checkpoint(checkpoint: &Checkpoint) -> Vec<u8> {
    stamped(checkpoint.tick.0, &stamped(checkpoint.offset, &checkpoint.state))
}

pub(super) fn read_checkpoint(value: &[u8]) -> Option<Checkpoint> {
    let (tick, rest) = stamp(value)?;
    let (offset, state) = stamp(rest)?;
    Some(Checkpoint { offset, tick: Tick(tick), state: Bytes::copy_from_slice(state) })
}

/// Where a partition's log begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Beginning {
    /// The first offset that is kept. Never falls.
    pub(super) first: u64,
    /// Below it the records are deleted; up to `first` they are given up, and still there.
    pub(super) swept: u64,
}

impl Beginning {
    pub(super) fn encode(self) -> Vec<u8> {
        stamped(self.first, &self.swept.to_be_bytes())
    }

    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let (first, rest) = stamp(value)?;
        let (swept, _) = stamp(rest)?;
        Some(Self { first, swept })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_back() {
        assert_eq!(stamp(&stamped(7, b"rest")), Some((7, &b"rest"[..])));
        let fence = Fence { node: "n".into(), incarnation: 1, reactor: 2, link: 3 };
        let row = SessionRow {
            fence: fence.clone(),
            user: UserId::new("ann").unwrap(),
            device: DeviceId::new("phone").unwrap(),
        };
        for live in [true, false] {
            let value = session(Tick(9), live, &row);
            assert_eq!((is_live(&value), stamp(&value).map(|s| s.0)), (live, Some(9)));
            assert_eq!(read_session(fence.clone(), &value), Some(row.clone()));
        }
        let saved = Checkpoint { offset: 4, tick: Tick(5), state: Bytes::from_static(b"s") };
        assert_eq!(read_checkpoint(&checkpoint(&saved)), Some(saved));
        let beginning = Beginning { first: 10, swept: 4 };
        assert_eq!(Beginning::decode(&beginning.encode()), Some(beginning));
        assert_eq!((stamp(b"short"), read_checkpoint(b"short"), is_live(b"")), (None, None, false));
    }
}
