//! The conversation stage, which owns a partition of the messages log: is a send allowed, is it a repeat, its
//! number in the conversation, who receives it.
//!
//! A pure state machine: what it does depends on the log's records alone. It reads no clock, table or
//! setting of a node, and holds nothing that the tables and the log do not say.

mod fan_out;
mod judge;
#[cfg(test)]
mod replay;
mod state;
mod step;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use prost::Message;
use proto::partition::Partition;
use proto::{ConversationId, Tick, v1};
use storage::tables::{Checkpoint, ConversationRow, ConversationWrite, HistoryRow};

pub use crate::settings::StateError;

use crate::rows::Rows;
use crate::settings;
use state::Conversation;

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
    partition: Partition,
    /// How many timelines partitions there are.
    timelines: u32,
    settings: v1::Settings,
    tick: Tick,
    rows: Rows<ConversationId, Conversation>,
}

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
        let (mut settings, mut tick) = (settings::defaults(), Tick::ZERO);
        if let Some(checkpoint) = checkpoint {
            let what = || format!("the checkpoint of messages partition {partition}");
            let state = v1::ConversationPartition::decode(checkpoint.state.clone())
                .map_err(|e| StateError::unreadable(what(), &e))?;
            settings = settings::restored(state.level, state.settings)?;
            tick = checkpoint.tick;
        }
        Ok(Self { partition, timelines, settings, tick, rows: Rows::default() })
    }

    /// What must be loaded before this record is stepped.
    #[must_use]
    pub fn key(record: &v1::MessageRecord) -> Option<ConversationId> {
        match &record.record {
            Some(v1::message_record::Record::Submission(submission)) => {
                ConversationId::from_slice(&submission.conversation).ok()
            }
            _ => None,
        }
    }

    /// Whether a conversation is in memory.
    #[must_use]
    pub fn is_loaded(&self, id: &ConversationId) -> bool {
        self.rows.contains(id)
    }

    /// Takes a conversation as it is stored, or that it is not. One that is in memory stays as it is.
    ///
    /// # Errors
    /// The row does not read.
    pub fn load(&mut self, id: ConversationId, row: Option<ConversationRow>) -> Result<(), StateError> {
        let at = row.as_ref().map_or(Tick::ZERO, |row| row.at);
        let conversation = match row {
            Some(row) => Conversation::from_row(id, row, self.timelines)?,
            None => Conversation::default(),
        };
        self.rows.load(id, conversation, at);
        Ok(())
    }

    /// The tick of the last record stepped.
    #[must_use]
    pub fn tick(&self) -> Tick {
        self.tick
    }

    /// Takes the next record of the log; one that does not decode is taken as an empty one, with `skip`. With
    /// `skip` a send that would be judged is rejected unseen, and any other record changes nothing.
    ///
    /// # Panics
    /// The record's key is not loaded.
    pub fn step(
        &mut self,
        append_us: u64,
        record: &v1::MessageRecord,
        skip: bool,
        effects: &mut Vec<Effect>,
    ) {
        self.tick = self.tick.next(append_us);
        self.take(record, skip, effects);
    }

    /// The conversations whose stored rows are not known to be up to date, as they are now: each write brings
    /// the row there from any state since the last one reported as written.
    pub fn clone_dirty(&mut self) -> Vec<ConversationWrite> {
        self.rows.dirty().map(|dirty| Conversation::to_write(&dirty)).collect()
    }

    /// These writes landed.
    pub fn written(&mut self, ids: &[(ConversationId, Tick)]) {
        for (id, tick) in ids {
            if let Some(conversation) = self.rows.written(id, *tick) {
                conversation.written(*tick);
            }
        }
    }

    /// The partition's state beside its conversations, for the checkpoint at this position.
    #[must_use]
    pub fn state(&self) -> Bytes {
        let settings = Some(self.settings);
        v1::ConversationPartition { level: settings::LEVEL, settings }.encode_to_vec().into()
    }

    /// Bytes of memory that the conversations take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.rows.bytes()
    }

    /// Forgets conversations that are stored as they are, until at most `bytes_max` are taken or none is
    /// left to forget. Rows that were read before must not be loaded after.
    pub fn evict(&mut self, bytes_max: usize) {
        self.rows.evict(bytes_max);
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &v1::Settings {
        &self.settings
    }
}
