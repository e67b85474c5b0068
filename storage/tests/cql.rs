//! The CQL tables against a real database: the suite of the seam, and what is refused at the door.
//! `GODWIT_TEST_CQL` says where it is.
#![cfg(feature = "cql")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test: what it does not expect ends it"
)]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::BoxFuture;
use storage::conformance::tables::{self, StoreHarness};
use storage::cql::{self, Options};
use storage::log::Partitions;
use storage::tables::{Store, StoreError};

const PARTITIONS: Partitions = Partitions { messages: 3, timelines: 2 };

/// Where the database is; none where there is none, which is said.
fn hosts() -> Option<String> {
    let hosts = std::env::var("GODWIT_TEST_CQL").ok();
    if hosts.is_none() {
        assert!(std::env::var("CI").is_err(), "GODWIT_TEST_CQL is not set: the CQL tables cannot be tested");
        println!("left out: GODWIT_TEST_CQL is not set");
    }
    hosts
}

fn keyspace(hosts: &str, name: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    format!("scylla://{hosts}/t_{name}_{}_{now}", std::process::id())
}

/// One keyspace for the whole suite.
struct Keyspace(String);

impl StoreHarness for Keyspace {
    fn fresh(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        async { cql::open(&self.0, Options::new(PARTITIONS)).await.unwrap() }.boxed()
    }

    fn reopen(&self, store: Arc<dyn Store>) -> BoxFuture<'_, Arc<dyn Store>> {
        drop(store);
        self.fresh()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_keep_their_promises() {
    let Some(hosts) = hosts() else { return };
    tables::all(&Keyspace(keyspace(&hosts, "suite"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_other_counts_is_refused() {
    let Some(hosts) = hosts() else { return };
    let url = keyspace(&hosts, "counts");
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
async fn different_counts_at_once_never_both_win() {
    let Some(hosts) = hosts() else { return };
    let url = keyspace(&hosts, "race");
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
