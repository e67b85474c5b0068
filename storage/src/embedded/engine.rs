//! The fjall database: three keyspaces, and a slot that holds it while it can be used. Knows nothing of
//! what is in the rows.
//!
//! Records only arrive and go in order (`log`), bodies and entries are written once and read by range
//! (`rows`), and everything else is small and changes (`state`).

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use fjall::compaction::Leveled;
use fjall::config::{CompressionPolicy, FilterPolicy, PartitioningPolicy};
use fjall::{
    AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot,
};

use super::journal;
use super::options::Options;
use super::space;
use crate::log::{LogError, Partition, Topic};
use crate::tables::StoreError;

/// Bytes of journals on disk before rarely written keyspaces are flushed for their sake. Bounds what a
/// start replays.
const JOURNALS_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// With two, the first spins for as long as the second compacts, and takes a core (fjall 3.1.13).
const WORKERS: usize = 1;
/// Full memtables of a keyspace that wait. The engine seals more by itself where journals are long.
const SEALED_MAX: usize = 2;
/// With so many the engine waits, also for work that has failed.
const SEALED_HALT: usize = 4;
/// While so many wait, one more may grow to so many memtables: a merge may take long.
const GROWN_MAX: u64 = 4;
/// Tables that are merged into, in memtables.
const TABLE_MEMTABLES: u64 = 4;
/// By level, whether the index and the filter of a table are cut into blocks, which are read and held as the others are.
/// Whole, they are held as long as the table is (7 MiB for 512 MiB), and while it is written, the last key in each of
/// its blocks keeps the block that it was read from: all of the table (fjall 3.1.13).
const PARTITIONED: [bool; 2] = [false, true];
/// Runs of tables that are not merged; at twenty, the engine slows down, at thirty it waits.
const RUNS_MAX: usize = 20;
const KEYSPACES: usize = 3;
/// Memtables in memory at the most: of each keyspace those that wait and one that has grown, and as many as a table has
/// bytes: data of earlier versions is not partitioned.
pub(super) const MEMTABLES_MAX: u64 = KEYSPACES as u64 * (SEALED_MAX as u64 + GROWN_MAX) + TABLE_MEMTABLES;
/// Turns of the writer by which full memtables may be larger: as many of each keyspace as wait.
pub(super) const TURNS_MAX: u64 = (KEYSPACES * SEALED_MAX) as u64;
/// Open table files, or an eighth of all descriptors: half of what links leave to others. The other half is for what
/// is merged, for journals, and for what is not data.
const FILES_MAX: usize = 128;

/// What can be wrong below.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    #[error("{0}")]
    Engine(#[from] fjall::Error),
    #[error("a journal: {0}")]
    Journal(#[from] std::io::Error),
    #[error("a {0} row cannot be read")]
    Damaged(&'static str),
    #[error("the data is closed, or being opened again after an error")]
    Closed,
    #[error("background work of the engine has failed")]
    Poisoned,
    #[error("{} is damaged at byte {at}, and what follows was acknowledged", .journal.display())]
    Rotten { journal: PathBuf, at: u64 },
    #[error("{topic}/{partition} ends at {next}, and had been read up to {shown}")]
    Lost { topic: Topic, partition: Partition, next: u64, shown: u64 },
}

impl From<EngineError> for StoreError {
    fn from(error: EngineError) -> Self {
        StoreError::Failed(error.to_string())
    }
}

impl From<EngineError> for LogError {
    fn from(error: EngineError) -> Self {
        let cause = error.to_string();
        match error {
            EngineError::Closed => LogError::Unreachable { place: "the data directory".into(), cause },
            _ => LogError::Failed(cause),
        }
    }
}

/// An open database.
pub(super) struct Engine {
    db: Database,
    pub(super) log: Keyspace,
    pub(super) rows: Keyspace,
    pub(super) state: Keyspace,
    memtable_bytes: u64,
}

impl Engine {
    /// Opens or creates it.
    pub(super) fn open(dir: &Path, options: &Options) -> Result<Self, EngineError> {
        journal::mend(dir)?;
        let db = Database::builder(dir)
            .cache_size(options.cache_bytes)
            .journal_compression(CompressionType::None)
            .max_journaling_size(JOURNALS_BYTES_MAX)
            .max_cached_files(Some(FILES_MAX.min(space::descriptors_max() / 8)))
            .worker_threads(WORKERS)
            .open()?;
        let memtable_bytes = options.memtable_bytes;
        let merges = Leveled::default().with_table_target_size(TABLE_MEMTABLES * memtable_bytes);
        let merges = Arc::new(merges);
        // The engine's own limit: see `Engine::seal_full`.
        let keyspace = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(u64::MAX)
                .compaction_strategy(merges.clone())
                .index_block_partitioning_policy(PartitioningPolicy::new(PARTITIONED))
                .filter_block_partitioning_policy(PartitioningPolicy::new(PARTITIONED))
        };
        // The log is never asked for a key that may be missing: filters would only cost memory.
        let log = db.keyspace("log", || keyspace().filter_policy(FilterPolicy::disabled()))?;
        // Not compressed: a table is whole by its bytes on disk, and the blocks that a merge holds until then are not
        // compressed. Bodies of zeros would take any memory.
        let rows =
            db.keyspace("rows", || keyspace().data_block_compression_policy(CompressionPolicy::disabled()))?;
        let state = db.keyspace("state", keyspace)?;
        Ok(Self { db, log, rows, state, memtable_bytes })
    }

    /// An empty batch. Its commit hands it to the operating system, whole or not at all.
    pub(super) fn batch(&self) -> fjall::OwnedWriteBatch {
        self.db.batch()
    }

    /// Waits until everything committed is on disk.
    pub(super) fn persist(&self) -> fjall::Result<()> {
        self.db.persist(PersistMode::SyncAll)
    }

    /// Hands what is committed to the operating system; it is there already, so this only says whether
    /// the engine still works.
    pub(super) fn flush(&self) -> fjall::Result<()> {
        self.db.persist(PersistMode::Buffer)
    }

    /// Seals the memtables that are full. The engine would have its one thread do it, behind whatever that is merging,
    /// while they grow on (fjall 3.1.13).
    pub(super) fn seal_full(&self) -> fjall::Result<()> {
        for keyspace in self.keyspaces() {
            let is_full = keyspace.tree.active_memtable().size() >= self.memtable_bytes;
            if is_full && keyspace.sealed_memtable_count() < SEALED_MAX {
                keyspace.rotate_memtable()?;
            }
        }
        Ok(())
    }

    /// Whether more memory waits to be flushed, or more tables to be merged, than should.
    pub(super) fn is_behind(&self) -> bool {
        self.keyspaces().into_iter().any(|keyspace| {
            let sealed = keyspace.sealed_memtable_count();
            let has_grown = keyspace.tree.active_memtable().size() >= GROWN_MAX * self.memtable_bytes;
            sealed >= SEALED_HALT
                || (sealed >= SEALED_MAX && has_grown)
                || keyspace.tree.l0_run_count() >= RUNS_MAX
        })
    }

    fn keyspaces(&self) -> [&Keyspace; KEYSPACES] {
        [&self.log, &self.rows, &self.state]
    }

    /// Bytes of blocks that are held in memory.
    pub(super) fn cache_bytes(&self) -> u64 {
        self.db.cache_size()
    }

    /// Bytes of memtables in memory. One that was flushed stays until the next one is sealed (fjall 3.1.13).
    pub(super) fn memtable_bytes(&self) -> u64 {
        self.keyspaces().into_iter().map(|keyspace| keyspace.tree.version_memtable_size_sum()).sum()
    }

    /// What is committed at this moment. Reads of more than one row need it: a batch reaches the
    /// keyspaces row by row.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.db.snapshot()
    }

    /// One row.
    pub(super) fn get(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<fjall::Slice>, EngineError> {
        Ok(keyspace.get(key)?)
    }
}

/// Gives a row of a range.
pub(super) fn row(guard: fjall::Guard) -> Result<(fjall::Slice, fjall::Slice), EngineError> {
    Ok(guard.into_inner()?)
}

/// The last key of a range.
pub(super) fn last_key(
    snapshot: &Snapshot,
    keyspace: &Keyspace,
    from: &[u8],
    to: &[u8],
) -> Result<Option<fjall::Slice>, EngineError> {
    let last = snapshot.range(keyspace, from..=to).next_back();
    Ok(last.map(fjall::Guard::key).transpose()?)
}

/// Where the engine is, unless it is closed or being opened again.
#[derive(Default)]
pub(super) struct Slot(RwLock<Option<Engine>>);

impl Slot {
    /// Uses the engine. Uses are short: taking it out waits for them.
    pub(super) fn with<T>(
        &self,
        act: impl FnOnce(&Engine) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let engine = self.0.read().unwrap_or_else(PoisonError::into_inner);
        act(engine.as_ref().ok_or(EngineError::Closed)?)
    }

    /// Takes the engine out, or puts one in.
    pub(super) fn replace(&self, engine: Option<Engine>) -> Option<Engine> {
        std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), engine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Partitions;

    #[test]
    fn memtables_are_sealed_when_they_are_full_and_reach_tables() {
        const MEMTABLE: u64 = 1 << 20;
        const ROW: usize = 64 * 1024;
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(Partitions { messages: 1, timelines: 1 });
        let engine = Engine::open(dir.path(), &Options { memtable_bytes: MEMTABLE, ..options }).unwrap();
        for number in 0_u64..200 {
            engine.seal_full().unwrap();
            while engine.is_behind() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            let mut batch = engine.batch();
            batch.insert(&engine.rows, number.to_be_bytes(), vec![7; ROW]);
            batch.commit().unwrap();
            let active = engine.rows.tree.active_memtable().size();
            assert!(active < GROWN_MAX * MEMTABLE + 2 * ROW as u64, "{active} bytes after {number} rows");
        }
        assert!(engine.rows.tree.table_count() > 0, "nothing was written out");
    }
}
