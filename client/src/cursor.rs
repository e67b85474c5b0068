//! How far this device has read its user's timeline: pushes, gaps, sync, acks.
//!
//! ```text
//! acked ≤ stored ≤ taken ≤ received ≤ known
//! told the server · durable here · the app has it · waits for the app · heard of in any frame
//! ```
//! Only `received + 1` is ever received, so that the app sees every seq once and in order. What is known but
//! not received is asked for with Sync, one at a time; what is pushed meanwhile is held, as far as there is
//! room, and otherwise asked for as well. Never touches storage or a link.

use std::collections::VecDeque;

use proto::v1;

use crate::backoff::{Backoff, Dice};
use crate::core::{Event, Millis, Start};

/// Entries that wait for the app. A page may exceed it once.
const WAITING_MAX: usize = 400;
/// Bytes of entries that wait for the app, beyond which nothing more is asked for or taken.
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// Entries that are held above a gap.
const HELD_MAX: usize = 64;
/// Bytes of entries that are held above a gap.
const HELD_BYTES_MAX: usize = 256 * 1024;
/// Entries after which an Ack is due at once.
const ACK_ENTRIES: u64 = 64;
/// Time after which an Ack is due.
const ACK_MS: u64 = 200;
/// A Sync without an answer for this long is asked again.
const SYNC_TIMEOUT_MS: u64 = 15_000;
const SYNC_BACKOFF: Backoff = Backoff::new(100, 5_000);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    Idle,
    Asked { request: u64, until: Millis },
    Pause(Millis),
}

#[derive(Debug)]
pub(crate) struct Cursor {
    begun: bool,
    taken: u64,
    received: u64,
    known: u64,
    written: u64,
    stored: u64,
    acked: u64,
    ack_at: Option<Millis>,
    ack_due: bool,
    waiting: VecDeque<(Event, usize)>,
    waiting_bytes: usize,
    held: VecDeque<v1::Entry>,
    held_bytes: usize,
    sync: Sync,
    failures: u32,
}

impl Cursor {
    pub(crate) fn new(saved: Option<u64>) -> Self {
        let at = saved.unwrap_or(0);
        Self {
            begun: saved.is_some(),
            taken: at,
            received: at,
            known: at,
            written: at,
            stored: at,
            acked: 0,
            ack_at: None,
            ack_due: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            held: VecDeque::new(),
            held_bytes: 0,
            sync: Sync::Idle,
            failures: 0,
        }
    }

    /// A sign-in is confirmed. The first one of all decides where to begin.
    pub(crate) fn signed_in(&mut self, result: &v1::SignInResult, start: Start) {
        if !self.begun {
            let floor = result.first.saturating_sub(1).min(result.head);
            let at = match start {
                Start::Latest(count) => result.head.saturating_sub(count).max(floor),
                Start::Best => result.best_cursor.clamp(floor, result.head),
                Start::All => floor,
            };
            (self.begun, self.taken, self.received) = (true, at, at);
            self.ack_due = true;
        }
        self.acked = result.cursor;
        self.hear(result.head);
    }

    /// The link is gone, with what was asked on it.
    pub(crate) fn link_ended(&mut self) {
        self.sync = Sync::Idle;
        self.failures = 0;
        self.drop_held();
    }

    /// Some frame named this seq.
    pub(crate) fn hear(&mut self, seq: u64) {
        self.known = self.known.max(seq);
    }

    pub(crate) fn push(&mut self, entries: Vec<v1::Entry>) {
        for entry in entries {
            self.hear(entry.seq);
            if self.is_next(&entry) && self.has_room() {
                self.receive(entry);
            } else if entry.seq > self.received {
                self.hold(entry);
            }
        }
        self.take_held();
    }

    /// A page, asked for lately or long ago: what follows on what is there counts.
    pub(crate) fn page(&mut self, request: u64, page: v1::SyncPage, now: Millis, dice: &mut Dice) {
        let before = self.received;
        let kept = page.first <= page.head.saturating_add(1);
        if page.truncated && kept && page.first > self.received.saturating_add(1) {
            self.received = page.first - 1;
            self.wait(Event::Truncated { first: page.first }, 0);
        }
        for entry in page.entries {
            self.hear(entry.seq);
            if self.is_next(&entry) {
                self.receive(entry);
            }
        }
        self.hear(page.head);
        self.take_held();
        if self.is_asked(request) {
            if self.received > before || self.received >= self.known {
                (self.sync, self.failures) = (Sync::Idle, 0);
            } else {
                self.sync_failed(request, 0, now, dice);
            }
        }
    }

    /// The Sync was not answered by a page: again after a pause.
    pub(crate) fn sync_failed(&mut self, request: u64, after_ms: u64, now: Millis, dice: &mut Dice) {
        if self.is_asked(request) {
            self.sync = Sync::Pause(now.after(SYNC_BACKOFF.pause_ms(self.failures, after_ms, dice)));
            self.failures = self.failures.saturating_add(1);
        }
    }

    /// The Sync to write to the link under `request`, if one is due.
    pub(crate) fn ask(&mut self, request: u64, now: Millis, entries_max: u32) -> Option<v1::Sync> {
        if self.sync != Sync::Idle || self.received >= self.known || !self.has_room() {
            return None;
        }
        self.sync = Sync::Asked { request, until: now.after(SYNC_TIMEOUT_MS) };
        Some(v1::Sync { after: self.received, limit: entries_max })
    }

    pub(crate) fn is_asked(&self, request: u64) -> bool {
        matches!(self.sync, Sync::Asked { request: asked, .. } if asked == request)
    }

    /// The next thing for the app.
    pub(crate) fn poll(&mut self) -> Option<Event> {
        let (event, bytes) = self.waiting.pop_front()?;
        self.waiting_bytes -= bytes;
        self.take_held();
        Some(event)
    }

    /// The app has everything up to `seq`.
    pub(crate) fn taken(&mut self, seq: u64, now: Millis) {
        let seq = seq.min(self.received);
        if seq > self.taken {
            self.taken = seq;
            self.ack_due |= seq - self.written >= ACK_ENTRIES;
            self.ack_at = self.ack_at.or(Some(now.after(ACK_MS)));
        }
    }

    /// The cursor to store, if it is time.
    pub(crate) fn write(&mut self) -> Option<u64> {
        if !self.ack_due {
            return None;
        }
        (self.ack_due, self.ack_at, self.written) = (false, None, self.taken);
        Some(self.taken)
    }

    /// The cursor up to `seq` is durable.
    pub(crate) fn stored(&mut self, seq: u64) {
        self.stored = self.stored.max(seq);
    }

    /// The Ack to write to the link, if one is due.
    pub(crate) fn ack(&mut self) -> Option<v1::Ack> {
        if self.stored <= self.acked {
            return None;
        }
        self.acked = self.stored;
        Some(v1::Ack { seq: self.stored })
    }

    /// Whatever is taken is to be stored now.
    pub(crate) fn flush(&mut self) {
        self.ack_due |= self.taken > self.written;
    }

    pub(crate) fn deadline(&self) -> Option<Millis> {
        let sync = match self.sync {
            Sync::Idle => None,
            Sync::Asked { until, .. } | Sync::Pause(until) => Some(until),
        };
        [sync, self.ack_at].into_iter().flatten().min()
    }

    pub(crate) fn handle_deadline(&mut self, now: Millis) {
        if self.ack_at.is_some_and(|at| at <= now) {
            (self.ack_at, self.ack_due) = (None, true);
        }
        if matches!(self.sync, Sync::Asked { until, .. } | Sync::Pause(until) if until <= now) {
            self.sync = Sync::Idle;
        }
    }

    pub(crate) fn at(&self) -> u64 {
        self.taken
    }

    pub(crate) fn known(&self) -> u64 {
        self.known
    }

    fn is_next(&self, entry: &v1::Entry) -> bool {
        self.received.checked_add(1) == Some(entry.seq)
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX && self.waiting_bytes < WAITING_BYTES_MAX
    }

    fn receive(&mut self, entry: v1::Entry) {
        self.received = entry.seq;
        let bytes = prost::Message::encoded_len(&entry);
        self.wait(Event::Entry(Box::new(entry)), bytes);
    }

    fn wait(&mut self, event: Event, bytes: usize) {
        self.waiting_bytes += bytes;
        self.waiting.push_back((event, bytes));
    }

    /// Keeps what is above a gap, if it continues what is kept and there is room.
    fn hold(&mut self, entry: v1::Entry) {
        let bytes = prost::Message::encoded_len(&entry);
        match self.held.back() {
            Some(last) if entry.seq <= last.seq => return,
            Some(last) if entry.seq != last.seq + 1 => self.drop_held(),
            _ => {}
        }
        if self.held.len() < HELD_MAX && self.held_bytes + bytes <= HELD_BYTES_MAX {
            self.held_bytes += bytes;
            self.held.push_back(entry);
        } else {
            self.drop_held();
        }
    }

    fn take_held(&mut self) {
        while let Some(entry) = self.held.front().map(|entry| entry.seq) {
            if entry > self.received.saturating_add(1) || !self.has_room() {
                return;
            }
            let Some(entry) = self.held.pop_front() else { return };
            self.held_bytes -= prost::Message::encoded_len(&entry);
            if self.is_next(&entry) {
                self.receive(entry);
            }
        }
    }

    fn drop_held(&mut self) {
        self.held = VecDeque::new();
        self.held_bytes = 0;
    }
}
