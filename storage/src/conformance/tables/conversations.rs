//! Conversations: whole writes, tick guards, pages of members.

use std::sync::Arc;

use bytes::Bytes;
use proto::{ConversationId, Tick, UserId};

use crate::conformance::names::{Dice, Names};
use crate::tables::{ConversationRow, ConversationWrite, Sender, Store};

pub(super) async fn all(store: &Arc<dyn Store>, names: &Names) {
    load_and_save(&**store, names).await;
    lower_ticks_lose(&**store, names).await;
    former_members_stay(&**store, names).await;
    members_by_page(&**store, names).await;
    concurrent_writers_converge(store, names).await;
}

/// A write whose every value says its tick, so that a mixed row would show.
fn write(names: &Names, id: ConversationId, at: u64) -> ConversationWrite {
    let value = Bytes::from(format!("at {at}"));
    let sender = |user: &str, device: &str| Sender { user: names.user(user), device: names.device(device) };
    ConversationWrite {
        id,
        at: Tick(at),
        head: value.clone(),
        members: ["ann", "bob", "carol"].iter().map(|u| (names.user(u), value.clone())).collect(),
        senders: vec![
            (sender("ann", "desk"), value.clone()),
            (sender("ann", "phone"), value.clone()),
            (sender("bob", "phone"), value),
        ],
    }
}

fn row(write: ConversationWrite) -> ConversationRow {
    ConversationRow { at: write.at, head: write.head, members: write.members, senders: write.senders }
}

async fn load_one(store: &dyn Store, id: ConversationId) -> Option<ConversationRow> {
    store.conversations().load(&[id]).await.unwrap().pop().unwrap()
}

async fn load_and_save(store: &dyn Store, names: &Names) {
    let [a, b, c] = ["a", "b", "c"].map(|name| names.conversation(name));
    assert_eq!(store.conversations().load(&[]).await.unwrap(), []);
    assert_eq!(store.conversations().load(&[a, b]).await.unwrap(), [None, None]);
    assert_eq!(store.conversations().members(&a, None, 10).await.unwrap(), None);
    assert_eq!(store.conversations().member(&a, &names.user("ann")).await.unwrap(), None);

    let writes = vec![write(names, a, 10), write(names, c, 11)];
    store.conversations().save(writes).await.unwrap();
    let loaded = store.conversations().load(&[c, b, a, c]).await.unwrap();
    let (row_a, row_c) = (row(write(names, a, 10)), row(write(names, c, 11)));
    assert_eq!(loaded, [Some(row_c.clone()), None, Some(row_a), Some(row_c)]);
    store.conversations().save(vec![]).await.unwrap();

    let head = Bytes::from_static(b"at 11");
    let (found, missing) = (names.user("bob"), names.user("dan"));
    let member = store.conversations().member(&c, &found).await.unwrap();
    assert_eq!(member, Some((head.clone(), Some(head.clone()))));
    assert_eq!(store.conversations().member(&c, &missing).await.unwrap(), Some((head, None)));
}

async fn lower_ticks_lose(store: &dyn Store, names: &Names) {
    let id = names.conversation("ticks");
    store.conversations().save(vec![write(names, id, 20)]).await.unwrap();
    store.conversations().save(vec![write(names, id, 19)]).await.unwrap();
    assert_eq!(load_one(store, id).await, Some(row(write(names, id, 20))), "a lower tick changed a row");
    store.conversations().save(vec![write(names, id, 20)]).await.unwrap();
    assert_eq!(load_one(store, id).await, Some(row(write(names, id, 20))), "the same again changed a row");
    store.conversations().save(vec![write(names, id, 21), write(names, id, 15)]).await.unwrap();
    assert_eq!(load_one(store, id).await, Some(row(write(names, id, 21))), "a higher tick must win");
}

async fn former_members_stay(store: &dyn Store, names: &Names) {
    let id = names.conversation("former");
    store.conversations().save(vec![write(names, id, 5)]).await.unwrap();
    let (gone, value) = (names.user("bob"), Bytes::from_static(b"role none"));
    let change = ConversationWrite {
        id,
        at: Tick(6),
        head: value.clone(),
        members: vec![(gone.clone(), value.clone())],
        senders: vec![],
    };
    store.conversations().save(vec![change]).await.unwrap();
    let mut expected = row(write(names, id, 5));
    (expected.at, expected.head) = (Tick(6), value.clone());
    expected.members[1].1 = value;
    assert_eq!(load_one(store, id).await, Some(expected), "a change leaves the rest as it was");
}

async fn members_by_page(store: &dyn Store, names: &Names) {
    let id = names.conversation("pages");
    // In byte order: digits, capitals, small letters, then what UTF-8 puts above them.
    let order: Vec<UserId> =
        ["1", "10", "2", "A", "Z", "a", "a b", "ab", "z", "é", "中"].iter().map(|u| names.user(u)).collect();
    let mut shuffled: Vec<_> = order.iter().map(|u| (u.clone(), Bytes::from(u.to_string()))).collect();
    Dice(1).shuffle(&mut shuffled);
    let head = Bytes::from_static(b"head");
    let whole = ConversationWrite { id, at: Tick(1), head: head.clone(), members: shuffled, senders: vec![] };
    store.conversations().save(vec![whole]).await.unwrap();
    let loaded = load_one(store, id).await.unwrap();
    assert_eq!(loaded.members.iter().map(|m| m.0.clone()).collect::<Vec<_>>(), order);

    for limit in [1, 3, 11, 50] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.conversations().members(&id, after.as_ref(), limit).await.unwrap().unwrap();
            assert_eq!(page.head, head);
            assert!(page.members.len() <= limit);
            let Some((last, _)) = page.members.last() else { break };
            after = Some(last.clone());
            assert!(page.members.iter().all(|(user, bytes)| user.as_str().as_bytes() == &bytes[..]));
            seen.extend(page.members.into_iter().map(|(user, _)| user));
        }
        assert_eq!(seen, order, "pages of {limit}");
    }
}

async fn concurrent_writers_converge(store: &Arc<dyn Store>, names: &Names) {
    const WRITES: u64 = 120;
    let id = names.conversation("race");
    let mut writes: Vec<_> = (1..=WRITES).map(|at| write(names, id, at)).collect();
    Dice(2).shuffle(&mut writes);
    let mut running = Vec::new();
    for share in writes.chunks(30) {
        let (store, share) = (store.clone(), share.to_vec());
        running.push(tokio::spawn(async move {
            for write in share {
                let at = write.at;
                store.conversations().save(vec![write]).await.unwrap();
                let seen = load_one(&*store, id).await.unwrap();
                assert!(seen.at >= at, "an answered write at {at:?} is not seen: {:?}", seen.at);
                let value = Bytes::from(format!("at {}", seen.at.0));
                assert_eq!(seen.head, value);
                assert!(seen.members.iter().all(|(_, v)| *v == value), "half of a write was seen");
                assert!(seen.senders.iter().all(|(_, v)| *v == value), "half of a write was seen");
            }
        }));
    }
    for task in running {
        task.await.unwrap();
    }
    assert_eq!(load_one(&**store, id).await, Some(row(write(names, id, WRITES))));
}

pub(super) async fn keep(store: &dyn Store, names: &Names) {
    store.conversations().save(vec![write(names, names.conversation("kept"), 3)]).await.unwrap();
}

pub(super) async fn kept(store: &dyn Store, names: &Names) {
    let id = names.conversation("kept");
    assert_eq!(load_one(store, id).await, Some(row(write(names, id, 3))));
    store.conversations().save(vec![write(names, id, 2)]).await.unwrap();
    assert_eq!(load_one(store, id).await, Some(row(write(names, id, 3))), "a guard was forgotten");
}
