//! Nodes on a real log: joining, renewing, leaving, replacing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::sync::Arc;

use logic::nodes::{Lease, Member, NodeTable, Nodes};
use prost::Message;
use proto::v1;
use storage::embedded::{self, Embedded, Options};
use storage::log::Partitions;
use storage::log::{Append, AppendError, Report, Tag, Topic};
use tokio::sync::watch;

fn open(dir: &std::path::Path) -> Embedded {
    let mut options = Options::new(Partitions { messages: 1, timelines: 1 });
    options.reserve_bytes = 0;
    embedded::open(dir, options).unwrap()
}

/// Opens data that a task which is being ended may still hold.
async fn reopen(dir: &std::path::Path) -> Embedded {
    for _ in 0..1000 {
        let mut options = Options::new(Partitions { messages: 1, timelines: 1 });
        options.reserve_bytes = 0;
        match embedded::open(dir, options) {
            Ok(data) => return data,
            Err(embedded::OpenError::Locked { .. }) => {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the data stays locked")
}

fn member(name: &str) -> Member {
    Member {
        name: name.into(),
        stream_address: format!("{name}:7120"),
        api_address: String::new(),
        logic: true,
    }
}

async fn held(nodes: &Nodes) -> u64 {
    let mut lease = nodes.lease();
    match *lease.wait_for(|lease| matches!(lease, Lease::Held { .. })).await.unwrap() {
        Lease::Held { incarnation } => incarnation,
        _ => unreachable!(),
    }
}

async fn until(table: &mut watch::Receiver<Arc<NodeTable>>, holds: impl Fn(&NodeTable) -> bool) {
    table.wait_for(|table| holds(table)).await.unwrap();
}

#[tokio::test]
async fn nodes_see_each_other_come_renew_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let data = open(dir.path());
    let one = Nodes::start(data.log(), member("one"));
    let first = held(&one).await;
    let two = Nodes::start(data.log(), member("two"));
    let second = held(&two).await;
    assert!(second > first);
    let mut table = one.table();
    until(&mut table, |t| t.conns().map(|n| n.incarnation).collect::<Vec<_>>() == [first, second]).await;
    two.set_draining(7);
    // Which is no change of mind.
    two.set_links(6);
    until(&mut table, |t| t.get("two").is_some_and(|n| n.draining && n.links == 6)).await;
    two.leave().await;
    until(&mut table, |t| t.gone().any(|n| n.name == "two")).await;
    // It comes back under a higher incarnation.
    let again = Nodes::start(data.log(), member("two"));
    let third = held(&again).await;
    assert!(third > second);
    until(&mut table, |t| t.conns().any(|n| n.incarnation == third)).await;
    assert_eq!(table.borrow().gone().count(), 0);
}

#[tokio::test]
async fn a_name_belongs_to_the_process_that_joined_last() {
    let dir = tempfile::tempdir().unwrap();
    let data = open(dir.path());
    let old = Nodes::start(data.log(), member("one"));
    held(&old).await;
    let new = Nodes::start(data.log(), member("one"));
    held(&new).await;
    old.lease().wait_for(|lease| *lease == Lease::Replaced).await.unwrap();
    assert!(matches!(*new.lease().borrow(), Lease::Held { .. }));
}

#[tokio::test]
async fn the_table_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let data = reopen(dir.path()).await;
        let nodes = Nodes::start(data.log(), member("one"));
        let incarnation = held(&nodes).await;
        assert!(incarnation > last);
        last = incarnation;
        assert_eq!(nodes.table().borrow().get("one").map(|n| n.incarnation), Some(incarnation));
        drop(nodes);
    }
}

struct Ignore;

impl Report for Ignore {
    fn reported(&self, _: &[(Tag, Result<(), AppendError>)]) {}
}

#[tokio::test]
async fn a_snapshot_takes_the_place_of_a_long_log() {
    let dir = tempfile::tempdir().unwrap();
    let data = open(dir.path());
    let log = data.log();
    let one = Nodes::start(data.log(), member("one"));
    let incarnation = held(&one).await;
    let producer = log.producer(10_000, Arc::new(Ignore)).unwrap();
    for tick in 0..4200 {
        let skip = v1::Skip { topic: 0, partition: 3, tick };
        let record = v1::NodeRecord { record: Some(v1::node_record::Record::Skip(skip)) };
        assert_eq!(
            producer.append(Topic::Nodes, 0, record.encode_to_vec().into(), Tag(0, 0)),
            Append::Queued
        );
    }
    let mut first = 0;
    for _ in 0..2000 {
        first = log.bounds(Topic::Nodes, 0).await.unwrap().0;
        if first > 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(first > 1, "the log was not trimmed");
    let two = Nodes::start(data.log(), member("two"));
    held(&two).await;
    let table = two.table().borrow().clone();
    assert_eq!(table.get("one").map(|node| node.incarnation), Some(incarnation));
    let skips: Vec<u64> = table.skips(Topic::Messages, 3).map(|tick| tick.0).collect();
    assert_eq!((skips.len(), skips.last()), (1024, Some(&4199)));
}
