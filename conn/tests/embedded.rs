//! The node on the embedded log: what is acknowledged is in it, in order, and comes back after a restart.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::cast_possible_truncation, clippy::disallowed_methods, reason = "a test")]

mod support;

use std::sync::Arc;

use prost::Message;
use proto::v1;
use storage::embedded::{self, Options};
use storage::log::{Log, Topic};
use support::*;
use tokio::sync::mpsc;

/// Reads the records of a topic that are there, in the order of each partition.
async fn records(log: &Arc<dyn Log>, topic: Topic) -> Vec<bytes::Bytes> {
    let mut all = Vec::new();
    for partition in 0..PARTITIONS.of(topic) {
        let (_, end) = log.bounds(topic, partition).await.unwrap();
        let mut reader = log.reader(topic, partition, 0).await.unwrap();
        let mut next = 0;
        while next < end {
            for record in reader.next(100).await.unwrap() {
                next = record.offset + 1;
                all.push(record.bytes);
            }
        }
    }
    all
}

#[test]
fn what_is_acknowledged_is_in_the_log_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let data = embedded::open(dir.path(), Options::new(PARTITIONS)).unwrap();
    let log = data.log();
    let (timelines, heard) = mpsc::unbounded_channel();
    let (unused, _) = ScriptedLog::new(false);
    let world = World::with(config(), unused, log.clone(), heard);
    for partition in 0..PARTITIONS.timelines {
        let (log, timelines) = (log.clone(), timelines.clone());
        world.runtime.spawn(async move {
            let mut reader = log.reader(Topic::Timelines, partition, 0).await.unwrap();
            while let Ok(records) = reader.next(100).await {
                for record in records {
                    let _ = timelines.send(record.bytes);
                }
            }
        });
    }
    let mut ann = world.device();
    let epoch = ann.sign_in(&token("ann", "d1")).epoch;
    for burst in 0..10 {
        (1..=50).for_each(|n| ann.send(n, text("bob", epoch, burst * 50 + n)));
        (1..=50).for_each(|n| ann.expect_ack(n));
    }
    ann.hang_up();
    until("the link is gone", || world.node.links() == 0);
    let node = world.node.clone();
    world.runtime.block_on(async move { node.drain().await });
    drop(world);
    drop((log, timelines));
    drop(data);

    // Threads that end may hold the last handle for a moment.
    let mut data = None;
    until("the data is free again", || {
        data = embedded::open(dir.path(), Options::new(PARTITIONS)).ok();
        data.is_some()
    });
    let data = data.unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let log = data.log();
    let sends: Vec<u64> = runtime
        .block_on(records(&log, Topic::Messages))
        .into_iter()
        .map(|record| match v1::MessageRecord::decode(record).unwrap().record {
            Some(v1::message_record::Record::Submission(submission)) => submission.send.unwrap().n,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sends, (1..=500).collect::<Vec<_>>());
    let sessions = runtime.block_on(records(&log, Topic::Timelines));
    assert_eq!(sessions.len(), 2, "a start and an end");
}
