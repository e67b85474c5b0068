//! The kinds of broken promises, and how often each was seen.

use serde::{Deserialize, Serialize};

/// Counts; all 0 when every promise was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Violations {
    /// Acknowledged, but not in the receiver's timeline, or not in the sender's own.
    pub(crate) lost: u64,
    /// In a timeline more than once.
    pub(crate) repeated: u64,
    /// After a later message of the same sender, or under a number of the conversation that is not the next.
    pub(crate) out_of_order: u64,
    /// Seqs that do not follow each other in a push or page, or that a timeline misses.
    pub(crate) seq_holes: u64,
    /// A seq that held something else before.
    pub(crate) rewritten: u64,
    /// A head that went back.
    pub(crate) head_back: u64,
    /// A cursor that went back.
    pub(crate) cursor_back: u64,
    /// A body that is not what was sent, or an entry that nobody asked for.
    pub(crate) alien: u64,
    /// Sends that were turned down, and devices that were told not to come again, for which there is no reason.
    pub(crate) refused: u64,
}

impl Violations {
    /// Adds another's counts.
    pub(crate) fn add(&mut self, other: &Violations) {
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.out_of_order += other.out_of_order;
        self.seq_holes += other.seq_holes;
        self.rewritten += other.rewritten;
        self.head_back += other.head_back;
        self.cursor_back += other.cursor_back;
        self.alien += other.alien;
        self.refused += other.refused;
    }

    /// As one line.
    pub(crate) fn text(&self) -> String {
        format!(
            "{} lost, {} repeated, {} out of order, {} seq holes, {} rewritten, {} heads back, {} cursors back, {} alien, {} refused",
            self.lost,
            self.repeated,
            self.out_of_order,
            self.seq_holes,
            self.rewritten,
            self.head_back,
            self.cursor_back,
            self.alien,
            self.refused,
        )
    }

    /// Whether there is any.
    pub(crate) fn any(&self) -> bool {
        *self != Violations::default()
    }
}
