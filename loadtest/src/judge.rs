//! What one device saw of its timeline, judged as it comes. Pure: fed with every frame as it stood on the wire,
//! whatever the client core makes of it, so that the core cannot hide a mistake, and with what the core then showed.
//! What it is fed with can be kept in a journal, and judged again from there.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use prost::Message as _;
use proto::v1;
use v1::server_frame::Frame;

use crate::circle::{Circle, Room};
use crate::dense::{Dense, Order};
use crate::payload;
use crate::sight::Sight;
use crate::violations::Violations;

/// Entries above a gap that are kept until it closes; the client core keeps fewer.
const AHEAD_MAX: usize = 1_024;

/// The judge of one device's timeline.
#[derive(Debug)]
pub(crate) struct Judge {
    /// The device itself, and who writes to whom.
    me: u64,
    circle: Circle,
    /// What stands under seq 1, 2, …, as hashes.
    timeline: Vec<u64>,
    /// Entries that were pushed above what a lost push has left open.
    ahead: BTreeMap<u64, v1::Entry>,
    /// Its conversations.
    rooms: BTreeMap<Room, Sight>,
    /// Messages handed over, and of them those that were acknowledged, by index.
    sent: u64,
    acked: Dense,
    /// What was known when the device last asked for a head.
    asked: u64,
    /// Up to where it has acknowledged its timeline, as it was told last.
    cursor: u64,
    /// Up to where the second reading of the timeline has come; none in the first.
    reread: Option<u64>,
    /// Up to where the client core has shown it.
    shown: u64,
    violations: Violations,
}

/// One thing that a device did or was told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Note<'a> {
    /// Its next message was handed over.
    Sent,
    /// The message of this index is in the log, it was told.
    Acked(u64),
    /// A send was turned down for good, or the device itself.
    Refused,
    /// It asks the server for a head, by a sign-in or a sync.
    Asks,
    /// It reads its timeline a second time, from the beginning.
    Again,
    /// A frame of the server's.
    Frame(&'a v1::ServerFrame),
    /// The client core showed an entry: its seq, and what [`hash`] makes of it.
    Shown(u64, u64),
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
    pub(crate) fn new(me: u64, circle: Circle) -> Self {
        Self {
            me,
            circle,
            timeline: Vec::new(),
            ahead: BTreeMap::new(),
            rooms: BTreeMap::new(),
            sent: 0,
            acked: Dense::default(),
            asked: 0,
            cursor: 0,
            reread: None,
            shown: 0,
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
            Note::Again => (self.reread, self.shown) = (Some(0), 0),
            Note::Shown(seq, hash) => self.shown(seq, hash),
            Note::Frame(frame) => self.frame(frame, fresh),
        }
    }

    fn frame(&mut self, frame: &v1::ServerFrame, fresh: impl FnMut(Fresh)) {
        match &frame.frame {
            Some(Frame::SignInResult(result)) => {
                self.head(result.head);
                self.violations.cursor_back += u64::from(result.cursor < self.cursor);
                self.cursor = result.cursor;
            }
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

    /// One by one, each once, and what was on the wire.
    fn shown(&mut self, seq: u64, hash: u64) {
        self.violations.repeated += u64::from(seq <= self.shown);
        self.violations.seq_holes += u64::from(seq > self.shown + 1);
        self.shown = seq.max(self.shown);
        let index = usize::try_from(seq).unwrap_or(0).checked_sub(1);
        let wire = index.and_then(|index| self.timeline.get(index));
        self.violations.rewritten += u64::from(wire != Some(&hash));
    }

    /// The head that it was answered: not below what was known when it asked. (A push may overtake the answer.)
    fn head(&mut self, head: u64) {
        self.violations.head_back += u64::from(head < self.asked);
    }

    /// Up to where the second reading has come.
    pub(crate) fn reread(&self) -> u64 {
        self.reread.unwrap_or(0)
    }

    /// Whether the second reading has come to the end of what the first has seen, and the client core has shown all of it.
    pub(crate) fn is_reread(&self) -> bool {
        self.reread.is_some_and(|at| at >= self.known()) && self.is_shown()
    }

    /// Whether the client core has shown everything that came, since it last began anew.
    pub(crate) fn is_shown(&self) -> bool {
        self.shown >= self.known()
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

    /// Whether its group has been made.
    pub(crate) fn has_group(&self) -> bool {
        self.rooms.contains_key(&Room::Group)
    }

    /// The final verdict; `of` finds the judge of every device that this one's messages go to.
    pub(crate) fn finish<'a>(&'a self, of: impl Fn(u64) -> Option<&'a Judge>) -> Violations {
        let mut violations = self.violations;
        for index in (0..self.sent).filter(|index| self.is_acked(*index)) {
            let (room, nth) = self.circle.place(index);
            let mut audience = self.circle.audience(self.me, room);
            let is_there =
                audience.all(|device| of(device).is_some_and(|judge| judge.has(room, self.me, nth)));
            violations.lost += u64::from(!is_there);
        }
        for (room, sight) in &self.rooms {
            let mut audience = self.circle.audience(self.me, *room).filter_map(&of);
            let differs = audience.any(|other| other.rooms.get(room).is_some_and(|it| sight.contradicts(it)));
            violations.out_of_order += u64::from(differs);
        }
        // Devices of one user have one timeline.
        let twin = Some(self.circle.user(self.me)).filter(|first| *first != self.me).and_then(&of);
        let differ = twin
            .is_some_and(|twin| self.timeline.iter().zip(&twin.timeline).any(|(one, other)| one != other));
        violations.rewritten += u64::from(differ);
        let unread = self.reread.is_some() && !self.is_reread();
        violations.seq_holes += u64::from(unread);
        violations
    }

    fn has(&self, room: Room, sender: u64, nth: u64) -> bool {
        self.rooms.get(&room).is_some_and(|sight| sight.has(sender, nth))
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
        let message = match &entry.event {
            Some(v1::entry::Event::Message(message)) => message,
            Some(v1::entry::Event::GroupCreated(_)) => {
                self.group(entry);
                return None;
            }
            event => {
                let is_rejection = matches!(event, Some(v1::entry::Event::Rejected(_)));
                *(if is_rejection { &mut self.violations.refused } else { &mut self.violations.alien }) += 1;
                return None;
            }
        };
        let Some((device, index, room, nth)) = self.named(entry, message) else {
            self.violations.alien += 1;
            return None;
        };
        let sight = self.rooms.entry(room).or_default();
        let is_next = sight.number(entry.no, (device, index));
        let order = sight.take(device, nth);
        self.violations.repeated += u64::from(order == Order::Repeat);
        self.violations.out_of_order += u64::from(order == Order::Late || !is_next);
        (order != Order::Repeat).then_some(Fresh { device, index })
    }

    /// Which message it is, if it is one that this device is to see, in the conversation where it belongs.
    fn named(&mut self, entry: &v1::Entry, message: &v1::Message) -> Option<(u64, u64, Room, u64)> {
        let (device, index) = payload::decode(&message.data)?;
        let (room, nth) = self.circle.place(index);
        let is_for_me = self.circle.audience(device, room).contains(&self.me);
        let is_there = is_for_me && self.rooms.entry(room).or_default().is(&entry.conversation);
        is_there.then_some((device, index, room, nth))
    }

    /// The group of this device is made: once, and before anything else in it.
    fn group(&mut self, entry: &v1::Entry) {
        let is_wanted = self.circle.founder(self.me).is_some() && !self.has_group();
        let sight = self.rooms.entry(Room::Group).or_default();
        let is_first = is_wanted && sight.is(&entry.conversation) && sight.number(entry.no, "made");
        self.violations.alien += u64::from(!is_first);
    }
}

/// Everything in an entry but its seq.
pub(crate) fn hash(entry: &v1::Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&entry.conversation, entry.no, entry.time_us, &entry.sender, &entry.device).hash(&mut hasher);
    (entry.epoch, entry.n, &entry.peer).hash(&mut hasher);
    match &entry.event {
        Some(v1::entry::Event::Message(message)) => (message.kind, &message.data).hash(&mut hasher),
        event => v1::Entry { event: event.clone(), ..v1::Entry::default() }.encode_to_vec().hash(&mut hasher),
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
