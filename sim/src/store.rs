//! The tables in memory, with their one rule: the write with the lower tick loses, at equal ticks a delete
//! wins. Rows land one by one, in the order and at the time that the simulation chooses.

use std::collections::BTreeMap;

use proto::partition::Partition;
use proto::{ConversationId, Tick, UserId};
use storage::log::Topic;
use storage::tables::{
    Checkpoint, ConversationRow, ConversationWrite, EntryRow, Fence, HistoryRow, Sender, SessionRow,
    SessionWrite, StoredUser, UserWrite,
};

/// Every table of the deployment.
#[derive(Default, Clone)]
pub struct Store {
    /// Whole conversations.
    pub conversations: BTreeMap<ConversationId, ConversationRow>,
    /// Bodies.
    pub history: BTreeMap<(ConversationId, u64), HistoryRow>,
    /// Entries of timelines.
    pub entries: BTreeMap<(UserId, u64), EntryRow>,
    /// Users.
    pub users: BTreeMap<UserId, StoredUser>,
    /// The index of sessions, with tombstones.
    pub sessions: BTreeMap<(Partition, Fence), (Tick, bool, SessionRow)>,
    /// Checkpoints.
    pub checkpoints: BTreeMap<(Topic, Partition), Checkpoint>,
}

impl Store {
    /// Writes a conversation as its tick allows.
    pub fn save_conversation(&mut self, write: &ConversationWrite, guarded: bool) {
        let row = self.conversations.entry(write.id).or_default();
        if guarded && write.at <= row.at {
            return;
        }
        row.at = write.at;
        row.head = write.head.clone();
        let mut members: BTreeMap<UserId, _> = row.members.drain(..).collect();
        members.extend(write.members.iter().cloned());
        row.members = members.into_iter().collect();
        let mut senders: BTreeMap<Sender, _> = row.senders.drain(..).collect();
        senders.extend(write.senders.iter().cloned());
        row.senders = senders.into_iter().collect();
    }

    /// Stores a body. A rewrite must bring the same bytes.
    ///
    /// # Errors
    /// It brought others.
    pub fn put_history(&mut self, row: &HistoryRow) -> Result<(), String> {
        let key = (row.conversation, row.no);
        match self.history.insert(key, row.clone()) {
            Some(old) if old != *row => Err(format!("history {key:?} was rewritten with other bytes")),
            _ => Ok(()),
        }
    }

    /// Stores an entry. A rewrite must bring the same bytes.
    ///
    /// # Errors
    /// It brought others.
    pub fn put_entry(&mut self, row: &EntryRow) -> Result<(), String> {
        let key = (row.user.clone(), row.seq);
        match self.entries.insert(key.clone(), row.clone()) {
            Some(old) if old != *row => Err(format!("entry {key:?} was rewritten with other bytes")),
            _ => Ok(()),
        }
    }

    /// Writes a user as its tick allows.
    pub fn save_user(&mut self, write: &UserWrite, guarded: bool) {
        let stored = self.users.get(&write.user);
        if !guarded || stored.is_none_or(|row| row.at < write.at) {
            let row = StoredUser { at: write.at, row: write.row.clone() };
            self.users.insert(write.user.clone(), row);
        }
    }

    /// Writes a session as its tick allows.
    pub fn save_session(&mut self, partition: Partition, write: &SessionWrite) {
        let key = (partition, write.session.fence.clone());
        let stored = self.sessions.get(&key);
        if stored.is_none_or(|(at, _, _)| *at < write.at || (*at == write.at && !write.live)) {
            self.sessions.insert(key, (write.at, write.live, write.session.clone()));
        }
    }

    /// The live sessions of a partition.
    #[must_use]
    pub fn live_sessions(&self, partition: Partition) -> Vec<SessionRow> {
        let of = |((p, _), (_, live, row)): (&(Partition, Fence), &(Tick, bool, SessionRow))| {
            (*p == partition && *live).then(|| row.clone())
        };
        self.sessions.iter().filter_map(of).collect()
    }

    /// Stores a checkpoint unless a later one is there.
    pub fn save_checkpoint(&mut self, topic: Topic, partition: Partition, checkpoint: &Checkpoint) {
        let stored = self.checkpoints.get(&(topic, partition));
        if stored.is_none_or(|c| c.tick <= checkpoint.tick) {
            self.checkpoints.insert((topic, partition), checkpoint.clone());
        }
    }
}
