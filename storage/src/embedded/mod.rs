//! The log and the tables in one directory of this machine, on one fjall database.
//!
//! One writer thread does every write: it takes what its mailbox holds, commits it as one batch, answers
//! the tables, waits for the disk where there are records or checkpoints, and only then shows and reports
//! the records. Reads go to the engine directly. The parts, in the order of a record's way: `log`
//! (producer), `mailbox`, `writer`, `draft`, `engine`, `place`, `log` (reader).
//!
//! An error of the engine refuses what it hit, and the writer closes the database and opens it again
//! until that works. A failed fsync is not survived: see [`Fatal`].

pub mod check;
mod clock;
mod dir;
mod draft;
mod engine;
mod journal;
mod key;
mod log;
mod mailbox;
mod options;
mod place;
mod reopen;
mod space;
mod store;
mod sweep;
mod turn;
mod value;
mod work;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

pub use self::dir::OpenError;
pub use self::log::PAGE_BYTES_MAX;
pub use self::options::{EXIT_FSYNC, Fatal, OnFatal, Options};

use self::dir::Dir;
use self::engine::Slot;
use self::mailbox::Mailbox;
use self::place::Places;
use self::work::Work;
use self::writer::Writer;
use crate::log::Log;
use crate::tables::Store;

/// What the writer and everyone who asks it share.
struct Core {
    mailbox: Mailbox<Work>,
    places: Places,
    slot: Slot,
    options: Options,
}

/// Keeps the writer running. The last one closes the data when it is dropped, which waits for the disk.
struct Handle {
    core: Arc<Core>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.mailbox.close();
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // A report may hold the last handle: the writer must not wait for itself.
        if let Some(writer) = writer.filter(|writer| writer.thread().id() != thread::current().id()) {
            let _ = writer.join();
        }
    }
}

/// Work that waits for the writer, and the caps on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Items that wait.
    pub items: usize,
    /// At most.
    pub items_max: usize,
    /// Bytes that wait.
    pub bytes: usize,
    /// At most.
    pub bytes_max: usize,
}

/// Bytes that the tables hold in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Blocks read from disk.
    pub cache: u64,
    /// At most.
    pub cache_max: u64,
    /// Rows that wait to be flushed, and of those that were flushed the last ones; as the engine counts them, not as the
    /// allocator does.
    pub memtables: u64,
}

/// Open data. It stays open until this, and all logs, stores, producers and readers of it are dropped.
pub struct Embedded {
    handle: Arc<Handle>,
    path: PathBuf,
}

impl Embedded {
    /// The log.
    #[must_use]
    pub fn log(&self) -> Arc<dyn Log> {
        Arc::new(log::EmbeddedLog::new(self.handle.clone()))
    }

    /// The tables.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::new(store::EmbeddedStore::new(self.handle.clone()))
    }

    /// How full the writer's mailbox is; for metrics.
    #[must_use]
    pub fn depth(&self) -> Depth {
        let core = &self.handle.core;
        let (items, bytes) = core.mailbox.depth();
        let (items_max, bytes_max) = (core.options.mailbox_items, core.options.mailbox_bytes);
        Depth { items, items_max, bytes, bytes_max }
    }

    /// What the tables hold in memory; for metrics.
    #[must_use]
    pub fn held(&self) -> Held {
        let core = &self.handle.core;
        // Nothing while the data is opened again.
        let (cache, memtables) =
            core.slot.with(|engine| Ok((engine.cache_bytes(), engine.memtable_bytes()))).unwrap_or_default();
        Held { cache, cache_max: core.options.cache_bytes, memtables }
    }

    /// The bytes that are free where fewer are than [`Options::reserve_bytes`]: then nothing more is taken.
    #[must_use]
    pub fn is_full(&self) -> Option<u64> {
        let free = space::available(&self.path).ok()?;
        (free < self.handle.core.options.reserve_bytes).then_some(free)
    }
}

/// Opens the data in a directory, or creates it there. Blocks while it recovers.
///
/// # Errors
/// The directory is in use, was made for something else, or cannot be read or written.
pub fn open(dir: &Path, options: Options) -> Result<Embedded, OpenError> {
    let dir = Dir::take(dir, options.partitions)?;
    let core = Arc::new(Core {
        mailbox: Mailbox::new(options.mailbox_items, options.mailbox_bytes),
        places: Places::new(options.partitions, options.tail_bytes),
        slot: Slot::default(),
        options,
    });
    let path = dir.path().to_owned();
    let writer = Writer::open(dir, core.clone())?;
    let thread = thread::Builder::new().name("godwit-writer".into()).spawn(move || writer.run());
    let thread = thread.map_err(|cause| OpenError::Io { path: path.clone(), cause })?;
    Ok(Embedded { handle: Arc::new(Handle { core, writer: Mutex::new(Some(thread)) }), path })
}
