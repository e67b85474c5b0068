//! The run of a partition, the same for both stages: fetch → prefetch → judge → put → what leaves; and,
//! behind them, rows and checkpoint. Judging is in [`super::judge`], what differs in the [`Shell`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use proto::Tick;
use storage::log::{LogError, Partition};
use storage::tables::Checkpoint;
use tokio::sync::watch;

use super::chores::Chores;
use super::emit::Emit;
use super::fetch::{Fetch, Fetched, Skips};
use super::flush::{Clones, Flush, Landed};
use super::owner::Ownership;
use super::parts::{End, Parts};
use super::prefetch::Rows;
use super::puts::{Puts, Staged};
use super::retry::{Retries, until_answered};
use super::shell::{Base, Shell};
use super::slot::Slot;
use crate::clock;

/// Gauges of what waits are that old at most.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// Runs the partition from its checkpoint until something ends it.
pub(super) async fn run<S: Shell>(
    parts: Arc<Parts>,
    partition: Partition,
    stop: &mut watch::Receiver<bool>,
) -> End {
    let begun = tokio::select! {
        begun = Run::<S>::begin(parts, partition) => begun,
        _ = stop.wait_for(|stop| *stop) => return End::Stopped,
    };
    match begun {
        Ok(mut run) => run.turns(stop).await,
        Err(end) => end,
    }
}

pub(super) struct Run<S: Shell> {
    pub(super) base: Base,
    pub(super) shell: S,
    pub(super) skips: Skips,
    fetch: Fetch,
    /// Fetched, waiting for its keys.
    pub(super) batch: VecDeque<Fetched<S::Record>>,
    pub(super) loading: Slot<Rows<S::Key, S::Loaded>>,
    /// Where to read from after the last judged record.
    pub(super) next_offset: u64,
    pub(super) effects: Vec<S::Effect>,
    pub(super) puts: Puts<S::Row, S::Leaving>,
    pub(super) flush: Flush<S::Writes, S::Receipt>,
    /// Rows came into memory or became storable as they are since the last eviction.
    pub(super) evict_due: bool,
    chores: Chores,
    stopping: bool,
    pub(super) poisoned: Option<Tick>,
}

impl<S: Shell> Run<S> {
    async fn begin(parts: Arc<Parts>, partition: Partition) -> Result<Self, End> {
        let checkpoint = parts.store.checkpoints().load(S::TOPIC, partition).await?;
        let shell = S::begin(&parts, partition, checkpoint.as_ref()).await?;
        let next_offset = checkpoint.map_or(0, |checkpoint| checkpoint.offset);
        if next_offset == 0 {
            // Only what a checkpoint has is ever trimmed: these are other tables than before.
            let (earliest, _) = parts.log.bounds(S::TOPIC, partition).await?;
            if earliest > 0 {
                let topic = S::TOPIC;
                let text = format!(
                    "{topic}/{partition} begins at {earliest}, and the tables know nothing of what was before: \
                     they are not the tables of this log"
                );
                return Err(LogError::Refused(text).into());
            }
        }
        let reader = parts.log.reader(S::TOPIC, partition, next_offset).await?;
        let config = &parts.config;
        let ownership = Ownership::new(&config.node);
        let mut emit = Emit::new(&*parts.log, config.producer_records_max)?;
        emit.append_own(S::TOPIC, partition, &S::owner(ownership.claim()))?;
        if config.settings.version > shell.settings_version() {
            emit.append_own(S::TOPIC, partition, &S::settings(config.settings))?;
        }
        let skips = Skips::new(parts.nodes.borrow().skips(S::TOPIC, partition));
        Ok(Self {
            skips,
            fetch: Fetch::new(reader, config.batch_records_max, config.batch_bytes_max),
            chores: Chores::new(parts.log.clone(), S::TOPIC, partition),
            shell,
            batch: VecDeque::new(),
            loading: Slot::default(),
            next_offset,
            effects: Vec::new(),
            puts: Puts::default(),
            flush: Flush::default(),
            evict_due: false,
            stopping: false,
            poisoned: None,
            base: Base { metrics: parts.metrics.of(S::TOPIC), parts, partition, ownership, emit },
        })
    }

    async fn turns(&mut self, stop: &mut watch::Receiver<bool>) -> End {
        let mut flush_every = tokio::time::interval(S::flush_every(&self.base.parts.config));
        let mut measure_every = tokio::time::interval(MEASURE_EVERY);
        let mut chores_every = tokio::time::interval(self.base.parts.config.chores_every());
        loop {
            if let Err(end) = self.advance() {
                return end;
            }
            if let Some(end) = self.finished() {
                return end;
            }
            let (may_fetch, is_ending) = (self.may_fetch(), self.is_ending());
            let done = tokio::select! {
                batch = self.fetch.next(), if may_fetch => batch.map(|batch| self.batch = batch.into()).map_err(End::from),
                rows = self.loading.done() => self.loaded(rows),
                staged = self.puts.done() => self.put(staged),
                () = self.base.emit.reported() => Ok(()),
                word = self.shell.word(&self.base, is_ending) => self.shell.heard(&mut self.base, word),
                landed = self.flush.landed() => { self.landed(&landed); Ok(()) }
                end = self.chores.done() => { self.behind(end); Ok(()) }
                _ = flush_every.tick() => { self.flush.ask(); Ok(()) }
                _ = measure_every.tick() => { self.shell.measure(&mut self.base); Ok(()) }
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
        self.base.emit.advance(&mut self.base.metrics)?;
        self.judge_batch()?;
        self.start_put()?;
        self.base.emit.advance(&mut self.base.metrics)?;
        self.advance_flush();
        let staged_bytes = self.staged_bytes();
        let Base { parts, metrics, emit, .. } = &mut self.base;
        metrics.staged.set(emit.staged(), parts.config.staged_records_max);
        metrics.staged_bytes.set(staged_bytes, parts.config.staged_bytes_max);
        Ok(())
    }

    /// The end that was waited for, once everything judged has had its effects.
    fn finished(&mut self) -> Option<End> {
        let emitted = self.puts.is_idle() && self.base.emit.staged() == 0;
        if let Some(tick) = self.poisoned {
            return (emitted && self.flush.is_idle()).then_some(End::Poisoned(tick));
        }
        let upto = self.base.emit.upto();
        if self.stopping && self.flush.is_idle() && !self.flush.covers(upto) {
            self.flush.ask();
            self.advance_flush();
        }
        (self.stopping && emitted && self.flush.covers(upto)).then_some(End::Stopped)
    }

    fn may_fetch(&self) -> bool {
        let config = &self.base.parts.config;
        self.batch.is_empty()
            && !self.is_ending()
            && self.base.emit.staged() < config.staged_records_max
            && self.staged_bytes() < config.staged_bytes_max
    }

    /// Of effects that are not stored, and of outputs that are and wait for the log.
    fn staged_bytes(&self) -> usize {
        self.puts.bytes() + self.base.emit.waiting_bytes()
    }

    pub(super) fn is_ending(&self) -> bool {
        self.stopping || self.poisoned.is_some()
    }

    /// One put at a time, of everything that was judged since the last.
    fn start_put(&mut self) -> Result<(), End> {
        let Some(staged) = self.puts.next() else { return Ok(()) };
        if staged.rows.is_empty() {
            return self.put(staged);
        }
        let store = self.base.parts.store.clone();
        let (retries, seconds) = (self.base.metrics.store_retries.clone(), self.base.metrics.put.clone());
        self.puts.start(staged, |rows| async move {
            let began = clock::now();
            until_answered("put rows", &retries, || S::put(&*store, rows.clone())).await;
            seconds.observe((clock::now() - began).as_secs_f64());
        });
        Ok(())
    }

    fn put(&mut self, staged: Staged<S::Row, S::Leaving>) -> Result<(), End> {
        self.shell.leave(&mut self.base, staged.leaving, staged.upto)
    }

    fn advance_flush(&mut self) {
        let upto = self.base.emit.upto();
        if self.poisoned.is_none() && self.flush.wants(upto) {
            let (writes, receipt) = self.shell.clone_dirty();
            let (offset, tick, state) = (self.next_offset, self.shell.tick(), self.shell.state());
            self.flush.take(Clones { upto, writes, receipt, checkpoint: Checkpoint { offset, tick, state } });
        }
        let Base { parts, partition, metrics, emit, .. } = &self.base;
        self.flush.advance(emit.done(), |writes, checkpoint| {
            save::<S>(parts.clone(), *partition, metrics.store_retries.clone(), writes, checkpoint).boxed()
        });
    }

    fn landed(&mut self, landed: &Landed<S::Receipt>) {
        self.base.metrics.flush.observe((clock::now() - landed.since).as_secs_f64());
        self.chores.saved(landed.checkpoint.offset);
        if self.poisoned.is_none() {
            self.shell.written(&landed.receipt);
            self.evict_due = true;
        }
    }

    fn behind(&mut self, end: Option<u64>) {
        if let Some(end) = end {
            let behind = end.saturating_sub(self.next_offset);
            self.base.metrics.lag.set(usize::try_from(behind).unwrap_or(usize::MAX));
        }
    }
}

async fn save<S: Shell>(
    parts: Arc<Parts>,
    partition: Partition,
    retries: Retries,
    writes: S::Writes,
    checkpoint: Checkpoint,
) {
    let store = &parts.store;
    S::save(store.clone(), partition, retries.clone(), writes).await;
    let save = || store.checkpoints().save(S::TOPIC, partition, checkpoint.clone());
    until_answered("save a checkpoint", &retries, save).await;
}
