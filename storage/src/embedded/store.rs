//! The table seams. Writes go to the writer and are answered by it; reads go to the engine.
//!
//! Reads run where they are called: a page or a few keys are mostly in memory. Only what may touch many
//! blocks of the disk (many keys, all sessions) moves to a thread that may block.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use fjall::{Readable, Snapshot};
use futures::FutureExt;
use proto::partition::Partition;
use proto::{ConversationId, Tick, UserId};
use tokio::sync::oneshot;

use super::engine::{Engine, EngineError, row};
use super::key::Part;
use super::work::{Rows, Work};
use super::{Handle, key, value};
use crate::log::Topic;
use crate::tables::{
    Answer, Checkpoint, Checkpoints, ConversationRow, ConversationWrite, Conversations, Direction, EntryRow,
    Histories, HistoryRow, SessionRow, SessionWrite, Store, StoreError, StoredUser, Timelines, UserWrite,
    Users,
};

/// More keys than this are read on a thread that may block.
const INLINE_KEYS_MAX: usize = 16;

pub(super) struct EmbeddedStore {
    handle: Arc<Handle>,
}

impl EmbeddedStore {
    pub(super) fn new(handle: Arc<Handle>) -> Self {
        Self { handle }
    }

    /// Asks the writer. The answer's slot exists before the work is queued.
    async fn ask(&self, work: impl FnOnce(super::work::Reply) -> Work) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let closed = || StoreError::Failed(EngineError::Closed.to_string());
        if !self.handle.core.mailbox.send(work(reply)).await {
            return Err(closed());
        }
        answer.await.map_err(|_| closed())?.map_err(StoreError::Failed)
    }

    async fn write(&self, rows: Rows) -> Result<(), StoreError> {
        self.ask(|reply| Work::Write { rows, reply }).await
    }

    fn read<T>(&self, act: impl FnOnce(&Engine) -> Result<T, EngineError>) -> Result<T, StoreError> {
        Ok(self.handle.core.slot.with(act)?)
    }

    async fn read_long<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Engine) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let core = self.handle.core.clone();
        let read = tokio::task::spawn_blocking(move || core.slot.with(act)).await;
        Ok(read.map_err(|_| StoreError::Failed("a read was given up".into()))??)
    }

    /// Reads each of `keys`, in place or elsewhere as their number says.
    async fn read_each<K, T>(
        &self,
        keys: &[K],
        act: fn(&Engine, &[K]) -> Result<Vec<T>, EngineError>,
    ) -> Result<Vec<T>, StoreError>
    where
        K: Clone + Send + Sync + 'static,
        T: Send + 'static,
    {
        if keys.len() <= INLINE_KEYS_MAX {
            return self.read(|engine| act(engine, keys));
        }
        let keys = keys.to_vec();
        self.read_long(move |engine| act(engine, &keys)).await
    }
}

impl Store for EmbeddedStore {
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

impl Conversations for EmbeddedStore {
    fn load<'a>(&'a self, ids: &'a [ConversationId]) -> Answer<'a, Vec<Option<ConversationRow>>> {
        self.read_each(ids, |engine, ids| {
            let snapshot = engine.snapshot();
            ids.iter().map(|id| conversation(engine, &snapshot, id)).collect()
        })
        .boxed()
    }

    fn save(&self, writes: Vec<ConversationWrite>) -> Answer<'_, ()> {
        self.write(Rows::Conversations(writes)).boxed()
    }

    fn members<'a>(
        &'a self,
        id: &'a ConversationId,
        after: Option<&'a UserId>,
        limit: usize,
    ) -> Answer<'a, Option<ConversationRow>> {
        let page = self.read(|engine| {
            let snapshot = engine.snapshot();
            let Some(mut found) = head(engine, &snapshot, id)? else { return Ok(None) };
            let begin = match after {
                Some(user) => Bound::Excluded(key::member(id, user)),
                None => Bound::Included(key::members(id)),
            };
            let range = (begin, Bound::Excluded(key::members_end(id)));
            for guard in snapshot.range(&engine.state, range).take(limit) {
                add_part(&mut found, guard)?;
            }
            Ok(Some(found))
        });
        async move { page }.boxed()
    }

    fn member<'a>(
        &'a self,
        id: &'a ConversationId,
        user: &'a UserId,
    ) -> Answer<'a, Option<(Bytes, Option<Bytes>)>> {
        let member = self.read(|engine| {
            let snapshot = engine.snapshot();
            let Some(found) = head(engine, &snapshot, id)? else { return Ok(None) };
            let member = snapshot.get(&engine.state, key::member(id, user))?;
            Ok(Some((found.head, member.map(|row| Bytes::copy_from_slice(&row)))))
        });
        async move { member }.boxed()
    }
}

/// A conversation's head, without members and senders.
fn head(
    engine: &Engine,
    snapshot: &Snapshot,
    id: &ConversationId,
) -> Result<Option<ConversationRow>, EngineError> {
    let Some(value) = snapshot.get(&engine.state, key::head(id))? else { return Ok(None) };
    let (at, head) = stamped(&value, "conversation")?;
    Ok(Some(ConversationRow { at, head, ..ConversationRow::default() }))
}

/// Asks for the head first: most misses end at a filter, and a range has none.
fn conversation(
    engine: &Engine,
    snapshot: &Snapshot,
    id: &ConversationId,
) -> Result<Option<ConversationRow>, EngineError> {
    let Some(mut found) = head(engine, snapshot, id)? else { return Ok(None) };
    for guard in snapshot.prefix(&engine.state, key::conversation(id)) {
        add_part(&mut found, guard)?;
    }
    Ok(Some(found))
}

fn add_part(found: &mut ConversationRow, guard: fjall::Guard) -> Result<(), EngineError> {
    let (key, value) = row(guard)?;
    let bytes = Bytes::copy_from_slice(&value);
    match key::part(&key).ok_or(EngineError::Damaged("conversation"))? {
        Part::Head => {}
        Part::Member(user) => found.members.push((user, bytes)),
        Part::Sender(sender) => found.senders.push((sender, bytes)),
    }
    Ok(())
}

fn stamped(value: &[u8], what: &'static str) -> Result<(Tick, Bytes), EngineError> {
    let (at, rest) = value::stamp(value).ok_or(EngineError::Damaged(what))?;
    Ok((Tick(at), Bytes::copy_from_slice(rest)))
}

impl Histories for EmbeddedStore {
    fn put(&self, rows: Vec<HistoryRow>) -> Answer<'_, ()> {
        self.write(Rows::Histories(rows)).boxed()
    }

    fn get<'a>(&'a self, keys: &'a [(ConversationId, u64)]) -> Answer<'a, Vec<Option<HistoryRow>>> {
        self.read_each(keys, |engine, keys| {
            let read = |(id, no): &(ConversationId, u64)| {
                let Some(value) = engine.get(&engine.rows, &key::history(id, *no))? else { return Ok(None) };
                history(*id, *no, &value).map(Some)
            };
            keys.iter().map(read).collect()
        })
        .boxed()
    }

    fn page<'a>(
        &'a self,
        id: &'a ConversationId,
        from: u64,
        to: u64,
        direction: Direction,
        limit: usize,
    ) -> Answer<'a, Vec<HistoryRow>> {
        let read = |guard| {
            let (key, value) = row(guard)?;
            history(*id, key::number(&key).ok_or(EngineError::Damaged("history"))?, &value)
        };
        let page = if from > to {
            Ok(Vec::new())
        } else {
            self.read(|engine| {
                let rows = engine.rows.range(key::history(id, from)..=key::history(id, to));
                match direction {
                    Direction::Forward => rows.take(limit).map(read).collect(),
                    Direction::Backward => rows.rev().take(limit).map(read).collect(),
                }
            })
        };
        async move { page }.boxed()
    }
}

fn history(conversation: ConversationId, no: u64, value: &[u8]) -> Result<HistoryRow, EngineError> {
    let (at, entry) = stamped(value, "history")?;
    Ok(HistoryRow { conversation, no, at, entry })
}

impl Timelines for EmbeddedStore {
    fn put(&self, rows: Vec<EntryRow>) -> Answer<'_, ()> {
        self.write(Rows::Entries(rows)).boxed()
    }

    fn after<'a>(&'a self, user: &'a UserId, after: u64, limit: usize) -> Answer<'a, Vec<EntryRow>> {
        let read = |guard| {
            let (key, value) = row(guard)?;
            let seq = key::number(&key).ok_or(EngineError::Damaged("entry"))?;
            let (at, row) = stamped(&value, "entry")?;
            Ok(EntryRow { user: user.clone(), seq, at, row })
        };
        let range = (Bound::Excluded(key::entry(user, after)), Bound::Included(key::entry(user, u64::MAX)));
        let page = if after == u64::MAX {
            Ok(Vec::new())
        } else {
            self.read(|engine| engine.rows.range::<Vec<u8>, _>(range).take(limit).map(read).collect())
        };
        async move { page }.boxed()
    }
}

impl Users for EmbeddedStore {
    fn load<'a>(&'a self, ids: &'a [UserId]) -> Answer<'a, Vec<Option<StoredUser>>> {
        self.read_each(ids, |engine, ids| {
            let read = |id: &UserId| {
                let Some(value) = engine.get(&engine.state, &key::user(id))? else { return Ok(None) };
                let (at, row) = stamped(&value, "user")?;
                Ok(Some(StoredUser { at, row }))
            };
            ids.iter().map(read).collect()
        })
        .boxed()
    }

    fn save(
        &self,
        partition: Partition,
        sessions: Vec<SessionWrite>,
        users: Vec<UserWrite>,
    ) -> Answer<'_, ()> {
        self.write(Rows::Users { partition, sessions, users }).boxed()
    }

    fn sessions(&self, partition: Partition) -> Answer<'_, Vec<SessionRow>> {
        self.read_long(move |engine| {
            let mut sessions = Vec::new();
            let range = key::sessions(partition)..key::sessions_end(partition);
            for guard in engine.snapshot().range(&engine.state, range) {
                let (key, value) = row(guard)?;
                if value::is_live(&value) {
                    let fence = key::fence(&key);
                    let session = fence.and_then(|fence| value::read_session(fence, &value));
                    sessions.push(session.ok_or(EngineError::Damaged("session"))?);
                }
            }
            Ok(sessions)
        })
        .boxed()
    }
}

impl Checkpoints for EmbeddedStore {
    fn load(&self, topic: Topic, partition: Partition) -> Answer<'_, Option<Checkpoint>> {
        let loaded = self.read(|engine| {
            let value = engine.get(&engine.state, &key::checkpoint(topic, partition))?;
            let read = |value| value::read_checkpoint(value).ok_or(EngineError::Damaged("checkpoint"));
            value.as_deref().map(read).transpose()
        });
        async move { loaded }.boxed()
    }

    fn save(&self, topic: Topic, partition: Partition, checkpoint: Checkpoint) -> Answer<'_, ()> {
        self.ask(move |reply| Work::Checkpoint { topic, partition, checkpoint, reply }).boxed()
    }
}
