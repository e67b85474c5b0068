//! The data directory: who holds it, and what the data in it was made for. Knows nothing of rows.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::log::Partitions;
use crate::tables::{LAYOUT_VERSION, Layout};

const LOCK: &str = "lock";
const LAYOUT: &str = "layout";
const ENGINE: &str = "data";

/// Why data cannot be opened. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is in use by process {holder}: stop that one, or choose another directory", .dir.display())]
    Locked {
        /// The data directory.
        dir: PathBuf,
        /// The id of the process that has it.
        holder: String,
    },
    /// Made by another version.
    #[error(
        "{} has data of layout {found}, this build reads layout {LAYOUT_VERSION}: use a build that \
         reads layout {found}, or start in an empty directory", .dir.display()
    )]
    Layout {
        /// The data directory.
        dir: PathBuf,
        /// The layout of the data.
        found: u32,
    },
    /// Made with other partition counts, which are frozen.
    #[error(
        "{} was created with {} messages and {} timelines partitions, the settings say {} and {}: set \
         the counts that it was created with, or start in an empty directory",
        .dir.display(), .found.messages, .found.timelines, .asked.messages, .asked.timelines
    )]
    Partitions {
        /// The data directory.
        dir: PathBuf,
        /// The counts of the data.
        found: Partitions,
        /// The counts in the settings.
        asked: Partitions,
    },
    /// A topic needs at least one partition.
    #[error("the settings ask for no partitions: set at least one of messages and one of timelines")]
    NoPartitions,
    /// Not readable as what it should be.
    #[error("{} cannot be read: {cause}. Restore it from a backup, or start in an empty directory", .path.display())]
    Damaged {
        /// What cannot be read.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The file system did not let us.
    #[error("{}: {cause}. Check that the directory is writable and that its disk has room", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
}

/// A data directory that this process holds until it drops it.
#[derive(Debug)]
pub(super) struct Dir {
    path: PathBuf,
    /// Locked until this is dropped.
    lock: File,
}

impl Drop for Dir {
    /// Closing the file is not enough: a process that is just being forked off has it open too.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl Dir {
    /// Takes a directory: creates it where it is missing, refuses it where it is not ours.
    pub(super) fn take(path: &Path, asked: Partitions) -> Result<Self, OpenError> {
        if asked.messages == 0 || asked.timelines == 0 {
            return Err(OpenError::NoPartitions);
        }
        fs::create_dir_all(path).map_err(|e| io_error(path, e))?;
        let lock = take_lock(path)?;
        match read_layout(path)? {
            Some(layout) => check(path, layout, asked)?,
            None => write_layout(path, Layout { version: LAYOUT_VERSION, partitions: asked })?,
        }
        Ok(Self { path: path.to_owned(), lock })
    }

    /// The directory itself.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes sure that the directory itself, and the engine's in it, are found after a power cut.
    pub(super) fn sync(&self) -> Result<(), OpenError> {
        let path = self.path.canonicalize().map_err(|e| io_error(&self.path, e))?;
        for dir in path.ancestors().take(2) {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| io_error(dir, e))?;
        }
        Ok(())
    }

    /// Where the engine keeps its files.
    pub(super) fn engine(&self) -> PathBuf {
        self.path.join(ENGINE)
    }
}

fn io_error(path: &Path, cause: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), cause }
}

fn take_lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK);
    let failed = |e| io_error(&path, e);
    let mut options = File::options();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only for the message: who holds it writes the id after it has the lock.
            let _ = file.read_to_string(&mut holder);
            let holder = if holder.is_empty() { "unknown".into() } else { holder };
            return Err(OpenError::Locked { dir: dir.to_owned(), holder });
        }
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    file.set_len(0).map_err(failed)?;
    file.rewind().map_err(failed)?;
    // A full disk must not keep its operator from starting up and reading: the id is for messages only.
    let _ = write!(file, "{}", std::process::id());
    Ok(file)
}

fn read_layout(dir: &Path) -> Result<Option<Layout>, OpenError> {
    let path = dir.join(LAYOUT);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error(&path, e)),
    };
    let damaged = || OpenError::Damaged { path: path.clone(), cause: format!("{text:?} is no layout") };
    parse(&text).map(Some).ok_or_else(damaged)
}

/// A layout as it stands in its file.
pub(super) fn text(layout: Layout) -> String {
    let Layout { version, partitions: Partitions { messages, timelines } } = layout;
    format!("layout = {version}\nmessages = {messages}\ntimelines = {timelines}\n")
}

pub(super) fn parse(text: &str) -> Option<Layout> {
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.strip_prefix(name)?.trim().strip_prefix('=')?.trim().parse::<u32>().ok()
    };
    let partitions = Partitions { messages: value("messages")?, timelines: value("timelines")? };
    Some(Layout { version: value("layout")?, partitions })
}

/// Whole or not at all, and on disk before the engine writes anything.
fn write_layout(dir: &Path, layout: Layout) -> Result<(), OpenError> {
    let (path, new) = (dir.join(LAYOUT), dir.join("layout.new"));
    let text = text(layout);
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|e| io_error(&path, e))
}

fn check(dir: &Path, layout: Layout, asked: Partitions) -> Result<(), OpenError> {
    let dir = || dir.to_owned();
    if layout.version != LAYOUT_VERSION {
        return Err(OpenError::Layout { dir: dir(), found: layout.version });
    }
    if layout.partitions != asked {
        return Err(OpenError::Partitions { dir: dir(), found: layout.partitions, asked });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_reads_back_and_nonsense_does_not() {
        let layout = Layout { version: 3, partitions: Partitions { messages: 8, timelines: 16 } };
        assert_eq!(parse("layout = 3\nmessages = 8\ntimelines = 16\n"), Some(layout));
        assert_eq!(parse("layout = 3\nmessages = eight\ntimelines = 16\n"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_directory_is_free_when_it_is_dropped_though_a_child_has_its_lock_open() {
        let root = tempfile::tempdir().unwrap();
        let take = || Dir::take(root.path(), Partitions { messages: 1, timelines: 1 });
        let dir = take().unwrap();
        // What a fork copies.
        let _copy = dir.lock.try_clone().unwrap();
        assert!(matches!(take(), Err(OpenError::Locked { .. })));
        drop(dir);
        take().unwrap();
    }
}
