//! The Kafka that tests run against, and logs of their own on it. Never shared between two tests.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use storage::conformance::reports::PATIENCE;
use storage::kafka::{self, Options};
use storage::log::{Assignment, Log, LogError, Membership, Partition, Partitions, Topic};

use crate::left_out::given;

pub(crate) const PARTITIONS: Partitions = Partitions { messages: 3, timelines: 2 };

/// The brokers to test against.
pub(crate) fn servers() -> Option<String> {
    given("a log on Kafka", "GODWIT_TEST_KAFKA")
}

/// A prefix that no other test and no earlier run uses.
pub(crate) fn prefix() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    format!("test-{}-{now}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

pub(crate) async fn open(servers: &str, prefix: &str, options: Options) -> Result<Arc<dyn Log>, LogError> {
    kafka::open(&format!("kafka://{servers}/{prefix}"), options).await
}

/// Every partition that members share out.
pub(crate) fn shared_out() -> Vec<(Topic, Partition)> {
    let spots = |topic| (0..PARTITIONS.of(topic)).map(move |partition| (topic, partition));
    spots(Topic::Messages).chain(spots(Topic::Timelines)).collect()
}

/// Takes what the group hands out, until every one of `spots` is owned.
pub(crate) async fn own(
    member: &mut dyn Membership,
    owned: &mut BTreeSet<(Topic, Partition)>,
    spots: &[(Topic, Partition)],
) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !spots.iter().all(|spot| owned.contains(spot)) {
        match tokio::time::timeout_at(deadline, member.next()).await {
            Ok(Ok(Assignment::Assigned(topic, partition))) => assert!(owned.insert((topic, partition))),
            Ok(Ok(Assignment::Revoked(topic, partition))) => assert!(owned.remove(&(topic, partition))),
            other => panic!("{spots:?} should be owned, {owned:?} are; then came {other:?}"),
        }
    }
}
