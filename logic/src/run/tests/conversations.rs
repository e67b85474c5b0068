//! The conversation shell: the order of its effects, and what ends a run.

use prost::Message;
use proto::v1;
use storage::log::Topic;
use v1::timeline_record::Record;

use super::double::{Double, Happened};
use super::stage::{Deployment, submission};
use crate::run::may_skip;

/// Where the first of something stands in the journal.
fn at(journal: &[Happened], what: impl Fn(&Happened) -> bool) -> Option<usize> {
    journal.iter().position(what)
}

fn outputs(double: &Double) -> usize {
    double.journal().iter().filter(|h| matches!(h, Happened::Output { .. })).count()
}

fn owners(double: &Double) -> usize {
    let is_owner = |bytes| {
        let record = v1::MessageRecord::decode(bytes).unwrap().record;
        matches!(record, Some(v1::message_record::Record::Owner(_)))
    };
    double.records(Topic::Messages, 0).into_iter().filter(|r| is_owner(r.bytes.clone())).count()
}

/// The numbers that each timelines partition applies.
fn applied(double: &Double) -> Vec<Vec<u64>> {
    let of = |partition| {
        let deliveries = double.applied(partition).into_iter().flat_map(|output| output.deliveries);
        let nos = deliveries.filter_map(|delivery| match delivery.what {
            Some(v1::delivery::What::Posted(posted)) => Some(posted.no),
            _ => None,
        });
        nos.collect::<Vec<u64>>()
    };
    (0..2).map(of).filter(|nos| !nos.is_empty()).collect()
}

#[tokio::test(start_paused = true)]
async fn history_then_outputs_then_rows_then_checkpoint() {
    let deployment = Deployment::new();
    let double = &deployment.double;
    double.faults(|faults| faults.hold_reports = true);
    let _run = deployment.run(Topic::Messages, 0);
    deployment.send_texts(1..=5);
    deployment.settle().await;
    // Judging and appending went on though nothing was reported, and nothing was written that depends on it.
    let journal = double.journal();
    assert!(outputs(double) >= 5);
    assert_eq!(at(&journal, |h| *h == Happened::Rows), None);
    for no in 1..=5 {
        let history = at(&journal, |h| *h == Happened::History(no)).unwrap();
        let first_output = at(&journal, |h| matches!(h, Happened::Output { .. })).unwrap();
        assert!(no > 1 || history < first_output, "{journal:?}");
    }
    double.release_reports();
    deployment.settle().await;
    let journal = double.journal();
    let rows = at(&journal, |h| *h == Happened::Rows).unwrap();
    let checkpoint = at(&journal, |h| matches!(h, Happened::Checkpoint(..))).unwrap();
    let last_output = journal.iter().rposition(|h| matches!(h, Happened::Output { .. })).unwrap();
    assert!(last_output < rows && rows < checkpoint, "{journal:?}");
    assert!(journal.contains(&Happened::Trim(Topic::Messages, 6)), "{journal:?}");
}

#[tokio::test(start_paused = true)]
async fn each_output_names_the_one_before_it() {
    let deployment = Deployment::new();
    let _run = deployment.run(Topic::Messages, 0);
    for n in 1..=5 {
        deployment.send_text(n);
        deployment.settle().await;
    }
    for partition in 0..2 {
        let mut prev = 0;
        for output in deployment.double.applied(partition) {
            assert_eq!(output.prev, prev);
            prev = output.source;
        }
    }
    assert!(applied(&deployment.double).iter().all(|nos| *nos == [1, 2, 3, 4, 5]));
}

#[tokio::test(start_paused = true)]
async fn a_failed_report_ends_the_run_and_the_next_begins_at_the_checkpoint() {
    let deployment = Deployment::new();
    let double = &deployment.double;
    let _run = deployment.run(Topic::Messages, 0);
    deployment.send_text(1);
    deployment.settle().await;
    let checkpoint = double.checkpoint(Topic::Messages, 0).unwrap();
    double.faults(|faults| faults.fail_reports = 1);
    deployment.send_text(2);
    deployment.send_text(3);
    deployment.settle().await;
    let reads: Vec<u64> = double
        .journal()
        .into_iter()
        .filter_map(|h| match h {
            Happened::Read(Topic::Messages, offset) => Some(offset),
            _ => None,
        })
        .collect();
    assert_eq!(reads, [0, checkpoint.offset]);
    assert_eq!(owners(double), 2);
    assert!(applied(double).iter().all(|nos| *nos == [1, 2, 3]), "{:?}", applied(double));
    // The new run knows of no output before its first.
    let again =
        double.journal().into_iter().filter(|h| matches!(h, Happened::Output { prev: 0, .. })).count();
    assert!(again >= 2);
    assert_eq!(deployment.parts.health.reasons(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_log_whose_beginning_is_gone_is_not_judged_without_a_checkpoint() {
    let deployment = Deployment::new();
    let double = &deployment.double;
    double.faults(|faults| faults.earliest = 2);
    let _run = deployment.run(Topic::Messages, 0);
    deployment.send_texts(1..=5);
    deployment.settle().await;
    assert_eq!((outputs(double), owners(double)), (0, 0));
    let said = deployment.parts.health.reasons().concat();
    assert!(said.contains("not the tables of this log"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn history_that_cannot_be_stored_holds_everything_after_it_back() {
    let deployment = Deployment::new();
    let double = &deployment.double;
    double.faults(|faults| faults.fail_history = usize::MAX);
    let _run = deployment.run(Topic::Messages, 0);
    deployment.send_texts(1..=3);
    deployment.settle().await;
    assert_eq!(outputs(double), 0);
    assert_eq!(at(&double.journal(), |h| matches!(h, Happened::Rows)), None);
    double.faults(|faults| faults.fail_history = 0);
    deployment.settle().await;
    assert!(applied(double).iter().all(|nos| *nos == [1, 2, 3]));
    assert_eq!(owners(double), 1, "the run went on in place");
}

#[tokio::test(start_paused = true)]
async fn a_log_without_room_is_asked_again_though_nothing_is_under_way() {
    let deployment = Deployment::new();
    let double = &deployment.double;
    double.faults(|faults| faults.full = true);
    let _run = deployment.run(Topic::Messages, 0);
    deployment.send_texts(1..=3);
    deployment.settle().await;
    assert_eq!(owners(double), 0);
    double.faults(|faults| (faults.full, faults.queued_max) = (false, Some(0)));
    deployment.settle().await;
    assert_eq!((outputs(double), owners(double)), (0, 1));
    double.faults(|faults| faults.queued_max = None);
    deployment.settle().await;
    assert!(applied(double).iter().all(|nos| *nos == [1, 2, 3]));
    assert_eq!(owners(double), 1, "the run went on in place");
}

#[tokio::test(start_paused = true)]
async fn a_full_producer_makes_outputs_wait() {
    let deployment = Deployment::new();
    let double = &deployment.double;
    double.faults(|faults| {
        faults.hold_reports = true;
        faults.queued_max = Some(3);
    });
    let _run = deployment.run(Topic::Messages, 0);
    deployment.send_texts(1..=9);
    deployment.settle().await;
    assert_eq!(outputs(double), 3);
    double.faults(|faults| faults.queued_max = None);
    double.release_reports();
    deployment.settle().await;
    assert!(applied(double).iter().all(|nos| *nos == (1..=9).collect::<Vec<_>>()));
    assert_eq!(owners(double), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_judged_and_not_durable_is_bounded() {
    let deployment = Deployment::with(
        |config| {
            config.batch_records_max = 2;
            config.staged_records_max = 4;
        },
        None,
    );
    let double = &deployment.double;
    double.faults(|faults| faults.hold_reports = true);
    let _run = deployment.run(Topic::Messages, 0);
    deployment.send_texts(1..=50);
    deployment.settle().await;
    let histories = double.journal().iter().filter(|h| matches!(h, Happened::History(_))).count();
    assert!((3..=6).contains(&histories), "{histories}");
    double.release_reports();
    deployment.settle().await;
    assert!(applied(double).iter().all(|nos| *nos == (1..=50).collect::<Vec<_>>()));
}

#[tokio::test(start_paused = true)]
async fn a_later_owner_stops_the_run_which_claims_again_after_a_pause() {
    let deployment = Deployment::with(|config| config.reclaim_after_ms = 100_000, None);
    let double = &deployment.double;
    let _run = deployment.run(Topic::Messages, 0);
    deployment.send_text(1);
    deployment.settle().await;
    let other = v1::Owner { node: "n2".into(), run: 7 };
    let record = v1::MessageRecord { record: Some(v1::message_record::Record::Owner(other)) };
    double.append(Topic::Messages, 0, &record);
    deployment.send_text(2);
    deployment.settle().await;
    assert_eq!(deployment.parts.health.reasons(), ["messages/0 was taken over by another owner"]);
    assert!(applied(double).iter().all(|nos| *nos == [1]));
    deployment.settle().await;
    assert_eq!(deployment.parts.health.reasons(), Vec::<String>::new());
    assert_eq!(owners(double), 3);
    assert!(applied(double).iter().all(|nos| *nos == [1, 2]));
}

#[tokio::test(start_paused = true)]
async fn a_stop_flushes_what_was_judged() {
    let deployment = Deployment::with(|config| config.flush_every_ms = 3_600_000, None);
    let double = &deployment.double;
    let run = deployment.run(Topic::Messages, 0);
    deployment.send_texts(1..=3);
    deployment.settle().await;
    run.stop().await;
    assert_eq!(double.checkpoint(Topic::Messages, 0).map(|c| c.offset), Some(4));
}

#[tokio::test(start_paused = true)]
async fn changed_rows_beyond_the_cache_are_flushed_before_their_time() {
    for (bytes_max, flushed) in [(1 << 20, false), (1, true)] {
        let deployment = Deployment::with(
            |config| {
                config.flush_every_ms = 3_600_000;
                config.cache_bytes_max = bytes_max;
            },
            None,
        );
        let _run = deployment.run(Topic::Messages, 0);
        deployment.settle().await;
        deployment.send_texts(1..=3);
        deployment.settle().await;
        let offset = deployment.double.checkpoint(Topic::Messages, 0).map(|c| c.offset);
        assert_eq!(offset == Some(4), flushed, "{offset:?}");
    }
}

/// The tick of the n-th append of a test whose only appends before are the run's.
const fn tick(n: u64) -> u64 {
    n * 1000
}

fn skip(deployment: &Deployment, tick: u64) {
    let skip = v1::Skip { topic: 0, partition: 0, tick };
    deployment.node_record(1, v1::node_record::Record::Skip(skip));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_breaks_the_stage_stops_it_until_it_is_skipped() {
    let deployment = Deployment::with(|_| {}, Some(tick(2)));
    let double = &deployment.double;
    (1..=3).for_each(|n| assert_eq!(deployment.send_text(n), tick(n)));
    let _run = deployment.run(Topic::Messages, 0);
    deployment.settle().await;
    // What stands before it has its effects; what stands after it has none.
    assert!(applied(double).iter().all(|nos| *nos == [1]), "{:?}", applied(double));
    assert_eq!(deployment.parts.health.reasons(), ["messages/0 is stopped by the record at tick 2000"]);
    assert_eq!(owners(double), 1, "it is not tried again");
    skip(&deployment, tick(2));
    deployment.settle().await;
    assert_eq!(deployment.parts.health.reasons(), Vec::<String>::new());
    let nos = applied(double);
    // Ann has the rejection (number 0) between her texts, Bob only the texts.
    assert!(nos.iter().any(|nos| *nos == [1, 0, 2]), "{nos:?}");
    assert!(nos.iter().all(|nos| nos.iter().filter(|no| **no > 0).copied().collect::<Vec<_>>() == [1, 2]));
}

#[tokio::test(start_paused = true)]
async fn other_partitions_go_on_where_one_is_stopped() {
    let deployment = Deployment::with(|_| {}, Some(tick(2)));
    let double = &deployment.double;
    deployment.send_texts(1..=3);
    let _runs = [0, 1].map(|partition| deployment.run(Topic::Messages, partition));
    deployment.settle().await;
    assert_eq!(deployment.parts.health.reasons(), ["messages/0 is stopped by the record at tick 2000"]);
    double.append(Topic::Messages, 1, &submission(1));
    deployment.settle().await;
    let checkpoint = |partition| double.checkpoint(Topic::Messages, partition).map(|c| c.offset);
    assert_eq!((checkpoint(0), checkpoint(1)), (None, Some(2)), "its owner's record and the text");
    assert_eq!(deployment.parts.health.reasons(), ["messages/0 is stopped by the record at tick 2000"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_has_outputs_is_not_skipped() {
    let deployment = Deployment::with(|_| {}, Some(tick(2)));
    let double = &deployment.double;
    deployment.send_texts(1..=3);
    // A run of another build judged it.
    let output = v1::Output { source: tick(2), ..Default::default() };
    double.append(Topic::Timelines, 1, &v1::TimelineRecord { record: Some(Record::Output(output)) });
    let _run = deployment.run(Topic::Messages, 0);
    deployment.settle().await;
    skip(&deployment, tick(2));
    deployment.settle().await;
    assert_eq!(deployment.parts.health.reasons(), ["messages/0 is stopped by the record at tick 2000"]);
    let parts = &deployment.parts;
    for (at, refused) in [(tick(2), true), (tick(3), false)] {
        let answer = may_skip(&*parts.log, &*parts.store, Topic::Messages, 0, proto::Tick(at)).await;
        assert_eq!(answer.is_err(), refused, "{answer:?}");
    }
}
