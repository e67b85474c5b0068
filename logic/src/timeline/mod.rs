//! The timeline stage: owns a partition of the timelines log.
//!
//! A pure state machine: what it does depends on the log's records alone.

use bytes::Bytes;
use proto::close::Close;
use proto::partition::Partition;
use proto::{Tick, UserId, v1};
use storage::tables::{Checkpoint, EntryRow, Fence, SessionRow, SessionWrite, StoredUser, UserWrite};

pub use crate::settings::StateError;

/// What a record causes outside of the stage, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// An entry to store.
    Entry(EntryRow),
    /// An entry to push to a user's sessions, once it is stored. `to` is not empty.
    Push {
        /// Whose timeline.
        user: UserId,
        /// Its place there.
        seq: u64,
        /// `Entry` without its seq, encoded.
        entry: Bytes,
        /// The links.
        to: Vec<Fence>,
    },
    /// The answer to a sign-in.
    Result(SessionGrant),
    /// A link to be closed.
    Kick {
        /// The link.
        fence: Fence,
        /// Why.
        close: Close,
    },
    /// A gap in a device's sends to tell it of.
    OutOfOrder {
        /// The sender.
        user: UserId,
        /// The link of the sending device.
        fence: Fence,
        /// The send that is missing.
        send: v1::SendRef,
    },
    /// Somebody declared themselves owner of this partition, with this term.
    Owner(v1::Owner, Tick),
}

/// What a sign-in is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionGrant {
    /// The link.
    pub fence: Fence,
    /// The user.
    pub user: UserId,
    /// Under which the session numbers its new sends.
    pub epoch: u64,
    /// The highest seq in the timeline.
    pub head: u64,
    /// The lowest seq that is kept; head + 1 when none is.
    pub first: u64,
    /// What this device has acknowledged.
    pub cursor: u64,
    /// The highest seq that any device of the user has acknowledged.
    pub best_cursor: u64,
}

/// What a sync needs to know of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserView {
    /// The highest seq in the timeline.
    pub head: u64,
    /// The lowest seq that is kept; head + 1 when none is.
    pub first: u64,
}

/// The links of a conn node that belong to one partition's users, put together from the parts of its
/// roster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CompleteRoster {
    /// The node's incarnation.
    pub incarnation: u64,
    /// The links, each once.
    pub links: Vec<v1::RosterLink>,
    /// By reactor: every link with a lower number is in the roster or gone.
    pub bounds: Vec<u64>,
}

/// What is to be done after comparing a roster with the sessions.
#[derive(Clone, Debug, PartialEq)]
pub enum RosterAction {
    /// The link has no session: close it.
    Kick {
        /// The link.
        fence: Fence,
        /// Why.
        close: Close,
    },
    /// The link has not heard of its session.
    Result(SessionGrant),
    /// The link has not heard of its newest entries.
    Hint {
        /// The link.
        fence: Fence,
        /// The highest seq in the timeline.
        head: u64,
    },
    /// A record for this partition: a session whose link is gone, or an incarnation that is.
    Append(v1::TimelineRecord),
}

/// A user is not in memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("user {0} is not loaded")]
pub struct NotLoaded(pub UserId);

/// The state of one partition.
#[derive(Debug)]
pub struct TimelineStage {
    settings: v1::Settings,
    tick: Tick,
}

#[allow(unused_variables, clippy::unused_self, reason = "filled in next")]
impl TimelineStage {
    /// The stage as the checkpoint left it, or an empty one. `messages` is the number of messages
    /// partitions, `sessions` every stored session of this partition.
    ///
    /// # Errors
    /// The checkpoint does not read, or is of an unknown behaviour level.
    pub fn new(
        partition: Partition,
        messages: u32,
        checkpoint: Option<&Checkpoint>,
        sessions: Vec<SessionRow>,
    ) -> Result<Self, StateError> {
        Ok(Self { settings: crate::settings::defaults(), tick: Tick::ZERO })
    }

    /// Appends to `keys` the users that must be loaded before this record is stepped. A key may come
    /// twice. What a `SessionEnd` without a user needs is known only once the records before it are
    /// stepped: ask again right before its step.
    pub fn keys(&self, record: &v1::TimelineRecord, keys: &mut Vec<UserId>) {}

    /// Whether a user is in memory.
    #[must_use]
    pub fn is_loaded(&self, user: &UserId) -> bool {
        true
    }

    /// Takes a user as it is stored, or that it is not. One that is in memory stays as it is.
    ///
    /// # Errors
    /// The row does not read.
    pub fn load(&mut self, user: UserId, row: Option<StoredUser>) -> Result<(), StateError> {
        Ok(())
    }

    /// The tick of the last record stepped.
    #[must_use]
    pub fn tick(&self) -> Tick {
        self.tick
    }

    /// Takes the next record of the log. With `skip` it changes nothing.
    ///
    /// # Panics
    /// One of the record's keys is not loaded.
    pub fn step(
        &mut self,
        append_us: u64,
        record: &v1::TimelineRecord,
        skip: bool,
        effects: &mut Vec<Effect>,
    ) {
        self.tick = self.tick.next(append_us);
    }

    /// The users whose stored rows are not known to be up to date, as they are now, and what changes in
    /// the index of sessions. Either may be empty without the other.
    pub fn clone_dirty(&mut self) -> (Vec<SessionWrite>, Vec<UserWrite>) {
        (Vec::new(), Vec::new())
    }

    /// These users' writes landed (and the sessions' written with them).
    pub fn written(&mut self, users: &[(UserId, Tick)]) {}

    /// The partition's state beside its users, for the checkpoint at this position.
    #[must_use]
    pub fn state(&self) -> Bytes {
        Bytes::new()
    }

    /// Bytes of memory that users and sessions take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        0
    }

    /// Forgets users that are stored as they are, until at most `bytes_max` are taken or none is left to
    /// forget. Sessions are never forgotten. Rows that were read before must not be loaded after.
    pub fn evict(&mut self, bytes_max: usize) {}

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &v1::Settings {
        &self.settings
    }

    /// A user that is in memory.
    #[must_use]
    pub fn user(&self, user: &UserId) -> Option<UserView> {
        None
    }

    /// Whose session a link is; none if it has ended.
    #[must_use]
    pub fn session(&self, fence: &Fence) -> Option<&UserId> {
        None
    }

    /// How many sessions there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        0
    }

    /// Appends to `keys` the users that must be loaded before this roster is compared.
    pub fn roster_keys(&self, node: &str, roster: &CompleteRoster, keys: &mut Vec<UserId>) {}

    /// Compares the links that a conn node has with the sessions that it should have.
    ///
    /// # Errors
    /// A user of [`Self::roster_keys`] is not loaded; `out` is as it was.
    pub fn compare(
        &self,
        node: &str,
        roster: &CompleteRoster,
        out: &mut Vec<RosterAction>,
    ) -> Result<(), NotLoaded> {
        Ok(())
    }
}
