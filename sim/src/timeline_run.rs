//! One run of the timeline stage on one partition: the shell's rules for storing, pushing, rosters and takeover,
//! step by step, so that the schedule may put anything between any two of them.

use std::collections::{BTreeSet, VecDeque};

use logic::timeline::{Effect, TimelineStage};
use prost::Message;
use proto::partition::Partition;
use proto::{Tick, UserId, v1};
use rand::rngs::SmallRng;
use storage::log::Topic;
use storage::tables::{Checkpoint, Fence, SessionWrite, UserWrite};

use crate::Mutation;
use crate::fault::Fault;
use crate::oracle::{Oracle, Violation};
use crate::owner::{Stream, link, result};
use crate::shared::Shared;
use crate::tamper;

struct Flush {
    done_at: u64,
    sessions: VecDeque<SessionWrite>,
    users: Vec<UserWrite>,
    written: Vec<(UserId, Tick)>,
    checkpoint: Checkpoint,
}

/// A run: it works until it reads another owner.
pub struct TimelineRun {
    /// Its partition.
    pub partition: Partition,
    /// The logic node that it runs on.
    pub home: usize,
    pub(crate) stage: TimelineStage,
    /// Its name in Owner records.
    me: u64,
    offset: usize,
    stepped: u64,
    pub(crate) effects: VecDeque<(u64, Effect)>,
    flush: Option<Flush>,
    /// Its own Owner record was read: another one after it ends the run.
    owns: bool,
    /// The tick of its own Owner record; 0 until everything before that is stored.
    pub term: u64,
    /// Another owner was read.
    pub stopped: bool,
    /// Pushes that did not fit.
    pub(crate) marks: BTreeSet<Fence>,
    /// One per node.
    pub streams: Vec<Stream>,
    /// A mutation: streams serve whatever incarnation.
    pub(crate) any_incarnation: bool,
    /// What it appends: Owner, sign-offs, nodes that are down.
    pub appends: Vec<v1::TimelineRecord>,
}

impl TimelineRun {
    /// Starts from the partition's checkpoint and announces itself.
    ///
    /// # Errors
    /// The checkpoint or a session cannot be read.
    pub fn start(shared: &Shared, partition: Partition, me: u64, home: usize) -> Result<Self, Violation> {
        let checkpoint = shared.store.checkpoints.get(&(Topic::Timelines, partition));
        let sessions = shared.store.live_sessions(partition);
        let messages = shared.partitions.messages;
        let stage =
            TimelineStage::new(partition, messages, checkpoint, sessions).map_err(|e| e.to_string())?;
        let owner = v1::Owner { node: format!("logic-{home}"), run: me };
        Ok(Self {
            partition,
            home,
            stage,
            me,
            offset: checkpoint.map_or(0, |c| usize::try_from(c.offset).unwrap_or(usize::MAX)),
            stepped: 0,
            effects: VecDeque::new(),
            flush: None,
            owns: false,
            term: 0,
            stopped: false,
            marks: BTreeSet::new(),
            streams: Vec::new(),
            any_incarnation: shared.breaks(Mutation::AnyIncarnation),
            appends: vec![v1::TimelineRecord { record: Some(v1::timeline_record::Record::Owner(owner)) }],
        })
    }

    /// Whether it may push and answer.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.term > 0 && !self.stopped
    }

    /// Takes the next record. False: there is none.
    ///
    /// # Errors
    /// A stored row cannot be read.
    pub fn step(&mut self, shared: &Shared) -> Result<bool, Violation> {
        if self.stopped || shared.is_slow() {
            return Ok(false);
        }
        let Some((append_us, bytes)) = shared.log(Topic::Timelines, self.partition).read(self.offset) else {
            return Ok(false);
        };
        self.offset += 1;
        self.stepped += 1;
        let mut record = v1::TimelineRecord::decode(bytes).map_err(|e| e.to_string())?;
        tamper::rechain(shared, self.stage.state(), &mut record);
        let mut keys = Vec::new();
        self.stage.keys(&record, &mut keys);
        self.load(shared, keys)?;
        let mut effects = Vec::new();
        self.stage.step(append_us, &record, false, &mut effects);
        for effect in &effects {
            if let Effect::Owner(owner, _) = effect {
                self.stopped |= self.owns && owner.run != self.me;
                self.owns |= owner.run == self.me;
            }
        }
        self.effects.extend(effects.into_iter().map(|effect| (self.stepped, effect)));
        Ok(true)
    }

    pub(crate) fn load(&mut self, shared: &Shared, keys: Vec<UserId>) -> Result<(), Violation> {
        for user in keys {
            if !self.stage.is_loaded(&user) {
                let row = shared.store.users.get(&user).cloned();
                self.stage.load(user, row).map_err(|e| e.to_string())?;
            }
        }
        Ok(())
    }

    /// The oldest effect; or, where its row fails for now, a later row.
    fn next_effect(&mut self, shared: &Shared, rng: &mut SmallRng) -> Option<(u64, Effect)> {
        let is_row = |effect: &(u64, Effect)| matches!(effect.1, Effect::Entry(_));
        let early = shared.breaks(Mutation::PushBeforeStored) && shared.faults.is_on();
        if early && let Some(i) = self.effects.iter().take(4).position(|effect| !is_row(effect)) {
            return self.effects.remove(i);
        }
        if self.effects.front().is_some_and(is_row) && shared.faults.happens(Fault::FailedRow, rng, 0.1) {
            let i = (1..self.effects.len().min(6)).find(|i| self.effects.get(*i).is_some_and(is_row))?;
            return self.effects.remove(i);
        }
        self.effects.pop_front()
    }

    /// Up to where a sync answers.
    pub(crate) fn head(&self, shared: &Shared, user: &UserId) -> u64 {
        let stored = shared.store.users.get(user).filter(|_| shared.breaks(Mutation::StoredHead));
        match stored.and_then(|stored| v1::UserRow::decode(stored.row.clone()).ok()) {
            Some(row) => row.head,
            None => self.stage.user(user).map_or(0, |view| view.head),
        }
    }

    /// Carries the oldest effect out: what devices see leaves only when every entry before it is stored.
    ///
    /// # Errors
    /// An entry was rewritten with other bytes.
    pub fn emit(&mut self, shared: &mut Shared, rng: &mut SmallRng) -> Result<bool, Violation> {
        if shared.is_slow() {
            return Ok(false);
        }
        let Some((_, effect)) = self.next_effect(shared, rng) else { return Ok(false) };
        match effect {
            Effect::Entry(row) => {
                shared.store.put_entry(&row).map_err(|words| Oracle::Rewritten.says(words))?;
            }
            Effect::Owner(owner, tick) => {
                if owner.run == self.me {
                    self.term = tick.0;
                }
            }
            Effect::Push { seq, entry, to, .. } => self.push(seq, &entry, &to, shared, rng)?,
            Effect::Result(grant) => {
                self.control(&grant.fence, v1::down::Down::Result(result(&grant)), shared, rng);
            }
            Effect::Kick { fence, close } => {
                self.marks.remove(&fence);
                let kick = v1::LinkKick {
                    link: Some(link(&fence)),
                    code: close.number(),
                    reason: close.name().to_owned(),
                };
                self.control(&fence, v1::down::Down::Kick(kick), shared, rng);
            }
            Effect::OutOfOrder { fence, send, .. } => {
                let fault = proto::Fault::new(proto::Code::OutOfOrder, "a gap");
                let error =
                    v1::LinkError { link: Some(link(&fence)), error: Some(fault.to_error(Some(send))) };
                self.control(&fence, v1::down::Down::Error(error), shared, rng);
            }
        }
        Ok(true)
    }

    /// Takes the flush one step further: clone, write row by row, then the checkpoint.
    pub fn flush(&mut self, shared: &mut Shared, rng: &mut SmallRng) {
        if shared.is_slow() {
            return;
        }
        if self.flush.is_none() {
            let (sessions, users) = self.stage.clone_dirty();
            let written = users.iter().map(|row| (row.user.clone(), row.at)).collect();
            let checkpoint =
                Checkpoint { offset: self.offset as u64, tick: self.stage.tick(), state: self.stage.state() };
            let sessions = sessions.into();
            self.flush = Some(Flush { done_at: self.stepped, sessions, users, written, checkpoint });
        }
        let done = self.effects.front().map_or(self.stepped, |(count, _)| count - 1);
        let Some(flush) = &mut self.flush else { return };
        let guarded = !shared.breaks(Mutation::NoUserGuard);
        if shared.breaks(Mutation::TimelineCheckpointAhead) {
            shared.store.save_checkpoint(Topic::Timelines, self.partition, &flush.checkpoint);
        }
        if done < flush.done_at && !shared.breaks(Mutation::UserRowsEarly) {
            return;
        }
        let index_late = shared.breaks(Mutation::IndexLate) && !flush.users.is_empty();
        while !index_late && let Some(session) = flush.sessions.pop_front() {
            shared.store.save_session(self.partition, &session);
            if shared.faults.happens(Fault::FailedRow, rng, 0.2) {
                return;
            }
        }
        flush.users.retain(|row| {
            let lands = !shared.faults.happens(Fault::FailedRow, rng, 0.3);
            if lands {
                shared.store.save_user(row, guarded);
            }
            !lands
        });
        if index_late && flush.users.is_empty() && !flush.sessions.is_empty() {
            return shared.store.save_checkpoint(Topic::Timelines, self.partition, &flush.checkpoint);
        }
        if flush.users.is_empty() && flush.sessions.is_empty() {
            shared.store.save_checkpoint(Topic::Timelines, self.partition, &flush.checkpoint);
            self.stage.written(&flush.written);
            self.flush = None;
        }
    }

    /// Forgets what may be forgotten.
    pub fn evict(&mut self, bytes_max: usize) {
        self.stage.evict(bytes_max);
    }

    /// Whether the whole partition was read.
    #[must_use]
    pub fn is_read(&self, shared: &Shared) -> bool {
        self.offset >= shared.log(Topic::Timelines, self.partition).records.len()
    }

    /// Whether a link has a session.
    #[must_use]
    pub fn has_session(&self, fence: &Fence) -> bool {
        self.stage.session(fence).is_some()
    }

    /// How many sessions there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.stage.sessions()
    }
}
