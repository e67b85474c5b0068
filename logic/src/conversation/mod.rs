//! The conversation stage: owns a partition of the messages log.
//!
//! A pure state machine: what it does depends on the log's records alone.

use bytes::Bytes;
use proto::partition::Partition;
use proto::{ConversationId, Tick, v1};
use storage::tables::{Checkpoint, ConversationRow, ConversationWrite, HistoryRow};

pub use crate::settings::StateError;

/// What a record causes outside of the stage, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A body to keep.
    History(HistoryRow),
    /// A record for the timelines log; `prev` is 0: the run fills it in. At most one per partition and
    /// record.
    Output {
        /// The timelines partition.
        partition: Partition,
        /// The record.
        output: v1::Output,
    },
    /// Somebody declared themselves owner of this partition.
    Owner(v1::Owner),
}

/// The state of one partition.
#[derive(Debug)]
pub struct ConversationStage {
    settings: v1::Settings,
    tick: Tick,
}

#[allow(unused_variables, clippy::unused_self, reason = "filled in next")]
impl ConversationStage {
    /// The stage as the checkpoint left it, or an empty one. `timelines` is the number of timelines
    /// partitions.
    ///
    /// # Errors
    /// The checkpoint does not read, or is of an unknown behaviour level.
    pub fn new(
        partition: Partition,
        timelines: u32,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Self, StateError> {
        Ok(Self { settings: crate::settings::defaults(), tick: Tick::ZERO })
    }

    /// What must be loaded before this record is stepped.
    #[must_use]
    pub fn key(record: &v1::MessageRecord) -> Option<ConversationId> {
        None
    }

    /// Whether a conversation is in memory.
    #[must_use]
    pub fn is_loaded(&self, id: &ConversationId) -> bool {
        true
    }

    /// Takes a conversation as it is stored, or that it is not. One that is in memory stays as it is.
    ///
    /// # Errors
    /// The row does not read.
    pub fn load(&mut self, id: ConversationId, row: Option<ConversationRow>) -> Result<(), StateError> {
        Ok(())
    }

    /// The tick of the last record stepped.
    #[must_use]
    pub fn tick(&self) -> Tick {
        self.tick
    }

    /// Takes the next record of the log. With `skip` a send that would be judged is rejected unseen, and
    /// any other record changes nothing.
    ///
    /// # Panics
    /// The record's key is not loaded.
    pub fn step(&mut self, append_us: u64, record: &v1::MessageRecord, skip: bool, effects: &mut Vec<Effect>) {
        self.tick = self.tick.next(append_us);
    }

    /// The conversations whose stored rows are not known to be up to date, as they are now.
    pub fn clone_dirty(&mut self) -> Vec<ConversationWrite> {
        Vec::new()
    }

    /// These writes landed.
    pub fn written(&mut self, ids: &[(ConversationId, Tick)]) {}

    /// The partition's state beside its conversations, for the checkpoint at this position.
    #[must_use]
    pub fn state(&self) -> Bytes {
        Bytes::new()
    }

    /// Bytes of memory that the conversations take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        0
    }

    /// Forgets conversations that are stored as they are, until at most `bytes_max` are taken or none is
    /// left to forget. Rows that were read before must not be loaded after.
    pub fn evict(&mut self, bytes_max: usize) {}

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &v1::Settings {
        &self.settings
    }
}
