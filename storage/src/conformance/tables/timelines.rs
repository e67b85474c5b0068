//! Timelines: entries after a seq, across the borders of buckets.

use std::sync::Arc;

use bytes::Bytes;
use proto::limits::BUCKET;
use proto::{Tick, UserId};

use crate::conformance::names::Names;
use crate::tables::{EntryRow, Store};

pub(super) async fn all(store: &Arc<dyn Store>, names: &Names) {
    users_are_separate(&**store, names).await;
    entries_across_buckets(&**store, names).await;
}

fn entry(user: &UserId, seq: u64) -> EntryRow {
    EntryRow { user: user.clone(), seq, at: Tick(500 + seq), row: Bytes::from(format!("{user} {seq}")) }
}

async fn users_are_separate(store: &dyn Store, names: &Names) {
    // One id is a prefix of another: neither may read the other's.
    let users = ["u", "u1", "u 1", "v"].map(|u| names.user(u));
    assert_eq!(store.timelines().after(&users[0], 0, 10).await.unwrap(), []);
    let rows: Vec<_> = (1..=5).flat_map(|seq| users.iter().map(move |u| entry(u, seq))).collect();
    store.timelines().put(rows.clone()).await.unwrap();
    store.timelines().put(rows).await.unwrap();
    store.timelines().put(vec![]).await.unwrap();
    for user in &users {
        let all: Vec<_> = (1..=5).map(|seq| entry(user, seq)).collect();
        assert_eq!(store.timelines().after(user, 0, 10).await.unwrap(), all);
        assert_eq!(store.timelines().after(user, 2, 2).await.unwrap(), all[2..4]);
        assert_eq!(store.timelines().after(user, 5, 10).await.unwrap(), []);
    }
}

async fn entries_across_buckets(store: &dyn Store, names: &Names) {
    let user = names.user("long");
    let high = 2 * BUCKET + 20;
    for from in (1..=high).step_by(500) {
        let rows = (from..=high.min(from + 499)).map(|seq| entry(&user, seq)).collect();
        store.timelines().put(rows).await.unwrap();
    }
    for border in [BUCKET, 2 * BUCKET] {
        for after in [border - 10, border - 2, border - 1, border] {
            let page = store.timelines().after(&user, after, 15).await.unwrap();
            let expected: Vec<_> = (after + 1..=after + 15).map(|seq| entry(&user, seq)).collect();
            assert_eq!(page, expected, "after {after}");
        }
    }
    let (mut after, mut seen) = (0, 0);
    loop {
        let page = store.timelines().after(&user, after, 700).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.iter().zip(after + 1..).all(|(entry, seq)| entry.seq == seq), "a hole after {after}");
        after = last.seq;
        seen += page.len();
    }
    assert_eq!((after, seen as u64), (high, high));
}

pub(super) async fn keep(store: &dyn Store, names: &Names) {
    store.timelines().put(vec![entry(&names.user("kept"), 1)]).await.unwrap();
}

pub(super) async fn kept(store: &dyn Store, names: &Names) {
    let user = names.user("kept");
    assert_eq!(store.timelines().after(&user, 0, 5).await.unwrap(), [entry(&user, 1)]);
}
