//! What waits to go down one stream: pushes and control frames, in order, bounded in items and bytes.
//!
//! A push that does not fit leaves a mark on its links, which only a delivered push or a hint clears. A
//! control frame that does not fit, or a mark past the cap, breaks the stream: the roster of the next one
//! then tells whoever is behind, which is the mark of a whole partition. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use proto::{UserId, v1};
use v1::down::Down as Kind;

use super::frame;

/// Entries and bytes that pushes of one user may grow to while they wait.
const COALESCED_ENTRIES_MAX: usize = 64;
const COALESCED_BYTES_MAX: usize = 64 * 1024;
/// What an item costs beside its entries, roughly.
const ITEM_BYTES: usize = 128;

/// A link within the node and incarnation of the stream: reactor and link number.
pub(crate) type Link = (u32, u64);

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Verdict {
    /// It waits its turn.
    Queued,
    /// It did not fit: its links are marked.
    Marked,
    /// It did not fit, and must not be left out: break the stream.
    Overflow,
}

/// The caps of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueCaps {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
    pub(crate) marks: usize,
}

#[derive(Debug)]
enum Item {
    Push { user: UserId, links: Vec<Link>, first: u64, entries: Vec<Bytes>, bytes: usize },
    Control(Kind),
}

/// The queue of one stream.
#[derive(Debug)]
pub(crate) struct Queue {
    caps: QueueCaps,
    items: VecDeque<Item>,
    /// How many items were taken out before the first of `items`.
    taken: u64,
    /// Where the last waiting push of a user stands, counted like `taken`.
    last_push: HashMap<UserId, u64>,
    bytes: usize,
    /// Links that miss a push, and the highest seq they miss.
    marks: BTreeMap<Link, u64>,
}

impl Queue {
    pub(crate) fn new(caps: QueueCaps) -> Self {
        Self {
            caps,
            items: VecDeque::new(),
            taken: 0,
            last_push: HashMap::new(),
            bytes: 0,
            marks: BTreeMap::new(),
        }
    }

    /// Queues an entry for links of a user. `links` is not empty.
    pub(crate) fn push(&mut self, user: &UserId, seq: u64, entry: &Bytes, links: Vec<Link>) -> Verdict {
        if self.bytes + entry.len() + ITEM_BYTES > self.caps.bytes {
            return self.mark(seq, &links);
        }
        if self.joins_last(user, seq, entry, &links) {
            self.bytes += entry.len();
            return Verdict::Queued;
        }
        if self.items.len() >= self.caps.items {
            return self.mark(seq, &links);
        }
        self.last_push.insert(user.clone(), self.taken + self.items.len() as u64);
        let bytes = entry.len() + ITEM_BYTES;
        self.bytes += bytes;
        self.items.push_back(Item::Push {
            user: user.clone(),
            links,
            first: seq,
            entries: vec![entry.clone()],
            bytes,
        });
        Verdict::Queued
    }

    /// Queues a frame that must not be left out.
    pub(crate) fn control(&mut self, down: Kind) -> Verdict {
        if self.items.len() >= self.caps.items {
            return Verdict::Overflow;
        }
        self.bytes += ITEM_BYTES;
        self.items.push_back(Item::Control(down));
        Verdict::Queued
    }

    /// The next frame to go; when nothing waits, hints for the marked.
    pub(crate) fn pop(&mut self) -> Option<v1::Down> {
        let down = match self.items.pop_front() {
            None => self.pop_hint()?,
            Some(item) => {
                self.taken += 1;
                match item {
                    Item::Control(down) => {
                        self.bytes -= ITEM_BYTES;
                        down
                    }
                    Item::Push { user, links, first, entries, bytes } => {
                        self.bytes -= bytes;
                        if self.last_push.get(&user) == Some(&(self.taken - 1)) {
                            self.last_push.remove(&user);
                        }
                        self.pushed(links, first, &entries)
                    }
                }
            }
        };
        Some(v1::Down { down: Some(down) })
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn marks(&self) -> usize {
        self.marks.len()
    }

    /// Adds to the user's waiting push where that goes to the same links and is followed by this seq. It
    /// may overtake control frames of other links by that; none of those minds.
    fn joins_last(&mut self, user: &UserId, seq: u64, entry: &Bytes, wanted: &[Link]) -> bool {
        let Some(at) = self.last_push.get(user) else { return false };
        let at = usize::try_from(at - self.taken).unwrap_or(usize::MAX);
        let Some(Item::Push { links, first, entries, bytes, .. }) = self.items.get_mut(at) else {
            return false;
        };
        let fits = entries.len() < COALESCED_ENTRIES_MAX && *bytes + entry.len() <= COALESCED_BYTES_MAX;
        let joins = fits && *first + entries.len() as u64 == seq && links == wanted;
        if joins {
            entries.push(entry.clone());
            *bytes += entry.len();
        }
        joins
    }

    fn mark(&mut self, seq: u64, links: &[Link]) -> Verdict {
        for link in links {
            let missed = self.marks.entry(*link).or_default();
            *missed = seq.max(*missed);
        }
        if self.marks.len() > self.caps.marks { Verdict::Overflow } else { Verdict::Marked }
    }

    fn pushed(&mut self, links: Vec<Link>, first: u64, entries: &[Bytes]) -> Kind {
        let last = first + (entries.len() as u64).saturating_sub(1);
        for link in &links {
            if self.marks.get(link).is_some_and(|missed| *missed <= last) {
                self.marks.remove(link);
            }
        }
        let links = links.into_iter().map(link_ref).collect();
        Kind::Push(v1::PushFrame { links, first, last, frame: frame::push(first, entries) })
    }

    fn pop_hint(&mut self) -> Option<Kind> {
        let (link, head) = self.marks.pop_first()?;
        Some(Kind::Hint(v1::LinkHint { link: Some(link_ref(link)), head }))
    }
}

/// A link as the schema has it.
pub(crate) fn link_ref((reactor, link): Link) -> v1::LinkRef {
    v1::LinkRef { reactor, link }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn queue(items: usize, bytes: usize, marks: usize) -> Queue {
        Queue::new(QueueCaps { items, bytes, marks })
    }

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn entry(n: u8) -> Bytes {
        v1::Entry { no: n.into(), ..Default::default() }.encode_to_vec().into()
    }

    fn hint(link: Link, head: u64) -> Option<v1::Down> {
        Some(v1::Down { down: Some(Kind::Hint(v1::LinkHint { link: Some(link_ref(link)), head })) })
    }

    fn kick(link: u64) -> Kind {
        Kind::Kick(v1::LinkKick { link: Some(link_ref((0, link))), ..Default::default() })
    }

    fn pushed(down: Option<v1::Down>) -> (u64, u64, Vec<u64>) {
        let Some(v1::Down { down: Some(Kind::Push(push)) }) = down else { panic!("no push: {down:?}") };
        let frame = v1::ServerFrame::decode(push.frame).unwrap();
        let Some(v1::server_frame::Frame::Push(inner)) = frame.frame else { panic!("no push inside") };
        assert_eq!(inner.entries.len() as u64, push.last - push.first + 1);
        (push.first, push.last, inner.entries.iter().map(|e| e.seq).collect())
    }

    #[test]
    fn consecutive_pushes_of_a_user_become_one_frame() {
        let mut queue = queue(8, 10_000, 8);
        let (ann, bob) = (user("ann"), user("bob"));
        for seq in 5..8 {
            assert_eq!(queue.push(&ann, seq, &entry(1), vec![(0, 1)]), Verdict::Queued);
            assert_eq!(queue.push(&bob, seq, &entry(1), vec![(0, 2)]), Verdict::Queued);
        }
        assert_eq!(queue.push(&ann, 8, &entry(1), vec![(0, 1), (0, 3)]), Verdict::Queued);
        assert_eq!(queue.push(&ann, 10, &entry(1), vec![(0, 1), (0, 3)]), Verdict::Queued);
        assert_eq!(pushed(queue.pop()), (5, 7, vec![5, 6, 7]));
        assert_eq!(pushed(queue.pop()), (5, 7, vec![5, 6, 7]));
        assert_eq!(pushed(queue.pop()), (8, 8, vec![8]));
        assert_eq!(pushed(queue.pop()), (10, 10, vec![10]));
        assert_eq!((queue.pop(), queue.bytes, queue.last_push.len()), (None, 0, 0));
    }

    #[test]
    fn a_push_that_does_not_fit_is_hinted_once_the_queue_is_empty() {
        let mut queue = queue(1, 10_000, 8);
        assert_eq!(queue.push(&user("ann"), 1, &entry(1), vec![(0, 1)]), Verdict::Queued);
        assert_eq!(queue.push(&user("bob"), 4, &entry(1), vec![(0, 2)]), Verdict::Marked);
        assert_eq!(queue.push(&user("bob"), 5, &entry(1), vec![(0, 2)]), Verdict::Marked);
        assert_eq!(pushed(queue.pop()), (1, 1, vec![1]));
        assert_eq!(queue.pop(), hint((0, 2), 5));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn a_delivered_push_clears_the_mark_below_it_and_no_other() {
        let mut queue = queue(1, 10_000, 8);
        assert_eq!(queue.push(&user("ann"), 1, &entry(1), vec![(0, 1)]), Verdict::Queued);
        assert_eq!(queue.push(&user("ann"), 3, &entry(1), vec![(0, 1)]), Verdict::Marked);
        pushed(queue.pop());
        assert_eq!(queue.marks(), 1);
        assert_eq!(queue.push(&user("ann"), 4, &entry(1), vec![(0, 1)]), Verdict::Queued);
        pushed(queue.pop());
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn bytes_count_as_much_as_items() {
        let mut queue = queue(100, 300, 8);
        let big = Bytes::from(vec![0; 150]);
        assert_eq!(queue.push(&user("ann"), 1, &big, vec![(0, 1)]), Verdict::Queued);
        assert_eq!(queue.push(&user("ann"), 2, &big, vec![(0, 1)]), Verdict::Marked);
    }

    #[test]
    fn control_frames_and_too_many_marks_break_the_stream() {
        let mut queue = queue(1, 10_000, 1);
        assert_eq!(queue.control(kick(1)), Verdict::Queued);
        assert_eq!(queue.control(kick(2)), Verdict::Overflow);
        assert_eq!(queue.push(&user("ann"), 3, &entry(1), vec![(0, 1)]), Verdict::Marked);
        assert_eq!(queue.push(&user("bob"), 3, &entry(1), vec![(0, 2)]), Verdict::Overflow);
    }
}
