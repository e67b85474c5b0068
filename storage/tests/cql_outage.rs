//! One of three database nodes hangs for a while and comes back: every request is answered soon all the same,
//! and what was confirmed is there. `GODWIT_TEST_BACKENDS_DIR` says where the nodes' process ids lie.
#![cfg(feature = "cql")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    reason = "a test: what it does not expect ends it"
)]

mod cql_keyspace;
mod left_out;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cql_keyspace::Keyspace;
use left_out::given;
use proto::{Tick, UserId};
use storage::tables::{EntryRow, Store, StoredUser, UserWrite};
use tokio::sync::Mutex;

/// How long the node hangs: long enough that its connections are given up, and more than a request may take.
const OUTAGE: Duration = Duration::from_secs(8);
/// How long it is written on before and after.
const AROUND: Duration = Duration::from_secs(2);
/// Within this each request must be answered: the next replica is asked after half a second, on a busy machine
/// after two at the most, and the rest is for its answer. A request that waits for the one that hangs fails after 7 s.
const ANSWERED_MAX: Duration = Duration::from_secs(5);
/// Both stop the same node.
static ALONE: Mutex<()> = Mutex::const_new(());
/// A start finds out more than once that the node hangs, after 6 s each time, but not for every statement.
const STARTED_MAX: Duration = Duration::from_secs(30);
const WRITERS: usize = 4;

/// A node that was told to stop; it goes on when this is dropped.
struct Stopped(String);

impl Stopped {
    fn new(pid: &str) -> Self {
        let stopped = Self(pid.to_owned());
        stopped.signal("-STOP");
        stopped
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.0]).status().unwrap();
        assert!(status.success(), "kill {signal} {}: {status}", self.0);
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}

/// The process id of a node, seen to be one of the directory's.
fn node() -> Option<String> {
    let dir = given("a node that stands still", "GODWIT_TEST_BACKENDS_DIR")?;
    let pid = std::fs::read_to_string(Path::new(&dir).join("node-2/pid")).unwrap().trim().to_owned();
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(String::from_utf8_lossy(&line).contains(&dir), "{pid} is no node of {dir}");
    Some(pid)
}

/// What a writer has seen.
#[derive(Default)]
struct Seen {
    confirmed: u64,
    slowest: Duration,
}

/// Writes a user and three entries, and reads both back, one after the other until told to end.
async fn write(store: Arc<dyn Store>, user: UserId, end: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    while !end.load(Ordering::Relaxed) {
        let n = seen.confirmed;
        seen.time(store.users().save(0, Vec::new(), vec![user_write(&user, n)])).await;
        seen.time(store.timelines().put(entries(&user, n))).await;
        let read = seen.time(store.users().load(std::slice::from_ref(&user))).await;
        assert_eq!(read, [Some(stored(n))]);
        let after = seen.time(store.timelines().after(&user, 3 * n, 10)).await;
        assert_eq!(after, entries(&user, n));
        seen.confirmed += 1;
    }
    seen
}

impl Seen {
    async fn time<T>(&mut self, request: storage::tables::Answer<'_, T>) -> T {
        let began = Instant::now();
        let answer = request.await;
        let took = began.elapsed();
        self.slowest = self.slowest.max(took);
        assert!(took < ANSWERED_MAX, "an answer took {took:?}: {:?}", answer.err());
        answer.unwrap()
    }
}

fn user_write(user: &UserId, n: u64) -> UserWrite {
    let StoredUser { at, row } = stored(n);
    UserWrite { user: user.clone(), at, row }
}

fn stored(n: u64) -> StoredUser {
    StoredUser { at: Tick(n + 1), row: Bytes::from(format!("row {n}")) }
}

fn entries(user: &UserId, n: u64) -> Vec<EntryRow> {
    let entry = |seq| EntryRow { user: user.clone(), seq, at: Tick(seq), row: Bytes::from(format!("{seq}")) };
    (3 * n + 1..=3 * n + 3).map(entry).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_goes_on_while_a_node_hangs() {
    let _alone = ALONE.lock().await;
    let (Some(pid), Some(keyspace)) = (node(), Keyspace::new("start")) else { return };
    drop(keyspace.open().await);
    let _stopped = Stopped::new(&pid);
    let began = Instant::now();
    drop(keyspace.open().await);
    println!("open after {:?}", began.elapsed());
    assert!(began.elapsed() < STARTED_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_delays_nothing_and_loses_nothing() {
    let _alone = ALONE.lock().await;
    let (Some(pid), Some(keyspace)) = (node(), Keyspace::new("outage")) else { return };
    let store = keyspace.open().await;
    let end = Arc::new(AtomicBool::new(false));
    let users: Vec<UserId> = (0..WRITERS).map(|i| format!("writer-{i}").parse().unwrap()).collect();
    let spawn = |user: &UserId| tokio::spawn(write(Arc::clone(&store), user.clone(), Arc::clone(&end)));
    let writers: Vec<_> = users.iter().map(spawn).collect();
    tokio::time::sleep(AROUND).await;
    let stopped = Stopped::new(&pid);
    tokio::time::sleep(OUTAGE).await;
    drop(stopped);
    tokio::time::sleep(AROUND).await;
    end.store(true, Ordering::Relaxed);
    for (user, writer) in users.iter().zip(writers) {
        let Seen { confirmed, slowest } = writer.await.unwrap();
        println!("{user}: {confirmed} rounds, the slowest answer after {slowest:?}");
        assert!(confirmed > 0);
        let read = store.users().load(std::slice::from_ref(user)).await.unwrap();
        assert_eq!(read, [Some(stored(confirmed - 1))]);
        let all: Vec<EntryRow> = (0..confirmed).flat_map(|n| entries(user, n)).collect();
        assert_eq!(store.timelines().after(user, 0, usize::MAX).await.unwrap(), all);
    }
}
