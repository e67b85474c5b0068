//! The shell of the timeline stage: entries are put, then devices see them. Asks and rosters join the same
//! line, so that nothing is told to a device before the entries it speaks of are stored.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use proto::{Tick, UserId, v1};
use storage::log::{Partition, Topic};
use storage::tables::{Checkpoint, EntryRow, SessionWrite, Store, StoreError, StoredUser, UserWrite};
use tokio::sync::{mpsc, watch};
use v1::timeline_record::Record;

use super::active::{Active, Ask, Visible};
use super::parts::{End, Parts};
use super::prefetch::{self, Rows};
use super::retry::{Retries, until_answered};
use super::shell::{Base, Fate, Shell};
use crate::config::Config;
use crate::nodes::NodeTable;
use crate::push::StreamEvent;
use crate::settings::StateError;
use crate::timeline::{CompleteRoster, Effect, TimelineStage};

/// Events of streams that wait for the run; more make the streams wait.
const EVENTS_MAX: usize = 1024;

/// A timelines partition's stage, and what its owner hears and shows beside the log.
pub(super) struct Timelines {
    pub(super) stage: TimelineStage,
    /// Asks and rosters that wait for users.
    pub(super) asks: VecDeque<Ask>,
    pub(super) rosters: VecDeque<(String, CompleteRoster)>,
    /// The outward side; none before the run is the owner.
    pub(super) active: Option<Active>,
    pub(super) events: mpsc::Receiver<StreamEvent>,
    pub(super) events_in: mpsc::Sender<StreamEvent>,
    pub(super) nodes: watch::Receiver<Arc<NodeTable>>,
}

/// What is heard beside the log.
pub(super) enum Heard {
    /// Of a stream.
    Event(StreamEvent),
    /// The node table changed.
    Nodes,
}

impl Shell for Timelines {
    const TOPIC: Topic = Topic::Timelines;
    type Record = v1::TimelineRecord;
    type Key = UserId;
    type Loaded = StoredUser;
    type Effect = Effect;
    type Row = EntryRow;
    type Leaving = Visible;
    type Writes = (Vec<SessionWrite>, Vec<UserWrite>);
    type Receipt = Vec<(UserId, Tick)>;
    type Word = Heard;

    /// The index of sessions is read after the checkpoint: whatever began before the checkpoint was in the
    /// index when the checkpoint was saved, and whatever began after it is in the log to come. The other
    /// way round, another run's flush between the two would hide the sessions that it saved.
    async fn begin(
        parts: &Arc<Parts>,
        partition: Partition,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Self, End> {
        let sessions = parts.store.users().sessions(partition).await?;
        let stage = TimelineStage::new(partition, parts.log.partitions().messages, checkpoint, sessions)?;
        let (events_in, events) = mpsc::channel(EVENTS_MAX);
        let nodes = parts.nodes.clone();
        let (asks, rosters) = (VecDeque::new(), VecDeque::new());
        Ok(Self { stage, asks, rosters, active: None, events, events_in, nodes })
    }

    fn owner(owner: v1::Owner) -> v1::TimelineRecord {
        v1::TimelineRecord { record: Some(Record::Owner(owner)) }
    }

    fn settings(settings: v1::Settings) -> v1::TimelineRecord {
        v1::TimelineRecord { record: Some(Record::Settings(settings)) }
    }

    fn settings_version(&self) -> u64 {
        self.stage.settings().version
    }

    fn flush_every(config: &Config) -> Duration {
        config.flush_users_every()
    }

    fn tick(&self) -> Tick {
        self.stage.tick()
    }

    fn state(&self) -> bytes::Bytes {
        self.stage.state()
    }

    fn bytes(&self) -> usize {
        self.stage.bytes()
    }

    fn evict(&mut self, bytes_max: usize) {
        self.stage.evict(bytes_max);
    }

    fn keys(&self, record: &v1::TimelineRecord, keys: &mut Vec<UserId>) {
        self.stage.keys(record, keys);
    }

    fn other_keys(&self, keys: &mut Vec<UserId>) {
        keys.extend(self.asks.iter().map(|ask| ask.user.clone()));
        for (node, roster) in &self.rosters {
            self.stage.roster_keys(node, roster, keys);
        }
    }

    fn is_loaded(&self, user: &UserId) -> bool {
        self.stage.is_loaded(user)
    }

    fn fetch(
        store: Arc<dyn Store>,
        users: Vec<UserId>,
        retries: Retries,
    ) -> BoxFuture<'static, Rows<UserId, StoredUser>> {
        prefetch::users(store, users, retries).boxed()
    }

    fn load(&mut self, user: UserId, row: Option<StoredUser>) -> Result<(), StateError> {
        self.stage.load(user, row)
    }

    fn is_ready(&self, record: &v1::TimelineRecord) -> bool {
        let mut keys = Vec::new();
        if let Some(Record::SessionEnd(_)) = record.record {
            self.stage.keys(record, &mut keys);
        }
        keys.iter().all(|user| self.stage.is_loaded(user))
    }

    fn step(&mut self, append_us: u64, record: &v1::TimelineRecord, skip: bool, effects: &mut Vec<Effect>) {
        self.stage.step(append_us, record, skip, effects);
    }

    fn fate(&self, effect: Effect, _: u64) -> Fate<Self> {
        match effect {
            Effect::Entry(row) => {
                let bytes = row.row.len();
                Fate::Store(row, bytes)
            }
            Effect::Owner(owner, _) => Fate::Owner(owner),
            shown => {
                let bytes = shown_bytes(&shown);
                Fate::Leave(Visible::Effect(shown), bytes)
            }
        }
    }

    fn owned(&mut self, _: &Base) -> Option<Visible> {
        Some(Visible::Term(self.stage.tick().0))
    }

    fn between(&mut self, base: &mut Base, leaving: &mut Vec<Visible>) -> Result<(), End> {
        self.take_asks(leaving);
        self.take_rosters(base, leaving)
    }

    fn put(store: &dyn Store, rows: Vec<EntryRow>) -> impl Future<Output = Result<(), StoreError>> + Send {
        store.timelines().put(rows)
    }

    fn leave(&mut self, base: &mut Base, visible: Vec<Visible>, upto: u64) -> Result<(), End> {
        for visible in visible {
            match (visible, self.active.as_mut()) {
                (Visible::Term(term), _) => self.activate(base, term)?,
                (visible, Some(active)) => active.show(visible),
                (_, None) => {}
            }
        }
        base.emit.release(Vec::new(), upto);
        Ok(())
    }

    fn clone_dirty(&mut self) -> (Self::Writes, Self::Receipt) {
        let writes = self.stage.clone_dirty();
        let receipt = writes.1.iter().map(|write| (write.user.clone(), write.at)).collect();
        (writes, receipt)
    }

    async fn save(store: Arc<dyn Store>, partition: Partition, retries: Retries, writes: Self::Writes) {
        let (sessions, users) = writes;
        if !sessions.is_empty() || !users.is_empty() {
            let save = || store.users().save(partition, sessions.clone(), users.clone());
            until_answered("save users", &retries, save).await;
        }
    }

    fn written(&mut self, receipt: &Self::Receipt) {
        self.stage.written(receipt);
    }

    async fn word(&mut self, base: &Base, is_ending: bool) -> Heard {
        let may_hear = self.asks.len() < base.parts.config.syncs_waiting_max && !is_ending;
        tokio::select! {
            Some(event) = self.events.recv(), if may_hear => Heard::Event(event),
            Ok(()) = self.nodes.changed() => Heard::Nodes,
            else => std::future::pending().await,
        }
    }

    fn heard(&mut self, base: &mut Base, heard: Heard) -> Result<(), End> {
        match heard {
            Heard::Event(event) => self.take_event(base, event),
            Heard::Nodes => self.follow(base),
        }
    }

    fn measure(&mut self, base: &mut Base) {
        let Some(active) = self.active.as_mut() else { return };
        let (config, metrics) = (&base.parts.config, &mut base.metrics);
        let (frames, marks) = active.depth();
        metrics.stream.set(frames, config.stream_frames_max);
        metrics.marks.set(marks);
        metrics.syncs.set(active.pages() + self.asks.len(), config.syncs_waiting_max);
    }
}

/// What an effect takes in memory while it waits, roughly.
fn shown_bytes(effect: &Effect) -> usize {
    match effect {
        Effect::Push { entry, to, .. } => 96 + entry.len() + 64 * to.len(),
        _ => 128,
    }
}
