//! The part of the `Log` suite about who owns which partition.

use std::collections::BTreeSet;
use std::time::Duration;

use super::reports::PATIENCE;
use crate::log::{Assignment, Log, Membership, Partition, Topic};

type Owned = BTreeSet<(Topic, Partition)>;

fn everything(log: &dyn Log) -> Owned {
    let of = |topic| (0..log.partitions().of(topic)).map(move |partition| (topic, partition));
    of(Topic::Messages).chain(of(Topic::Timelines)).collect()
}

fn apply(owned: &mut Owned, assignment: Assignment) {
    match assignment {
        Assignment::Assigned(topic, partition) => {
            assert!(owned.insert((topic, partition)), "{topic}/{partition} was assigned twice");
        }
        Assignment::Revoked(topic, partition) => {
            assert!(owned.remove(&(topic, partition)), "{topic}/{partition} was revoked, but not owned");
        }
    }
}

/// A single member is assigned every partition of messages and timelines, once.
pub async fn every_partition_once(log: &dyn Log) {
    let mut member = log.join().unwrap();
    let all = everything(log);
    let mut owned = Owned::new();
    while owned != all {
        let next = tokio::time::timeout(PATIENCE, member.next()).await;
        let assignment = next.unwrap_or_else(|_| panic!("only {owned:?} were assigned"));
        apply(&mut owned, assignment.unwrap());
    }
    let more = tokio::time::timeout(Duration::from_millis(200), member.next()).await;
    assert!(more.is_err(), "nothing is left to assign, yet {more:?}");
}

/// Two members end with every partition at exactly one of them, and each with half of either topic; one alone
/// ends with all.
pub async fn two_members_share(log: &dyn Log) {
    let all = everything(log);
    let (mut a, mut b) = (log.join().unwrap(), log.join().unwrap());
    let (mut owned_a, mut owned_b) = (Owned::new(), Owned::new());
    let shared = async {
        loop {
            one_of(&mut *a, &mut owned_a, &mut *b, &mut owned_b).await;
            let whole = owned_a.union(&owned_b).count() == all.len() && owned_a.is_disjoint(&owned_b);
            let is_even = |topic| of(&owned_a, topic).abs_diff(of(&owned_b, topic)) <= 1;
            if whole && is_even(Topic::Messages) && is_even(Topic::Timelines) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, shared).await.expect("two members share the partitions");
    drop(b);
    let alone = async {
        while owned_a != all {
            apply(&mut owned_a, a.next().await.unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, alone).await.expect("the one that stays takes over");
}

fn of(owned: &Owned, topic: Topic) -> usize {
    owned.iter().filter(|(of, _)| *of == topic).count()
}

async fn one_of(a: &mut dyn Membership, owned_a: &mut Owned, b: &mut dyn Membership, owned_b: &mut Owned) {
    tokio::select! {
        next = a.next() => apply(owned_a, next.unwrap()),
        next = b.next() => apply(owned_b, next.unwrap()),
    }
}
