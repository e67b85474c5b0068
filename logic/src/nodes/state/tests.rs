//! The node table against clocks that step, silence, and a log that is trimmed.

use proptest::prelude::*;
use v1::node_record::Record;

use super::*;

const SECOND: u64 = 1_000_000;

fn record(record: Record) -> v1::NodeRecord {
    v1::NodeRecord { record: Some(record) }
}

fn join(node: &str, nonce: u64) -> v1::NodeRecord {
    let stream_address = format!("{node}:7120");
    record(Record::Join(v1::Join { node: node.into(), nonce, stream_address, ..Default::default() }))
}

fn renewal(table: &NodeTable, node: &str) -> v1::NodeRecord {
    let incarnation = table.get(node).map_or(0, |n| n.incarnation);
    record(Record::Renewal(v1::Renewal { node: node.into(), incarnation, ..Default::default() }))
}

fn gone(table: &NodeTable) -> Vec<&str> {
    table.gone().map(|n| n.name.as_str()).collect()
}

#[test]
fn a_silent_node_is_down_after_time_and_ten_renewals_of_the_others() {
    let mut table = NodeTable::default();
    for name in ["a", "b", "c"] {
        table.apply(SECOND, &join(name, 1));
    }
    for i in 1..=10u64 {
        assert_eq!(gone(&table), Vec::<&str>::new(), "after {} renewals", i - 1);
        let (a, b) = (renewal(&table, "a"), renewal(&table, "b"));
        table.apply((1 + 10 * i) * SECOND, &a);
        table.apply((1 + 10 * i) * SECOND, &b);
    }
    assert_eq!(gone(&table), ["c"]);
    table.apply(120 * SECOND, &join("c", 2));
    assert_eq!(gone(&table), Vec::<&str>::new());
}

#[test]
fn a_step_of_the_clock_declares_nobody_down() {
    let mut table = NodeTable::default();
    for name in ["a", "b"] {
        table.apply(SECOND, &join(name, 1));
    }
    for i in 0..30u64 {
        for name in ["a", "b"] {
            let next = renewal(&table, name);
            table.apply((3600 * i + 1) * SECOND, &next);
            assert_eq!(gone(&table), Vec::<&str>::new());
        }
    }
}

#[test]
fn a_node_that_is_alone_never_declares_itself() {
    let mut table = NodeTable::default();
    table.apply(SECOND, &join("a", 1));
    table.apply(1000 * SECOND, &record(Record::Skip(v1::Skip::default())));
    assert_eq!(gone(&table), Vec::<&str>::new());
}

#[test]
fn a_renewal_of_an_older_incarnation_counts_for_nothing() {
    let mut table = NodeTable::default();
    table.apply(1, &join("a", 1));
    let late = renewal(&table, "a");
    table.apply(2, &join("a", 2));
    table.apply(3, &late);
    assert_eq!(table.get("a").map(|n| (n.incarnation, n.renewals)), Some((2, 0)));
}

#[test]
fn a_farewell_ends_a_node_until_it_joins_again() {
    let mut table = NodeTable::default();
    let incarnation = table.apply(5, &join("a", 1)).0;
    table.apply(6, &record(Record::Leave(v1::Leave { node: "a".into(), incarnation: 4 })));
    assert_eq!(gone(&table), Vec::<&str>::new());
    table.apply(7, &record(Record::Leave(v1::Leave { node: "a".into(), incarnation })));
    assert_eq!(gone(&table), ["a"]);
    assert_eq!(table.conns().count(), 0);
    table.apply(8, &join("a", 2));
    assert_eq!(gone(&table), Vec::<&str>::new());
}

#[derive(Clone, Debug)]
enum Step {
    Join(u8),
    Renewal(u8),
    Leave(u8),
    Skip(u64),
    Snapshot,
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let step = prop_oneof![
        (0u8..4).prop_map(Step::Join),
        (0u8..4).prop_map(Step::Renewal),
        (0u8..4).prop_map(Step::Renewal),
        (0u8..4).prop_map(Step::Leave),
        (0u64..9).prop_map(Step::Skip),
        Just(Step::Snapshot),
    ];
    prop::collection::vec((0u64..40 * SECOND, step), 1..80)
}

/// What the shell would append, with the state that it had `lag` records ago for snapshots.
fn write(steps: &[(u64, Step)], lag: usize) -> Vec<NodeEvent> {
    let (mut table, mut events, mut time) = (NodeTable::default(), Vec::new(), 0);
    let mut past = vec![table.to_snapshot(0)];
    for (i, (pause, step)) in steps.iter().enumerate() {
        time += pause;
        let name = |n: &u8| format!("n{n}");
        let next = match step {
            Step::Join(n) => join(&name(n), i as u64),
            Step::Renewal(n) => renewal(&table, &name(n)),
            Step::Leave(n) => {
                let incarnation = table.get(&name(n)).map_or(0, |n| n.incarnation);
                record(Record::Leave(v1::Leave { node: name(n), incarnation }))
            }
            Step::Skip(tick) => record(Record::Skip(v1::Skip { topic: 0, partition: 1, tick: *tick })),
            Step::Snapshot => record(Record::Snapshot(past[past.len().saturating_sub(1 + lag)].clone())),
        };
        table.apply(time, &next);
        events.push(NodeEvent { offset: i as u64, append_us: time, record: next });
        past.push(table.to_snapshot(i as u64 + 1));
    }
    events
}

proptest! {
    #[test]
    fn a_reader_of_a_trimmed_log_knows_what_a_reader_of_the_whole_knows(steps in steps(), lag in 0usize..6) {
        let events = write(&steps, lag);
        let mut whole = NodeTable::default();
        for event in &events {
            whole.apply(event.append_us, &event.record);
        }
        let keep = events.iter().filter_map(|e| match &e.record.record {
            Some(Record::Snapshot(s)) => Some(s.next_offset),
            _ => None,
        }).max();
        let trimmed: Vec<NodeEvent> =
            events.iter().filter(|e| e.offset >= keep.unwrap_or(0)).cloned().collect();
        for events in [&events, &trimmed] {
            let read = NodeTable::recover(events);
            // The evidence for being down is gathered anew, so a reader may know of fewer that are.
            prop_assert_eq!(read.to_snapshot(0).tick, whole.to_snapshot(0).tick);
            prop_assert_eq!(&read.skips, &whole.skips);
            for node in whole.live() {
                prop_assert_eq!(read.get(&node.name).map(NodeInfo::to_state), Some(node.to_state()));
            }
            for node in read.gone() {
                prop_assert!(whole.get(&node.name).is_none_or(|n| whole.is_gone(n)));
            }
        }
    }

    #[test]
    fn whoever_renews_is_never_gone(steps in steps()) {
        let mut table = NodeTable::default();
        table.apply(0, &join("me", 1));
        let mut time = 0;
        for event in write(&steps, 0) {
            time = event.append_us.max(time);
            if let Some(Record::Snapshot(_)) = event.record.record { continue }
            table.apply(time, &event.record);
            let mine = renewal(&table, "me");
            table.apply(time, &mine);
            prop_assert!(table.live().any(|n| n.name == "me"));
        }
    }
}
