//! What a run asks of the shell of its stage: the stage itself, where its effects are stored, and what
//! leaves once they are. Everything that is the same for both stages is in [`super::turns`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use prost::Message;
use proto::{Tick, v1};
use storage::log::{Partition, Topic};
use storage::tables::{Checkpoint, Store, StoreError};

use super::emit::Emit;
use super::owner::Ownership;
use super::parts::{End, Parts};
use super::prefetch::Rows;
use super::retry::Retries;
use crate::config::Config;
use crate::metrics::RunMetrics;
use crate::settings::StateError;

/// What a run shares with its shell.
pub(super) struct Base {
    pub(super) parts: Arc<Parts>,
    pub(super) partition: Partition,
    pub(super) metrics: RunMetrics,
    pub(super) ownership: Ownership,
    /// Appends the run's records, and counts what is judged and done with.
    pub(super) emit: Emit,
}

/// What becomes of an effect.
pub(super) enum Fate<S: Shell> {
    /// A row, put into the store with its bytes counted.
    Store(S::Row, usize),
    /// It leaves once the rows of all records up to its own are stored.
    Leave(S::Leaving, usize),
    /// Somebody declared themselves owner.
    Owner(v1::Owner),
}

/// One stage with its surroundings.
pub(super) trait Shell: Sized + Send + 'static {
    /// The log that it reads.
    const TOPIC: Topic;
    /// What that log holds.
    type Record: Message + Default;
    /// What a record needs in memory, and how it is stored.
    type Key: Ord + Send;
    type Loaded: Send;
    type Effect: Send;
    /// What is put before anything leaves.
    type Row: Clone + Send + Sync + 'static;
    type Leaving: Send + 'static;
    /// Changed rows, and what to tell the stage when they are there.
    type Writes: Send + 'static;
    type Receipt: Send + 'static;
    /// What it hears beside the log.
    type Word: Send;

    /// The stage as the checkpoint left it.
    fn begin(
        parts: &Arc<Parts>,
        partition: Partition,
        checkpoint: Option<&Checkpoint>,
    ) -> impl Future<Output = Result<Self, End>> + Send;
    fn owner(owner: v1::Owner) -> Self::Record;
    fn settings(settings: v1::Settings) -> Self::Record;
    fn settings_version(&self) -> u64;

    /// Time between two flushes.
    fn flush_every(config: &Config) -> Duration;

    fn tick(&self) -> Tick;
    fn state(&self) -> bytes::Bytes;
    fn bytes(&self) -> usize;
    fn evict(&mut self, bytes_max: usize);

    /// What the record needs, as far as is known ahead; one may come twice.
    fn keys(&self, record: &Self::Record, keys: &mut Vec<Self::Key>);
    /// What is needed beside the records.
    fn other_keys(&self, _keys: &mut Vec<Self::Key>) {}
    fn is_loaded(&self, key: &Self::Key) -> bool;
    fn fetch(
        store: Arc<dyn Store>,
        keys: Vec<Self::Key>,
        retries: Retries,
    ) -> BoxFuture<'static, Rows<Self::Key, Self::Loaded>>;
    fn load(&mut self, key: Self::Key, row: Option<Self::Loaded>) -> Result<(), StateError>;
    /// Whether everything that the record needs is there, now that those before it are judged.
    fn is_ready(&self, _record: &Self::Record) -> bool {
        true
    }
    fn step(&mut self, append_us: u64, record: &Self::Record, skip: bool, effects: &mut Vec<Self::Effect>);
    /// What becomes of an effect of the record at `position`.
    fn fate(&self, effect: Self::Effect, position: u64) -> Fate<Self>;
    /// The run read its own Owner record: what follows from it now, or leaves with what the record caused.
    fn owned(&mut self, base: &Base) -> Option<Self::Leaving>;
    /// Between two batches: what else leaves, behind all that was judged.
    fn between(&mut self, _base: &mut Base, _leaving: &mut Vec<Self::Leaving>) -> Result<(), End> {
        Ok(())
    }

    fn put(store: &dyn Store, rows: Vec<Self::Row>) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// The rows of all records below `upto` are stored: this leaves.
    fn leave(&mut self, base: &mut Base, leaving: Vec<Self::Leaving>, upto: u64) -> Result<(), End>;

    fn clone_dirty(&mut self) -> (Self::Writes, Self::Receipt);
    fn save(
        store: Arc<dyn Store>,
        partition: Partition,
        retries: Retries,
        writes: Self::Writes,
    ) -> impl Future<Output = ()> + Send;
    fn written(&mut self, receipt: &Self::Receipt);

    /// Waits for something beside the log; for ever where there is nothing. Cancel-safe.
    fn word(&mut self, _base: &Base, _is_ending: bool) -> impl Future<Output = Self::Word> + Send {
        std::future::pending()
    }
    fn heard(&mut self, _base: &mut Base, _word: Self::Word) -> Result<(), End> {
        Ok(())
    }
    /// Tells how much waits.
    fn measure(&mut self, _base: &mut Base) {}
}
