//! The run of a timelines partition: fetch → prefetch → judge → entries → what devices see; and, behind
//! them, rows and checkpoint. Asks and rosters join the same line, so that nothing is told to a device
//! before the entries it speaks of are stored.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use futures::FutureExt;
use prometheus_client::metrics::counter::Counter;
use proto::{Code, Fault, Tick, UserId, v1};
use storage::log::{Partition, Topic};
use storage::tables::{Checkpoint, EntryRow, SessionWrite, StoredUser, UserWrite};
use tokio::sync::{mpsc, watch};
use tracing::info;
use v1::timeline_record::Record;

use super::active::{Active, Ask, Visible};
use super::chores::Chores;
use super::emit::Emit;
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
use crate::metrics::RunMetrics;
use crate::nodes::NodeTable;
use crate::push::StreamEvent;
use crate::sync::Extent;
use crate::timeline::{CompleteRoster, Effect, RosterAction, TimelineStage};

const TOPIC: Topic = Topic::Timelines;
/// Events of streams that wait for the run; more make the streams wait.
const EVENTS_MAX: usize = 1024;

type Writes = (Vec<SessionWrite>, Vec<UserWrite>);
type Receipt = Vec<(UserId, Tick)>;

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
    stage: TimelineStage,
    ownership: Ownership,
    skips: Skips,
    fetch: Fetch,
    /// Fetched, waiting for its keys.
    batch: VecDeque<Fetched<v1::TimelineRecord>>,
    /// Asks and rosters that wait for users.
    asks: VecDeque<Ask>,
    rosters: VecDeque<(String, CompleteRoster)>,
    loading: Slot<Rows<UserId, StoredUser>>,
    /// Where to read from after the last judged record.
    next_offset: u64,
    /// Judged, waiting for the put before it.
    staged: Staged,
    putting: Slot<Staged>,
    putting_bytes: usize,
    /// Appends the run's own records, and counts what is judged and stored.
    emit: Emit,
    flush: Flush<Writes, Receipt>,
    chores: Chores,
    active: Option<Active>,
    events: mpsc::Receiver<StreamEvent>,
    events_in: mpsc::Sender<StreamEvent>,
    nodes: watch::Receiver<Arc<NodeTable>>,
    effects: Vec<Effect>,
    stopping: bool,
    poisoned: Option<Tick>,
}

/// Effects of consecutive records, and what was asked between them.
#[derive(Default)]
struct Staged {
    rows: Vec<EntryRow>,
    visible: Vec<Visible>,
    bytes: usize,
    /// The position after the last of the records.
    upto: u64,
}

impl Staged {
    fn is_empty(&self) -> bool {
        self.upto == 0 && self.visible.is_empty()
    }
}

impl Run {
    async fn begin(parts: Arc<Parts>, partition: Partition) -> Result<Self, End> {
        let checkpoint = parts.store.checkpoints().load(TOPIC, partition).await?;
        let sessions = parts.store.users().sessions(partition).await?;
        let stage =
            TimelineStage::new(partition, parts.log.partitions().messages, checkpoint.as_ref(), sessions)?;
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
        let (events_in, events) = mpsc::channel(EVENTS_MAX);
        Ok(Self {
            fetch: Fetch::new(reader, config.batch_records_max, config.batch_bytes_max),
            chores: Chores::new(parts.log.clone(), TOPIC, partition),
            metrics: parts.metrics.of(TOPIC),
            nodes: parts.nodes.clone(),
            partition,
            stage,
            ownership,
            skips,
            batch: VecDeque::new(),
            asks: VecDeque::new(),
            rosters: VecDeque::new(),
            loading: Slot::default(),
            next_offset,
            staged: Staged::default(),
            putting: Slot::default(),
            putting_bytes: 0,
            emit,
            flush: Flush::default(),
            active: None,
            events,
            events_in,
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
            let may_hear = self.asks.len() < self.parts.config.syncs_waiting_max && !self.is_ending();
            let done = tokio::select! {
                batch = self.fetch.next(), if may_fetch => batch.map(|batch| self.batch = batch.into()).map_err(End::from),
                rows = self.loading.done() => self.loaded(rows),
                staged = self.putting.done() => self.put(staged),
                () = self.emit.reported() => Ok(()),
                Some(event) = self.events.recv(), if may_hear => self.heard(event),
                Ok(()) = self.nodes.changed() => self.follow(),
                landed = self.flush.landed() => { self.landed(&landed); Ok(()) }
                end = self.chores.done() => { self.behind(end); Ok(()) }
                _ = flush_every.tick() => { self.flush.ask(); self.measure(); Ok(()) }
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
        self.start_put()?;
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
        self.batch.is_empty()
            && !self.is_ending()
            && self.emit.staged() < self.parts.config.staged_records_max
            && self.staged.bytes + self.putting_bytes < self.parts.config.staged_bytes_max
    }

    fn is_ending(&self) -> bool {
        self.stopping || self.poisoned.is_some()
    }

    /// Judges the batch and takes asks and rosters, or starts loading what they need.
    fn judge_batch(&mut self) -> Result<(), End> {
        while self.loading.is_idle() && !self.is_ending() {
            let missing = self.missing();
            if !missing.is_empty() {
                let retries = self.metrics.store_retries.clone();
                self.loading.start(prefetch::users(self.parts.store.clone(), missing, retries));
                return Ok(());
            }
            self.judge()?;
            self.take_asks();
            self.take_rosters()?;
            if self.batch.is_empty() {
                self.stage.evict(self.parts.config.cache_bytes_max);
                return Ok(());
            }
        }
        Ok(())
    }

    fn missing(&self) -> Vec<UserId> {
        let mut keys = Vec::new();
        self.batch.iter().for_each(|fetched| self.stage.keys(&fetched.record, &mut keys));
        keys.extend(self.asks.iter().map(|ask| ask.user.clone()));
        for (node, roster) in &self.rosters {
            self.stage.roster_keys(node, roster, &mut keys);
        }
        keys.retain(|user| !self.stage.is_loaded(user));
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn loaded(&mut self, rows: Rows<UserId, StoredUser>) -> Result<(), End> {
        for (user, row) in rows {
            self.stage.load(user, row)?;
        }
        Ok(())
    }

    /// Judges the batch, up to a record whose keys became known only by those before it.
    fn judge(&mut self) -> Result<(), End> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let began = clock::now();
        let mut keys = Vec::new();
        while let Some(fetched) = self.batch.pop_front() {
            if let Some(Record::SessionEnd(_)) = fetched.record.record {
                keys.clear();
                self.stage.keys(&fetched.record, &mut keys);
                if keys.iter().any(|user| !self.stage.is_loaded(user)) {
                    self.batch.push_front(fetched);
                    break;
                }
            }
            let last = self.stage.tick();
            let skip = self.skips.has(last, fetched.append_us);
            let (stage, effects) = (&mut self.stage, &mut self.effects);
            if guarded(|| stage.step(fetched.append_us, &fetched.record, skip, effects)).is_err() {
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
        self.metrics.cache_bytes.set(self.stage.bytes());
        Ok(())
    }

    fn stage_effects(&mut self, position: u64) -> Result<(), End> {
        self.staged.upto = position + 1;
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Entry(row) => {
                    self.staged.bytes += row.row.len();
                    self.staged.rows.push(row);
                }
                Effect::Owner(owner, tick) => match self.ownership.read(&owner, tick) {
                    Word::Mine => self.staged.visible.push(Visible::Term(tick.0)),
                    Word::Earlier => {}
                    Word::Superseded => return Err(End::Superseded),
                },
                shown => {
                    self.staged.bytes += shown_bytes(&shown);
                    self.staged.visible.push(Visible::Effect(shown));
                }
            }
        }
        Ok(())
    }

    /// Asks are answered with what is judged now, once that is stored.
    fn take_asks(&mut self) {
        while let Some(ask) = self.asks.pop_front() {
            if let Some(view) = self.stage.user(&ask.user) {
                let extent = Extent { head: view.head, first: view.first };
                self.staged.visible.push(Visible::Page(ask, extent));
            }
        }
    }

    fn take_rosters(&mut self) -> Result<(), End> {
        let mut actions = Vec::new();
        while let Some((node, roster)) = self.rosters.pop_front() {
            let compared = self.stage.compare(&node, &roster, &mut actions);
            compared.map_err(|error| End::Failed(error.to_string()))?;
            for action in actions.drain(..) {
                match action {
                    RosterAction::Kick { fence, close } => {
                        self.staged.visible.push(Visible::Kick(fence, close));
                    }
                    RosterAction::Result(grant) => self.staged.visible.push(Visible::Result(grant)),
                    RosterAction::Hint { fence, head } => {
                        self.staged.visible.push(Visible::Hint(fence, head));
                    }
                    RosterAction::Append(record) => {
                        if self.emit.append_own(TOPIC, self.partition, &record).is_err() {
                            // What is missing is found again by the next roster.
                            self.active.iter().for_each(|active| active.break_off(&node));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// One put at a time, of everything that was judged since the last.
    fn start_put(&mut self) -> Result<(), End> {
        if !self.putting.is_idle() || self.staged.is_empty() {
            return Ok(());
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
            until_answered("put entries", &retries, || store.timelines().put(rows.clone())).await;
            seconds.observe((clock::now() - began).as_secs_f64());
            staged
        });
        Ok(())
    }

    /// The entries are stored: devices may see what depends on them.
    fn put(&mut self, staged: Staged) -> Result<(), End> {
        self.putting_bytes = 0;
        for visible in staged.visible {
            match visible {
                Visible::Term(term) => self.activate(term)?,
                visible => {
                    if let Some(active) = self.active.as_mut() {
                        active.show(visible);
                    }
                }
            }
        }
        self.emit.release(Vec::new(), staged.upto);
        Ok(())
    }

    fn activate(&mut self, term: u64) -> Result<(), End> {
        if self.active.is_none() {
            self.active = Some(Active::new(self.parts.clone(), self.partition, term, self.events_in.clone()));
            self.parts.health.set(TOPIC, self.partition, Standing::Running);
            self.follow()?;
        }
        Ok(())
    }

    /// Follows the node table, and ends the sessions of the nodes that are gone.
    fn follow(&mut self) -> Result<(), End> {
        let table = self.nodes.borrow_and_update().clone();
        let Some(active) = self.active.as_mut() else { return Ok(()) };
        for down in active.follow(&table) {
            self.emit.append_own(TOPIC, self.partition, &record(Record::NodeDown(down)))?;
        }
        Ok(())
    }

    fn heard(&mut self, event: StreamEvent) -> Result<(), End> {
        match event {
            StreamEvent::Roster { node, roster } => self.rosters.push_back((node, roster)),
            StreamEvent::Refused { term } => {
                info!(
                    partition = self.partition,
                    term,
                    own = self.ownership.term().map(|t| t.0),
                    "refused by a node"
                );
                return Err(End::Superseded);
            }
            StreamEvent::Ask { node, ask, down } => self.asked(node, ask, down),
        }
        Ok(())
    }

    fn asked(&mut self, node: String, ask: v1::SyncAsk, down: mpsc::Sender<v1::Down>) {
        let Some(active) = self.active.as_mut() else { return };
        let Ok(user) = UserId::new(&ask.user) else { return active.break_off(&node) };
        let ask = Ask { node, user, ask, down };
        let cap = self.parts.config.syncs_waiting_max;
        if active.pages() + self.asks.len() < cap {
            self.asks.push_back(ask);
        } else {
            active.refuse(&ask, &Fault::new(Code::Busy, format!("{cap} syncs are waiting")));
        }
    }

    fn advance_flush(&mut self) {
        if self.poisoned.is_none() && self.flush.wants(self.emit.upto()) {
            let writes = self.stage.clone_dirty();
            let receipt = writes.1.iter().map(|write| (write.user.clone(), write.at)).collect();
            let (offset, tick, state) = (self.next_offset, self.stage.tick(), self.stage.state());
            let checkpoint = Checkpoint { offset, tick, state };
            self.flush.take(Clones { upto: self.emit.upto(), writes, receipt, checkpoint });
        }
        let (parts, partition, retries) = (&self.parts, self.partition, &self.metrics.store_retries);
        self.flush.advance(self.emit.done(), |writes, checkpoint| {
            save(parts.clone(), partition, retries.clone(), writes, checkpoint).boxed()
        });
    }

    fn landed(&mut self, landed: &Landed<Receipt>) {
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

    fn measure(&mut self) {
        let Some(active) = self.active.as_mut() else { return };
        let (frames, marks) = active.depth();
        self.metrics.stream.set(frames, self.parts.config.stream_frames_max);
        self.metrics.marks.set(marks);
        self.metrics.syncs.set(active.pages() + self.asks.len(), self.parts.config.syncs_waiting_max);
    }
}

async fn save(
    parts: Arc<Parts>,
    partition: Partition,
    retries: Counter,
    writes: Writes,
    checkpoint: Checkpoint,
) {
    let (store, (sessions, users)) = (&parts.store, writes);
    if !sessions.is_empty() || !users.is_empty() {
        until_answered("save users", &retries, || {
            store.users().save(partition, sessions.clone(), users.clone())
        })
        .await;
    }
    until_answered("save a checkpoint", &retries, || {
        store.checkpoints().save(TOPIC, partition, checkpoint.clone())
    })
    .await;
}

fn record(record: Record) -> v1::TimelineRecord {
    v1::TimelineRecord { record: Some(record) }
}

/// What an effect takes in memory while it waits, roughly.
fn shown_bytes(effect: &Effect) -> usize {
    match effect {
        Effect::Push { entry, to, .. } => 96 + entry.len() + 64 * to.len(),
        _ => 128,
    }
}
