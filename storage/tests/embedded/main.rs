//! The embedded log and tables: both suites, and what only they promise about their directory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a test"
)]
#![cfg(all(feature = "embedded", feature = "conformance"))]

mod crash;
mod faults;
#[path = "../left_out/mod.rs"]
mod left_out;
mod merged;
mod power;
mod rate;
mod strace;

use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use storage::conformance::log::LogHarness;
use storage::conformance::tables::StoreHarness;
use storage::embedded::{self, Embedded, OpenError, Options};
use storage::log::{Log, Partitions};
use storage::tables::Store;
use tempfile::TempDir;

const PARTITIONS: Partitions = Partitions { messages: 3, timelines: 2 };

fn open(dir: &TempDir, partitions: Partitions) -> Result<Embedded, OpenError> {
    embedded::open(dir.path(), Options::new(partitions))
}

/// A directory for every `fresh`.
#[derive(Default)]
struct Directories(Mutex<Vec<TempDir>>);

impl Directories {
    fn create(&self) -> Embedded {
        let dir = tempfile::tempdir().unwrap();
        let data = open(&dir, PARTITIONS).unwrap();
        self.0.lock().unwrap().push(dir);
        data
    }

    fn again(&self) -> Embedded {
        open(self.0.lock().unwrap().last().unwrap(), PARTITIONS).unwrap()
    }
}

impl LogHarness for Directories {
    fn fresh(&self) -> BoxFuture<'_, Arc<dyn Log>> {
        async { self.create().log() }.boxed()
    }

    fn reopen(&self, log: Arc<dyn Log>) -> BoxFuture<'_, Arc<dyn Log>> {
        drop(log);
        async { self.again().log() }.boxed()
    }
}

impl StoreHarness for Directories {
    fn fresh(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        async { self.create().store() }.boxed()
    }

    fn reopen(&self, store: Arc<dyn Store>) -> BoxFuture<'_, Arc<dyn Store>> {
        drop(store);
        async { self.again().store() }.boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_keeps_its_promises() {
    storage::conformance::log::all(&Directories::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_keep_their_promises() {
    storage::conformance::tables::all(&Directories::default()).await;
}

#[test]
fn data_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = open(&dir, PARTITIONS).unwrap();
    match open(&dir, PARTITIONS).map(|_| ()) {
        Err(OpenError::Locked { holder, .. }) => assert_eq!(holder, std::process::id().to_string()),
        other => panic!("data in use gave {other:?}"),
    }
    drop(data);
    open(&dir, PARTITIONS).unwrap();
}

#[test]
fn data_of_other_counts_or_another_layout_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir, PARTITIONS).unwrap());
    let asked = Partitions { messages: 4, timelines: 2 };
    let error = open(&dir, asked).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Partitions { found: PARTITIONS, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("3 messages and 2 timelines") && text.contains("set the counts"), "{text}");
    let none = open(&dir, Partitions { messages: 0, timelines: 2 }).map(|_| ()).unwrap_err();
    assert!(matches!(none, OpenError::NoPartitions), "{none}");

    let layout = dir.path().join("layout");
    std::fs::write(&layout, "layout = 7\nmessages = 3\ntimelines = 2\n").unwrap();
    let error = open(&dir, PARTITIONS).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Layout { found: 7, .. }), "{error}");
    std::fs::write(&layout, "nonsense").unwrap();
    let error = open(&dir, PARTITIONS).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    std::fs::write(&layout, "layout = 1\nmessages = 3\ntimelines = 2\n").unwrap();
    open(&dir, PARTITIONS).unwrap();
}
