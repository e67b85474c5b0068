//! One turn's rows: judges every write of a table by its tick, and gathers what wins into one batch.
//! Nothing of it is seen before the commit.

use std::collections::HashMap;

use fjall::{Keyspace, OwnedWriteBatch};
use proto::Tick;
use proto::partition::Partition;

use super::engine::{Engine, EngineError};
use super::value::Beginning;
use super::work::Rows;
use super::{key, value};
use crate::log::{Record, Topic};
use crate::tables::{Checkpoint, ConversationWrite, EntryRow, HistoryRow, SessionWrite, UserWrite};

/// How old a row is. A row that is gone is kept as such, or a late write of a lower tick would bring it
/// back.
#[derive(Clone, Copy)]
struct Stamp {
    at: u64,
    live: bool,
}

pub(super) struct Draft<'a> {
    engine: &'a Engine,
    batch: OwnedWriteBatch,
    /// Of the guarded rows in the batch.
    stamps: HashMap<Vec<u8>, Stamp>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(engine: &'a Engine) -> Self {
        Self { engine, batch: engine.batch(), stamps: HashMap::new() }
    }

    /// Hands everything to the operating system, whole or not at all.
    pub(super) fn commit(self) -> fjall::Result<()> {
        self.batch.commit()
    }

    pub(super) fn record(&mut self, topic: Topic, partition: Partition, record: &Record) {
        let key = key::record(topic, partition, record.offset);
        self.batch.insert(&self.engine.log, key, value::stamped(record.append_us, &record.bytes));
    }

    pub(super) fn drop_record(&mut self, topic: Topic, partition: Partition, offset: u64) {
        self.batch.remove(&self.engine.log, key::record(topic, partition, offset));
    }

    pub(super) fn beginning(&mut self, topic: Topic, partition: Partition, beginning: Beginning) {
        self.batch.insert(&self.engine.state, key::bounds(topic, partition), beginning.encode());
    }

    pub(super) fn rows(&mut self, rows: Rows) -> Result<(), EngineError> {
        match rows {
            Rows::Conversations(writes) => writes.into_iter().try_for_each(|w| self.conversation(&w)),
            Rows::Histories(rows) => rows.into_iter().try_for_each(|row| self.history(&row)),
            Rows::Entries(rows) => {
                rows.into_iter().for_each(|row| self.entry(&row));
                Ok(())
            }
            Rows::Users { partition, sessions, users } => {
                sessions.into_iter().try_for_each(|write| self.session(partition, &write))?;
                users.into_iter().try_for_each(|write| self.user(&write))
            }
        }
    }

    pub(super) fn checkpoint(
        &mut self,
        topic: Topic,
        partition: Partition,
        checkpoint: &Checkpoint,
    ) -> Result<(), EngineError> {
        let key = key::checkpoint(topic, partition);
        if self.wins(&self.engine.state, &key, checkpoint.tick, true)? {
            self.batch.insert(&self.engine.state, key, value::checkpoint(checkpoint));
        }
        Ok(())
    }

    /// Forgets sessions that are gone, from a key on: looks at `limit` rows, and gives the key to go on
    /// from, none at the end. Nothing at or below `before` may be written any more.
    pub(super) fn forget_sessions(
        &mut self,
        partition: Partition,
        from: Option<Vec<u8>>,
        before: Tick,
        limit: usize,
    ) -> Result<Option<Vec<u8>>, EngineError> {
        let (begin, end) = (key::sessions(partition), key::sessions_end(partition));
        let mut seen = 0;
        let mut last = None;
        for guard in self.engine.state.range(from.unwrap_or(begin)..end).take(limit) {
            let (key, value) = super::engine::row(guard)?;
            let (at, _) = value::stamp(&value).ok_or(EngineError::Damaged("session"))?;
            if at <= before.0 && !value::is_live(&value) && !self.stamps.contains_key(&key[..]) {
                self.batch.remove(&self.engine.state, key.clone());
            }
            seen += 1;
            last = Some(key);
        }
        // The key right after the last one.
        Ok(last.filter(|_| seen == limit).map(|key| [&key[..], &[0]].concat()))
    }

    fn conversation(&mut self, write: &ConversationWrite) -> Result<(), EngineError> {
        let head = key::head(&write.id);
        if !self.wins(&self.engine.state, &head, write.at, true)? {
            return Ok(());
        }
        let state = &self.engine.state;
        self.batch.insert(state, head, value::stamped(write.at.0, &write.head));
        for (user, row) in &write.members {
            self.batch.insert(state, key::member(&write.id, user), &row[..]);
        }
        for (sender, row) in &write.senders {
            self.batch.insert(state, key::sender(&write.id, sender), &row[..]);
        }
        Ok(())
    }

    /// Guarded, though its writers need not care: a body that was edited must not come back.
    fn history(&mut self, row: &HistoryRow) -> Result<(), EngineError> {
        let key = key::history(&row.conversation, row.no);
        if self.wins(&self.engine.rows, &key, row.at, true)? {
            self.batch.insert(&self.engine.rows, key, value::stamped(row.at.0, &row.entry));
        }
        Ok(())
    }

    /// Blind: an entry never changes.
    fn entry(&mut self, row: &EntryRow) {
        let key = key::entry(&row.user, row.seq);
        self.batch.insert(&self.engine.rows, key, value::stamped(row.at.0, &row.row));
    }

    fn session(&mut self, partition: Partition, write: &SessionWrite) -> Result<(), EngineError> {
        let key = key::session(partition, &write.session.fence);
        if self.wins(&self.engine.state, &key, write.at, write.live)? {
            let value = value::session(write.at, write.live, &write.session);
            self.batch.insert(&self.engine.state, key, value);
        }
        Ok(())
    }

    fn user(&mut self, write: &UserWrite) -> Result<(), EngineError> {
        let key = key::user(&write.user);
        if self.wins(&self.engine.state, &key, write.at, true)? {
            self.batch.insert(&self.engine.state, key, value::stamped(write.at.0, &write.row));
        }
        Ok(())
    }

    /// A higher tick wins; at equal ticks only a delete over what is there.
    fn wins(&mut self, keyspace: &Keyspace, key: &[u8], at: Tick, live: bool) -> Result<bool, EngineError> {
        let stored = match self.stamps.get(key) {
            Some(stamp) => Some(*stamp),
            None => self.engine.get(keyspace, key)?.map(|value| stamp(key, &value)).transpose()?,
        };
        let wins = stored.is_none_or(|old| at.0 > old.at || (at.0 == old.at && old.live && !live));
        if wins {
            self.stamps.insert(key.to_vec(), Stamp { at: at.0, live });
        }
        Ok(wins)
    }
}

fn stamp(key: &[u8], value: &[u8]) -> Result<Stamp, EngineError> {
    let (at, _) = value::stamp(value).ok_or(EngineError::Damaged("guarded"))?;
    Ok(Stamp { at, live: !key::is_session(key) || value::is_live(value) })
}
