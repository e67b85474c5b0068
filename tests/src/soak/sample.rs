//! What a server holds at a moment: memory, descriptors, its disk.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// One look at a server.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// Since the load began.
    pub(super) at: Duration,
    /// RssAnon, in KiB.
    pub(super) rss_kib: f64,
    /// What the server's allocator gave out and has not back, in KiB: RssAnon without fragmentation.
    pub(super) allocated_kib: f64,
    /// Of both, what the engine's cache of blocks holds: it fills up to its cap while there is more on disk.
    pub(super) cache_kib: f64,
    /// Of both, rows that wait to be flushed, or just were, as the engine counts them.
    pub(super) memtables_kib: f64,
    pub(super) descriptors: Descriptors,
    pub(super) disk: Disk,
    /// Records of the messages log that were judged so far.
    pub(super) messages: f64,
}

/// Open descriptors by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Descriptors {
    pub(super) sockets: u64,
    /// Files of the data: the engine opens and closes them as it likes, up to a cap of its own.
    pub(super) files: u64,
    pub(super) others: u64,
}

/// Bytes that the data takes on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) total: u64,
    /// What is there for a restart alone: the log, and the journals of the engine.
    pub(super) log: u64,
    pub(super) journals: u64,
}

impl Descriptors {
    /// Those of a process.
    pub(super) fn of(pid: u32) -> Self {
        let mut found = Self::default();
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
            // One that was closed meanwhile is none.
            let Ok(target) = entry.and_then(|entry| fs::read_link(entry.path())) else { continue };
            let target = target.to_string_lossy().into_owned();
            let class = match () {
                () if target.starts_with("socket:") => &mut found.sockets,
                () if target.contains("/data/") => &mut found.files,
                () => &mut found.others,
            };
            *class += 1;
        }
        found
    }

    /// Whether nothing is open that was not before, files of the data aside.
    pub(super) fn are_back(&self, before: &Self) -> bool {
        self.sockets <= before.sockets && self.others <= before.others
    }
}

impl Disk {
    /// What lies in a data directory.
    pub(super) fn of(data: &Path) -> Self {
        let mut sizes = BTreeMap::new();
        walk(data, data, &mut sizes);
        let of =
            |is: &dyn Fn(&str) -> bool| sizes.iter().filter(|(name, _)| is(name)).map(|(_, size)| size).sum();
        Self { total: of(&|_| true), log: of(&is_log), journals: of(&|name| name.ends_with(".jnl")) }
    }
}

/// The engine numbers its keyspaces in the order of their creation, and the log's comes first.
fn is_log(name: &str) -> bool {
    name.contains("keyspaces/1/")
}

fn walk(root: &Path, dir: &Path, sizes: &mut BTreeMap<String, u64>) {
    // A file or folder may go while it is looked at.
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            walk(root, &entry.path(), sizes);
        } else {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            sizes.insert(name, metadata.blocks() * 512);
        }
    }
}
