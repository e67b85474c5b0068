//! The `Log` seam: append to a partition, read a partition from an offset, learn which partitions are
//! one's own.
//!
//! Everyone reads a partition in one and the same order. Promised of what one producer appends to one
//! partition:
//!
//! - A record reported as appended is there, on the replicas that the log promises.
//! - Of two records reported as appended, the one appended first is read first.
//!
//! Not promised:
//!
//! - That a record is there only once. A log that cannot know whether an append landed repeats it, and
//!   then records after it as well: a run of records may be read again, those reported as appended
//!   among them. The order above is that of the first copies; any other copy comes later.
//! - That a record reported as failed is absent, or that it stands where it was appended: it may be
//!   there, and may even appear later, behind records that were appended after it.
//! - That nothing is appended behind a failure: later records land all the same.
//! - Any order between partitions, or between producers.
//!
//! So a reader must be able to tell, from the records alone, a copy and a hole. Sends carry a number, and
//! whoever judges them drops repeats and refuses gaps; outputs name the one before, and are applied only
//! right behind it; and an appender vouches for a record (acknowledges a send, counts an output as done)
//! only once all that it appended before it for the same reader was confirmed.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
pub use proto::partition::Partition;

/// The three logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// What devices send, by conversation.
    Messages,
    /// What users receive, by user; and their sessions.
    Timelines,
    /// Which nodes live. One partition.
    Nodes,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Topic; 3] = [Topic::Messages, Topic::Timelines, Topic::Nodes];

    /// The name in settings, metrics and, with a prefix, in Kafka.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Topic::Messages => "messages",
            Topic::Timelines => "timelines",
            Topic::Nodes => "nodes",
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How many partitions the data was created with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partitions {
    /// Of the messages log.
    pub messages: u32,
    /// Of the timelines log.
    pub timelines: u32,
}

impl Partitions {
    /// The count of one topic.
    #[must_use]
    pub fn of(self, topic: Topic) -> u32 {
        match topic {
            Topic::Messages => self.messages,
            Topic::Timelines => self.timelines,
            Topic::Nodes => 1,
        }
    }

    /// The count of both.
    #[must_use]
    pub fn both(self) -> u64 {
        u64::from(self.messages) + u64::from(self.timelines)
    }
}

/// A record as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands: rising, not necessarily dense. Only for seeking.
    pub offset: u64,
    /// When the log appended it: microseconds since 1970 on the log's clock. May step back.
    pub append_us: u64,
    /// What was appended.
    pub bytes: Bytes,
}

/// Names an append to the one who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(pub u64, pub u64);

/// Whether a record was taken for appending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Append {
    /// It will be reported, once.
    Queued,
    /// Not taken, will not be reported: the queue of this producer, or what all of them share, is full. Nothing says
    /// when there is room again; nothing of this producer need be under way.
    Full,
    /// Not taken, will not be reported: this producer will not append again; make a new one.
    Dead,
}

/// Why an append was reported as failed. The record may be in the log all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Not confirmed in time. The producer goes on.
    #[error("the log did not confirm the record in time")]
    Timeout,
    /// This producer will not append again; make a new one.
    #[error("the producer is dead")]
    Fatal,
    /// The log turned it down (too large, unknown partition, no space).
    #[error("the log turned the record down")]
    Rejected,
}

/// Is told the outcome of appends, on a thread of the log's: must not block.
pub trait Report: Send + Sync + 'static {
    /// Outcomes, in the order in which they became known.
    fn reported(&self, outcomes: &[(Tag, Result<(), AppendError>)]);
}

/// Appends in the order of the calls, per partition, as far as the module's text promises it. Dropping it
/// abandons what is queued: each of those may or may not land, and is not reported.
pub trait Producer: Send + Sync + 'static {
    /// Queues a record; never blocks.
    fn append(&self, topic: Topic, partition: Partition, record: Bytes, tag: Tag) -> Append;

    /// Records queued and not reported, and the cap on them; for metrics and back-pressure.
    fn depth(&self) -> (usize, usize);
}

/// Reads one partition forward.
pub trait Reader: Send + 'static {
    /// Waits for records and returns them: at least one, at most `max`. Cancel-safe.
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Record>, LogError>>;
}

/// A change in which partitions are this process's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// Own it from now on. Others may still act on it: the stages' own fencing keeps them harmless.
    Assigned(Topic, Partition),
    /// Stop.
    Revoked(Topic, Partition),
}

/// Shares the partitions of the messages and timelines logs out among the processes that ask.
pub trait Membership: Send + 'static {
    /// Waits for the next change. Cancel-safe.
    fn next(&mut self) -> BoxFuture<'_, Result<Assignment, LogError>>;
}

/// What went wrong with a log as a whole.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// Cannot be reached at the moment; try again.
    #[error("the log at {place} cannot be reached: {cause}")]
    Unreachable {
        /// Its URL.
        place: String,
        /// What the library said.
        cause: String,
    },
    /// The data is not what this node can use; the text says what to do.
    #[error("{0}")]
    Refused(String),
    /// The offset was trimmed away, or never was.
    #[error("{topic}/{partition} has no offset {offset}: it begins at {earliest}")]
    OutOfRange {
        /// The topic.
        topic: Topic,
        /// The partition.
        partition: Partition,
        /// What was asked for.
        offset: u64,
        /// What there is.
        earliest: u64,
    },
    /// Anything else, from below.
    #[error("the log failed: {0}")]
    Failed(String),
}

/// A log: three topics of partitions.
pub trait Log: Send + Sync + 'static {
    /// The frozen counts.
    fn partitions(&self) -> Partitions;

    /// A new producer with a queue of its own, of at most `queued_max` records.
    ///
    /// # Errors
    /// It cannot be set up.
    fn producer(&self, queued_max: usize, report: Arc<dyn Report>) -> Result<Box<dyn Producer>, LogError>;

    /// Reads a partition from `offset` on; from its beginning where that is 0.
    ///
    /// # Errors
    /// The offset is not there, or the log cannot be reached.
    fn reader(
        &self,
        topic: Topic,
        partition: Partition,
        offset: u64,
    ) -> BoxFuture<'_, Result<Box<dyn Reader>, LogError>>;

    /// Joins the processes that share the partitions out.
    ///
    /// # Errors
    /// It cannot be set up.
    fn join(&self) -> Result<Box<dyn Membership>, LogError>;

    /// The first offset of a partition and the one after its last.
    fn bounds(&self, topic: Topic, partition: Partition) -> BoxFuture<'_, Result<(u64, u64), LogError>>;

    /// Gives up the records of a partition below an offset.
    fn trim(&self, topic: Topic, partition: Partition, below: u64) -> BoxFuture<'_, Result<(), LogError>>;
}
