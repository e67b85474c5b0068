//! The run of a messages partition: fetch → prefetch → judge → history → outputs; and, behind them, rows
//! and checkpoint.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use futures::FutureExt;
use prometheus_client::metrics::counter::Counter;
use proto::{ConversationId, Tick, v1};
use storage::log::{Partition, Topic};
use storage::tables::{Checkpoint, ConversationRow, ConversationWrite, HistoryRow};
use tokio::sync::watch;
use v1::message_record::Record;

use super::chores::Chores;
use super::emit::{Emit, Pending};
use super::fetch::{Fetch, Fetched, Skips};
use super::flush::{Clones, Flush, Landed};
use super::owner::{Ownership, Word};
use super::parts::{End, Parts};
use super::poison::guarded;
use super::prefetch::{self, Rows};
use super::retry::until_answered;
use super::slot::Slot;
use super::supervise::Standing;
use crate::clock;
use crate::conversation::{ConversationStage, Effect};
use crate::metrics::RunMetrics;

const TOPIC: Topic = Topic::Messages;

/// Runs the partition from its checkpoint until something ends it.
pub(super) async fn run(parts: Arc<Parts>, partition: Partition, stop: &mut watch::Receiver<bool>) -> End {
    let begun = tokio::select! {
        begun = Run::begin(parts, partition) => begun,
        _ = stop.wait_for(|stop| *stop) => return End::Stopped,
    };
    match begun {
        Ok(mut run) => run.turns(stop).await,
        Err(end) => end,
    }
}

struct Run {
    parts: Arc<Parts>,
    partition: Partition,
    metrics: RunMetrics,
    stage: ConversationStage,
    ownership: Ownership,
    skips: Skips,
    fetch: Fetch,
    /// Fetched, waiting for its keys or for room.
    batch: VecDeque<Fetched<v1::MessageRecord>>,
    loading: Slot<Rows<ConversationId, ConversationRow>>,
    /// Where to read from after the last judged record.
    next_offset: u64,
    /// Judged, waiting for the put before it.
    staged: Staged,
    putting: Slot<Staged>,
    putting_bytes: usize,
    emit: Emit,
    flush: Flush<Vec<ConversationWrite>, Vec<(ConversationId, Tick)>>,
    chores: Chores,
    effects: Vec<Effect>,
    stopping: bool,
    poisoned: Option<Tick>,
}

/// Effects of consecutive records.
#[derive(Default)]
struct Staged {
    rows: Vec<HistoryRow>,
    outputs: Vec<Pending>,
    bytes: usize,
    /// The position after the last of the records.
    upto: u64,
}

impl Run {
    async fn begin(parts: Arc<Parts>, partition: Partition) -> Result<Self, End> {
        let checkpoint = parts.store.checkpoints().load(TOPIC, partition).await?;
        let stage = ConversationStage::new(partition, parts.log.partitions().timelines, checkpoint.as_ref())?;
        let next_offset = checkpoint.map_or(0, |checkpoint| checkpoint.offset);
        let reader = parts.log.reader(TOPIC, partition, next_offset).await?;
        let config = &parts.config;
        let ownership = Ownership::new(&config.node);
        let mut emit = Emit::new(&*parts.log, config.producer_records_max)?;
        emit.append_own(TOPIC, partition, &record(Record::Owner(ownership.claim())))?;
        if config.settings.version > stage.settings().version {
            emit.append_own(TOPIC, partition, &record(Record::Settings(config.settings)))?;
        }
        let skips = Skips::new(parts.nodes.borrow().skips(TOPIC, partition));
        Ok(Self {
            fetch: Fetch::new(reader, config.batch_records_max, config.batch_bytes_max),
            chores: Chores::new(parts.log.clone(), TOPIC, partition),
            metrics: parts.metrics.of(TOPIC),
            partition,
            stage,
            ownership,
            skips,
            batch: VecDeque::new(),
            loading: Slot::default(),
            next_offset,
            staged: Staged::default(),
            putting: Slot::default(),
            putting_bytes: 0,
            emit,
            flush: Flush::default(),
            effects: Vec::new(),
            stopping: false,
            poisoned: None,
            parts,
        })
    }

    async fn turns(&mut self, stop: &mut watch::Receiver<bool>) -> End {
        let mut flush_every = tokio::time::interval(self.parts.config.flush_every());
        let mut chores_every = tokio::time::interval(self.parts.config.chores_every());
        loop {
            if let Err(end) = self.advance() {
                return end;
            }
            if let Some(end) = self.finished() {
                return end;
            }
            let may_fetch = self.may_fetch();
            let done = tokio::select! {
                batch = self.fetch.next(), if may_fetch => batch.map(|batch| self.batch = batch.into()).map_err(End::from),
                rows = self.loading.done() => self.loaded(rows),
                staged = self.putting.done() => { self.put(staged); Ok(()) }
                () = self.emit.reported() => Ok(()),
                landed = self.flush.landed() => { self.landed(&landed); Ok(()) }
                end = self.chores.done() => { self.behind(end); Ok(()) }
                _ = flush_every.tick() => { self.flush.ask(); Ok(()) }
                _ = chores_every.tick() => { self.chores.start(); Ok(()) }
                _ = stop.wait_for(|stop| *stop), if !self.stopping => { self.stopping = true; Ok(()) }
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// Does whatever can be done without waiting.
    fn advance(&mut self) -> Result<(), End> {
        self.emit.advance(&mut self.metrics)?;
        self.judge_batch()?;
        self.start_put();
        self.emit.advance(&mut self.metrics)?;
        self.advance_flush();
        let config = &self.parts.config;
        self.metrics.staged.set(self.emit.staged(), config.staged_records_max);
        self.metrics.staged_bytes.set(self.staged.bytes + self.putting_bytes, config.staged_bytes_max);
        Ok(())
    }

    /// The end that was waited for, once everything judged has had its effects.
    fn finished(&mut self) -> Option<End> {
        let emitted = self.putting.is_idle() && self.emit.staged() == 0;
        if let Some(tick) = self.poisoned {
            return (emitted && self.flush.is_idle()).then_some(End::Poisoned(tick));
        }
        if self.stopping && self.flush.is_idle() && !self.flush.covers(self.emit.upto()) {
            self.flush.ask();
            self.advance_flush();
        }
        (self.stopping && emitted && self.flush.covers(self.emit.upto())).then_some(End::Stopped)
    }

    fn may_fetch(&self) -> bool {
        self.batch.is_empty() && !self.is_ending() && self.has_room()
    }

    fn has_room(&self) -> bool {
        self.emit.staged() < self.parts.config.staged_records_max
            && self.staged.bytes + self.putting_bytes < self.parts.config.staged_bytes_max
    }

    fn is_ending(&self) -> bool {
        self.stopping || self.poisoned.is_some()
    }

    /// Judges the batch, or starts loading what it needs.
    fn judge_batch(&mut self) -> Result<(), End> {
        if self.batch.is_empty() || !self.loading.is_idle() || self.is_ending() {
            return Ok(());
        }
        let keys = self.batch.iter().filter_map(|fetched| ConversationStage::key(&fetched.record));
        let mut missing: Vec<_> = keys.filter(|id| !self.stage.is_loaded(id)).collect();
        if missing.is_empty() {
            return self.judge();
        }
        missing.sort_unstable();
        missing.dedup();
        let retries = self.metrics.store_retries.clone();
        self.loading.start(prefetch::conversations(self.parts.store.clone(), missing, retries));
        Ok(())
    }

    fn loaded(&mut self, rows: Rows<ConversationId, ConversationRow>) -> Result<(), End> {
        for (id, row) in rows {
            self.stage.load(id, row)?;
        }
        Ok(())
    }

    fn judge(&mut self) -> Result<(), End> {
        let began = clock::now();
        while let Some(fetched) = self.batch.pop_front() {
            let last = self.stage.tick();
            let skip = self.skips.has(last, fetched.append_us);
            let (stage, effects) = (&mut self.stage, &mut self.effects);
            #[cfg(test)]
            let breaks = !skip && self.parts.breaks_at == Some(last.next(fetched.append_us));
            let step = || {
                #[cfg(test)]
                assert!(!breaks, "the record breaks the stage, as the test wants it to");
                stage.step(fetched.append_us, &fetched.record, skip, effects);
            };
            if guarded(step).is_err() {
                self.effects.clear();
                self.batch.clear();
                self.poisoned = Some(last.next(fetched.append_us));
                return Ok(());
            }
            self.next_offset = fetched.offset + 1;
            self.metrics.records.inc();
            let position = self.emit.judged();
            self.stage_effects(position)?;
        }
        self.metrics.step.observe((clock::now() - began).as_secs_f64());
        self.stage.evict(self.parts.config.cache_bytes_max);
        self.metrics.cache_bytes.set(self.stage.bytes());
        Ok(())
    }

    fn stage_effects(&mut self, position: u64) -> Result<(), End> {
        self.staged.upto = position + 1;
        for effect in self.effects.drain(..) {
            match effect {
                Effect::History(row) => {
                    self.staged.bytes += row.entry.len();
                    self.staged.rows.push(row);
                }
                Effect::Output { partition, output } => {
                    self.staged.bytes += output_bytes(&output);
                    self.staged.outputs.push(Pending { position, partition, output });
                }
                Effect::Owner(owner) => match self.ownership.read(&owner, self.stage.tick()) {
                    Word::Mine => self.parts.health.set(TOPIC, self.partition, Standing::Running),
                    Word::Earlier => {}
                    Word::Superseded => return Err(End::Superseded),
                },
            }
        }
        Ok(())
    }

    /// One put at a time, of everything that was judged since the last.
    fn start_put(&mut self) {
        if !self.putting.is_idle() || self.staged.upto == 0 {
            return;
        }
        let mut staged = mem::take(&mut self.staged);
        if staged.rows.is_empty() {
            return self.put(staged);
        }
        self.putting_bytes = staged.bytes;
        let (store, retries) = (self.parts.store.clone(), self.metrics.store_retries.clone());
        let (rows, seconds) = (mem::take(&mut staged.rows), self.metrics.put.clone());
        self.putting.start(async move {
            let began = clock::now();
            until_answered("put history", &retries, || store.histories().put(rows.clone())).await;
            seconds.observe((clock::now() - began).as_secs_f64());
            staged
        });
    }

    fn put(&mut self, staged: Staged) {
        self.putting_bytes = 0;
        self.emit.release(staged.outputs, staged.upto);
    }

    fn advance_flush(&mut self) {
        if self.poisoned.is_none() && self.flush.wants(self.emit.upto()) {
            let writes = self.stage.clone_dirty();
            let receipt = writes.iter().map(|write| (write.id, write.at)).collect();
            let (offset, tick, state) = (self.next_offset, self.stage.tick(), self.stage.state());
            let checkpoint = Checkpoint { offset, tick, state };
            self.flush.take(Clones { upto: self.emit.upto(), writes, receipt, checkpoint });
        }
        let (parts, partition, retries) = (&self.parts, self.partition, &self.metrics.store_retries);
        self.flush.advance(self.emit.done(), |writes, checkpoint| {
            save(parts.clone(), partition, retries.clone(), writes, checkpoint).boxed()
        });
    }

    fn landed(&mut self, landed: &Landed<Vec<(ConversationId, Tick)>>) {
        self.metrics.flush.observe((clock::now() - landed.since).as_secs_f64());
        self.chores.saved(landed.checkpoint.offset);
        if self.poisoned.is_none() {
            self.stage.written(&landed.receipt);
        }
    }

    fn behind(&mut self, end: Option<u64>) {
        if let Some(end) = end {
            self.metrics.lag.set(usize::try_from(end.saturating_sub(self.next_offset)).unwrap_or(usize::MAX));
        }
    }
}

async fn save(
    parts: Arc<Parts>,
    partition: Partition,
    retries: Counter,
    writes: Vec<ConversationWrite>,
    checkpoint: Checkpoint,
) {
    let store = &parts.store;
    if !writes.is_empty() {
        until_answered("save conversations", &retries, || store.conversations().save(writes.clone())).await;
    }
    until_answered("save a checkpoint", &retries, || {
        store.checkpoints().save(TOPIC, partition, checkpoint.clone())
    })
    .await;
}

fn record(record: Record) -> v1::MessageRecord {
    v1::MessageRecord { record: Some(record) }
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
