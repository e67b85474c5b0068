//! One run of the timeline stage on one partition: the shell's rules for storing, pushing, rosters and takeover,
//! step by step, so that the schedule may put anything between any two of them.

use std::collections::{BTreeSet, VecDeque};

use logic::timeline::{CompleteRoster, Effect, RosterAction, SessionGrant, TimelineStage};
use prost::Message;
use proto::partition::Partition;
use proto::{Tick, UserId, v1};
use rand::rngs::SmallRng;
use storage::log::Topic;
use storage::tables::{Checkpoint, Fence, SessionWrite, UserWrite};

use crate::Mutation;
use crate::fault::Fault;
use crate::oracle::{Oracle, Violation};
use crate::shared::Shared;
use crate::tamper;

/// The stream between a run and a conn node: in order both ways, and lost whole when it breaks.
pub struct Stream {
    /// Which node it goes to, and in which incarnation that was.
    pub node: String,
    /// The node's incarnation when the stream was made.
    pub incarnation: u64,
    /// To the node.
    pub down: VecDeque<v1::Down>,
    /// From the node.
    pub up: VecDeque<v1::Up>,
    /// False once it broke.
    pub alive: bool,
}

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
    stage: TimelineStage,
    /// Its name in Owner records.
    me: u64,
    offset: usize,
    stepped: u64,
    effects: VecDeque<(u64, Effect)>,
    flush: Option<Flush>,
    /// Its own Owner record was read: another one after it ends the run.
    owns: bool,
    /// The tick of its own Owner record; 0 until everything before that is stored.
    pub term: u64,
    /// Another owner was read.
    pub stopped: bool,
    /// Pushes that did not fit.
    marks: BTreeSet<Fence>,
    /// One per node.
    pub streams: Vec<Stream>,
    /// A mutation: streams serve whatever incarnation.
    any_incarnation: bool,
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

    fn load(&mut self, shared: &Shared, keys: Vec<UserId>) -> Result<(), Violation> {
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
    fn head(&self, shared: &Shared, user: &UserId) -> u64 {
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

    fn stream(&mut self, fence: &Fence) -> Option<&mut Stream> {
        let (alive, any) = (|s: &&mut Stream| s.alive && s.node == fence.node, self.any_incarnation);
        self.streams.iter_mut().filter(alive).find(|s| any || s.incarnation == fence.incarnation)
    }

    fn push(
        &mut self,
        seq: u64,
        entry: &bytes::Bytes,
        to: &[Fence],
        shared: &Shared,
        rng: &mut SmallRng,
    ) -> Result<(), Violation> {
        if !self.is_active() {
            return Ok(());
        }
        let mut entry = v1::Entry::decode(entry.clone()).map_err(|e| e.to_string())?;
        entry.seq = seq;
        let push = v1::server_frame::Frame::Push(v1::Push { entries: vec![entry] });
        let frame: bytes::Bytes = v1::ServerFrame { reply_to: 0, frame: Some(push) }.encode_to_vec().into();
        for fence in to {
            let fits = !shared.faults.happens(Fault::RefusedPush, rng, 0.1);
            let links = vec![link(fence)];
            let down = v1::PushFrame { links, first: seq, last: seq, frame: frame.clone() };
            match self.stream(fence) {
                Some(stream) if fits => {
                    stream.down.push_back(v1::Down { down: Some(v1::down::Down::Push(down)) });
                }
                _ if !shared.breaks(Mutation::NoMark) => drop(self.marks.insert(fence.clone())),
                _ => {}
            }
        }
        Ok(())
    }

    /// A control frame that cannot be queued breaks its stream.
    fn control(&mut self, fence: &Fence, down: v1::down::Down, shared: &Shared, rng: &mut SmallRng) {
        if !self.is_active() {
            return;
        }
        let fits = !shared.faults.happens(Fault::RefusedControl, rng, 0.25);
        let Some(stream) = self.stream(fence) else { return };
        if fits {
            stream.down.push_back(v1::Down { down: Some(down) });
        } else if !shared.breaks(Mutation::NoBreak) {
            stream.alive = false;
        }
    }

    /// Tells the marked that they are behind.
    pub fn hint_marked(&mut self, shared: &Shared) -> Result<(), Violation> {
        if !self.is_active() || !self.effects.is_empty() {
            return Ok(());
        }
        for fence in std::mem::take(&mut self.marks) {
            let Some(user) = self.stage.session(&fence).cloned() else { continue };
            self.load(shared, vec![user.clone()])?;
            let head = self.stage.user(&user).map_or(0, |view| view.head);
            let hint = v1::LinkHint { link: Some(link(&fence)), head };
            match self.stream(&fence) {
                Some(stream) => stream.down.push_back(v1::Down { down: Some(v1::down::Down::Hint(hint)) }),
                None => drop(self.marks.insert(fence)),
            }
        }
        Ok(())
    }

    /// Takes what nodes said: rosters are compared, syncs answered.
    ///
    /// # Errors
    /// A stored row cannot be read.
    pub fn hear(&mut self, shared: &mut Shared, i: usize) -> Result<(), Violation> {
        // A roster waits until this run may act; so does all behind it.
        if !self.is_active() || !self.effects.is_empty() {
            return Ok(());
        }
        let Some(stream) = self.streams.get_mut(i).filter(|s| s.alive) else { return Ok(()) };
        let node = stream.node.clone();
        match stream.up.pop_front().and_then(|up| up.up) {
            Some(v1::up::Up::Roster(roster)) => self.compare(shared, &node, &roster),
            Some(v1::up::Up::Sync(ask)) => self.sync(shared, i, &ask),
            Some(v1::up::Up::Refused(_)) => {
                self.stopped = true;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn compare(&mut self, shared: &Shared, node: &str, roster: &v1::Roster) -> Result<(), Violation> {
        if shared.breaks(Mutation::NoRoster) {
            return Ok(());
        }
        let roster = CompleteRoster {
            incarnation: roster.incarnation,
            links: roster.links.clone(),
            bounds: roster.bounds.clone(),
        };
        let mut users = Vec::new();
        self.stage.roster_keys(node, &roster, &mut users);
        self.load(shared, users)?;
        let mut actions = Vec::new();
        self.stage.compare(node, &roster, &mut actions).map_err(|e| e.to_string())?;
        for action in actions {
            self.act(shared, action);
        }
        Ok(())
    }

    fn act(&mut self, shared: &Shared, action: RosterAction) {
        let (fence, down) = match action {
            RosterAction::Append(record) => return self.appends.push(record),
            RosterAction::Kick { .. } if shared.breaks(Mutation::NoKick) => return,
            RosterAction::Kick { fence, close } => {
                let reason = close.name().to_owned();
                let kick = v1::LinkKick { link: Some(link(&fence)), code: close.number(), reason };
                (fence, v1::down::Down::Kick(kick))
            }
            RosterAction::Result(mut grant) => {
                if shared.breaks(Mutation::CursorLeftOut) {
                    grant.cursor = 0;
                }
                let down = v1::down::Down::Result(result(&grant));
                (grant.fence, down)
            }
            RosterAction::Hint { fence, head } => {
                let hint = v1::LinkHint { link: Some(link(&fence)), head };
                (fence, v1::down::Down::Hint(hint))
            }
        };
        if let Some(stream) = self.stream(&fence) {
            stream.down.push_back(v1::Down { down: Some(down) });
        }
    }

    fn sync(&mut self, shared: &Shared, i: usize, ask: &v1::SyncAsk) -> Result<(), Violation> {
        let user = UserId::new(&ask.user).map_err(|e| e.to_string())?;
        self.load(shared, vec![user.clone()])?;
        let head = self.head(shared, &user);
        let first = self.stage.user(&user).map_or(1, |view| view.first);
        let result = if ask.after > head {
            let fault = proto::Fault::new(proto::Code::StaleRead, "above the head");
            v1::sync_answer::Result::Error(fault.to_error(None))
        } else {
            // Not beyond the head: a later owner may have stored more, and the next answer would go back.
            let limit = u64::from(ask.limit.max(1)).min(head - ask.after);
            let entries = shared.entries(&user, ask.after, usize::try_from(limit).unwrap_or(usize::MAX))?;
            let page = v1::SyncPage { entries, head, first, truncated: false };
            v1::sync_answer::Result::Page(page.encode_to_vec().into())
        };
        let (link, request_id) = (ask.link, ask.request_id);
        let answer = v1::SyncAnswer { link, request_id, result: Some(result), told: head };
        if let Some(stream) = self.streams.get_mut(i) {
            stream.down.push_back(v1::Down { down: Some(v1::down::Down::SyncAnswer(answer)) });
        }
        Ok(())
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

    /// Its process ends, or its streams do.
    pub fn break_streams(&mut self) {
        self.streams.iter_mut().for_each(|stream| stream.alive = false);
    }

    /// The stream to one node is replaced.
    pub fn break_streams_to(&mut self, node: &str) {
        self.streams.iter_mut().filter(|s| s.node == node).for_each(|s| s.alive = false);
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

fn link(fence: &Fence) -> v1::LinkRef {
    v1::LinkRef { reactor: fence.reactor, link: fence.link }
}

fn result(grant: &SessionGrant) -> v1::SessionResult {
    v1::SessionResult {
        link: Some(link(&grant.fence)),
        epoch: grant.epoch,
        head: grant.head,
        first: grant.first,
        cursor: grant.cursor,
        best_cursor: grant.best_cursor,
    }
}
