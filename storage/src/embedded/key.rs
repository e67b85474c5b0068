//! The keys of every row, so that what is read together lies together. Pure; frozen by the layout
//! version.

use proto::partition::Partition;
use proto::{ConversationId, DeviceId, UserId};

use crate::log::Topic;
use crate::tables::{Fence, Sender};

/// The key of a record: its partition's records in the order of their offsets.
pub(super) const RECORD_BYTES: usize = 13;
const CONVERSATION: u8 = b'C';
const USER: u8 = b'U';
const SESSION: u8 = b'S';
const CHECKPOINT: u8 = b'K';
const BOUNDS: u8 = b'L';
const HISTORY: u8 = b'H';
const ENTRY: u8 = b'T';
const HEAD: u8 = 0;
const MEMBER: u8 = 1;
const SENDER: u8 = 2;
/// Ends a user id inside a key: ids have no control characters, so nothing sorts between.
const END: u8 = 0;
/// A session's key ends with incarnation, reactor and link.
const FENCE_TAIL_BYTES: usize = 20;
const SESSION_HEAD_BYTES: usize = 5;

/// What a row of a conversation is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Head,
    Member(UserId),
    Sender(Sender),
}

pub(super) fn topic(topic: Topic) -> u8 {
    match topic {
        Topic::Messages => 1,
        Topic::Timelines => 2,
        Topic::Nodes => 3,
    }
}

pub(super) fn record(of: Topic, partition: Partition, offset: u64) -> [u8; RECORD_BYTES] {
    let mut key = [0; RECORD_BYTES];
    let parts = [topic(of)].into_iter().chain(partition.to_be_bytes()).chain(offset.to_be_bytes());
    key.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    key
}

/// No key of anything else begins with the number of a topic.
pub(super) fn is_record(key: &[u8]) -> bool {
    key.len() == RECORD_BYTES && key.first().is_some_and(|topic| (1..=3).contains(topic))
}

pub(super) fn offset(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(5..RECORD_BYTES)?.try_into().ok()?))
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn by_partition(kind: u8, of: Topic, partition: Partition) -> Vec<u8> {
    joined(&[&[kind, topic(of)], &partition.to_be_bytes()])
}

/// Where a partition's log begins.
pub(super) fn bounds(of: Topic, partition: Partition) -> Vec<u8> {
    by_partition(BOUNDS, of, partition)
}

pub(super) fn checkpoint(of: Topic, partition: Partition) -> Vec<u8> {
    by_partition(CHECKPOINT, of, partition)
}

/// What every row of a conversation begins with.
pub(super) fn conversation(id: &ConversationId) -> Vec<u8> {
    joined(&[&[CONVERSATION], id.as_bytes()])
}

pub(super) fn head(id: &ConversationId) -> Vec<u8> {
    joined(&[&[CONVERSATION], id.as_bytes(), &[HEAD]])
}

/// What every member of a conversation begins with.
pub(super) fn members(id: &ConversationId) -> Vec<u8> {
    joined(&[&[CONVERSATION], id.as_bytes(), &[MEMBER]])
}

pub(super) fn member(id: &ConversationId, user: &UserId) -> Vec<u8> {
    joined(&[&[CONVERSATION], id.as_bytes(), &[MEMBER], user.as_str().as_bytes()])
}

/// The first key after them.
pub(super) fn members_end(id: &ConversationId) -> Vec<u8> {
    joined(&[&[CONVERSATION], id.as_bytes(), &[SENDER]])
}

pub(super) fn sender(id: &ConversationId, sender: &Sender) -> Vec<u8> {
    let (user, device) = (sender.user.as_str().as_bytes(), sender.device.as_str().as_bytes());
    joined(&[&[CONVERSATION], id.as_bytes(), &[SENDER], user, &[END], device])
}

/// Reads what follows a conversation's id.
pub(super) fn part(key: &[u8]) -> Option<Part> {
    let (kind, rest) = key.get(17..)?.split_first()?;
    let rest = std::str::from_utf8(rest).ok()?;
    match *kind {
        HEAD => Some(Part::Head),
        MEMBER => Some(Part::Member(UserId::new(rest).ok()?)),
        SENDER => {
            let (user, device) = rest.split_once(char::from(END))?;
            let (user, device) = (UserId::new(user).ok()?, DeviceId::new(device).ok()?);
            Some(Part::Sender(Sender { user, device }))
        }
        _ => None,
    }
}

pub(super) fn user(user: &UserId) -> Vec<u8> {
    joined(&[&[USER], user.as_str().as_bytes()])
}

/// What every session of a partition begins with.
pub(super) fn sessions(partition: Partition) -> Vec<u8> {
    joined(&[&[SESSION], &partition.to_be_bytes()])
}

/// The first key after them.
pub(super) fn sessions_end(partition: Partition) -> Vec<u8> {
    match partition.checked_add(1) {
        Some(next) => sessions(next),
        None => vec![SESSION + 1],
    }
}

pub(super) fn is_session(key: &[u8]) -> bool {
    key.first() == Some(&SESSION)
}

pub(super) fn session(partition: Partition, fence: &Fence) -> Vec<u8> {
    let (node, incarnation) = (fence.node.as_bytes(), fence.incarnation.to_be_bytes());
    let (reactor, link) = (fence.reactor.to_be_bytes(), fence.link.to_be_bytes());
    joined(&[&[SESSION], &partition.to_be_bytes(), node, &incarnation, &reactor, &link])
}

pub(super) fn fence(key: &[u8]) -> Option<Fence> {
    let rest = key.get(SESSION_HEAD_BYTES..)?;
    let (node, tail) = rest.split_at_checked(rest.len().checked_sub(FENCE_TAIL_BYTES)?)?;
    let (incarnation, tail) = tail.split_first_chunk()?;
    let (reactor, link) = tail.split_first_chunk()?;
    Some(Fence {
        node: String::from_utf8(node.to_vec()).ok()?,
        incarnation: u64::from_be_bytes(*incarnation),
        reactor: u32::from_be_bytes(*reactor),
        link: u64::from_be_bytes(link.try_into().ok()?),
    })
}

pub(super) fn history(id: &ConversationId, no: u64) -> Vec<u8> {
    joined(&[&[HISTORY], id.as_bytes(), &no.to_be_bytes()])
}

pub(super) fn entry(user: &UserId, seq: u64) -> Vec<u8> {
    joined(&[&[ENTRY], user.as_str().as_bytes(), &[END], &seq.to_be_bytes()])
}

/// The number that a history row's or an entry's key ends with.
pub(super) fn number(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> UserId {
        UserId::new(text).unwrap()
    }

    #[test]
    fn keys_sort_as_what_they_name() {
        assert!(record(Topic::Messages, 0, 255) < record(Topic::Messages, 0, 256));
        assert!(record(Topic::Messages, 0, u64::MAX) < record(Topic::Messages, 1, 0));
        assert!(record(Topic::Messages, u32::MAX, u64::MAX) < record(Topic::Timelines, 0, 0));
        assert!(entry(&name("u"), u64::MAX) < entry(&name("u!"), 0));
        let id = ConversationId::direct(&name("a"), &name("b"));
        let sender =
            |user, device| sender(&id, &Sender { user: name(user), device: DeviceId::new(device).unwrap() });
        assert!(sender("a", "zz") < sender("a!", "a"));
        assert!(head(&id) < member(&id, &name("a")) && member(&id, &name("\u{10ffff}")) < sender("a", "a"));
    }

    #[test]
    fn keys_read_back() {
        let id = ConversationId::direct(&name("a"), &name("b"));
        assert_eq!(offset(&record(Topic::Nodes, 0, 77)), Some(77));
        assert_eq!(part(&head(&id)), Some(Part::Head));
        assert_eq!(part(&member(&id, &name("é"))), Some(Part::Member(name("é"))));
        let phone = Sender { user: name("a b"), device: DeviceId::new("phone").unwrap() };
        assert_eq!(part(&sender(&id, &phone)), Some(Part::Sender(phone)));
        let link = Fence { node: "conn-1".into(), incarnation: 1 << 40, reactor: 2, link: 3 };
        assert_eq!(fence(&session(9, &link)), Some(link));
        let nameless = Fence { node: String::new(), incarnation: 0, reactor: 0, link: 0 };
        assert_eq!(fence(&session(9, &nameless)), Some(nameless));
        assert_eq!(number(&history(&id, 12)), Some(12));
        assert_eq!((fence(b"S123"), part(b"C"), offset(b"x"), number(b"")), (None, None, None, None));
    }
}
