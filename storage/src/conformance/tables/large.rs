//! Large calls: one call of each kind with more rows, and more bytes, than fit into one batch or one page of a
//! database. Nothing of it may be refused, cut off or mixed up.

use bytes::Bytes;
use proto::{Tick, UserId};

use crate::conformance::names::Names;
use crate::tables::{
    ConversationRow, ConversationWrite, Direction, EntryRow, Fence, HistoryRow, Sender, SessionRow,
    SessionWrite, Store, StoredUser, UserWrite,
};

/// Rows of one call: above 256, which many a bound is.
const ROWS: usize = 300;
/// Bytes of a row: all of a call are above 50 KiB, from where databases refuse batches over several partitions.
const ROW_BYTES: usize = 400;
/// One row alone above those 50 KiB.
const LONG_BYTES: usize = 100 * 1024;
const AT: Tick = Tick(40);

pub(super) async fn all(store: &dyn Store, names: &Names) {
    a_conversation(store, names).await;
    a_history(store, names).await;
    a_timeline(store, names).await;
    users_and_sessions(store, names).await;
}

/// A value that no other row of the call has; the last row's is long.
fn value(n: usize) -> Bytes {
    let mut value = n.to_be_bytes().to_vec();
    value.resize(if n + 1 == ROWS { LONG_BYTES } else { ROW_BYTES }, 7);
    value.into()
}

fn user(names: &Names, n: usize) -> UserId {
    names.user(&format!("large-{n:04}"))
}

async fn a_conversation(store: &dyn Store, names: &Names) {
    let (id, head) = (names.conversation("large"), value(0));
    let members: Vec<_> = (0..ROWS).map(|n| (user(names, n), value(n))).collect();
    let sender = |n| Sender { user: user(names, n), device: names.device("phone") };
    let senders: Vec<_> = (0..ROWS).map(|n| (sender(n), value(n))).collect();
    let row =
        ConversationRow { at: AT, head: head.clone(), members: members.clone(), senders: senders.clone() };
    let write = ConversationWrite { id, at: AT, head, members, senders };
    store.conversations().save(vec![write]).await.unwrap();
    assert_eq!(store.conversations().load(&[id]).await.unwrap(), [Some(row)]);
}

async fn a_history(store: &dyn Store, names: &Names) {
    let conversation = names.conversation("large history");
    let row = |n| HistoryRow { conversation, no: n as u64 + 1, at: AT, entry: value(n) };
    let rows: Vec<_> = (0..ROWS).map(row).collect();
    store.histories().put(rows.clone()).await.unwrap();
    let page = store.histories().page(&conversation, 1, u64::MAX >> 1, Direction::Forward, 2 * ROWS).await;
    assert_eq!(page.unwrap(), rows);
    let keys: Vec<_> = rows.iter().map(|row| (conversation, row.no)).collect();
    let found: Vec<_> = rows.into_iter().map(Some).collect();
    assert_eq!(store.histories().get(&keys).await.unwrap(), found);
}

async fn a_timeline(store: &dyn Store, names: &Names) {
    let user = names.user("large timeline");
    let row = |n| EntryRow { user: user.clone(), seq: n as u64 + 1, at: AT, row: value(n) };
    let rows: Vec<_> = (0..ROWS).map(row).collect();
    store.timelines().put(rows.clone()).await.unwrap();
    assert_eq!(store.timelines().after(&user, 0, 2 * ROWS).await.unwrap(), rows);
}

async fn users_and_sessions(store: &dyn Store, names: &Names) {
    let partition = names.partition(10);
    let session = |n| {
        let fence = Fence { node: "conn-1".into(), incarnation: 77, reactor: 3, link: n as u64 };
        SessionRow { fence, user: user(names, n), device: names.device("phone") }
    };
    let rows: Vec<_> = (0..ROWS).map(session).collect();
    let sessions = rows.iter().map(|row| SessionWrite { session: row.clone(), at: AT, live: true }).collect();
    let users: Vec<_> = (0..ROWS).map(|n| user(names, n)).collect();
    let writes = (0..ROWS).map(|n| UserWrite { user: user(names, n), at: AT, row: value(n) }).collect();
    store.users().save(partition, sessions, writes).await.unwrap();
    let stored: Vec<_> = (0..ROWS).map(|n| Some(StoredUser { at: AT, row: value(n) })).collect();
    assert_eq!(store.users().load(&users).await.unwrap(), stored);
    let mut found = store.users().sessions(partition).await.unwrap();
    found.sort_by(|a, b| a.fence.cmp(&b.fence));
    assert_eq!(found, rows);
}
