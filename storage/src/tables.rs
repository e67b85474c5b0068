//! The table seams: one trait per aggregate.
//!
//! Promised by every implementation: a write at a lower tick than the stored one changes nothing, at
//! equal ticks a delete wins, and a single aggregate's write lands whole. Two writes of one row at equal
//! ticks bring equal bytes: a tick names one record, and stages are deterministic. Nothing is promised
//! about others: one implementation keeps the first, one the last, one a mixture of both, column by
//! column. Reads see every write that was
//! answered before them. A write that is answered is *stored*: as durable as its log record makes it
//! (what is not yet on disk is caused again from the log); only [`Checkpoints::save`] also waits until
//! everything stored before it is on disk.

use bytes::Bytes;
use futures::future::BoxFuture;
use proto::partition::Partition;
use proto::{ConversationId, DeviceId, Tick, UserId};

use crate::log::{Partitions, Topic};

/// Why a table did not answer. Nothing is known about whether a failed write landed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Not reachable, too slow, or too few replicas: the same again later.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// The data is not what this node can use; the text says what to do.
    #[error("{0}")]
    Refused(String),
    /// No space, an I/O error: the same again once an operator has mended it.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// The answer of a table.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Who sends: a device of a user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sender {
    /// The user.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
}

/// A conversation as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConversationRow {
    /// The tick of the last write.
    pub at: Tick,
    /// `ConversationHead`.
    pub head: Bytes,
    /// `MemberRow` by user, in the order of the users. Former members included.
    pub members: Vec<(UserId, Bytes)>,
    /// `SenderRow` by sending device, in their order.
    pub senders: Vec<(Sender, Bytes)>,
}

/// A change to a conversation: whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationWrite {
    /// Which conversation.
    pub id: ConversationId,
    /// The tick of it; a stored row of a higher tick stays as it is, and one of the same says the same.
    pub at: Tick,
    /// The head as it is now.
    pub head: Bytes,
    /// Members that changed.
    pub members: Vec<(UserId, Bytes)>,
    /// Senders that changed.
    pub senders: Vec<(Sender, Bytes)>,
}

/// Conversations: head, members and senders. Written by the conversation stage alone.
pub trait Conversations: Send + Sync {
    /// Whole conversations, in the order of `ids`; none where there is none.
    fn load<'a>(&'a self, ids: &'a [ConversationId]) -> Answer<'a, Vec<Option<ConversationRow>>>;

    /// Writes each of them as its tick allows.
    fn save(&self, writes: Vec<ConversationWrite>) -> Answer<'_, ()>;

    /// The head, and up to `limit` members after a user id in byte order; former members included.
    fn members<'a>(
        &'a self,
        id: &'a ConversationId,
        after: Option<&'a UserId>,
        limit: usize,
    ) -> Answer<'a, Option<ConversationRow>>;

    /// The head and one member, for deciding what a user may read.
    fn member<'a>(
        &'a self,
        id: &'a ConversationId,
        user: &'a UserId,
    ) -> Answer<'a, Option<(Bytes, Option<Bytes>)>>;
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Its number there.
    pub no: u64,
    /// The tick of it.
    pub at: Tick,
    /// `Entry` without its seq.
    pub entry: Bytes,
}

/// Which way a page of history is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Rising numbers.
    Forward,
    /// Falling numbers.
    Backward,
}

/// The bodies of conversations. Rows are written blind: a rewrite brings the same bytes.
pub trait Histories: Send + Sync {
    /// Stores rows.
    fn put(&self, rows: Vec<HistoryRow>) -> Answer<'_, ()>;

    /// The rows with these numbers, in the order of `keys`; none where there is none.
    fn get<'a>(&'a self, keys: &'a [(ConversationId, u64)]) -> Answer<'a, Vec<Option<HistoryRow>>>;

    /// Up to `limit` rows with `from <= no <= to`: the lowest first, or the highest first.
    fn page<'a>(
        &'a self,
        id: &'a ConversationId,
        from: u64,
        to: u64,
        direction: Direction,
        limit: usize,
    ) -> Answer<'a, Vec<HistoryRow>>;
}

/// One entry of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRow {
    /// Whose timeline.
    pub user: UserId,
    /// Its place there.
    pub seq: u64,
    /// The tick of it.
    pub at: Tick,
    /// `TimelineRow`.
    pub row: Bytes,
}

/// The timelines' entries. Rows are written blind: a rewrite brings the same tick and the same bytes.
pub trait Timelines: Send + Sync {
    /// Stores entries.
    fn put(&self, rows: Vec<EntryRow>) -> Answer<'_, ()>;

    /// Up to `limit` entries with `after < seq`, rising.
    fn after<'a>(&'a self, user: &'a UserId, after: u64, limit: usize) -> Answer<'a, Vec<EntryRow>>;
}

/// Names one link for ever.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    /// The conn node.
    pub node: String,
    /// The tick of its Join record.
    pub incarnation: u64,
    /// The reactor.
    pub reactor: u32,
    /// The link number, counted up by the reactor.
    pub link: u64,
}

/// A session in the index by node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The link.
    pub fence: Fence,
    /// Whose it is.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
}

/// A user as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredUser {
    /// The tick of the last write.
    pub at: Tick,
    /// `UserRow`.
    pub row: Bytes,
}

/// A change to a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserWrite {
    /// Which user.
    pub user: UserId,
    /// The tick of it; a stored row of a higher tick stays as it is, and one of the same says the same.
    pub at: Tick,
    /// `UserRow` as it is now.
    pub row: Bytes,
}

/// A change to the index of sessions. Written before the user rows that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionWrite {
    /// The session.
    pub session: SessionRow,
    /// The tick of the change.
    pub at: Tick,
    /// Whether it is there from now on, or gone.
    pub live: bool,
}

/// Users: head, sessions, cursors; and the index of sessions. Written by the timeline stage alone.
pub trait Users: Send + Sync {
    /// Users in the order of `ids`; none where there is none.
    fn load<'a>(&'a self, ids: &'a [UserId]) -> Answer<'a, Vec<Option<StoredUser>>>;

    /// Writes the sessions of a timelines partition, then the users, each as its tick allows.
    fn save(
        &self,
        partition: Partition,
        sessions: Vec<SessionWrite>,
        users: Vec<UserWrite>,
    ) -> Answer<'_, ()>;

    /// Every session of a timelines partition.
    fn sessions(&self, partition: Partition) -> Answer<'_, Vec<SessionRow>>;
}

/// Up to where the effects of a partition's records are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The offset to read from next.
    pub offset: u64,
    /// The tick of the last record before it.
    pub tick: Tick,
    /// `ConversationPartition` or `TimelinePartition`.
    pub state: Bytes,
}

/// What the data was made for; written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The version of keys and rows.
    pub version: u32,
    /// The frozen counts.
    pub partitions: Partitions,
}

/// The layout version that this build reads and writes.
pub const LAYOUT_VERSION: u32 = 1;

/// Checkpoints and the layout.
pub trait Checkpoints: Send + Sync {
    /// The checkpoint of a partition; none before the first.
    fn load(&self, topic: Topic, partition: Partition) -> Answer<'_, Option<Checkpoint>>;

    /// Stores a checkpoint, after everything stored before it is on disk. One of a lower tick than the
    /// stored one changes nothing.
    fn save(&self, topic: Topic, partition: Partition, checkpoint: Checkpoint) -> Answer<'_, ()>;
}

/// Every table of one deployment.
pub trait Store: Send + Sync + 'static {
    /// The conversations.
    fn conversations(&self) -> &dyn Conversations;
    /// Their bodies.
    fn histories(&self) -> &dyn Histories;
    /// The timelines' entries.
    fn timelines(&self) -> &dyn Timelines;
    /// The users.
    fn users(&self) -> &dyn Users;
    /// The checkpoints.
    fn checkpoints(&self) -> &dyn Checkpoints;
}
