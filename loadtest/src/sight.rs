//! A conversation as one device sees it, in the order of its timeline. Pure.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;

use crate::dense::{Dense, Order};

/// What a device saw of a conversation.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    /// Its id; none before the first entry.
    id: Option<Bytes>,
    /// Its last number.
    no: u64,
    /// What stands under the numbers up to it, as a hash of all.
    order: u64,
    /// By sender, which of its messages.
    by: BTreeMap<u64, Dense>,
}

impl Sight {
    /// Whether an entry of this conversation id may stand in it.
    pub(crate) fn is(&mut self, id: &Bytes) -> bool {
        self.id.get_or_insert_with(|| id.clone()) == id
    }

    /// The next entry has this number, and this in it; whether the number is the next.
    pub(crate) fn number(&mut self, no: u64, what: impl Hash) -> bool {
        let is_next = no == self.no + 1;
        self.no = self.no.max(no);
        let mut hasher = DefaultHasher::new();
        (self.order, no, what).hash(&mut hasher);
        self.order = hasher.finish();
        is_next
    }

    /// It is a sender's message of this number, counted from 0.
    pub(crate) fn take(&mut self, sender: u64, nth: u64) -> Order {
        self.by.entry(sender).or_default().take(nth)
    }

    /// Whether a message was seen.
    pub(crate) fn has(&self, sender: u64, nth: u64) -> bool {
        self.by.get(&sender).is_some_and(|seen| seen.has(nth))
    }

    /// Whether another device saw something else up to the same number. One that saw less says nothing.
    pub(crate) fn contradicts(&self, other: &Sight) -> bool {
        self.no == other.no && self.order != other.order
    }
}
