//! Histories: rows by number, pages both ways, across the borders of buckets.

use std::sync::Arc;

use bytes::Bytes;
use proto::limits::{BODY_BYTES_MAX, BUCKET};
use proto::{ConversationId, Tick};

use crate::conformance::names::Names;
use crate::tables::{Direction, HistoryRow, Store};

pub(super) async fn all(store: &Arc<dyn Store>, names: &Names) {
    put_and_get(&**store, names).await;
    lower_ticks_lose(&**store, names).await;
    pages_across_buckets(&**store, names).await;
}

fn row(conversation: ConversationId, no: u64) -> HistoryRow {
    HistoryRow { conversation, no, at: Tick(1_000 + no), entry: Bytes::from(format!("entry {no}")) }
}

fn numbers(rows: &[HistoryRow]) -> Vec<u64> {
    rows.iter().map(|row| row.no).collect()
}

async fn put_and_get(store: &dyn Store, names: &Names) {
    let (a, b) = (names.conversation("a"), names.conversation("b"));
    assert_eq!(store.histories().get(&[(a, 1)]).await.unwrap(), [None]);
    assert_eq!(store.histories().page(&a, 1, 100, Direction::Forward, 10).await.unwrap(), []);
    let big = HistoryRow { entry: Bytes::from(vec![7; BODY_BYTES_MAX + 512]), ..row(b, 1) };
    store.histories().put(vec![row(a, 1), big.clone(), row(a, 2)]).await.unwrap();
    store.histories().put(vec![]).await.unwrap();
    let rows = store.histories().get(&[(a, 2), (b, 1), (a, 3), (a, 1), (b, 2)]).await.unwrap();
    assert_eq!(rows, [Some(row(a, 2)), Some(big.clone()), None, Some(row(a, 1)), None]);
    store.histories().put(vec![row(a, 1)]).await.unwrap();
    let page = store.histories().page(&a, 1, 100, Direction::Forward, 10).await.unwrap();
    assert_eq!(page, [row(a, 1), row(a, 2)], "the same again changes nothing");
    assert_eq!(store.histories().page(&b, 1, 100, Direction::Backward, 10).await.unwrap(), [big]);
}

async fn lower_ticks_lose(store: &dyn Store, names: &Names) {
    let id = names.conversation("edited");
    let edited = HistoryRow { at: Tick(2_000), entry: Bytes::from_static(b"edited"), ..row(id, 1) };
    store.histories().put(vec![row(id, 1)]).await.unwrap();
    store.histories().put(vec![edited.clone()]).await.unwrap();
    store.histories().put(vec![row(id, 1)]).await.unwrap();
    assert_eq!(store.histories().get(&[(id, 1)]).await.unwrap(), [Some(edited)], "an edit was undone");
}

async fn pages_across_buckets(store: &dyn Store, names: &Names) {
    let id = names.conversation("pages");
    let (low, high) = (BUCKET - 30, 2 * BUCKET + 30);
    for from in (low..=high).step_by(500) {
        let rows = (from..=high.min(from + 499)).map(|no| row(id, no)).collect();
        store.histories().put(rows).await.unwrap();
    }
    let page = |from, to, direction, limit| async move {
        numbers(&store.histories().page(&id, from, to, direction, limit).await.unwrap())
    };
    let rising = |from: u64, to: u64| (from..=to).collect::<Vec<_>>();
    let falling = |from: u64, to: u64| (from..=to).rev().collect::<Vec<_>>();
    for border in [BUCKET, 2 * BUCKET] {
        let (from, to) = (border - 20, border + 20);
        assert_eq!(page(from, to, Direction::Forward, 200).await, rising(from, to));
        assert_eq!(page(from, to, Direction::Backward, 200).await, falling(from, to));
        assert_eq!(page(from, to, Direction::Forward, 25).await, rising(from, from + 24));
        assert_eq!(page(from, to, Direction::Backward, 25).await, falling(to - 24, to));
        assert_eq!(page(border, border, Direction::Forward, 1).await, [border]);
        assert_eq!(page(border - 1, border, Direction::Backward, 1).await, [border]);
    }
    let whole = usize::try_from(high - low + 1).unwrap();
    assert_eq!(page(low, high, Direction::Forward, whole + 5).await, rising(low, high));
    assert_eq!(page(low, high, Direction::Backward, whole + 5).await, falling(low, high));
    assert_eq!(page(low - 10, low + 1, Direction::Forward, 200).await, [low, low + 1]);
    assert_eq!(page(high - 1, high + 10, Direction::Backward, 200).await, [high, high - 1]);
    assert_eq!(page(high, low, Direction::Forward, 200).await, [0_u64; 0], "nothing lies between");
    let rows = store.histories().get(&[(id, BUCKET), (id, BUCKET - 1)]).await.unwrap();
    assert_eq!(rows, [Some(row(id, BUCKET)), Some(row(id, BUCKET - 1))]);
}

pub(super) async fn keep(store: &dyn Store, names: &Names) {
    store.histories().put(vec![row(names.conversation("kept"), 9)]).await.unwrap();
}

pub(super) async fn kept(store: &dyn Store, names: &Names) {
    let id = names.conversation("kept");
    assert_eq!(store.histories().get(&[(id, 9)]).await.unwrap(), [Some(row(id, 9))]);
}
