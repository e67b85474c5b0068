//! What a process may hold in memory at the most: the sum of its caps, as the settings have them.

use std::fmt::{self, Display};

use proto::limits::{CLIENT_FRAME_BYTES_MAX, SYNC_PAGE_BYTES_MAX, TOKEN_BYTES_MAX};
use storage::embedded::PAGE_BYTES_MAX;

use super::Settings;
use crate::serve::{QUERIES_WAITING_MAX, embedded_options};

const MIB: u64 = 1024 * 1024;
/// The program, its threads, and what the allocator gives back only later.
const PROGRAM_BYTES: u64 = 64 * MIB;
/// A link that is signed in and that nothing waits for, in all roles together.
const LINK_BYTES: u64 = 1_536;
/// A mailbox of a reactor: pushes, as much again for what must not be dropped, and all of it once more while the
/// reactor reads it.
const MAILBOXES: u64 = 4;
/// A query at work: rows that are read, a page of them, and its encoding.
const QUERY_BYTES: u64 = 2 * MIB;
/// A page of sync, once as entries and once as it is sent.
const PAGES: u64 = 2;
/// Frames between a stream and its connection, each up to a page of sync.
const FRAMES: u64 = 64;

const _: () = assert!(TOKEN_BYTES_MAX == 4 << 10, "as in the formula");
const _: () = assert!(CLIENT_FRAME_BYTES_MAX == 68 << 10, "as in the formula");
const _: () = assert!(SYNC_PAGE_BYTES_MAX == 512 << 10, "as in the formula");
const _: () = assert!(PAGE_BYTES_MAX == 4 << 20, "as in the formula");
const _: () = assert!(QUERIES_WAITING_MAX == 256, "as in the formula");

/// The caps of all parts.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Vec<Cap>);

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
        if roles.api {
            caps.push(queries(settings));
        }
        if roles.logic {
            caps.extend(logic(settings));
        }
        caps.extend(if settings.is_remote() { remote(settings) } else { embedded(settings) });
        Self(caps)
    }

    fn bytes(&self) -> u64 {
        self.0.iter().map(|cap| cap.bytes).fold(0, u64::saturating_add)
    }
}

impl Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Cap { part, bytes, formula } in &self.0 {
            writeln!(f, "{bytes:>16}  {part:<9} {formula}")?;
        }
        writeln!(f, "{:>16}  in all", self.bytes())
    }
}

fn cap(part: &'static str, bytes: u64, formula: &'static str) -> Cap {
    Cap { part, bytes, formula }
}

fn conn(settings: &Settings) -> [Cap; 4] {
    let conn = &settings.conn;
    let mailbox = times(MAILBOXES, count(conn.mailbox_bytes_max));
    let waiting = times(count(QUERIES_WAITING_MAX), count(CLIENT_FRAME_BYTES_MAX));
    [
        cap("links", times(count(conn.links_max), LINK_BYTES), "conn.links_max × 1.5 KiB"),
        cap(
            "reactors",
            times(conn.reactors.into(), count(conn.buffered_bytes_max).saturating_add(mailbox)),
            "conn.reactors × (conn.buffered_bytes_max + 4 × conn.mailbox_bytes_max)",
        ),
        cap(
            "tokens",
            times(count(conn.verify_queue_max), count(TOKEN_BYTES_MAX)),
            "conn.verify_queue_max × 4 KiB",
        ),
        cap("calls", waiting, "256 × 68 KiB"),
    ]
}

fn queries(settings: &Settings) -> Cap {
    cap("queries", times(count(settings.queries_max), QUERY_BYTES), "api.queries_max × 2 MiB")
}

fn logic(settings: &Settings) -> [Cap; 3] {
    let (logic, partitions) = (&settings.logic, settings.partitions.both());
    let cache = times(2, count(logic.cache_bytes_max));
    let batch = count(logic.batch_bytes_max.max(PAGE_BYTES_MAX));
    let page = times(PAGES, count(SYNC_PAGE_BYTES_MAX));
    let frames = if settings.is_remote() { times(FRAMES, count(SYNC_PAGE_BYTES_MAX)) } else { 0 };
    [
        cap(
            "stages",
            times(partitions, cache.saturating_add(count(logic.staged_bytes_max)).saturating_add(batch)),
            "partitions × (2 × logic.cache_bytes_max + logic.staged_bytes_max + logic.batch_bytes_max, at least 4 MiB)",
        ),
        cap(
            "push",
            times(settings.partitions.timelines.into(), count(logic.stream_bytes_max).saturating_add(frames)),
            match settings.is_remote() {
                true => {
                    "timelines partitions × (logic.stream_bytes_max + 64 × 512 KiB), for each conn process"
                }
                false => "timelines partitions × logic.stream_bytes_max",
            },
        ),
        cap("sync", times(count(logic.sync_pages_max), page), "logic.sync_pages_max × 1 MiB"),
    ]
}

fn remote(settings: &Settings) -> Vec<Cap> {
    let kafka = storage::kafka::Options::new(settings.partitions).memory_bytes_max();
    let mut caps = vec![cap(
        "kafka",
        kafka,
        "2 × 64 MiB that are queued, 50 MiB and 1 MiB for each partition that are read",
    )];
    if settings.node.roles.logic {
        let requests = times(settings.partitions.both(), count(settings.logic.staged_bytes_max));
        caps.push(cap("cql", requests, "partitions × logic.staged_bytes_max"));
    }
    caps
}

fn embedded(settings: &Settings) -> Vec<Cap> {
    let embedded = embedded_options(settings);
    vec![
        cap(
            "tables",
            embedded.tables_bytes_max(),
            "embedded.cache_bytes + 22 × embedded.memtable_bytes + 6 × embedded.mailbox_bytes",
        ),
        cap("log", embedded.log_bytes_max(), "embedded.tail_bytes + 2 × embedded.mailbox_bytes"),
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
            memory.0.iter().map(|cap| cap.part).collect::<Vec<_>>()
        };
        assert_eq!(names("conn"), ["program", "links", "reactors", "tokens", "calls", "kafka"]);
        assert_eq!(names("logic"), ["program", "stages", "push", "sync", "kafka", "cql"]);
        assert_eq!(names("api"), ["program", "queries", "kafka"]);
        assert_eq!(memory(&[]).0.len(), 11);
    }

    #[test]
    fn it_follows_the_settings() {
        let before = memory(&[]).bytes();
        let after = |setting| memory(&[setting]).bytes() - before;
        assert_eq!(after(("logic.cache_bytes_max", "67108865")), 2 * 32);
        assert_eq!(after(("conn.links_max", "1000001")), LINK_BYTES);
        assert_eq!(after(("embedded.memtable_bytes", "16777217")), 22);
        assert_eq!(after(("embedded.mailbox_bytes", "16777217")), 6 + 2);
        let text = memory(&[]).to_string();
        assert!(text.contains("+ 22 × embedded.memtable_bytes + 6 × embedded.mailbox_bytes"), "{text}");
        assert!(text.contains("+ 2 × embedded.mailbox_bytes"), "{text}");
        assert!(text.ends_with(&format!("{before}  in all\n")), "{text}");
    }
}
