//! Users and the index of sessions: tick guards, and a delete that wins at equal ticks.

use std::sync::Arc;

use bytes::Bytes;
use proto::partition::Partition;
use proto::{Tick, UserId};

use crate::conformance::names::{Dice, Names};
use crate::tables::{Fence, SessionRow, SessionWrite, Store, StoredUser, UserWrite};

pub(super) async fn all(store: &Arc<dyn Store>, names: &Names) {
    load_and_save(&**store, names).await;
    sessions_by_partition(&**store, names).await;
    a_delete_wins_at_equal_ticks(&**store, names).await;
    concurrent_writers_converge(store, names).await;
}

fn write(user: &UserId, at: u64) -> UserWrite {
    UserWrite { user: user.clone(), at: Tick(at), row: Bytes::from(format!("at {at}")) }
}

fn stored(at: u64) -> Option<StoredUser> {
    Some(StoredUser { at: Tick(at), row: Bytes::from(format!("at {at}")) })
}

fn session(names: &Names, user: &str, link: u64) -> SessionRow {
    let fence = Fence { node: "conn-1".into(), incarnation: 77, reactor: 3, link };
    SessionRow { fence, user: names.user(user), device: names.device("phone") }
}

fn change(session: &SessionRow, at: u64, live: bool) -> SessionWrite {
    SessionWrite { session: session.clone(), at: Tick(at), live }
}

async fn sessions(store: &dyn Store, partition: Partition) -> Vec<SessionRow> {
    let mut rows = store.users().sessions(partition).await.unwrap();
    rows.sort_by(|a, b| a.fence.cmp(&b.fence));
    rows
}

async fn load_and_save(store: &dyn Store, names: &Names) {
    let users = ["ann", "ann2", "bob"].map(|u| names.user(u));
    let partition = names.partition(0);
    assert_eq!(store.users().load(&users).await.unwrap(), [None, None, None]);
    let writes = vec![write(&users[0], 10), write(&users[2], 12)];
    store.users().save(partition, vec![], writes).await.unwrap();
    let wanted = [users[2].clone(), users[1].clone(), users[0].clone(), users[2].clone()];
    assert_eq!(store.users().load(&wanted).await.unwrap(), [stored(12), None, stored(10), stored(12)]);

    store.users().save(partition, vec![], vec![write(&users[0], 9)]).await.unwrap();
    assert_eq!(store.users().load(&users[..1]).await.unwrap(), [stored(10)], "a lower tick changed a row");
    store.users().save(partition, vec![], vec![write(&users[0], 10)]).await.unwrap();
    assert_eq!(store.users().load(&users[..1]).await.unwrap(), [stored(10)]);
    let writes = vec![write(&users[0], 14), write(&users[0], 13)];
    store.users().save(partition, vec![], writes).await.unwrap();
    assert_eq!(store.users().load(&users[..1]).await.unwrap(), [stored(14)], "a higher tick must win");
}

async fn sessions_by_partition(store: &dyn Store, names: &Names) {
    let (one, two) = (names.partition(1), names.partition(2));
    assert_eq!(sessions(store, one).await, []);
    let rows: Vec<_> = (0..40).map(|link| session(names, &format!("u{link}"), link)).collect();
    let writes = rows.iter().map(|row| change(row, 5, true)).collect();
    store.users().save(one, writes, vec![write(&names.user("u0"), 5)]).await.unwrap();
    assert_eq!(sessions(store, one).await, rows);
    assert_eq!(sessions(store, two).await, [], "a session belongs to its partition");
    let ends = rows[10..].iter().map(|row| change(row, 6, false)).collect();
    store.users().save(one, ends, vec![]).await.unwrap();
    assert_eq!(sessions(store, one).await, rows[..10]);
}

async fn a_delete_wins_at_equal_ticks(store: &dyn Store, names: &Names) {
    let partition = names.partition(3);
    // What is written, in this order, and whether the session is there at the end.
    let cases: [(&[(u64, bool)], bool); 8] = [
        (&[(10, true), (10, false)], false),
        (&[(10, false), (10, true)], false),
        (&[(10, false), (5, true)], false),
        (&[(10, true), (5, false)], true),
        (&[(10, false), (11, true)], true),
        (&[(11, true), (10, false)], true),
        (&[(10, true), (12, false), (11, true)], false),
        (&[(10, true), (10, true)], true),
    ];
    for (n, (changes, live)) in (0_u64..).zip(cases) {
        let row = session(names, "ann", n);
        for (at, live) in changes {
            store.users().save(partition, vec![change(&row, *at, *live)], vec![]).await.unwrap();
        }
        assert_eq!(sessions(store, partition).await.contains(&row), live, "{changes:?} one by one");
        let row = session(names, "ann", 100 + n);
        let writes = changes.iter().map(|(at, live)| change(&row, *at, *live)).collect();
        store.users().save(partition, writes, vec![]).await.unwrap();
        assert_eq!(sessions(store, partition).await.contains(&row), live, "{changes:?} in one write");
    }
}

async fn concurrent_writers_converge(store: &Arc<dyn Store>, names: &Names) {
    let partition = names.partition(4);
    let users = ["x", "y", "z"].map(|u| names.user(u));
    let mut writes: Vec<_> = (1..=40).flat_map(|at| users.iter().map(move |u| write(u, at))).collect();
    Dice(3).shuffle(&mut writes);
    let mut running = Vec::new();
    for share in writes.chunks(30) {
        let (store, share) = (store.clone(), share.to_vec());
        running.push(tokio::spawn(async move {
            for write in share {
                let (user, at) = (write.user.clone(), write.at);
                store.users().save(partition, vec![], vec![write]).await.unwrap();
                let seen = store.users().load(&[user]).await.unwrap().pop().unwrap().unwrap();
                assert!(seen.at >= at && seen.row == format!("at {}", seen.at.0), "{at:?} is not seen");
            }
        }));
    }
    for task in running {
        task.await.unwrap();
    }
    assert_eq!(store.users().load(&users).await.unwrap(), [stored(40), stored(40), stored(40)]);
}

pub(super) async fn keep(store: &dyn Store, names: &Names) {
    let (live, gone) = (session(names, "kept", 1), session(names, "kept", 2));
    let writes = vec![change(&live, 4, true), change(&gone, 4, true), change(&gone, 6, false)];
    store.users().save(names.partition(5), writes, vec![write(&names.user("kept"), 6)]).await.unwrap();
}

pub(super) async fn kept(store: &dyn Store, names: &Names) {
    assert_eq!(store.users().load(&[names.user("kept")]).await.unwrap(), [stored(6)]);
    assert_eq!(sessions(store, names.partition(5)).await, [session(names, "kept", 1)]);
}
