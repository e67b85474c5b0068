//! The oracles by name, and what one of them says. Judges nothing itself.

use std::fmt;

/// Who found a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Oracle {
    /// Rows and records read.
    Readable,
    /// Nothing panics.
    Panic,
    /// A device is shown 1..n, without a hole or a repeat.
    Dense,
    /// What was shown once is shown the same for ever, to every device of the user.
    Unchanged,
    /// Nothing is shown before it, and its body, are stored.
    StoredFirst,
    /// In the end the tables hold what was shown, no more and no less.
    Stored,
    /// A row that never changes is not written again with other bytes.
    Rewritten,
    /// A conversation has one order: a number means the same to all, and numbers are dense.
    OneOrder,
    /// What a device sends to a conversation stands in the order of its numbers.
    SenderOrder,
    /// Every number was received by exactly those who were members then.
    Members,
    /// Every send does what it asks for, or is turned down, as a model of the rules has it.
    Rights,
    /// Every acknowledged send stands exactly once.
    ExactlyOnce,
    /// What stands is what the device sent under that number, and the number keeps its content.
    AsSent,
    /// No head and no cursor that a device is told goes back.
    Forward,
    /// A link that has a session is not kicked.
    Kicked,
    /// After the last fault everything arrives.
    Liveness,
    /// Live links and sessions are the same.
    Sessions,
    /// The whole log, taken again from nothing, gives the same rows.
    Replay,
    /// The log, taken again from tables as they were in the middle, gives the same rows.
    Snapshot,
}

impl Oracle {
    /// All of them.
    pub const ALL: [Oracle; 19] = [
        Oracle::Readable,
        Oracle::Panic,
        Oracle::Dense,
        Oracle::Unchanged,
        Oracle::StoredFirst,
        Oracle::Stored,
        Oracle::Rewritten,
        Oracle::OneOrder,
        Oracle::SenderOrder,
        Oracle::Members,
        Oracle::Rights,
        Oracle::ExactlyOnce,
        Oracle::AsSent,
        Oracle::Forward,
        Oracle::Kicked,
        Oracle::Liveness,
        Oracle::Sessions,
        Oracle::Replay,
        Oracle::Snapshot,
    ];

    /// What this oracle has to say.
    pub(crate) fn says(self, words: impl Into<String>) -> Violation {
        Violation { oracle: self, words: words.into() }
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Who saw it.
    pub oracle: Oracle,
    /// What was seen.
    pub words: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.oracle, self.words)
    }
}

impl From<String> for Violation {
    fn from(words: String) -> Self {
        Oracle::Readable.says(words)
    }
}

impl From<&str> for Violation {
    fn from(words: &str) -> Self {
        Oracle::Readable.says(words)
    }
}
