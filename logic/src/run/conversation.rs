//! The shell of the conversation stage: histories are put, then outputs leave for the timelines log.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use proto::{ConversationId, Tick, v1};
use storage::log::{Partition, Topic};
use storage::tables::{Checkpoint, ConversationRow, ConversationWrite, HistoryRow, Store, StoreError};
use v1::message_record::Record;

use super::emit::Pending;
use super::parts::{End, Parts};
use super::prefetch::{self, Rows};
use super::retry::{Retries, until_answered};
use super::shell::{Base, Fate, Shell};
use super::supervise::Standing;
use crate::config::Config;
use crate::conversation::{ConversationStage, Effect};
use crate::settings::StateError;

/// A messages partition's stage.
pub(super) struct Conversations(ConversationStage);

impl Shell for Conversations {
    const TOPIC: Topic = Topic::Messages;
    type Record = v1::MessageRecord;
    type Key = ConversationId;
    type Loaded = ConversationRow;
    type Effect = Effect;
    type Row = HistoryRow;
    type Leaving = Pending;
    type Writes = Vec<ConversationWrite>;
    type Receipt = Vec<(ConversationId, Tick)>;
    type Word = std::convert::Infallible;

    async fn begin(
        parts: &Arc<Parts>,
        partition: Partition,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Self, End> {
        Ok(Self(ConversationStage::new(partition, parts.log.partitions().timelines, checkpoint)?))
    }

    fn owner(owner: v1::Owner) -> v1::MessageRecord {
        v1::MessageRecord { record: Some(Record::Owner(owner)) }
    }

    fn settings(settings: v1::Settings) -> v1::MessageRecord {
        v1::MessageRecord { record: Some(Record::Settings(settings)) }
    }

    fn settings_version(&self) -> u64 {
        self.0.settings().version
    }

    fn flush_every(config: &Config) -> Duration {
        config.flush_every()
    }

    fn tick(&self) -> Tick {
        self.0.tick()
    }

    fn state(&self) -> bytes::Bytes {
        self.0.state()
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn evict(&mut self, bytes_max: usize) {
        self.0.evict(bytes_max);
    }

    fn keys(&self, record: &v1::MessageRecord, keys: &mut Vec<ConversationId>) {
        keys.extend(ConversationStage::key(record));
    }

    fn is_loaded(&self, id: &ConversationId) -> bool {
        self.0.is_loaded(id)
    }

    fn fetch(
        store: Arc<dyn Store>,
        ids: Vec<ConversationId>,
        retries: Retries,
    ) -> BoxFuture<'static, Rows<ConversationId, ConversationRow>> {
        prefetch::conversations(store, ids, retries).boxed()
    }

    fn load(&mut self, id: ConversationId, row: Option<ConversationRow>) -> Result<(), StateError> {
        self.0.load(id, row)
    }

    fn step(&mut self, append_us: u64, record: &v1::MessageRecord, skip: bool, effects: &mut Vec<Effect>) {
        self.0.step(append_us, record, skip, effects);
    }

    fn fate(&self, effect: Effect, position: u64) -> Fate<Self> {
        match effect {
            Effect::History(row) => {
                let bytes = row.entry.len();
                Fate::Store(row, bytes)
            }
            Effect::Output { partition, output } => {
                let bytes = output_bytes(&output);
                Fate::Leave(Pending { position, partition, output, bytes }, bytes)
            }
            Effect::Owner(owner) => Fate::Owner(owner),
        }
    }

    fn owned(&mut self, base: &Base) -> Option<Pending> {
        base.parts.health.set(Self::TOPIC, base.partition, Standing::Running);
        None
    }

    fn put(store: &dyn Store, rows: Vec<HistoryRow>) -> impl Future<Output = Result<(), StoreError>> + Send {
        store.histories().put(rows)
    }

    fn leave(&mut self, base: &mut Base, outputs: Vec<Pending>, upto: u64) -> Result<(), End> {
        base.emit.release(outputs, upto);
        Ok(())
    }

    fn clone_dirty(&mut self) -> (Self::Writes, Self::Receipt) {
        let writes = self.0.clone_dirty();
        let receipt = writes.iter().map(|write| (write.id, write.at)).collect();
        (writes, receipt)
    }

    async fn save(store: Arc<dyn Store>, _: Partition, retries: Retries, writes: Vec<ConversationWrite>) {
        if !writes.is_empty() {
            until_answered("save conversations", &retries, || store.conversations().save(writes.clone()))
                .await;
        }
    }

    fn written(&mut self, receipt: &Self::Receipt) {
        self.0.written(receipt);
    }
}

/// What an output takes in memory, roughly.
fn output_bytes(output: &v1::Output) -> usize {
    use v1::delivery::What;
    let delivery = |delivery: &v1::Delivery| {
        let entry = match &delivery.what {
            Some(What::Posted(posted)) => posted.entry.len(),
            Some(What::OutOfOrder(_)) | None => 0,
        };
        64 + entry + delivery.users.iter().map(|user| 24 + user.len()).sum::<usize>()
    };
    64 + output.deliveries.iter().map(delivery).sum::<usize>()
}
