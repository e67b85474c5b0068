//! The CQL tables against a real database: the suite of the seam, and what is refused at the door.
//! `GODWIT_TEST_CQL` says where it is.
#![cfg(feature = "cql")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    reason = "a test: what it does not expect ends it"
)]

#[path = "../cql_keyspace/mod.rs"]
mod cql_keyspace;
#[path = "../left_out/mod.rs"]
mod left_out;
mod rows;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cql_keyspace::{Keyspace, PARTITIONS};
use futures::FutureExt;
use futures::future::BoxFuture;
use proto::{ConversationId, Tick, UserId};
use storage::conformance::tables::{self, StoreHarness};
use storage::cql::{self, Options};
use storage::log::Partitions;
use storage::tables::{ConversationRow, ConversationWrite, Store, StoreError, UserWrite};

/// One keyspace for the whole suite.
struct Suite(Keyspace);

impl StoreHarness for Suite {
    fn fresh(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        self.0.open().boxed()
    }

    fn reopen(&self, store: Arc<dyn Store>) -> BoxFuture<'_, Arc<dyn Store>> {
        drop(store);
        self.fresh()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_keep_their_promises() {
    let Some(keyspace) = Keyspace::new("suite") else { return };
    tables::all(&Suite(keyspace)).await;
}

/// More bytes than servers take in a batch over several CQL partitions (50 KiB on Cassandra), and more rows than
/// the driver reads on one page (5,000).
#[tokio::test(flavor = "multi_thread")]
async fn a_large_conversation_is_one_write() {
    let Some(keyspace) = Keyspace::new("large") else { return };
    let store = keyspace.open().await;
    let value = |n: usize| Bytes::from(vec![u8::try_from(n % 251).unwrap(); 300]);
    let members: Vec<(UserId, Bytes)> =
        (0..6_000).map(|n| (format!("member-{n:04}").parse().unwrap(), value(n))).collect();
    let (id, at) = (ConversationId::from_slice(&[7; 16]).unwrap(), Tick(9));
    let head = Bytes::from_static(b"head");
    let write =
        ConversationWrite { id, at, head: head.clone(), members: members.clone(), senders: Vec::new() };
    store.conversations().save(vec![write]).await.unwrap();
    let row = ConversationRow { at, head, members, senders: Vec::new() };
    assert_eq!(store.conversations().load(&[id]).await.unwrap(), [Some(row)]);
}

/// Above half a segment of the commit log: that of the nodes that `xtask` starts is 8 MiB, that of others usually
/// 32 MiB. To try again would change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_no_node_takes_is_a_failure_and_others_go_on() {
    let Some(keyspace) = Keyspace::new("oversize") else { return };
    let store = keyspace.open().await;
    let write = |bytes: usize| UserWrite {
        user: "ada".parse().unwrap(),
        at: Tick(9),
        row: Bytes::from(vec![7; bytes]),
    };
    for mib in [5, 17] {
        let answer = store.users().save(0, Vec::new(), vec![write(mib << 20)]).await;
        assert!(matches!(answer, Err(StoreError::Failed(_))), "{mib} MiB: {answer:?}");
    }
    // More than may be under way at once, row by row.
    let rows = (0..16).map(|n| UserWrite { user: format!("user-{n}").parse().unwrap(), ..write(1 << 20) });
    store.users().save(0, Vec::new(), rows.collect()).await.unwrap();
    let users: Vec<UserId> = (0..16).map(|n| format!("user-{n}").parse().unwrap()).collect();
    assert!(store.users().load(&users).await.unwrap().iter().all(Option::is_some));
    assert_eq!(store.users().load(&["ada".parse().unwrap()]).await.unwrap(), [None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_other_counts_is_refused() {
    let Some(keyspace) = Keyspace::new("counts") else { return };
    let url = keyspace.url();
    drop(cql::open(&url, Options::new(PARTITIONS)).await.unwrap());
    let other = Partitions { messages: 4, ..PARTITIONS };
    let Err(StoreError::Refused(text)) = cql::open(&url, Options::new(other)).await.map(drop) else {
        panic!("other counts were taken");
    };
    assert!(text.contains("3 messages") && text.contains("4"), "{text}");
    // What was refused changed nothing.
    drop(cql::open(&url, Options::new(PARTITIONS)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyspace_that_forgets_what_it_answered_is_refused() {
    let Some(keyspace) = Keyspace::new("forgets") else { return };
    let url = keyspace.url();
    drop(cql::open(&url, Options::new(PARTITIONS)).await.unwrap());
    let durable = format!("ALTER KEYSPACE {} WITH durable_writes = ", keyspace.name);
    let session = keyspace.session().await;
    session.query_unpaged(format!("{durable}false"), ()).await.unwrap();
    let Err(StoreError::Refused(text)) = cql::open(&url, Options::new(PARTITIONS)).await.map(drop) else {
        panic!("it was taken");
    };
    // What it says to do, done as it says.
    let (_, remedy) = text.split_once("Run ").unwrap();
    let (remedy, _) = remedy.split_once(", or").unwrap();
    session.query_unpaged(remedy, ()).await.unwrap();
    drop(cql::open(&url, Options::new(PARTITIONS)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn different_counts_at_once_never_both_win() {
    let Some(keyspace) = Keyspace::new("race") else { return };
    let url = keyspace.url();
    let other = Partitions { messages: 4, ..PARTITIONS };
    let open = |counts| cql::open(&url, Options::new(counts)).map(|opened| opened.map(drop));
    let (one, two) = tokio::join!(open(PARTITIONS), open(other));
    assert!(one.is_err() || two.is_err(), "both were taken");
    for (counts, first) in [(PARTITIONS, one), (other, two)] {
        let Err(StoreError::Refused(text)) = first else { continue };
        assert!(text.contains("set "), "{text}");
        let again = open(counts).await;
        assert!(matches!(again, Err(StoreError::Refused(_))), "refused, then taken: {again:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_there_is_unavailable_soon() {
    let began = Instant::now();
    let refused = cql::open("scylla://127.0.0.1:1/godwit", Options::new(PARTITIONS)).await.map(drop);
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
}
