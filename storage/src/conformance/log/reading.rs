//! The part of the `Log` suite about reading: from where, waiting, trimming, and after a close.

use std::time::Duration;

use super::{LogHarness, append, end, read, text};
use crate::conformance::reports::Reports;
use crate::log::{Log, LogError, Tag, Topic};

/// From the beginning, from the middle, from the end; never from where there is nothing.
pub async fn reads_from_anywhere(log: &dyn Log) {
    let (topic, partition) = (Topic::Messages, 1);
    let reports = Reports::new();
    let producer = log.producer(1_000, reports.clone()).unwrap();
    let from = end(log, topic, partition).await;
    for n in 0..100 {
        append(&*producer, topic, partition, &text(n), Tag(0, n)).await;
    }
    reports.wait_ok(100).await;
    let mut reader = log.reader(topic, partition, from).await.unwrap();
    let records = read(&mut *reader, 100).await;

    let (first, last) = log.bounds(topic, partition).await.unwrap();
    assert!(last > records[99].offset);
    let mut beginning = log.reader(topic, partition, 0).await.unwrap();
    assert!(beginning.next(1).await.unwrap()[0].offset >= first);

    let mut middle = log.reader(topic, partition, records[60].offset).await.unwrap();
    assert_eq!(read(&mut *middle, 40).await, records[60..], "a reader begins where it is told to");
    let mut one = log.reader(topic, partition, records[10].offset).await.unwrap();
    for record in &records[10..20] {
        assert_eq!(one.next(1).await.unwrap(), std::slice::from_ref(record));
    }
    match log.reader(topic, partition, last + 1_000).await.map(|_| ()) {
        Err(LogError::OutOfRange { earliest, offset, .. }) => {
            assert_eq!((earliest, offset), (first, last + 1_000));
        }
        other => panic!("an offset beyond the end gave {other:?}"),
    }
}

/// A reader at the end waits; what is appended then wakes it, also after a wait that was given up.
pub async fn a_reader_waits_and_wakes(log: &dyn Log) {
    let (topic, partition) = (Topic::Timelines, 1);
    let from = end(log, topic, partition).await;
    let reports = Reports::new();
    let producer = log.producer(100, reports.clone()).unwrap();
    let mut reader = log.reader(topic, partition, from).await.unwrap();
    for round in 0..5_u32 {
        let given_up = tokio::time::timeout(Duration::from_millis(20), reader.next(10)).await;
        assert!(given_up.is_err(), "nothing was appended, yet something was read");
        let appended = async {
            append(&*producer, topic, partition, &text(u64::from(round)), Tag(0, 0)).await;
        };
        let (records, ()) = tokio::join!(read(&mut *reader, 1), appended);
        assert_eq!(records[0].bytes, text(u64::from(round)));
    }
    reports.wait_ok(5).await;
}

/// Records below a bound go, the others stay, and offsets are never used again.
pub async fn trim_and_bounds(log: &dyn Log) {
    let (topic, partition) = (Topic::Messages, 0);
    let reports = Reports::new();
    let producer = log.producer(1_000, reports.clone()).unwrap();
    let from = end(log, topic, partition).await;
    for n in 0..100 {
        append(&*producer, topic, partition, &text(n), Tag(0, n)).await;
    }
    reports.wait_ok(100).await;
    let mut reader = log.reader(topic, partition, from).await.unwrap();
    let records = read(&mut *reader, 100).await;

    log.trim(topic, partition, records[40].offset).await.unwrap();
    let (first, last) = log.bounds(topic, partition).await.unwrap();
    assert_eq!(first, records[40].offset);
    assert!(last > records[99].offset);
    let mut beginning = log.reader(topic, partition, 0).await.unwrap();
    assert_eq!(read(&mut *beginning, 60).await, records[40..]);
    match log.reader(topic, partition, records[39].offset.max(1)).await.map(|_| ()) {
        Err(LogError::OutOfRange { earliest, .. }) => assert_eq!(earliest, first),
        other => panic!("a trimmed offset gave {other:?}"),
    }
    log.trim(topic, partition, records[20].offset).await.unwrap();
    assert_eq!(log.bounds(topic, partition).await.unwrap(), (first, last), "a lower trim changes nothing");

    log.trim(topic, partition, last).await.unwrap();
    assert_eq!(log.bounds(topic, partition).await.unwrap(), (last, last), "an empty partition");
    append(&*producer, topic, partition, &text(100), Tag(0, 100)).await;
    reports.wait_ok(101).await;
    let mut beginning = log.reader(topic, partition, 0).await.unwrap();
    let record = read(&mut *beginning, 1).await.remove(0);
    assert!(record.offset >= last && record.bytes == text(100), "an offset was used again");
}

/// Everything reported, every bound and every trim survive a close, also of an empty partition.
pub async fn reopen_keeps_everything(harness: &dyn LogHarness) {
    let log = harness.fresh().await;
    let reports = Reports::new();
    let producer = log.producer(1_000, reports.clone()).unwrap();
    let from = end(&*log, Topic::Timelines, 0).await;
    for n in 0..100 {
        append(&*producer, Topic::Timelines, 0, &text(n), Tag(0, n)).await;
        append(&*producer, Topic::Timelines, 1, &text(n), Tag(1, n)).await;
    }
    reports.wait_ok(200).await;
    drop(producer);
    let records = read(&mut *log.reader(Topic::Timelines, 0, from).await.unwrap(), 100).await;
    log.trim(Topic::Timelines, 0, records[50].offset).await.unwrap();
    let empty = end(&*log, Topic::Timelines, 1).await;
    log.trim(Topic::Timelines, 1, empty).await.unwrap();
    let bounds = log.bounds(Topic::Timelines, 0).await.unwrap();
    let partitions = log.partitions();

    let log = harness.reopen(log).await;
    assert_eq!(log.partitions(), partitions);
    assert_eq!(log.bounds(Topic::Timelines, 0).await.unwrap(), bounds);
    assert_eq!(log.bounds(Topic::Timelines, 1).await.unwrap(), (empty, empty));
    let again = read(&mut *log.reader(Topic::Timelines, 0, 0).await.unwrap(), 50).await;
    assert_eq!(again, records[50..]);
    let reports = Reports::new();
    let producer = log.producer(1_000, reports.clone()).unwrap();
    append(&*producer, Topic::Timelines, 1, &text(0), Tag(0, 0)).await;
    reports.wait_ok(1).await;
    let record = read(&mut *log.reader(Topic::Timelines, 1, 0).await.unwrap(), 1).await.remove(0);
    assert!(record.offset >= empty, "an offset was used again after a restart");
}
