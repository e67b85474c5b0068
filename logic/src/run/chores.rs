//! What a run does now and then: trim the log below its checkpoint, and look how far behind it is.

use std::sync::Arc;

use storage::log::{Log, Partition, Topic};
use tracing::warn;

use super::slot::Slot;

/// The chores of one run.
pub(crate) struct Chores {
    log: Arc<dyn Log>,
    topic: Topic,
    partition: Partition,
    /// Up to where the log is not needed any more, and up to where it was trimmed.
    checkpoint: u64,
    trimmed: u64,
    work: Slot<Option<u64>>,
}

impl Chores {
    pub(crate) fn new(log: Arc<dyn Log>, topic: Topic, partition: Partition) -> Self {
        Self { log, topic, partition, checkpoint: 0, trimmed: 0, work: Slot::default() }
    }

    /// A checkpoint was saved.
    pub(crate) fn saved(&mut self, offset: u64) {
        self.checkpoint = offset;
    }

    /// Starts them, unless they are still at it.
    pub(crate) fn start(&mut self) {
        if !self.work.is_idle() {
            return;
        }
        let (log, topic, partition) = (self.log.clone(), self.topic, self.partition);
        let below = (self.checkpoint > self.trimmed).then_some(self.checkpoint);
        self.trimmed = self.checkpoint;
        self.work.start(async move {
            if let Some(below) = below
                && let Err(cause) = log.trim(topic, partition, below).await
            {
                warn!(%topic, partition, %cause, "the log was not trimmed");
            }
            log.bounds(topic, partition).await.ok().map(|(_, end)| end)
        });
    }

    /// The offset at the end of the partition, when the log said. Cancel-safe.
    pub(crate) async fn done(&mut self) -> Option<u64> {
        self.work.done().await
    }
}
