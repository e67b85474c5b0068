//! What a process that dies leaves behind: killed in the middle of its work, and stopped by a failed
//! fsync. The process that dies is this test binary, run again as `dying_process`.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::{Tick, UserId};
use storage::embedded::{self, EXIT_FSYNC, Embedded, Options};
use storage::log::{Append, AppendError, Partitions, Report, Tag, Topic};
use storage::tables::{Checkpoint, EntryRow};

use crate::strace::{ALONE, attached};

const PARTITIONS: Partitions = Partitions { messages: 4, timelines: 1 };
const DIRECTORY: &str = "GODWIT_TEST_DIRECTORY";

fn open(dir: &Path) -> Embedded {
    embedded::open(dir, Options::new(PARTITIONS)).unwrap()
}

/// What the record at an offset says.
fn record(partition: u32, offset: u64) -> Bytes {
    Bytes::from(format!("{partition}/{offset}/{}", "x".repeat(usize::try_from(offset % 700).unwrap())))
}

fn entry(seq: u64) -> EntryRow {
    let user = UserId::new("ann").unwrap();
    EntryRow { user, seq, at: Tick(seq), row: Bytes::from(format!("entry {seq}")) }
}

/// Says on stdout what it is told, so that it is known after the death.
struct Aloud;

impl Report for Aloud {
    fn reported(&self, outcomes: &[(Tag, Result<(), AppendError>)]) {
        let mut lines = String::new();
        for (Tag(partition, offset), result) in outcomes {
            if result.is_ok() {
                lines.push_str(&format!("reported {partition} {offset}\n"));
            }
        }
        std::io::stdout().write_all(lines.as_bytes()).unwrap();
    }
}

#[test]
#[ignore = "the process that the other tests let die"]
fn dying_process() {
    let Ok(dir) = std::env::var(DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let data = open(Path::new(&dir));
    let (log, store) = (data.log(), data.store());
    println!("ready");
    runtime.spawn(async move {
        let last = store.checkpoints().load(Topic::Timelines, 0).await.unwrap();
        for seq in last.map_or(0, |c| c.offset) + 1.. {
            store.timelines().put(vec![entry(seq)]).await.unwrap();
            let checkpoint = Checkpoint { offset: seq, tick: Tick(seq), state: Bytes::new() };
            store.checkpoints().save(Topic::Timelines, 0, checkpoint).await.unwrap();
            println!("stored 0 {seq}");
        }
    });
    let producer = log.producer(500, Arc::new(Aloud)).unwrap();
    let end = |partition| runtime.block_on(log.bounds(Topic::Messages, partition)).unwrap().1;
    let mut next: Vec<u64> = (0..PARTITIONS.messages).map(end).collect();
    for partition in (0..PARTITIONS.messages).cycle() {
        let offset = &mut next[partition as usize];
        let tag = Tag(u64::from(partition), *offset);
        match producer.append(Topic::Messages, partition, record(partition, *offset), tag) {
            Append::Queued => *offset += 1,
            Append::Full => std::thread::yield_now(),
            Append::Dead => panic!("the log is open"),
        }
    }
}

struct Dying {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

/// Starts it, and waits until its data is open.
fn start(dir: &Path) -> Dying {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "crash::dying_process", "--ignored", "--nocapture"]).env(DIRECTORY, dir);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("ready")), "it never opened its data");
    Dying { child, lines }
}

/// The highest number of each partition, and of the entries, that it said it had.
#[derive(Default)]
struct Said {
    records: [u64; PARTITIONS.messages as usize],
    entries: u64,
}

impl Said {
    /// Takes note of a line. The last one may be cut off by the death: a number without its end is lower.
    fn hear(&mut self, line: &str) {
        let mut words = line.split(' ');
        let (what, partition, number) = (words.next(), words.next(), words.next());
        let Some(Ok(number)) = number.map(str::parse::<u64>) else { return };
        match (what, partition) {
            (Some("reported"), Some(partition)) => {
                let said = &mut self.records[partition.parse::<usize>().unwrap()];
                *said = number.max(*said);
            }
            (Some("stored"), Some(_)) => self.entries = number.max(self.entries),
            _ => {}
        }
    }
}

/// Everything said is there: every offset once, each with its own record, and every entry.
async fn check(dir: &Path, said: &Said) {
    let data = open(dir);
    let log = data.log();
    for (partition, said) in (0..PARTITIONS.messages).zip(said.records) {
        let (first, next) = log.bounds(Topic::Messages, partition).await.unwrap();
        assert!(first == 0 && next > said, "{said} was reported, the log ends at {next}");
        let mut reader = log.reader(Topic::Messages, partition, 0).await.unwrap();
        let mut offset = 0;
        while offset < next {
            for found in reader.next(1_000).await.unwrap() {
                assert_eq!((found.offset, found.bytes), (offset, record(partition, offset)));
                offset += 1;
            }
        }
    }
    let store = data.store();
    let user = UserId::new("ann").unwrap();
    let saved = store.checkpoints().load(Topic::Timelines, 0).await.unwrap().map_or(0, |c| c.offset);
    assert!(saved >= said.entries, "checkpoint {} was answered, {saved} is there", said.entries);
    let count = usize::try_from(saved).unwrap();
    let entries = store.timelines().after(&user, 0, count).await.unwrap();
    assert!(entries.iter().zip(1..).all(|(found, seq)| *found == entry(seq)));
    assert_eq!(entries.len(), count, "a checkpoint passed an entry");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_nothing_reported_is_lost() {
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let mut said = Said::default();
    for round in 1..=5_u32 {
        let mut dying = start(dir.path());
        let before = said.entries;
        let mut left = round * 700;
        while left > 0 || said.entries == before || said.records.contains(&0) {
            let line = dying.lines.next().expect("it ended by itself").unwrap();
            said.hear(&line);
            left = left.saturating_sub(1);
        }
        dying.child.kill().unwrap();
        for line in dying.lines.map_while(Result::ok) {
            said.hear(&line);
        }
        dying.child.wait().unwrap();
        check(dir.path(), &said).await;
    }
}

/// A process that still works so long after an fsync failed has not ended for it.
const GOES_ON: Duration = Duration::from_secs(30);
/// So many reports are seen within.
const LOOKED_AT: Duration = Duration::from_secs(120);

/// What the process is seen to do: writes and fsyncs, by thread, with the names of files.
const SEEN: [&str; 6] = ["-f", "-y", "-e", "trace=write,fsync,fdatasync", "-s", "16"];

/// How often a thread reported records. Whenever one did, what it had written to a journal was synced, with success.
fn reports_of_what_is_synced(trace: &Path) -> usize {
    let trace = std::fs::read_to_string(trace).unwrap();
    let (mut unsynced, mut reports) = (HashSet::new(), 0);
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let is_write = call.contains("write(");
        if is_write && call.contains(".jnl>") {
            unsynced.insert(thread);
        } else if is_write && call.contains("\"reported") {
            assert!(!unsynced.contains(thread), "reported, and not synced: {line}");
            reports += 1;
        } else if (call.contains(".jnl>") || call.contains("sync resumed>")) && call.ends_with("= 0") {
            unsynced.remove(thread);
        }
    }
    reports
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_reported_before_it_is_synced() {
    let _alone = ALONE.lock().await;
    let (dir, seen) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
    let mut dying = start(dir.path());
    let pid = dying.child.id().to_string();
    let look = [&SEEN[..], &["-o", seen.path().to_str().unwrap(), "-p", &pid]].concat();
    let Some(mut strace) = attached("what is synced", &look) else {
        dying.child.kill().unwrap();
        dying.child.wait().unwrap();
        return;
    };
    // What it said before it was looked at may fill the pipe, so the trace tells when enough was seen.
    let began = Instant::now();
    while std::fs::read_to_string(seen.path()).unwrap().matches("\"reported").count() < 100 {
        assert!(began.elapsed() < LOOKED_AT, "100 reports were not seen");
        dying.lines.by_ref().take(500).map(Result::unwrap).for_each(drop);
    }
    dying.child.kill().unwrap();
    dying.child.wait().unwrap();
    strace.wait().unwrap();
    let reports = reports_of_what_is_synced(seen.path());
    assert!(reports >= 100, "{reports} reports were seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_fsync_ends_the_process() {
    let _alone = ALONE.lock().await;
    // What a thread is in the middle of when it is first looked at is not known, so once is not enough.
    for _ in 0..4 {
        let (dir, seen) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
        let mut dying = start(dir.path());
        let pid = dying.child.id().to_string();
        let out = ["-o", seen.path().to_str().unwrap(), "-p", &pid];
        // The next one succeeds, which proves nothing.
        let fail_one = [&SEEN[..], &["-e", "inject=fsync,fdatasync:error=EIO:when=1"], &out].concat();
        let Some(mut strace) = attached("a failed fsync", &fail_one) else {
            dying.child.kill().unwrap();
            dying.child.wait().unwrap();
            return;
        };
        let (mut said, began) = (Said::default(), Instant::now());
        for line in dying.lines.map_while(Result::ok) {
            said.hear(&line);
            if began.elapsed() > GOES_ON {
                dying.child.kill().unwrap();
                break;
            }
        }
        assert_eq!(dying.child.wait().unwrap().code(), Some(EXIT_FSYNC));
        strace.wait().unwrap();
        reports_of_what_is_synced(seen.path());
        check(dir.path(), &said).await;
    }
}
