//! The suite of the `Log` seam: order, offsets, reports, back-pressure. Appending while reports come in is in
//! `flowing`, reading and trimming are in `reading`, how partitions are shared out is in `members`.

pub mod flowing;
pub mod reading;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use proto::limits::RECORD_BYTES_MAX;

use super::reports::{PATIENCE, Reports};
use crate::log::{Append, AppendError, Log, Partition, Producer, Reader, Record, Tag, Topic};

/// Makes logs for the suite.
pub trait LogHarness: Send + Sync {
    /// A log that nobody else writes to, of at least two messages and two timelines partitions. It may
    /// hold records of earlier cases.
    fn fresh(&self) -> BoxFuture<'_, Arc<dyn Log>>;

    /// The same log, closed and opened again, where that means anything. The handle given is the last.
    fn reopen(&self, log: Arc<dyn Log>) -> BoxFuture<'_, Arc<dyn Log>>;

    /// Whether partitions are shared out among several members, or all go to each.
    fn shares_out(&self) -> bool {
        false
    }
}

/// Runs every case.
pub async fn all(harness: &dyn LogHarness) {
    order_and_offsets(&*harness.fresh().await).await;
    topics_and_partitions_are_separate(&*harness.fresh().await).await;
    many_producers(&*harness.fresh().await).await;
    refused_when_full(&*harness.fresh().await).await;
    flowing::appends_while_reports_come_in(&*harness.fresh().await).await;
    reading::reads_from_anywhere(&*harness.fresh().await).await;
    reading::a_reader_waits_and_wakes(&*harness.fresh().await).await;
    big_records(&*harness.fresh().await).await;
    a_dropped_producer_is_silent(&*harness.fresh().await).await;
    reading::trim_and_bounds(&*harness.fresh().await).await;
    reading::reopen_keeps_everything(harness).await;
    super::members::every_partition_once(&*harness.fresh().await).await;
    if harness.shares_out() {
        super::members::two_members_share(&*harness.fresh().await).await;
    }
}

/// Queues a record; waits where the queue is full.
pub async fn append(producer: &dyn Producer, topic: Topic, partition: Partition, bytes: &Bytes, tag: Tag) {
    let queued = async {
        while producer.append(topic, partition, bytes.clone(), tag) == Append::Full {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, queued).await.expect("a full queue empties itself");
}

/// Reads until `count` records are there.
pub async fn read(reader: &mut dyn Reader, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        let max = count - records.len();
        let waited = tokio::time::timeout(PATIENCE, reader.next(max)).await;
        let page = waited
            .unwrap_or_else(|_| panic!("{} of {count} records arrived", records.len()))
            .expect("the partition can be read");
        assert!(!page.is_empty() && page.len() <= max, "asked for {max}, got {}", page.len());
        records.extend(page);
    }
    records
}

async fn nothing_more(reader: &mut dyn Reader) {
    let more = tokio::time::timeout(Duration::from_millis(50), reader.next(1)).await;
    assert!(more.is_err(), "nothing more was appended, yet there is {more:?}");
}

/// The one after the last offset.
pub async fn end(log: &dyn Log, topic: Topic, partition: Partition) -> u64 {
    log.bounds(topic, partition).await.expect("a partition has bounds").1
}

fn text(n: u64) -> Bytes {
    Bytes::from(format!("record {n}"))
}

fn assert_rising(records: &[Record]) {
    assert!(records.windows(2).all(|w| w[0].offset < w[1].offset), "offsets rise");
    assert!(records.iter().all(|r| r.append_us > 1_600_000_000_000_000), "append times are stamped");
}

/// One producer's records come back in its order, with rising offsets, reported once each.
pub async fn order_and_offsets(log: &dyn Log) {
    const COUNT: u64 = 500;
    for topic in Topic::ALL {
        let from = end(log, topic, 0).await;
        let reports = Reports::new();
        let producer = log.producer(1_000, reports.clone()).unwrap();
        for n in 0..COUNT {
            append(&*producer, topic, 0, &text(n), Tag(7, n)).await;
        }
        reports.wait_ok(500).await;
        assert_eq!(producer.depth(), (0, 1_000), "everything reported leaves the queue");
        let tags: Vec<_> = reports.so_far().into_iter().map(|(tag, _)| tag).collect();
        assert_eq!(tags, (0..COUNT).map(|n| Tag(7, n)).collect::<Vec<_>>(), "reports keep the order");

        let mut reader = log.reader(topic, 0, from).await.unwrap();
        let records = read(&mut *reader, 500).await;
        assert_rising(&records);
        assert!(records[0].offset >= from);
        let bytes: Vec<_> = records.into_iter().map(|r| r.bytes).collect();
        assert_eq!(bytes, (0..COUNT).map(text).collect::<Vec<_>>());
    }
}

/// What is appended to one partition of one topic is read there and nowhere else.
pub async fn topics_and_partitions_are_separate(log: &dyn Log) {
    let places = [(Topic::Messages, 0), (Topic::Messages, 1), (Topic::Timelines, 0), (Topic::Timelines, 1)];
    let mut from = Vec::new();
    for (topic, partition) in places {
        from.push(end(log, topic, partition).await);
    }
    let reports = Reports::new();
    let producer = log.producer(1_000, reports.clone()).unwrap();
    for n in 0..50 {
        for (topic, partition) in places {
            let bytes = Bytes::from(format!("{topic}/{partition} {n}"));
            append(&*producer, topic, partition, &bytes, Tag(0, n)).await;
        }
    }
    reports.wait_ok(200).await;
    for ((topic, partition), from) in places.into_iter().zip(from) {
        let mut reader = log.reader(topic, partition, from).await.unwrap();
        let records = read(&mut *reader, 50).await;
        assert_rising(&records);
        for (n, record) in records.iter().enumerate() {
            assert_eq!(record.bytes, format!("{topic}/{partition} {n}"));
        }
        nothing_more(&mut *reader).await;
    }
    assert_eq!(log.partitions().of(Topic::Nodes), 1);
}

/// Producers on several threads: every record once, each producer's in its order, each partition's
/// reports in order.
pub async fn many_producers(log: &dyn Log) {
    const EACH: u64 = 300;
    let from = [end(log, Topic::Messages, 0).await, end(log, Topic::Messages, 1).await];
    let mut running = Vec::new();
    for p in 0..4_u64 {
        let reports = Reports::new();
        let producer = log.producer(64, reports.clone()).unwrap();
        running.push(tokio::spawn(async move {
            for n in 0..EACH {
                let partition = u32::from(n % 3 == 0);
                let bytes = Bytes::from(format!("{p} {n}"));
                append(&*producer, Topic::Messages, partition, &bytes, Tag(u64::from(partition), n)).await;
            }
            reports.wait_ok(300).await;
            reports.so_far()
        }));
    }
    for producer in running {
        let outcomes = producer.await.unwrap();
        for partition in 0..2 {
            let tags: Vec<_> = outcomes.iter().filter(|o| o.0.0 == partition).map(|o| o.0.1).collect();
            assert!(tags.windows(2).all(|w| w[0] < w[1]), "reports of a partition keep its order");
        }
    }
    let mut seen: HashMap<(u64, u32), Vec<u64>> = HashMap::new();
    for (partition, count) in [(0_u32, 800), (1, 400)] {
        let mut reader = log.reader(Topic::Messages, partition, from[partition as usize]).await.unwrap();
        let records = read(&mut *reader, count).await;
        assert_rising(&records);
        for record in records {
            let text = std::str::from_utf8(&record.bytes).unwrap();
            let (p, n) = text.split_once(' ').unwrap();
            seen.entry((p.parse().unwrap(), partition)).or_default().push(n.parse().unwrap());
        }
        nothing_more(&mut *reader).await;
    }
    for ((_, partition), numbers) in seen {
        let expected: Vec<_> = (0..EACH).filter(|n| u32::from(n % 3 == 0) == partition).collect();
        assert_eq!(numbers, expected, "each producer's records keep their order");
    }
}

/// A full queue refuses at once, keeps its cap, and takes again after reports.
pub async fn refused_when_full(log: &dyn Log) {
    const CAP: usize = 4;
    let from = end(log, Topic::Timelines, 0).await;
    let reports = Reports::new();
    let producer = log.producer(CAP, reports.clone()).unwrap();
    let (mut queued, mut refused) = (0, 0);
    for n in 0..100_000 {
        match producer.append(Topic::Timelines, 0, text(n), Tag(0, n)) {
            Append::Queued => queued += 1,
            Append::Full => refused += 1,
            Append::Dead => panic!("a full queue is no dead one"),
        }
        let (depth, cap) = producer.depth();
        assert!(cap == CAP && depth <= CAP, "{depth} records are queued, {CAP} are allowed");
        if refused > 100 {
            break;
        }
    }
    assert!(refused > 0, "a queue of {CAP} took {queued} records");
    reports.wait_ok(queued).await;
    append(&*producer, Topic::Timelines, 0, &text(0), Tag(1, 0)).await;
    reports.wait_ok(queued + 1).await;
    let mut reader = log.reader(Topic::Timelines, 0, from).await.unwrap();
    read(&mut *reader, queued + 1).await;
    nothing_more(&mut *reader).await;
}

/// The largest record is taken; a larger one, and one for no partition, are turned down.
pub async fn big_records(log: &dyn Log) {
    let (topic, partition) = (Topic::Timelines, 0);
    let from = end(log, topic, partition).await;
    let reports = Reports::new();
    let producer = log.producer(100, reports.clone()).unwrap();
    let big: Vec<u8> = (0..RECORD_BYTES_MAX).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let big = Bytes::from(big);
    for n in 0..8 {
        append(&*producer, topic, partition, &big, Tag(0, n)).await;
    }
    append(&*producer, topic, partition, &Bytes::new(), Tag(0, 8)).await;
    reports.wait_ok(9).await;
    let mut reader = log.reader(topic, partition, from).await.unwrap();
    let records = read(&mut *reader, 9).await;
    assert!(records[..8].iter().all(|r| r.bytes == big), "the largest records come back whole");
    assert!(records[8].bytes.is_empty());

    let too_big = Bytes::from(vec![0; RECORD_BYTES_MAX + 64 * 1024]);
    let nowhere = log.partitions().of(topic) + 100;
    let mut queued = 9;
    for (partition, bytes) in [(partition, too_big), (nowhere, text(0))] {
        if producer.append(topic, partition, bytes, Tag(1, 0)) == Append::Queued {
            queued += 1;
            let outcomes = reports.wait(queued).await;
            assert_eq!(outcomes[queued - 1], (Tag(1, 0), Err(AppendError::Rejected)));
        }
    }
}

/// After its producer is dropped, a record may land, in order; but once the drop has returned, nothing
/// more is reported.
pub async fn a_dropped_producer_is_silent(log: &dyn Log) {
    let (topic, partition) = (Topic::Messages, 0);
    let from = end(log, topic, partition).await;
    let dropped = Reports::new();
    let producer = log.producer(1_000, dropped.clone()).unwrap();
    for n in 0..200 {
        append(&*producer, topic, partition, &text(n), Tag(0, n)).await;
    }
    drop(producer);
    let told = dropped.so_far();
    let reports = Reports::new();
    let producer = log.producer(10, reports.clone()).unwrap();
    append(&*producer, topic, partition, &Bytes::from_static(b"last"), Tag(0, 0)).await;
    reports.wait_ok(1).await;
    assert_eq!(dropped.so_far(), told, "a dropped producer reports nothing more");

    let mut reader = log.reader(topic, partition, from).await.unwrap();
    let mut landed = Vec::new();
    loop {
        let record = read(&mut *reader, 1).await.remove(0);
        if record.bytes == "last" {
            break;
        }
        landed.push(record.bytes);
    }
    assert!(landed.len() >= told.len(), "what was reported is there");
    assert_eq!(landed, (0..landed.len() as u64).map(text).collect::<Vec<_>>(), "in order, without a gap");
}
