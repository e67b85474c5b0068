//! Deliberate defects: each breaks one rule of the shells, or of a pure stage from outside, and the oracles
//! must find it.

use std::str::FromStr;

/// Which rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Outputs are not chained to the one before them: a lost append leaves a hole that nobody sees.
    NoPrev,
    /// A run goes on after an append that failed: the output is gone, and the chain with it.
    FailedReportIgnored,
    /// Rows are written before the outputs of every earlier record are durable: a crash loses the outputs: the row says that they are done.
    RowsNoPrefix,
    /// The messages checkpoint is written when it is cut: a crash loses what was cut and not written.
    CheckpointAhead,
    /// The timelines checkpoint is written when it is cut: a crash loses entries and sessions.
    TimelineCheckpointAhead,
    /// A user's row is written before the entries that it counts: a crash leaves a hole in the timeline.
    UserRowsEarly,
    /// A session enters the stored index after the row and the checkpoint: a successor does not know the session.
    IndexLate,
    /// A checkpoint does not keep its tick: after a clock that went back, ticks are given twice.
    TickForgotten,
    /// A conversation's row is written whatever its tick: a zombie puts an old row over a new one.
    NoTickGuard,
    /// A user's row is written whatever its tick: a zombie puts an old row over a new one.
    NoUserGuard,
    /// An output leaves before its body is stored: an entry without a body is shown.
    HistoryLate,
    /// A push leaves before its entry is stored: what was shown may never have been.
    PushBeforeStored,
    /// A sync answers from the stored row: the head goes back for a device that has seen more.
    StoredHead,
    /// A send that was judged before is judged again: a retry becomes a second message.
    RepeatTaken,
    /// A send behind a gap is taken for the next one: the missing send is taken for a repeat.
    GapTaken,
    /// An output that was applied is applied again: an entry stands twice.
    OutputRepeatTaken,
    /// An output behind a hole is applied: the lost output is lost for good.
    OutputGapTaken,
    /// A block is not read back from the row: a blocked sender gets through.
    BlockForgotten,
    /// A group's owner is not read back from the row: nobody may rename or dissolve it.
    OwnerForgotten,
    /// A conversation's last member is not read back from the rows: a member is turned down.
    MemberForgotten,
    /// Sends are acknowledged as they land, also after one that failed: the later one is dropped as behind a gap, and nobody sends it again.
    AckOutOfOrder,
    /// A send is acknowledged when it is queued: it may never land.
    AckBeforeReport,
    /// A number goes out before the device has stored it: a restart sends the text again under another.
    NumberNotDurable,
    /// The cursor is stored before the app has the entry: a restart skips the entry.
    CursorBeforeApp,
    /// A sign-off ends whatever session the device has: a late one ends the new session of a live link.
    UnfencedEnd,
    /// A node takes streams and frames of a lower term: a zombie is obeyed.
    NoTerm,
    /// A stream goes on after its node began anew: frames reach whoever has the link's number now.
    AnyIncarnation,
    /// Rosters are ignored: nobody tells a link what a broken stream lost.
    NoRoster,
    /// A roster claims to be complete beyond its links: links that are just signing in are signed off.
    BoundAhead,
    /// A push that does not fit leaves no mark: a last message is never heard of.
    NoMark,
    /// A roster's result leaves the device's cursor out: it goes back for the device.
    CursorLeftOut,
    /// An output leaves out one of its users: a member misses a number.
    OutputToFewer,
    /// The numbers of senders are read back one behind: a retry is judged again.
    SendersBehind,
    /// A page takes the body of the number before: an entry changes.
    PageBodyOff,
    /// A confirmed link without a session is not kicked: the device hears nothing more.
    NoKick,
    /// A control frame or sign-off that does not fit leaves the stream as it is: a sign-in is never answered, a session never ends.
    NoBreak,
    /// Links that are not confirmed in time stay open: the device waits for ever.
    NoDeadline,
    /// A node that lives is declared down: its sessions end, and its links do not.
    DownWhileAlive,
}

impl Mutation {
    /// Every one of them.
    pub const ALL: [Mutation; 38] = [
        Mutation::NoPrev,
        Mutation::FailedReportIgnored,
        Mutation::RowsNoPrefix,
        Mutation::CheckpointAhead,
        Mutation::TimelineCheckpointAhead,
        Mutation::UserRowsEarly,
        Mutation::IndexLate,
        Mutation::TickForgotten,
        Mutation::NoTickGuard,
        Mutation::NoUserGuard,
        Mutation::HistoryLate,
        Mutation::PushBeforeStored,
        Mutation::StoredHead,
        Mutation::RepeatTaken,
        Mutation::GapTaken,
        Mutation::OutputRepeatTaken,
        Mutation::OutputGapTaken,
        Mutation::BlockForgotten,
        Mutation::OwnerForgotten,
        Mutation::MemberForgotten,
        Mutation::AckOutOfOrder,
        Mutation::AckBeforeReport,
        Mutation::NumberNotDurable,
        Mutation::CursorBeforeApp,
        Mutation::UnfencedEnd,
        Mutation::NoTerm,
        Mutation::AnyIncarnation,
        Mutation::NoRoster,
        Mutation::BoundAhead,
        Mutation::NoMark,
        Mutation::CursorLeftOut,
        Mutation::OutputToFewer,
        Mutation::SendersBehind,
        Mutation::PageBodyOff,
        Mutation::NoKick,
        Mutation::NoBreak,
        Mutation::NoDeadline,
        Mutation::DownWhileAlive,
    ];

    /// The defect, and what it breaks.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Mutation::NoPrev => (
                "outputs are not chained to the one before them",
                "a lost append leaves a hole that nobody sees",
            ),
            Mutation::FailedReportIgnored => {
                ("a run goes on after an append that failed", "the output is gone, and the chain with it")
            }
            Mutation::RowsNoPrefix => (
                "rows are written before the outputs of every earlier record are durable",
                "a crash loses the outputs: the row says that they are done",
            ),
            Mutation::CheckpointAhead => (
                "the messages checkpoint is written when it is cut",
                "a crash loses what was cut and not written",
            ),
            Mutation::TimelineCheckpointAhead => {
                ("the timelines checkpoint is written when it is cut", "a crash loses entries and sessions")
            }
            Mutation::UserRowsEarly => (
                "a user's row is written before the entries that it counts",
                "a crash leaves a hole in the timeline",
            ),
            Mutation::IndexLate => (
                "a session enters the stored index after the row and the checkpoint",
                "a successor does not know the session",
            ),
            Mutation::TickForgotten => {
                ("a checkpoint does not keep its tick", "after a clock that went back, ticks are given twice")
            }
            Mutation::NoTickGuard => (
                "a conversation's row is written whatever its tick",
                "a zombie puts an old row over a new one",
            ),
            Mutation::NoUserGuard => {
                ("a user's row is written whatever its tick", "a zombie puts an old row over a new one")
            }
            Mutation::HistoryLate => {
                ("an output leaves before its body is stored", "an entry without a body is shown")
            }
            Mutation::PushBeforeStored => {
                ("a push leaves before its entry is stored", "what was shown may never have been")
            }
            Mutation::StoredHead => {
                ("a sync answers from the stored row", "the head goes back for a device that has seen more")
            }
            Mutation::RepeatTaken => {
                ("a send that was judged before is judged again", "a retry becomes a second message")
            }
            Mutation::GapTaken => {
                ("a send behind a gap is taken for the next one", "the missing send is taken for a repeat")
            }
            Mutation::OutputRepeatTaken => {
                ("an output that was applied is applied again", "an entry stands twice")
            }
            Mutation::OutputGapTaken => {
                ("an output behind a hole is applied", "the lost output is lost for good")
            }
            Mutation::BlockForgotten => {
                ("a block is not read back from the row", "a blocked sender gets through")
            }
            Mutation::OwnerForgotten => {
                ("a group's owner is not read back from the row", "nobody may rename or dissolve it")
            }
            Mutation::MemberForgotten => {
                ("a conversation's last member is not read back from the rows", "a member is turned down")
            }
            Mutation::AckOutOfOrder => (
                "sends are acknowledged as they land, also after one that failed",
                "the later one is dropped as behind a gap, and nobody sends it again",
            ),
            Mutation::AckBeforeReport => ("a send is acknowledged when it is queued", "it may never land"),
            Mutation::NumberNotDurable => (
                "a number goes out before the device has stored it",
                "a restart sends the text again under another",
            ),
            Mutation::CursorBeforeApp => {
                ("the cursor is stored before the app has the entry", "a restart skips the entry")
            }
            Mutation::UnfencedEnd => (
                "a sign-off ends whatever session the device has",
                "a late one ends the new session of a live link",
            ),
            Mutation::NoTerm => ("a node takes streams and frames of a lower term", "a zombie is obeyed"),
            Mutation::AnyIncarnation => (
                "a stream goes on after its node began anew",
                "frames reach whoever has the link's number now",
            ),
            Mutation::NoRoster => ("rosters are ignored", "nobody tells a link what a broken stream lost"),
            Mutation::BoundAhead => (
                "a roster claims to be complete beyond its links",
                "links that are just signing in are signed off",
            ),
            Mutation::NoMark => {
                ("a push that does not fit leaves no mark", "a last message is never heard of")
            }
            Mutation::CursorLeftOut => {
                ("a roster's result leaves the device's cursor out", "the cursor goes back for the device")
            }
            Mutation::OutputToFewer => ("an output leaves out one of its users", "a member misses a number"),
            Mutation::SendersBehind => {
                ("the numbers of senders are read back one behind", "a retry is judged again")
            }
            Mutation::PageBodyOff => ("a page takes the body of the number before", "an entry changes"),
            Mutation::NoKick => {
                ("a confirmed link without a session is not kicked", "the device hears nothing more")
            }
            Mutation::NoBreak => (
                "a control frame or sign-off that does not fit leaves the stream as it is",
                "a sign-in is never answered, a session never ends",
            ),
            Mutation::NoDeadline => {
                ("links that are not confirmed in time stay open", "the device waits for ever")
            }
            Mutation::DownWhileAlive => {
                ("a node that lives is declared down", "its sessions end, and its links do not")
            }
        }
    }
}

impl FromStr for Mutation {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Mutation::ALL.into_iter().find(|mutation| format!("{mutation:?}") == name);
        found.ok_or_else(|| format!("no mutation is called {name}; there are {:?}", Mutation::ALL))
    }
}
