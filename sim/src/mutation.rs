//! Deliberate defects: each breaks one rule of the shells, and the oracles must find it.

/// Which rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Outputs are not chained to the one before them.
    NoPrev,
    /// Rows are written before the outputs of every earlier record are durable.
    RowsNoPrefix,
    /// The checkpoint is written when it is cut.
    CheckpointAhead,
    /// A conversation's row is written whatever its tick.
    NoTickGuard,
    /// Rosters are ignored.
    NoRoster,
    /// A node takes frames of a lower term.
    NoTerm,
    /// A push that does not fit leaves no mark.
    NoMark,
    /// A confirmed link that the state does not know is not kicked.
    NoKick,
    /// A control frame that does not fit leaves the stream as it is.
    NoBreak,
    /// Links that are not confirmed in time stay open.
    NoDeadline,
}

impl Mutation {
    /// Every one of them.
    pub const ALL: [Mutation; 10] = [
        Mutation::NoPrev,
        Mutation::RowsNoPrefix,
        Mutation::CheckpointAhead,
        Mutation::NoTickGuard,
        Mutation::NoRoster,
        Mutation::NoTerm,
        Mutation::NoMark,
        Mutation::NoKick,
        Mutation::NoBreak,
        Mutation::NoDeadline,
    ];
}
