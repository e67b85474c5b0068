//! Rows that were flushed and merged, many times over, in tables whose indices and filters are cut into blocks.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::{ConversationId, Tick, UserId};
use storage::embedded::{self, Embedded, Options};
use storage::log::Partitions;
use storage::tables::{Direction, EntryRow, HistoryRow};

const MEMTABLE_BYTES: u64 = 64 * 1024;
const OWNERS: u64 = 16;
/// Of each timeline and conversation; only even numbers are there.
const NUMBERS: u64 = 2_000;
const ROW_BYTES: usize = 300;

fn open(dir: &Path) -> Embedded {
    let options = Options::new(Partitions { messages: 2, timelines: 2 });
    // Next to nothing is held in memory.
    embedded::open(dir, Options { memtable_bytes: MEMTABLE_BYTES, cache_bytes: 64 * 1024, ..options })
        .unwrap()
}

fn user(owner: u64) -> UserId {
    UserId::new(&format!("user-{owner}")).unwrap()
}

fn conversation(owner: u64) -> ConversationId {
    ConversationId::direct(&user(owner), &user(owner + 1))
}

fn row(owner: u64, number: u64) -> Bytes {
    Bytes::from([&owner.to_be_bytes()[..], &number.to_be_bytes(), &[7; ROW_BYTES]].concat())
}

fn entry(owner: u64, seq: u64) -> EntryRow {
    EntryRow { user: user(owner), seq, at: Tick(seq), row: row(owner, seq) }
}

fn history(owner: u64, no: u64) -> HistoryRow {
    HistoryRow { conversation: conversation(owner), no, at: Tick(no), entry: row(owner, no) }
}

fn stored() -> impl DoubleEndedIterator<Item = u64> {
    (0..NUMBERS).filter(|number| number % 2 == 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn merged_rows_are_found_one_by_one_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let data = open(dir.path());
    let store = data.store();
    for number in stored() {
        store.timelines().put((0..OWNERS).map(|owner| entry(owner, number)).collect()).await.unwrap();
        store.histories().put((0..OWNERS).map(|owner| history(owner, number)).collect()).await.unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while largest_table(dir.path()) < 3 * MEMTABLE_BYTES {
        assert!(Instant::now() < deadline, "nothing was merged");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    check(&data).await;
    drop((store, data));
    check(&open(dir.path())).await;
}

/// Every row that was stored is there, and no other.
async fn check(data: &Embedded) {
    let store = data.store();
    let limit = usize::try_from(NUMBERS).unwrap();
    for owner in 0..OWNERS {
        let keys: Vec<_> = (0..NUMBERS).map(|no| (conversation(owner), no)).collect();
        let found = store.histories().get(&keys).await.unwrap();
        let expected: Vec<_> = (0..NUMBERS).map(|no| (no % 2 == 0).then(|| history(owner, no))).collect();
        assert!(found == expected, "one by one: {owner}");

        let (from, to) = (NUMBERS / 4, NUMBERS / 2);
        let page = store.histories().page(&conversation(owner), from, to, Direction::Backward, limit).await;
        let expected: Vec<_> =
            stored().filter(|no| (from..=to).contains(no)).map(|no| history(owner, no)).rev().collect();
        assert!(page.unwrap() == expected, "falling: {owner}");

        let after = store.timelines().after(&user(owner), NUMBERS / 3, limit).await.unwrap();
        let expected: Vec<_> =
            stored().filter(|seq| *seq > NUMBERS / 3).map(|seq| entry(owner, seq)).collect();
        assert!(after == expected, "rising: {owner}");
    }
}

/// Bytes of the largest table of rows.
fn largest_table(dir: &Path) -> u64 {
    let tables = std::fs::read_dir(dir.join("data/keyspaces/2/tables")).unwrap();
    tables.filter_map(|table| Some(table.ok()?.metadata().ok()?.len())).max().unwrap_or(0)
}
