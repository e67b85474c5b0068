//! The timeline stage, which owns a partition of the timelines log: an entry's seq in each user's timeline,
//! and the sessions that it is pushed to.
//!
//! A pure state machine: what it does depends on the log's records alone. It reads no clock, table or
//! setting of a node, and pushes nothing itself.

mod nodes;
#[cfg(test)]
mod replay;
mod roster;
mod session;
mod state;
mod step;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use prost::Message;
use proto::close::Close;
use proto::partition::Partition;
use proto::{Tick, UserId, v1};
use storage::tables::{Checkpoint, EntryRow, Fence, SessionRow, SessionWrite, StoredUser, UserWrite};

pub use crate::settings::StateError;

use crate::rows::Rows;
use crate::settings;
use nodes::Nodes;
use state::User;

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
    /// By messages partition: the source of the last output applied.
    seen: Vec<u64>,
    nodes: Nodes,
    rows: Rows<UserId, User>,
    /// Removals from the stored index of sessions whose users' rows are stored without them.
    unindex: Vec<SessionWrite>,
}

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
        let mut this = Self {
            settings: settings::defaults(),
            tick: Tick::ZERO,
            seen: vec![0; messages as usize],
            nodes: Nodes::default(),
            rows: Rows::default(),
            unindex: Vec::new(),
        };
        if let Some(checkpoint) = checkpoint {
            let what = || format!("the checkpoint of timelines partition {partition}");
            let state = v1::TimelinePartition::decode(checkpoint.state.clone())
                .map_err(|e| StateError::unreadable(what(), &e))?;
            this.settings = settings::restored(state.level, state.settings)?;
            this.tick = checkpoint.tick;
            if state.seen.len() != this.seen.len() {
                return Err(StateError::Partitions { found: state.seen.len(), expected: this.seen.len() });
            }
            this.seen = state.seen;
            state.nodes.iter().for_each(|floor| this.nodes.raise(&floor.node, floor.incarnation));
        }
        for SessionRow { fence, user, device } in sessions {
            let place = this.nodes.place(&state::fence_message(fence));
            if this.nodes.is_valid(place) {
                this.nodes.insert(place, user, device);
            } else {
                // It ended with its node, before the checkpoint: no run will begin so early that it has it again.
                let session = this.nodes.row(place, &user, &device);
                this.unindex.push(SessionWrite { session, at: this.tick, live: false });
            }
        }
        Ok(this)
    }

    /// Appends to `keys` the users that must be loaded before this record is stepped; one may come twice.
    /// Whose session ends in a `SessionEnd` without a user may be known only after the records before it
    /// were stepped: where keys are gathered ahead, ask again right before the step.
    pub fn keys(&self, record: &v1::TimelineRecord, keys: &mut Vec<UserId>) {
        if let Some(record) = &record.record {
            self.users_of(record, keys);
        }
    }

    /// Whether a user is in memory.
    #[must_use]
    pub fn is_loaded(&self, user: &UserId) -> bool {
        self.rows.contains(user)
    }

    /// Takes a user as it is stored, or that it is not. One that is in memory stays as it is.
    ///
    /// # Errors
    /// The row does not read.
    pub fn load(&mut self, user: UserId, row: Option<StoredUser>) -> Result<(), StateError> {
        if self.is_loaded(&user) {
            return Ok(());
        }
        let Some(StoredUser { at, row }) = row else {
            self.rows.load(user, User::default(), Tick::ZERO);
            return Ok(());
        };
        let row = User::from_row(&user, row, &mut self.nodes)?;
        for (device, session) in row.sessions.iter() {
            self.nodes.insert(session.place, user.clone(), device.clone());
        }
        self.rows.load(user, row, at);
        Ok(())
    }

    /// The tick of the last record stepped.
    #[must_use]
    pub fn tick(&self) -> Tick {
        self.tick
    }

    /// Takes the next record of the log; one that does not decode is taken as an empty one. With `skip` it
    /// changes no user.
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
        self.take(record, skip, effects);
    }

    /// The users whose stored rows are not known to be up to date, as they are now, and what changes in
    /// the index of sessions. Either may be empty without the other.
    ///
    /// A session enters the stored index before the row that has it, and leaves it after the row without it
    /// is reported as written: after a crash the index may know a session too many, never one too few.
    pub fn clone_dirty(&mut self) -> (Vec<SessionWrite>, Vec<UserWrite>) {
        let (mut sessions, mut users) = (std::mem::take(&mut self.unindex), Vec::new());
        for dirty in self.rows.dirty() {
            for (device, session) in dirty.row.sessions.iter().filter(|(_, s)| s.epoch > dirty.stored.0) {
                let row = self.nodes.row(session.place, dirty.key, device);
                sessions.push(SessionWrite { session: row, at: Tick(session.epoch), live: true });
            }
            let row = dirty.row.to_row(&self.nodes);
            users.push(UserWrite { user: dirty.key.clone(), at: dirty.at, row });
        }
        (sessions, users)
    }

    /// These users' writes landed, and the sessions' that came with them.
    pub fn written(&mut self, users: &[(UserId, Tick)]) {
        for (user, tick) in users {
            self.note_written(user, *tick);
        }
    }

    /// The partition's state beside its users, for the checkpoint at this position.
    #[must_use]
    pub fn state(&self) -> Bytes {
        let state = v1::TimelinePartition {
            level: settings::LEVEL,
            settings: Some(self.settings),
            seen: self.seen.clone(),
            nodes: self.nodes.floors(),
        };
        state.encode_to_vec().into()
    }

    /// Bytes of memory that users and sessions take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rows.bytes() + self.nodes.bytes() + self.unindex.capacity() * size_of::<SessionWrite>()
    }

    /// Forgets users that are stored as they are, until at most `bytes_max` are taken or none is left to
    /// forget. Sessions are never forgotten. Rows that were read before must not be loaded after.
    pub fn evict(&mut self, bytes_max: usize) {
        let others = self.bytes() - self.rows.bytes();
        self.rows.evict(bytes_max.saturating_sub(others));
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &v1::Settings {
        &self.settings
    }

    /// A user that is in memory.
    #[must_use]
    pub fn user(&self, user: &UserId) -> Option<UserView> {
        self.rows.get(user).map(|row| UserView { head: row.head, first: row.first })
    }

    /// Whose session a link is; none if it has ended.
    #[must_use]
    pub fn session(&self, fence: &Fence) -> Option<&UserId> {
        let holder = self.nodes.get(&fence.node, fence.incarnation, fence.reactor, fence.link)?;
        Some(&holder.user)
    }

    /// How many sessions there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.nodes.sessions()
    }
}
