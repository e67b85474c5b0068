//! What has to outlive the process: the outbox with its numbers, and the cursor. A seam with two
//! implementations, [`Memory`] and [`File`].
//!
//! Counters need no storage: numbers count within the epoch of one sign-in, and every sign-in brings a new
//! epoch. An entry is given to the app again if the process ends between the app's taking it and the
//! cursor's being stored; its seq tells.

pub(crate) mod check;
mod file;
mod journal;
mod memory;

use proto::{ConversationId, v1};

use crate::outbox::{LocalId, Number, Target};

pub use file::{File, OpenError};
pub use memory::Memory;

/// One step of the device's durable state.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The app wants this sent.
    Queued(SavedSend),
    /// It has its number now.
    Numbered {
        /// Which send.
        local: LocalId,
        /// Its number for ever.
        number: Number,
    },
    /// The server will never take it: its number stands for nothing.
    Voided(LocalId),
    /// The log has it.
    Done(LocalId),
    /// The app has every entry up to this seq.
    Cursor(u64),
}

/// A send as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedSend {
    /// Its name in this store.
    pub local: LocalId,
    /// The conversation that it goes to.
    pub conversation: ConversationId,
    /// The same, as the wire names it.
    pub to: Target,
    /// None until it is numbered.
    pub number: Option<Number>,
    /// What is said.
    pub body: v1::send::Body,
}

/// Everything that a store holds: its changes, added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saved {
    /// Up to which seq the app has every entry; none before the first sign-in.
    pub cursor: Option<u64>,
    /// Above every local id that was ever used.
    pub next_local: u64,
    /// What is not acknowledged, in the order of the app's calls.
    pub outbox: Vec<SavedSend>,
}

impl Saved {
    /// Adds one change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Queued(send) => {
                self.next_local = self.next_local.max(send.local.0 + 1);
                self.outbox.push(send.clone());
            }
            Change::Numbered { local, number } => {
                if let Some(send) = self.find(*local) {
                    send.number = Some(*number);
                }
            }
            Change::Voided(local) => {
                if let Some(send) = self.find(*local) {
                    send.body = v1::send::Body::Void(v1::Void {});
                }
            }
            Change::Done(local) => {
                if let Ok(index) = self.outbox.binary_search_by_key(local, |send| send.local) {
                    self.outbox.remove(index);
                }
            }
            Change::Cursor(seq) => self.cursor = Some(self.cursor.map_or(*seq, |old| old.max(*seq))),
        }
    }

    /// Whether a change can follow on this state: sends are queued in the order of their names, and the last name
    /// of all is never used.
    fn fits(&self, change: &Change) -> bool {
        let Change::Queued(send) = change else { return true };
        send.local.0 < u64::MAX && self.outbox.last().is_none_or(|last| last.local < send.local)
    }

    fn find(&mut self, local: LocalId) -> Option<&mut SavedSend> {
        let index = self.outbox.binary_search_by_key(&local, |send| send.local).ok()?;
        self.outbox.get_mut(index)
    }
}

/// Keeps a device's state.
pub trait Store: Send {
    /// What is held.
    fn saved(&self) -> Saved;

    /// Adds changes, all or a first part of them; when it returns `Ok`, all of them are durable.
    ///
    /// # Errors
    /// What the medium said. What is held afterwards is known only to the one who opens it again.
    fn commit(&mut self, changes: &[Change]) -> std::io::Result<()>;

    /// Whether `commit` waits for a medium, so that it is not to be called where others wait.
    fn blocks(&self) -> bool;
}
