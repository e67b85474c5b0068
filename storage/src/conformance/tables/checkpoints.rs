//! Checkpoints: one per partition of a topic, never going back.

use std::sync::Arc;

use bytes::Bytes;
use proto::Tick;

use crate::conformance::names::{Dice, Names};
use crate::log::Topic;
use crate::tables::{Checkpoint, Store};

pub(super) async fn all(store: &Arc<dyn Store>, names: &Names) {
    never_going_back(&**store, names).await;
    concurrent_writers_converge(store, names).await;
}

fn checkpoint(tick: u64) -> Checkpoint {
    Checkpoint { offset: tick * 3, tick: Tick(tick), state: Bytes::from(format!("state {tick}")) }
}

async fn never_going_back(store: &dyn Store, names: &Names) {
    let partition = names.partition(0);
    for topic in [Topic::Messages, Topic::Timelines] {
        assert_eq!(store.checkpoints().load(topic, partition).await.unwrap(), None);
    }
    for (saved, expected) in [(10, 10), (9, 10), (10, 10), (12, 12), (11, 12)] {
        store.checkpoints().save(Topic::Messages, partition, checkpoint(saved)).await.unwrap();
        let loaded = store.checkpoints().load(Topic::Messages, partition).await.unwrap();
        assert_eq!(loaded, Some(checkpoint(expected)), "after a save at {saved}");
    }
    assert_eq!(store.checkpoints().load(Topic::Timelines, partition).await.unwrap(), None);
    assert_eq!(store.checkpoints().load(Topic::Messages, partition + 1).await.unwrap(), None);
    let large = Checkpoint { state: Bytes::from(vec![3; 64 * 1024]), ..checkpoint(20) };
    store.checkpoints().save(Topic::Messages, partition, large.clone()).await.unwrap();
    assert_eq!(store.checkpoints().load(Topic::Messages, partition).await.unwrap(), Some(large));
}

async fn concurrent_writers_converge(store: &Arc<dyn Store>, names: &Names) {
    let partition = names.partition(8);
    let mut ticks: Vec<u64> = (1..=60).collect();
    Dice(4).shuffle(&mut ticks);
    let mut running = Vec::new();
    for share in ticks.chunks(15) {
        let (store, share) = (store.clone(), share.to_vec());
        running.push(tokio::spawn(async move {
            for tick in share {
                store.checkpoints().save(Topic::Timelines, partition, checkpoint(tick)).await.unwrap();
                let seen = store.checkpoints().load(Topic::Timelines, partition).await.unwrap().unwrap();
                assert!(seen.tick.0 >= tick && seen == checkpoint(seen.tick.0), "{tick} is not seen");
            }
        }));
    }
    for task in running {
        task.await.unwrap();
    }
    let loaded = store.checkpoints().load(Topic::Timelines, partition).await.unwrap();
    assert_eq!(loaded, Some(checkpoint(60)));
}

pub(super) async fn keep(store: &dyn Store, names: &Names) {
    store.checkpoints().save(Topic::Timelines, names.partition(9), checkpoint(6)).await.unwrap();
}

pub(super) async fn kept(store: &dyn Store, names: &Names) {
    let loaded = store.checkpoints().load(Topic::Timelines, names.partition(9)).await.unwrap();
    assert_eq!(loaded, Some(checkpoint(6)));
}
