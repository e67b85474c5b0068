//! What a process may hold in memory at the most: the sum of its caps, as the settings have them.

use std::fmt::{self, Display};

use proto::limits::{CLIENT_FRAME_BYTES_MAX, SYNC_PAGE_BYTES_MAX, TOKEN_BYTES_MAX};

use super::Settings;
use crate::serve::QUERIES_MAX;

const MIB: u64 = 1024 * 1024;
/// The program, its threads, and what the allocator gives back only later.
const PROGRAM_BYTES: u64 = 64 * MIB;
/// A link that is signed in and that nothing waits for, in all roles together.
const LINK_BYTES: u64 = 1_536;
/// Of embedded storage: four of each of three keyspaces while the disk is slow, and four for a table that is written by
/// a merge.
const MEMTABLES: u64 = 3 * 4 + 4;
/// By how much a memtable may be larger, for all keyspaces together: a turn of the writer, once for each of four.
const TURNS: u64 = 4;
/// Journals that a start reads into memory before anything else is there.
const JOURNALS_BYTES: u64 = 192 * MIB;

/// The caps of all parts.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    caps: Vec<Cap>,
    /// What a start takes, if that is more.
    start_bytes: u64,
}

/// What one part may hold.
#[derive(Clone, Debug)]
struct Cap {
    part: &'static str,
    bytes: u64,
    /// In the settings' names.
    formula: &'static str,
}

impl Memory {
    /// Of a process with these settings that owns every partition. Logic processes are taken to push to one conn
    /// process; each further one adds the part `push` once more.
    pub(crate) fn of(settings: &Settings) -> Self {
        let mut caps = vec![cap("program", PROGRAM_BYTES, "itself, its threads, its allocator")];
        let roles = settings.node.roles;
        if roles.conn {
            caps.extend(conn(settings));
        }
        if roles.logic {
            caps.extend(logic(settings));
        }
        caps.extend(storage(settings));
        let journals = if settings.is_remote() { 0 } else { JOURNALS_BYTES };
        Self { caps, start_bytes: PROGRAM_BYTES + journals }
    }

    fn bytes(&self) -> u64 {
        self.caps.iter().map(|cap| cap.bytes).fold(0, u64::saturating_add).max(self.start_bytes)
    }
}

impl Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Cap { part, bytes, formula } in &self.caps {
            writeln!(f, "{bytes:>16}  {part:<9} {formula}")?;
        }
        let start = self.start_bytes / MIB;
        writeln!(f, "{:>16}  in all; at least {start} MiB, which a start may take", self.bytes())
    }
}

fn cap(part: &'static str, bytes: u64, formula: &'static str) -> Cap {
    Cap { part, bytes, formula }
}

fn conn(settings: &Settings) -> [Cap; 4] {
    let conn = &settings.conn;
    let reactor = count(conn.buffered_bytes_max).saturating_add(count(conn.mailbox_bytes_max));
    [
        cap("links", times(count(conn.links_max), LINK_BYTES), "conn.links_max × 1.5 KiB"),
        cap(
            "reactors",
            times(conn.reactors.into(), reactor),
            "conn.reactors × (conn.buffered_bytes_max + conn.mailbox_bytes_max)",
        ),
        cap(
            "tokens",
            times(count(conn.verify_queue_max), count(TOKEN_BYTES_MAX)),
            "conn.verify_queue_max × 4 KiB",
        ),
        cap("queries", times(count(QUERIES_MAX), count(CLIENT_FRAME_BYTES_MAX)), "1,280 × 68 KiB"),
    ]
}

fn logic(settings: &Settings) -> [Cap; 3] {
    let (logic, counts) = (&settings.logic, settings.partitions);
    let partition = [logic.cache_bytes_max, logic.staged_bytes_max, logic.batch_bytes_max];
    let partition = partition.map(count).into_iter().fold(0, u64::saturating_add);
    [
        cap(
            "stages",
            times(u64::from(counts.messages) + u64::from(counts.timelines), partition),
            "all partitions × (logic.cache_bytes_max + logic.staged_bytes_max + logic.batch_bytes_max)",
        ),
        cap(
            "push",
            times(counts.timelines.into(), count(logic.stream_bytes_max)),
            "timelines partitions × logic.stream_bytes_max, for each conn process",
        ),
        cap(
            "sync",
            times(count(logic.sync_pages_max), count(SYNC_PAGE_BYTES_MAX)),
            "logic.sync_pages_max × 512 KiB",
        ),
    ]
}

fn storage(settings: &Settings) -> Vec<Cap> {
    if settings.is_remote() {
        let options = storage::kafka::Options::new(settings.partitions);
        let formula = "2 × 64 MiB of records queued, 1 MiB read ahead for each partition";
        return vec![cap("kafka", options.memory_bytes_max(), formula)];
    }
    let embedded = settings.embedded;
    let producers = u64::from(settings.partitions.messages) + 1;
    vec![
        cap(
            "tables",
            embedded
                .cache_bytes
                .saturating_add(times(MEMTABLES, embedded.memtable_bytes))
                .saturating_add(times(TURNS, count(embedded.mailbox_bytes))),
            "embedded.cache_bytes + 16 × embedded.memtable_bytes + 4 × embedded.mailbox_bytes",
        ),
        cap(
            "log",
            count(embedded.tail_bytes).saturating_add(times(2, count(embedded.mailbox_bytes))),
            "embedded.tail_bytes + 2 × embedded.mailbox_bytes",
        ),
        cap(
            "producers",
            times(producers, count(embedded.producer_bytes)),
            "(1 + messages partitions) × embedded.producer_bytes",
        ),
    ]
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn times(number: u64, bytes: u64) -> u64 {
    number.saturating_mul(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, load};
    use super::*;

    fn memory(flags: &[(&str, &str)]) -> Memory {
        let flags = flags.iter().map(|(key, value)| ("--set".into(), (*key).into(), (*value).into()));
        Memory::of(&load(&Sources { flags: flags.collect(), ..Sources::default() }).unwrap())
    }

    #[test]
    fn parts_that_are_not_here_take_nothing() {
        let remote =
            [("storage.log", "kafka://h:1/p"), ("storage.store", "scylla://h:1/k"), ("node.name", "n")];
        let names = |role| {
            let memory = memory(&[&remote[..], &[("node.roles", role)]].concat());
            memory.caps.iter().map(|cap| cap.part).collect::<Vec<_>>()
        };
        assert_eq!(names("conn"), ["program", "links", "reactors", "tokens", "queries", "kafka"]);
        assert_eq!(names("logic"), ["program", "stages", "push", "sync", "kafka"]);
        let all = memory(&[]).caps.len();
        assert_eq!(all, 11);
    }

    #[test]
    fn it_follows_the_settings() {
        let before = memory(&[]).bytes();
        let after = memory(&[("logic.cache_bytes_max", "67108865"), ("conn.links_max", "1000001")]).bytes();
        assert_eq!(after - before, 32 + LINK_BYTES);
        let text = memory(&[]).to_string();
        assert!(text.contains(&format!("{before}  in all;")), "{text}");
    }
}
