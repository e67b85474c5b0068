//! What one device saw of its timeline, judged as it comes. Pure: fed with every frame as it stood on the wire,
//! whatever the client core makes of it, so that the core cannot hide a mistake. What it is fed with can be kept
//! in a journal, and judged again from there.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use proto::v1;
use v1::server_frame::Frame;

use crate::dense::{Dense, Order};
use crate::payload;
use crate::violations::Violations;

/// Entries above a gap that are kept until it closes; the client core keeps fewer.
const AHEAD_MAX: usize = 1_024;

/// The judge of one device's timeline.
#[derive(Debug)]
pub(crate) struct Judge {
    /// The device itself, and the one that it writes to.
    me: u64,
    peer: u64,
    /// What stands under seq 1, 2, …, as hashes.
    timeline: Vec<u64>,
    /// Entries that were pushed above what a lost push has left open.
    ahead: BTreeMap<u64, v1::Entry>,
    /// The conversation's last number.
    no: u64,
    /// Messages handed over, and of them those that were acknowledged, by index.
    sent: u64,
    acked: Dense,
    /// The device's own messages in its timeline, and the peer's, by index.
    own: Dense,
    received: Dense,
    /// What was known when the device last asked for a head.
    asked: u64,
    /// Up to where the second reading of the timeline has come; none in the first.
    reread: Option<u64>,
    violations: Violations,
}

/// One thing that a device did or was told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Note<'a> {
    /// Its next message was handed over.
    Sent,
    /// The message of this index is in the log, it was told.
    Acked(u64),
    /// A send was turned down for good.
    Refused,
    /// It asks the server for a head, by a sign-in or a sync.
    Asks,
    /// It reads its timeline a second time, from the beginning.
    Again,
    /// A frame of the server's.
    Frame(&'a v1::ServerFrame),
}

/// A message that the device has for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fresh {
    /// Who sent it.
    pub(crate) device: u64,
    /// Which one of that device's.
    pub(crate) index: u64,
}

impl Judge {
    /// For a device that has read nothing yet.
    pub(crate) fn new(me: u64, peer: u64) -> Self {
        Self {
            me,
            peer,
            timeline: Vec::new(),
            ahead: BTreeMap::new(),
            no: 0,
            sent: 0,
            acked: Dense::default(),
            own: Dense::default(),
            received: Dense::default(),
            asked: 0,
            reread: None,
            violations: Violations::default(),
        }
    }

    /// What happened next; messages that are new go to `fresh`.
    pub(crate) fn take(&mut self, note: Note<'_>, fresh: impl FnMut(Fresh)) {
        match note {
            Note::Sent => self.sent += 1,
            Note::Acked(index) => drop(self.acked.take(index)),
            // There is no reason for it.
            Note::Refused => self.violations.refused += 1,
            Note::Asks => self.asked = self.known(),
            Note::Again => self.reread = Some(0),
            Note::Frame(frame) => self.frame(frame, fresh),
        }
    }

    fn frame(&mut self, frame: &v1::ServerFrame, fresh: impl FnMut(Fresh)) {
        match &frame.frame {
            Some(Frame::SignInResult(result)) => self.head(result.head),
            Some(Frame::Push(push)) => self.entries(&push.entries, fresh),
            Some(Frame::SyncPage(page)) => {
                self.entries(&page.entries, fresh);
                self.head(page.head);
            }
            // A hint answers nothing, and may be older than a push that overtook it.
            _ => {}
        }
    }

    /// The entries of one push or page, in its order; what is new goes to `fresh`.
    fn entries(&mut self, entries: &[v1::Entry], mut fresh: impl FnMut(Fresh)) {
        let mut before = None;
        for entry in entries {
            if before.is_some_and(|before: u64| entry.seq != before + 1) || entry.seq == 0 {
                self.violations.seq_holes += 1;
            }
            before = Some(entry.seq);
            self.entry(entry, &mut fresh);
            while let Some(entry) = self.ahead.remove(&(self.known() + 1)) {
                self.entry(&entry, &mut fresh);
            }
        }
    }

    /// The head that it was answered: not below what was known when it asked. (A push may overtake the answer.)
    fn head(&mut self, head: u64) {
        self.violations.head_back += u64::from(head < self.asked);
    }

    /// Up to where the second reading has come.
    pub(crate) fn reread(&self) -> u64 {
        self.reread.unwrap_or(0)
    }

    /// Whether the second reading has come to the end of what the first has seen.
    pub(crate) fn is_reread(&self) -> bool {
        self.reread.is_some_and(|at| at >= self.known())
    }

    /// The highest seq up to which everything was seen.
    pub(crate) fn known(&self) -> u64 {
        self.timeline.len() as u64
    }

    /// Messages handed over so far; the next one's index.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether the message of this index was acknowledged.
    pub(crate) fn is_acked(&self, index: u64) -> bool {
        self.acked.has(index)
    }

    /// The final verdict; `peer` is the judge of the device that this one wrote to.
    pub(crate) fn finish(&self, peer: &Judge) -> Violations {
        let mut violations = self.violations;
        let is_there = |index: u64| self.own.has(index) && peer.received.has(index);
        violations.lost +=
            (0..self.sent).filter(|index| self.is_acked(*index) && !is_there(*index)).count() as u64;
        let unread = self.reread.is_some() && !self.is_reread();
        violations.seq_holes += u64::from(unread);
        violations
    }

    fn entry(&mut self, entry: &v1::Entry, fresh: &mut impl FnMut(Fresh)) {
        if let Some(at) = &mut self.reread
            && entry.seq == *at + 1
        {
            *at += 1;
        }
        let known = self.known();
        if entry.seq == known + 1 {
            self.timeline.push(hash(entry));
            self.message(entry).into_iter().for_each(fresh);
        } else if entry.seq <= known {
            let index = usize::try_from(entry.seq).unwrap_or(0).checked_sub(1);
            let before = index.and_then(|index| self.timeline.get(index));
            self.violations.rewritten += u64::from(before.is_some_and(|before| *before != hash(entry)));
        } else if self.ahead.len() < AHEAD_MAX {
            let before = self.ahead.insert(entry.seq, entry.clone());
            self.violations.rewritten += u64::from(before.is_some_and(|before| hash(&before) != hash(entry)));
        }
    }

    /// The next entry of the timeline.
    fn message(&mut self, entry: &v1::Entry) -> Option<Fresh> {
        let Some(v1::entry::Event::Message(message)) = &entry.event else {
            let is_rejection = matches!(entry.event, Some(v1::entry::Event::Rejected(_)));
            *(if is_rejection { &mut self.violations.refused } else { &mut self.violations.alien }) += 1;
            return None;
        };
        let named =
            payload::decode(&message.data).filter(|(device, _)| [self.me, self.peer].contains(device));
        let Some((device, index)) = named else {
            self.violations.alien += 1;
            return None;
        };
        let is_next = entry.no == self.no + 1;
        self.no = self.no.max(entry.no);
        let seen = if device == self.me { &mut self.own } else { &mut self.received };
        let order = seen.take(index);
        self.violations.repeated += u64::from(order == Order::Repeat);
        self.violations.out_of_order += u64::from(order == Order::Late || !is_next);
        (order != Order::Repeat).then_some(Fresh { device, index })
    }
}

/// Everything in an entry but its seq.
fn hash(entry: &v1::Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&entry.conversation, entry.no, entry.time_us, &entry.sender, &entry.device).hash(&mut hasher);
    (entry.epoch, entry.n).hash(&mut hasher);
    if let Some(v1::entry::Event::Message(message)) = &entry.event {
        (message.kind, &message.data).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: u64 = 0;
    const PEER: u64 = 1;
    const SENT: u64 = 6;

    /// What a device's frames bring.
    type Journal = Vec<v1::Entry>;

    fn entry(seq: u64, no: u64, device: u64, index: u64) -> v1::Entry {
        let message = v1::Message { kind: 1, data: payload::encode(device, index, 40) };
        v1::Entry { seq, no, event: Some(v1::entry::Event::Message(message)), ..v1::Entry::default() }
    }

    /// The two write in turns; both timelines hold all of it.
    fn journal() -> Journal {
        let turns = (0..2 * SENT).map(|turn| (turn + 1, turn % 2, turn / 2));
        turns.map(|(seq, device, index)| entry(seq, seq, device, index)).collect()
    }

    fn renumber(journal: &mut Journal) {
        for (i, entry) in journal.iter_mut().enumerate() {
            (entry.seq, entry.no) = (i as u64 + 1, i as u64 + 1);
        }
    }

    /// A device that sent its messages, has so many acknowledged, and reads its timeline in pushes.
    fn read(me: u64, peer: u64, acked: u64, journal: &Journal) -> Judge {
        let mut judge = Judge::new(me, peer);
        (0..SENT).for_each(|_| judge.take(Note::Sent, |_| {}));
        (0..acked).for_each(|index| judge.take(Note::Acked(index), |_| {}));
        journal.chunks(3).for_each(|entries| push(&mut judge, entries));
        judge
    }

    fn push(judge: &mut Judge, entries: &[v1::Entry]) {
        let frame = Some(Frame::Push(v1::Push { entries: entries.to_vec() }));
        judge.take(Note::Frame(&v1::ServerFrame { frame, ..v1::ServerFrame::default() }), |_| {});
    }

    /// Judges both devices where one's journal is spoilt.
    fn judge(spoil: impl FnOnce(&mut Journal)) -> Violations {
        let (mine, mut theirs) = (journal(), journal());
        spoil(&mut theirs);
        let (mine, theirs) = (read(ME, PEER, SENT, &mine), read(PEER, ME, SENT, &theirs));
        let mut violations = mine.finish(&theirs);
        violations.add(&theirs.finish(&mine));
        violations
    }

    #[test]
    fn a_journal_as_it_should_be_passes() {
        assert_eq!(judge(|_| {}), Violations::default());
    }

    #[test]
    fn a_lost_message_is_found() {
        let found = judge(|journal| {
            journal.remove(4);
            renumber(journal);
        });
        assert_eq!(found, Violations { lost: 1, ..found });
        let last = judge(|journal| {
            journal.pop();
        });
        assert_eq!(last, Violations { lost: 1, ..Violations::default() });
    }

    #[test]
    fn what_was_not_acknowledged_is_not_lost() {
        let (mine, mut theirs) = (journal(), journal());
        theirs.retain(|entry| entry.seq != 2 * SENT - 1);
        renumber(&mut theirs);
        let theirs = read(PEER, ME, SENT, &theirs);
        assert_eq!(read(ME, PEER, SENT - 1, &mine).finish(&theirs).lost, 0);
        assert_eq!(read(ME, PEER, SENT, &mine).finish(&theirs).lost, 1);
    }

    #[test]
    fn a_doubled_message_is_found() {
        let found = judge(|journal| {
            let again = journal[4].clone();
            journal.push(again);
            renumber(journal);
        });
        assert_eq!(found, Violations { repeated: 1, ..Violations::default() });
    }

    #[test]
    fn swapped_messages_are_found() {
        let found = judge(|journal| {
            journal.swap(2, 4);
            renumber(journal);
        });
        assert_eq!(found, Violations { out_of_order: 1, ..Violations::default() });
        let other_senders = judge(|journal| {
            journal.swap(2, 3);
            (journal[2].seq, journal[3].seq) = (3, 4);
        });
        assert!(other_senders.out_of_order > 0, "the conversation has one order");
    }

    #[test]
    fn a_hole_in_the_seqs_is_found() {
        let in_a_frame = judge(|journal| journal[4].seq = 50);
        assert!(in_a_frame.seq_holes > 0 && in_a_frame.lost > 0);
        let between_frames = judge(|journal| journal[3..].iter_mut().for_each(|entry| entry.seq += 1));
        assert!(between_frames.lost > 0, "what stands behind a hole was never reached");
    }

    #[test]
    fn a_page_that_closes_a_gap_is_no_violation() {
        let found = judge(|journal| {
            let late: Vec<v1::Entry> = journal.drain(3..6).collect();
            journal.extend(late);
        });
        assert_eq!(found, Violations::default());
    }

    #[test]
    fn a_seq_that_changes_is_found() {
        let found = judge(|journal| {
            let other = entry(2, 2, PEER, 5);
            journal.push(other);
        });
        assert_eq!(found.rewritten, 1);
    }

    #[test]
    fn a_changed_body_and_a_rejection_are_found() {
        let body = judge(|journal| {
            let message =
                v1::Message { kind: 1, data: bytes::Bytes::from_static(b"something else entirely") };
            journal[0].event = Some(v1::entry::Event::Message(message));
        });
        assert_eq!((body.alien, body.lost), (1, 1));
        let rejected = judge(|journal| {
            let event = v1::entry::Event::Rejected(v1::Rejected::default());
            journal.push(v1::Entry { seq: 2 * SENT + 1, event: Some(event), ..v1::Entry::default() });
        });
        assert_eq!(rejected, Violations { refused: 1, ..Violations::default() });
    }

    #[test]
    fn the_second_reading_has_to_be_the_same_and_whole() {
        let journal = journal();
        let mut judge = read(ME, PEER, 0, &journal);
        judge.take(Note::Again, |_| {});
        push(&mut judge, &journal[..5]);
        assert!(!judge.is_reread());
        assert_eq!(judge.finish(&judge).seq_holes, 1);
        push(&mut judge, &journal[5..]);
        assert!(judge.is_reread());
        judge.take(Note::Asks, |_| {});
        judge.head(2 * SENT);
        assert!(!judge.finish(&judge).any());
        judge.head(2 * SENT - 1);
        assert_eq!(judge.finish(&judge).head_back, 1);
    }
}
