//! Appends to the embedded log, each batch reported durable before the next: the same loop as
//! `fsync_floor`, over all that a log needs besides.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench: a wrong set-up has to end it")]

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use storage::embedded::{self, Options};
use storage::log::{Append, AppendError, Partitions, Report, Tag, Topic};

const BATCH: u64 = 100;
const ROW: Bytes = Bytes::from_static(&[b'x'; 100]);

/// Passes on how many records were reported.
struct Count(Sender<u64>);

impl Report for Count {
    fn reported(&self, outcomes: &[(Tag, Result<(), AppendError>)]) {
        assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "an append failed");
        // The receiver outlives the producer.
        self.0.send(outcomes.len() as u64).unwrap();
    }
}

fn append(c: &mut Criterion) {
    let dir =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("append-{}", std::process::id()));
    let partitions = Partitions { messages: 16, timelines: 16 };
    let embedded = embedded::open(&dir, Options::new(partitions)).unwrap();
    let log = embedded.log();
    let (sender, reports) = channel();
    let producer = log.producer(1 << 16, Arc::new(Count(sender))).unwrap();
    let mut group = c.benchmark_group("embedded log");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("append 100 rows, durable", |b| {
        b.iter(|| {
            for i in 0..BATCH {
                let partition = u32::try_from(i % 16).unwrap();
                assert_eq!(producer.append(Topic::Messages, partition, ROW, Tag(0, i)), Append::Queued);
            }
            let mut durable = 0;
            while durable < BATCH {
                durable += reports.recv().unwrap();
            }
        });
    });
    group.finish();
    drop((producer, log, embedded));
    std::fs::remove_dir_all(dir).unwrap();
}

criterion_group!(benches, append);
criterion_main!(benches);
