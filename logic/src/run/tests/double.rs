//! A log and tables in memory that do what a test says: reports are held back or fail, puts fail or wait,
//! and everything is written into a journal in the order in which it happened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use prost::Message;
use proto::{ConversationId, UserId, v1};
use storage::log::{
    Append, AppendError, Log, LogError, Membership, Partition, Partitions, Producer, Reader, Record, Report,
    Tag, Topic,
};
use storage::tables::*;
use tokio::sync::watch;

pub(crate) const PARTITIONS: Partitions = Partitions { messages: 1, timelines: 2 };

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    Read(Topic, u64),
    LoadCheckpoint(Topic),
    LoadSessions,
    History(u64),
    Output { source: u64, prev: u64 },
    Entry(u64),
    Rows,
    Checkpoint(Topic, u64),
    Trim(Topic, u64),
}

#[derive(Default)]
pub(crate) struct Faults {
    /// The log begins here.
    pub(crate) earliest: u64,
    /// Outcomes of outputs are kept back.
    pub(crate) hold_reports: bool,
    /// The outcomes of so many next outputs are failures, though they land.
    pub(crate) fail_reports: usize,
    /// So many next puts of history, and of entries, fail.
    pub(crate) fail_history: usize,
    pub(crate) fail_entries: usize,
    /// Readers get nothing new.
    pub(crate) hold_reads: bool,
    /// Puts of entries wait.
    pub(crate) hold_entries: bool,
    /// The outputs that a producer takes before it says that it is full.
    pub(crate) queued_max: Option<usize>,
    /// No record is taken, whoever's.
    pub(crate) full: bool,
}

#[derive(Default)]
struct State {
    records: BTreeMap<(Topic, Partition), Vec<Record>>,
    clock: u64,
    journal: Vec<Happened>,
    faults: Faults,
    held: Vec<(Arc<dyn Report>, Tag)>,
    queued: usize,
    conversations: BTreeMap<ConversationId, ConversationRow>,
    histories: BTreeMap<(ConversationId, u64), HistoryRow>,
    entries: BTreeMap<(UserId, u64), EntryRow>,
    users: BTreeMap<UserId, StoredUser>,
    sessions: BTreeMap<Fence, SessionRow>,
    checkpoints: BTreeMap<(Topic, Partition), Checkpoint>,
}

/// The log and the tables.
pub(crate) struct Double {
    state: Mutex<State>,
    version: watch::Sender<u64>,
}

impl Double {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), version: watch::Sender::new(0) })
    }

    pub(crate) fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock().faults);
        self.changed();
    }

    /// Reports what was held back, and holds nothing back any more.
    pub(crate) fn release_reports(&self) {
        let held = {
            let mut state = self.lock();
            state.faults.hold_reports = false;
            state.queued = 0;
            std::mem::take(&mut state.held)
        };
        for (report, tag) in held {
            report.reported(&[(tag, Ok(()))]);
        }
    }

    /// Appends a record and returns its time, which is its tick.
    pub(crate) fn append(&self, topic: Topic, partition: Partition, record: &impl Message) -> u64 {
        let us = self.lock().append(topic, partition, record.encode_to_vec().into());
        self.changed();
        us
    }

    pub(crate) fn journal(&self) -> Vec<Happened> {
        self.lock().journal.clone()
    }

    pub(crate) fn records(&self, topic: Topic, partition: Partition) -> Vec<Record> {
        self.lock().records.get(&(topic, partition)).cloned().unwrap_or_default()
    }

    pub(crate) fn checkpoint(&self, topic: Topic, partition: Partition) -> Option<Checkpoint> {
        self.lock().checkpoints.get(&(topic, partition)).cloned()
    }

    /// The outputs that a timeline stage would apply, in the order of one timelines partition.
    pub(crate) fn applied(&self, partition: Partition) -> Vec<v1::Output> {
        let mut seen = 0;
        let mut applied = Vec::new();
        for record in self.records(Topic::Timelines, partition) {
            let record = v1::TimelineRecord::decode(record.bytes).unwrap();
            if let Some(v1::timeline_record::Record::Output(output)) = record.record
                && output.prev <= seen
                && seen < output.source
            {
                seen = output.source;
                applied.push(output);
            }
        }
        applied
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn append(&mut self, topic: Topic, partition: Partition, bytes: Bytes) -> u64 {
        self.clock += 1000;
        let append_us = self.clock;
        let records = self.records.entry((topic, partition)).or_default();
        records.push(Record { offset: records.len() as u64, append_us, bytes });
        append_us
    }
}

/// The log's face.
pub(crate) struct DoubleLog(pub(crate) Arc<Double>);

impl Log for DoubleLog {
    fn partitions(&self) -> Partitions {
        PARTITIONS
    }

    fn producer(&self, _: usize, report: Arc<dyn Report>) -> Result<Box<dyn Producer>, LogError> {
        Ok(Box::new(DoubleProducer { double: self.0.clone(), report }))
    }

    fn reader(
        &self,
        topic: Topic,
        partition: Partition,
        offset: u64,
    ) -> BoxFuture<'_, Result<Box<dyn Reader>, LogError>> {
        self.0.lock().journal.push(Happened::Read(topic, offset));
        let version = self.0.version.subscribe();
        let reader = DoubleReader { double: self.0.clone(), topic, partition, offset, version };
        async move { Ok(Box::new(reader) as Box<dyn Reader>) }.boxed()
    }

    fn join(&self) -> Result<Box<dyn Membership>, LogError> {
        Err(LogError::Failed("nobody shares this log".into()))
    }

    fn bounds(&self, topic: Topic, partition: Partition) -> BoxFuture<'_, Result<(u64, u64), LogError>> {
        let end = self.0.records(topic, partition).len() as u64;
        let earliest = self.0.lock().faults.earliest;
        async move { Ok((earliest, end)) }.boxed()
    }

    fn trim(&self, topic: Topic, _: Partition, below: u64) -> BoxFuture<'_, Result<(), LogError>> {
        self.0.lock().journal.push(Happened::Trim(topic, below));
        async { Ok(()) }.boxed()
    }
}

struct DoubleProducer {
    double: Arc<Double>,
    report: Arc<dyn Report>,
}

impl Producer for DoubleProducer {
    fn append(&self, topic: Topic, partition: Partition, record: Bytes, tag: Tag) -> Append {
        let outcome = {
            let mut state = self.double.lock();
            if state.faults.full {
                return Append::Full;
            }
            let decoded = v1::TimelineRecord::decode(record.clone()).ok().and_then(|record| record.record);
            let output = match decoded {
                Some(v1::timeline_record::Record::Output(output)) if topic == Topic::Timelines => {
                    Some(output)
                }
                _ => None,
            };
            if output.is_some() && state.faults.queued_max.is_some_and(|max| state.queued >= max) {
                return Append::Full;
            }
            state.append(topic, partition, record);
            match output {
                None => Some(Ok(())),
                Some(output) => {
                    state.journal.push(Happened::Output { source: output.source, prev: output.prev });
                    if state.faults.fail_reports > 0 {
                        state.faults.fail_reports -= 1;
                        Some(Err(AppendError::Timeout))
                    } else if state.faults.hold_reports {
                        state.queued += 1;
                        state.held.push((self.report.clone(), tag));
                        None
                    } else {
                        Some(Ok(()))
                    }
                }
            }
        };
        self.double.changed();
        if let Some(outcome) = outcome {
            self.report.reported(&[(tag, outcome)]);
        }
        Append::Queued
    }

    fn depth(&self) -> (usize, usize) {
        (self.double.lock().queued, 1000)
    }
}

struct DoubleReader {
    double: Arc<Double>,
    topic: Topic,
    partition: Partition,
    offset: u64,
    version: watch::Receiver<u64>,
}

impl Reader for DoubleReader {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Record>, LogError>> {
        async move {
            loop {
                let records = self.double.records(self.topic, self.partition);
                let from = usize::try_from(self.offset).unwrap();
                if from < records.len() && !self.double.lock().faults.hold_reads {
                    let some: Vec<Record> = records[from..].iter().take(max).cloned().collect();
                    self.offset += some.len() as u64;
                    return Ok(some);
                }
                self.version.changed().await.unwrap();
            }
        }
        .boxed()
    }
}

/// The tables' face.
pub(crate) struct DoubleStore(pub(crate) Arc<Double>);

fn failed<T>(what: &str) -> Result<T, StoreError> {
    Err(StoreError::Unavailable(what.into()))
}

impl Store for DoubleStore {
    fn conversations(&self) -> &dyn Conversations {
        self
    }
    fn histories(&self) -> &dyn Histories {
        self
    }
    fn timelines(&self) -> &dyn Timelines {
        self
    }
    fn users(&self) -> &dyn Users {
        self
    }
    fn checkpoints(&self) -> &dyn Checkpoints {
        self
    }
}

impl Conversations for DoubleStore {
    fn load<'a>(&'a self, ids: &'a [ConversationId]) -> Answer<'a, Vec<Option<ConversationRow>>> {
        let state = self.0.lock();
        let rows = ids.iter().map(|id| state.conversations.get(id).cloned()).collect();
        async move { Ok(rows) }.boxed()
    }

    fn save(&self, writes: Vec<ConversationWrite>) -> Answer<'_, ()> {
        let mut state = self.0.lock();
        state.journal.push(Happened::Rows);
        for write in writes {
            let row = state.conversations.entry(write.id).or_default();
            if write.at <= row.at {
                continue;
            }
            row.at = write.at;
            row.head = write.head;
            let mut members: BTreeMap<_, _> = std::mem::take(&mut row.members).into_iter().collect();
            members.extend(write.members);
            row.members = members.into_iter().collect();
            let mut senders: BTreeMap<_, _> = std::mem::take(&mut row.senders).into_iter().collect();
            senders.extend(write.senders);
            row.senders = senders.into_iter().collect();
        }
        async { Ok(()) }.boxed()
    }

    fn members<'a>(
        &'a self,
        id: &'a ConversationId,
        after: Option<&'a UserId>,
        limit: usize,
    ) -> Answer<'a, Option<ConversationRow>> {
        let mut row = self.0.lock().conversations.get(id).cloned();
        if let Some(row) = &mut row {
            row.members.retain(|(user, _)| after.is_none_or(|after| user > after));
            row.members.truncate(limit);
        }
        async move { Ok(row) }.boxed()
    }

    fn member<'a>(
        &'a self,
        id: &'a ConversationId,
        user: &'a UserId,
    ) -> Answer<'a, Option<(Bytes, Option<Bytes>)>> {
        let row = self.0.lock().conversations.get(id).cloned();
        let found = row.map(|row| {
            let member = row.members.iter().find(|(member, _)| member == user).map(|(_, row)| row.clone());
            (row.head, member)
        });
        async move { Ok(found) }.boxed()
    }
}

impl Histories for DoubleStore {
    fn put(&self, rows: Vec<HistoryRow>) -> Answer<'_, ()> {
        let mut state = self.0.lock();
        if state.faults.fail_history > 0 {
            state.faults.fail_history -= 1;
            return async { failed("history") }.boxed();
        }
        for row in rows {
            state.journal.push(Happened::History(row.no));
            state.histories.insert((row.conversation, row.no), row);
        }
        async { Ok(()) }.boxed()
    }

    fn get<'a>(&'a self, keys: &'a [(ConversationId, u64)]) -> Answer<'a, Vec<Option<HistoryRow>>> {
        let state = self.0.lock();
        let rows = keys.iter().map(|key| state.histories.get(key).cloned()).collect();
        async move { Ok(rows) }.boxed()
    }

    fn page<'a>(
        &'a self,
        id: &'a ConversationId,
        from: u64,
        to: u64,
        direction: Direction,
        limit: usize,
    ) -> Answer<'a, Vec<HistoryRow>> {
        let state = self.0.lock();
        let range = state.histories.range((*id, from)..=(*id, to)).map(|(_, row)| row.clone());
        let rows = match direction {
            Direction::Forward => range.take(limit).collect(),
            Direction::Backward => range.rev().take(limit).collect(),
        };
        async move { Ok(rows) }.boxed()
    }
}

impl Timelines for DoubleStore {
    fn put(&self, rows: Vec<EntryRow>) -> Answer<'_, ()> {
        let mut version = self.0.version.subscribe();
        async move {
            while self.0.lock().faults.hold_entries {
                version.changed().await.unwrap();
            }
            let mut state = self.0.lock();
            if state.faults.fail_entries > 0 {
                state.faults.fail_entries -= 1;
                return failed("entries");
            }
            for row in rows {
                state.journal.push(Happened::Entry(row.seq));
                state.entries.insert((row.user.clone(), row.seq), row);
            }
            Ok(())
        }
        .boxed()
    }

    fn after<'a>(&'a self, user: &'a UserId, after: u64, limit: usize) -> Answer<'a, Vec<EntryRow>> {
        let state = self.0.lock();
        let range = state.entries.range((user.clone(), after + 1)..=(user.clone(), u64::MAX));
        let rows = range.take(limit).map(|(_, row)| row.clone()).collect();
        async move { Ok(rows) }.boxed()
    }
}

impl Users for DoubleStore {
    fn load<'a>(&'a self, ids: &'a [UserId]) -> Answer<'a, Vec<Option<StoredUser>>> {
        let state = self.0.lock();
        let rows = ids.iter().map(|id| state.users.get(id).cloned()).collect();
        async move { Ok(rows) }.boxed()
    }

    fn save(&self, _: Partition, sessions: Vec<SessionWrite>, users: Vec<UserWrite>) -> Answer<'_, ()> {
        let mut state = self.0.lock();
        state.journal.push(Happened::Rows);
        for write in sessions {
            match write.live {
                true => drop(state.sessions.insert(write.session.fence.clone(), write.session)),
                false => drop(state.sessions.remove(&write.session.fence)),
            }
        }
        for UserWrite { user, at, row } in users {
            if state.users.get(&user).is_none_or(|stored| stored.at < at) {
                state.users.insert(user, StoredUser { at, row });
            }
        }
        async { Ok(()) }.boxed()
    }

    fn sessions(&self, _: Partition) -> Answer<'_, Vec<SessionRow>> {
        let mut state = self.0.lock();
        state.journal.push(Happened::LoadSessions);
        let sessions = state.sessions.values().cloned().collect();
        async move { Ok(sessions) }.boxed()
    }
}

impl Checkpoints for DoubleStore {
    fn load(&self, topic: Topic, partition: Partition) -> Answer<'_, Option<Checkpoint>> {
        let mut state = self.0.lock();
        state.journal.push(Happened::LoadCheckpoint(topic));
        let checkpoint = state.checkpoints.get(&(topic, partition)).cloned();
        async move { Ok(checkpoint) }.boxed()
    }

    fn save(&self, topic: Topic, partition: Partition, checkpoint: Checkpoint) -> Answer<'_, ()> {
        let mut state = self.0.lock();
        state.journal.push(Happened::Checkpoint(topic, checkpoint.offset));
        let stored = state.checkpoints.get(&(topic, partition));
        if stored.is_none_or(|stored| stored.tick < checkpoint.tick) {
            state.checkpoints.insert((topic, partition), checkpoint);
        }
        async { Ok(()) }.boxed()
    }
}
