//! The part of the `Log` suite about appending while reports come in, as reactors and stages do: much under way
//! in two partitions, and in between records that the log turns down and records that a full queue refuses.

use std::collections::BTreeSet;

use bytes::Bytes;
use proto::limits::RECORD_BYTES_MAX;

use super::{end, read, text};
use crate::conformance::names::Dice;
use crate::conformance::reports::{Outcome, PATIENCE, Reports};
use crate::log::{Append, AppendError, Log, Partition, Producer, Reader, Tag, Topic};

const RECORDS: u64 = 2_000;
const QUEUED_MAX: usize = 32;
const TOPIC: Topic = Topic::Messages;

/// What the log took, in the order of the appends.
#[derive(Default)]
struct Taken {
    good: Vec<Tag>,
    /// Records that are too large.
    bad: Vec<Tag>,
    refused: u64,
}

impl Taken {
    fn count(&self) -> usize {
        self.good.len() + self.bad.len()
    }
}

/// Every record that was taken is reported once, and in each partition those that are good in their order; they are
/// read in that order, and nothing that was refused or turned down is among them.
pub async fn appends_while_reports_come_in(log: &dyn Log) {
    let from = [end(log, TOPIC, 0).await, end(log, TOPIC, 1).await];
    let reports = Reports::new();
    let producer = log.producer(QUEUED_MAX, reports.clone()).unwrap();
    let sent = tokio::time::timeout(PATIENCE, append_all(&*producer, &reports));
    let taken = sent.await.expect("a full queue empties itself");
    assert!(taken.refused > 0 && !taken.bad.is_empty(), "nothing came in between");

    let outcomes = reports.wait(taken.count()).await;
    assert_eq!(producer.depth(), (0, QUEUED_MAX), "everything reported leaves the queue");
    all_reported(&taken, &outcomes);
    for (partition, from) in (0..).zip(from) {
        let confirmed = of(partition, &taken.good);
        let confirmed_in_order = of(partition, outcomes.iter().filter(|o| o.1.is_ok()).map(|(tag, _)| tag));
        assert_eq!(confirmed_in_order, confirmed, "a report has overtaken another");
        let mut reader = log.reader(TOPIC, partition, from).await.unwrap();
        let expected: Vec<_> = confirmed.into_iter().map(text).collect();
        assert_eq!(first_copies(&mut *reader, expected.len()).await, expected, "partition {partition}");
    }
}

/// Appends without waiting but where the queue is full, and then only for the next report. What is refused is tried
/// again, or given up.
async fn append_all(producer: &dyn Producer, reports: &Reports) -> Taken {
    let (mut dice, mut taken) = (Dice(5), Taken::default());
    let large = Bytes::from(vec![0; RECORD_BYTES_MAX + 64 * 1024]);
    for n in 0..RECORDS {
        let partition = u32::from(dice.roll(3) == 0);
        let is_bad = dice.roll(25) == 0;
        let (record, tag) = (if is_bad { large.clone() } else { text(n) }, Tag(u64::from(partition), n));
        loop {
            let told = reports.so_far().len();
            if producer.append(TOPIC, partition, record.clone(), tag) == Append::Queued {
                let queued = if is_bad { &mut taken.bad } else { &mut taken.good };
                queued.push(tag);
                break;
            }
            taken.refused += 1;
            if is_bad || dice.roll(10) == 0 {
                break;
            }
            // The last report may come before its room is given back.
            reports.wait(taken.count().min(told + 1)).await;
            tokio::task::yield_now().await;
        }
        let (depth, cap) = producer.depth();
        assert!(cap == QUEUED_MAX && depth <= cap, "{depth} records are queued, {cap} are allowed");
    }
    taken
}

/// Each once, and as it had to end.
fn all_reported(taken: &Taken, outcomes: &[Outcome]) {
    let told = |wanted: Result<(), AppendError>| {
        let tags = outcomes.iter().filter(|(_, result)| *result == wanted).map(|(tag, _)| tag.1);
        tags.collect::<Vec<_>>()
    };
    let numbers = |tags: &[Tag]| tags.iter().map(|tag| tag.1).collect::<BTreeSet<_>>();
    let (good, bad) = (told(Ok(())), told(Err(AppendError::Rejected)));
    assert_eq!(good.len() + bad.len(), outcomes.len(), "other failures: {outcomes:?}");
    assert_eq!((good.len(), bad.len()), (taken.good.len(), taken.bad.len()), "told twice, or not");
    assert_eq!(BTreeSet::from_iter(good), numbers(&taken.good));
    assert_eq!(BTreeSet::from_iter(bad), numbers(&taken.bad));
}

/// The numbers of one partition's records.
fn of<'a>(partition: Partition, tags: impl IntoIterator<Item = &'a Tag>) -> Vec<u64> {
    tags.into_iter().filter(|tag| tag.0 == u64::from(partition)).map(|tag| tag.1).collect()
}

/// Reads until there are so many different records; a log may hold one twice.
async fn first_copies(reader: &mut dyn Reader, count: usize) -> Vec<Bytes> {
    let (mut seen, mut first) = (BTreeSet::new(), Vec::new());
    while first.len() < count {
        for record in read(reader, count - first.len()).await {
            if seen.insert(record.bytes.clone()) {
                first.push(record.bytes);
            }
        }
    }
    first
}
