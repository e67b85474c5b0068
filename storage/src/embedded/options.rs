//! What can be set about the embedded log and tables, and what happens when the data cannot be trusted
//! any more.

use std::fmt;
use std::sync::Arc;

use super::engine::{MEMTABLES_MAX, TURNS_MAX};
use crate::log::Partitions;

/// The exit code of a process whose fsync failed.
pub const EXIT_FSYNC: i32 = 6;

const MIB: usize = 1024 * 1024;

/// Why the process cannot go on with its data. What was reported is on disk; of what was not, nobody
/// knows, whatever the page cache says. Only a new start, after a look at the disk, may read it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// An fsync of the journal failed.
    #[error("an fsync failed: {0}")]
    Fsync(String),
    /// A background flush or compaction failed while there was room and there were descriptors; its error, which may be
    /// an fsync's, is in the logs. Or what it left cannot be opened again.
    #[error("background work on the data failed: {0}")]
    Background(String),
}

/// Is told of a fatal failure, on the writer's thread. Where it returns, the log and the tables stay dead.
pub type OnFatal = Arc<dyn Fn(&Fatal) + Send + Sync>;

/// Settings of [`super::open`].
#[derive(Clone)]
pub struct Options {
    /// The counts to create the data with. Data of other counts is refused.
    pub partitions: Partitions,
    /// Bytes of blocks read from disk that stay in memory. Default 16 MiB. Too small: cold users and old
    /// history cost a read each.
    pub cache_bytes: u64,
    /// Bytes of recent writes that each of the three keyspaces collects in memory. Default 16 MiB; up to
    /// six times that is used while the disk is slow, and four times while tables are merged. Data that
    /// is there already keeps its size of tables. Too small: more compaction.
    pub memtable_bytes: u64,
    /// Bytes of recent records, over all partitions, that readers find without the engine. Default
    /// 8 MiB.
    pub tail_bytes: usize,
    /// Work that waits for the writer, in items. Default 65,536.
    pub mailbox_items: usize,
    /// The same in bytes. Default 16 MiB; as much again is being written. Too small: refusals in bursts.
    pub mailbox_bytes: usize,
    /// Bytes that one producer may have queued and not reported. Default 8 MiB.
    pub producer_bytes: usize,
    /// Free bytes of the file system below which everything that needs room is refused. Default 256 MiB:
    /// room for background work to end well. Too small: it fails, and the data is closed until there is room.
    pub reserve_bytes: u64,
    /// What to do when an fsync fails. Default: end the process with [`EXIT_FSYNC`].
    pub on_fatal: OnFatal,
}

impl Options {
    /// The defaults.
    #[must_use]
    pub fn new(partitions: Partitions) -> Self {
        Self {
            partitions,
            cache_bytes: 16 * MIB as u64,
            memtable_bytes: 16 * MIB as u64,
            tail_bytes: 8 * MIB,
            mailbox_items: 65_536,
            mailbox_bytes: 16 * MIB,
            producer_bytes: 8 * MIB,
            reserve_bytes: 256 * MIB as u64,
            on_fatal: Arc::new(|_| std::process::exit(EXIT_FSYNC)),
        }
    }

    /// Bytes that the tables hold in memory at the most, whatever the disk does.
    #[must_use]
    pub fn tables_bytes_max(&self) -> u64 {
        let memtables = MEMTABLES_MAX.saturating_mul(self.memtable_bytes);
        self.cache_bytes.saturating_add(memtables).saturating_add(TURNS_MAX.saturating_mul(self.turn_bytes()))
    }

    /// Bytes that the log holds in memory at the most, pages that are being read aside: its tail, and what waits for
    /// the writer and is being written.
    #[must_use]
    pub fn log_bytes_max(&self) -> u64 {
        let tail = u64::try_from(self.tail_bytes).unwrap_or(u64::MAX);
        tail.saturating_add(self.turn_bytes().saturating_mul(2))
    }

    fn turn_bytes(&self) -> u64 {
        u64::try_from(self.mailbox_bytes).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("partitions", &self.partitions).finish_non_exhaustive()
    }
}
