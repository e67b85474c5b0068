//! Reads of embedded storage from merged tables many times larger than the cache of blocks: what a device that comes
//! back asks for. The files are in the system's page cache, so this is what a read costs without the disk.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench: a wrong set-up has to end it")]

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use proto::{ConversationId, Tick, UserId};
use storage::embedded::{self, Options};
use storage::log::Partitions;
use storage::tables::{EntryRow, HistoryRow, Store};
use tokio::runtime::Builder;

const OWNERS: u64 = 5_000;
/// Rows of each timeline, and of each conversation.
const ROWS: u64 = 100;
const ROW: Bytes = Bytes::from_static(&[b'x'; 300]);
const PAGE: usize = 50;
/// Merges are over when no file changes for so long.
const QUIET: Duration = Duration::from_secs(2);

fn user(owner: u64) -> UserId {
    UserId::new(&format!("user-{owner}")).unwrap()
}

fn conversation(owner: u64) -> ConversationId {
    ConversationId::direct(&user(owner), &user(owner + 1))
}

/// Rows of all owners by turns, as they come.
async fn fill(store: &dyn Store) {
    for number in 1..=ROWS {
        let at = Tick(number);
        let entries = (0..OWNERS).map(|owner| EntryRow { user: user(owner), seq: number, at, row: ROW });
        let history = |owner| HistoryRow { conversation: conversation(owner), no: number, at, entry: ROW };
        store.timelines().put(entries.collect()).await.unwrap();
        store.histories().put((0..OWNERS).map(history).collect()).await.unwrap();
    }
}

/// Waits until the tables on disk stay as they are.
fn settle(dir: &Path) {
    let mut before = None;
    loop {
        let tables = fs::read_dir(dir.join("data/keyspaces/2/tables")).unwrap();
        let mut now: Vec<_> = tables.map(|table| table.unwrap().file_name()).collect();
        now.sort();
        if before.as_ref() == Some(&now) {
            return;
        }
        before = Some(now);
        thread::sleep(QUIET);
    }
}

/// Owners in no order, the same in every run.
fn strangers() -> impl FnMut() -> u64 {
    let mut state = 1_u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % OWNERS
    }
}

fn reads(c: &mut Criterion) {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("reads-{}", std::process::id()));
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let partitions = Partitions { messages: 16, timelines: 16 };
    let embedded = embedded::open(&dir, Options::new(partitions)).unwrap();
    let store = embedded.store();
    runtime.block_on(fill(&*store));
    settle(&dir);

    let mut group = c.benchmark_group("embedded tables");
    group.throughput(Throughput::Elements(PAGE as u64));
    let mut next = strangers();
    group.bench_function("last 50 entries of a user", |b| {
        b.iter(|| {
            let after = ROWS - PAGE as u64;
            let page = runtime.block_on(store.timelines().after(&user(next()), after, PAGE)).unwrap();
            assert_eq!(page.len(), PAGE, "rows are missing");
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("one row of a history", |b| {
        b.iter(|| {
            let key = (conversation(next()), 1 + next() % ROWS);
            let found = runtime.block_on(store.histories().get(&[key])).unwrap();
            assert!(matches!(found[..], [Some(_)]), "a row is missing");
        });
    });
    group.finish();
    drop((store, embedded));
    fs::remove_dir_all(dir).unwrap();
}

criterion_group!(benches, reads);
criterion_main!(benches);
