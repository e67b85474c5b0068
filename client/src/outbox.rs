//! What this device wants to say, until the log has it: numbering, the window, and what goes again.
//!
//! One queue in the order of the app's calls. A numbered send comes before every one that is not numbered
//! yet, and numbers are given in queue order, so sending the queue from its front is "lowest first".
//! Nothing is numbered while a number of an older epoch is left; counts live and die with one sign-in, which
//! is why they need no storage. Never touches storage or a link: it says what to store and what to send.

use std::collections::{HashMap, VecDeque};

use proto::{ConversationId, UserId, v1};

use crate::core::{Millis, SendError};
use crate::store::SavedSend;

/// Names a send of this store, rising; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalId(pub u64);

/// The number of a send within its conversation: n from 1 without gaps in each epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number {
    /// The epoch that a sign-in granted.
    pub epoch: u64,
    /// Counts the sends of this device to the conversation in this epoch.
    pub n: u64,
}

/// To whom a send goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The direct conversation with this user.
    User(UserId),
    /// A group.
    Group(ConversationId),
}

/// A send under its number, for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sent {
    /// As `send` returned it.
    pub local: LocalId,
    /// Where it went.
    pub conversation: ConversationId,
    /// Under which number.
    pub number: Number,
}

#[derive(Debug)]
struct Item {
    local: LocalId,
    conversation: ConversationId,
    number: Option<Number>,
    to: Target,
    body: v1::send::Body,
    bytes: usize,
    /// The change that has to be durable before this may be written to a link.
    change: u64,
    /// The request under which it was last written to the present link; 0: not yet.
    request: u64,
}

/// What a refusal for good did.
#[derive(Debug)]
pub(crate) enum Voided {
    /// The send became a Void.
    Now(Sent),
    /// It was one already and has been given up, or was acknowledged before: the link waits for it in vain.
    Gone(LocalId),
}

/// What an ack says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acked {
    pub(crate) sent: Sent,
    /// It is what the app said: a Void is not.
    pub(crate) is_said: bool,
    /// The link waits for it all the same, and takes no other.
    pub(crate) is_stuck: bool,
}

/// What the refusal of a request means to the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The send is to come again.
    Again,
    /// It has been written again since, or the request is none of a send's: nothing follows from it.
    OldNews,
    /// The send was written twice and acknowledged once, so it will not come again; the link takes no other.
    Stuck,
}

/// A request to which the server owes an answer; a send written twice has two.
#[derive(Debug)]
struct Owed {
    request: u64,
    local: LocalId,
}

#[derive(Debug)]
pub(crate) struct Outbox {
    items: VecDeque<Item>,
    bytes: usize,
    items_max: usize,
    bytes_max: usize,
    next_local: u64,
    /// `items[..numbered]` have their numbers.
    numbered: usize,
    /// `items[..next]` were written to the present link and need not be written again on it.
    next: usize,
    /// The link refuses everything until this comes again.
    refused: Option<LocalId>,
    owed: VecDeque<Owed>,
    window: usize,
    epoch: u64,
    counts: HashMap<ConversationId, u64>,
    resume_at: Option<Millis>,
    refusals: u32,
}

impl Outbox {
    pub(crate) fn new(saved: Vec<SavedSend>, next_local: u64, items_max: usize, bytes_max: usize) -> Self {
        let mut outbox = Self {
            items: VecDeque::new(),
            bytes: 0,
            items_max,
            bytes_max,
            next_local,
            numbered: 0,
            next: 0,
            refused: None,
            owed: VecDeque::new(),
            window: 0,
            epoch: 0,
            counts: HashMap::new(),
            resume_at: None,
            refusals: 0,
        };
        for send in saved {
            outbox.next_local = outbox.next_local.max(send.local.0 + 1);
            outbox.numbered += usize::from(send.number.is_some());
            outbox.epoch = outbox.epoch.max(send.number.map_or(0, |number| number.epoch));
            outbox.put(send, 0);
        }
        outbox
    }

    /// Takes a send; `change` is what will make it durable.
    pub(crate) fn push(
        &mut self,
        conversation: ConversationId,
        to: Target,
        body: v1::send::Body,
        change: u64,
    ) -> Result<LocalId, SendError> {
        let bytes = body.encoded_len();
        if self.items.len() >= self.items_max || self.bytes.saturating_add(bytes) > self.bytes_max {
            return Err(SendError::Full);
        }
        let local = LocalId(self.next_local);
        self.next_local += 1;
        self.put(SavedSend { local, conversation, to, number: None, body }, change);
        Ok(local)
    }

    /// What is to be stored of the send that was pushed last.
    pub(crate) fn last(&self) -> Option<SavedSend> {
        self.items.back().map(|item| SavedSend {
            local: item.local,
            conversation: item.conversation,
            to: item.to.clone(),
            number: item.number,
            body: item.body.clone(),
        })
    }

    /// Numbers what may be numbered in the epoch of the present sign-in. `change` is what will make each
    /// number durable.
    pub(crate) fn number(&mut self, granted: u64, mut change: impl FnMut(LocalId, Number) -> u64) {
        if self.epoch != granted {
            if self.numbered > 0 {
                return;
            }
            self.epoch = granted;
            self.counts = HashMap::new();
        }
        for item in self.items.iter_mut().skip(self.numbered) {
            let n = self.counts.entry(item.conversation).or_insert(0);
            *n += 1;
            let number = Number { epoch: granted, n: *n };
            item.number = Some(number);
            item.change = change(item.local, number);
        }
        self.numbered = self.items.len();
    }

    /// A link begins or ends: everything numbered goes again, from the front.
    pub(crate) fn relink(&mut self, window: usize) {
        self.next = 0;
        self.refused = None;
        self.owed.clear();
        self.window = window;
        self.resume_at = None;
        self.refusals = 0;
        self.items.iter_mut().for_each(|item| item.request = 0);
    }

    /// How many sends may be without an answer.
    pub(crate) fn set_window(&mut self, window: usize) {
        self.window = window;
    }

    /// Whether a send may be written at all: there is room in the window, and no pause.
    fn is_open(&self) -> bool {
        self.owed.len() < self.window && self.resume_at.is_none()
    }

    /// The bytes of what `transmit` would give.
    pub(crate) fn next_bytes(&self, durable: u64) -> Option<usize> {
        self.items.get(self.next_index(durable)?).map(|item| item.bytes)
    }

    /// The next send to write to the link under `request`, if changes up to `durable` are durable.
    pub(crate) fn transmit(&mut self, request: u64, durable: u64) -> Option<v1::Send> {
        let index = self.next_index(durable)?;
        let item = self.items.get_mut(index)?;
        let number = item.number?;
        item.request = request;
        self.owed.push_back(Owed { request, local: item.local });
        if self.refused.take().is_none() || self.next == index {
            self.next = index + 1;
        }
        Some(v1::Send {
            to: Some(match &item.to {
                Target::User(user) => v1::send::To::User(user.as_str().to_owned()),
                Target::Group(group) => v1::send::To::Group(group.to_bytes()),
            }),
            epoch: number.epoch,
            n: number.n,
            body: Some(item.body.clone()),
        })
    }

    /// The log has it.
    pub(crate) fn acked(&mut self, request: u64) -> Option<Acked> {
        let owed = self.answered(request)?;
        self.refusals = 0;
        let index = self.find(owed.local)?;
        let is_said = !matches!(self.items.get(index)?.body, v1::send::Body::Void(_));
        // Written twice, and the second one was refused before the first one landed.
        let is_stuck = self.refused == Some(owed.local);
        let sent = self.remove(index)?;
        Some(Acked { sent, is_said, is_stuck })
    }

    /// It was not taken: the same again, first of all, not before `resume_at`.
    pub(crate) fn refused(&mut self, request: u64, follows_another: bool) -> Refusal {
        let Some(owed) = self.answered(request) else { return Refusal::OldNews };
        let Some(index) = self.find(owed.local) else {
            return if follows_another { Refusal::OldNews } else { Refusal::Stuck };
        };
        if self.items.get(index).is_none_or(|item| item.request != request) {
            return Refusal::OldNews;
        }
        self.next = self.next.min(index);
        if !follows_another && self.refused.is_none_or(|refused| owed.local < refused) {
            self.refused = Some(owed.local);
        }
        Refusal::Again
    }

    /// Whether the link is known to refuse everything but one send, which is still to come again.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// It can never be taken: from now on its number stands for nothing, and comes first.
    pub(crate) fn void(&mut self, request: u64, change: u64) -> Option<Voided> {
        let local = self.owed.iter().find(|owed| owed.request == request)?.local;
        match self.refused(request, false) {
            Refusal::Again => {}
            Refusal::OldNews => return None,
            Refusal::Stuck => return Some(Voided::Gone(local)),
        }
        let index = self.find(local)?;
        let item = self.items.get_mut(index)?;
        if matches!(item.body, v1::send::Body::Void(_)) {
            return self.remove(index).map(|sent| Voided::Gone(sent.local));
        }
        self.bytes -= item.bytes;
        item.body = v1::send::Body::Void(v1::Void {});
        item.bytes = item.body.encoded_len();
        item.change = change;
        self.bytes += item.bytes;
        Some(Voided::Now(Sent { local, conversation: item.conversation, number: item.number? }))
    }

    /// The log has a gap: everything unacknowledged again, lowest first.
    pub(crate) fn rewind(&mut self) {
        self.next = 0;
    }

    /// Nothing is written before this.
    pub(crate) fn pause(&mut self, until: Millis) {
        self.resume_at = Some(self.resume_at.map_or(until, |at| at.max(until)));
        self.refusals = self.refusals.saturating_add(1);
    }

    pub(crate) fn resume_at(&self) -> Option<Millis> {
        self.resume_at
    }

    pub(crate) fn resume(&mut self, now: Millis) {
        self.resume_at = self.resume_at.filter(|at| *at > now);
    }

    /// Refusals in a row.
    pub(crate) fn refusals(&self) -> u32 {
        self.refusals
    }

    /// Whether `request` is a send that waits for its answer.
    pub(crate) fn owes(&self, request: u64) -> bool {
        self.owed.iter().any(|owed| owed.request == request)
    }

    /// Sends on the link without an answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.owed.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The highest epoch in which anything was numbered.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    fn next_index(&self, durable: u64) -> Option<usize> {
        if !self.is_open() {
            return None;
        }
        let index = match self.refused {
            Some(local) => self.find(local)?,
            None => self.next,
        };
        let item = self.items.get(index)?;
        (item.number.is_some() && item.change <= durable).then_some(index)
    }

    fn put(&mut self, send: SavedSend, change: u64) {
        let SavedSend { local, conversation, to, number, body } = send;
        let bytes = body.encoded_len();
        self.bytes += bytes;
        self.items.push_back(Item { local, conversation, number, to, body, bytes, change, request: 0 });
    }

    fn find(&self, local: LocalId) -> Option<usize> {
        self.items.binary_search_by_key(&local, |item| item.local).ok()
    }

    fn answered(&mut self, request: u64) -> Option<Owed> {
        let index = self.owed.iter().position(|owed| owed.request == request)?;
        self.owed.remove(index)
    }

    fn remove(&mut self, index: usize) -> Option<Sent> {
        let item = self.items.remove(index)?;
        self.bytes -= item.bytes;
        self.numbered -= usize::from(index < self.numbered);
        self.next -= usize::from(index < self.next);
        if self.refused == Some(item.local) {
            self.refused = None;
        }
        Some(Sent { local: item.local, conversation: item.conversation, number: item.number? })
    }
}
