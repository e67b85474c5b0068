//! The Kafka log while brokers stand still: what it promises holds, its errors are typed, and everything
//! goes on by itself. Needs three brokers whose pids lie in `GODWIT_TEST_BACKENDS_DIR`; nothing else may
//! use them meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test"
)]
#![cfg(all(feature = "kafka", feature = "conformance"))]

mod kafka_support;
mod left_out;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_support::{PARTITIONS, own, prefix, servers, shared_out};
use left_out::{can, given};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use storage::conformance::log as suite;
use storage::conformance::reports::{Outcome, PATIENCE, Reports};
use storage::kafka::Options;
use storage::log::{Append, AppendError, Assignment, Log, LogError, Producer, Reader, Tag, Topic};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout};

/// Between two looks at whether something has happened.
const LOOK: Duration = Duration::from_millis(100);
/// Handles of one log that append at the same time.
const HANDLES: u64 = 2;
/// How often each of them appends a record to every partition.
const TURN_EVERY: Duration = Duration::from_millis(3);

/// A start may have to find out that a broker hangs, and that leaders are elsewhere.
const STARTED_MAX: Duration = Duration::from_secs(40);

/// Three brokers of which any may be stopped, by one test at a time.
struct Brokers {
    servers: String,
    pids: Vec<String>,
    _alone: MutexGuard<'static, ()>,
}

/// They go on when this is dropped.
struct Stopped<'a>(&'a [String]);

impl Brokers {
    async fn find() -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::const_new(());
        let (servers, dir) = (servers()?, given("brokers that stand still", "GODWIT_TEST_BACKENDS_DIR")?);
        let pid = |i| std::fs::read_to_string(Path::new(&dir).join(format!("broker-{i}/pid"))).ok();
        let pids: Vec<String> = (1..=3).map_while(pid).collect();
        if !can("brokers that stand still", pids.len() >= 3, &format!("there are no three in {dir}")) {
            return None;
        }
        let brokers = Self { servers, pids, _alone: ALONE.lock().await };
        brokers.whole().await;
        Some(brokers)
    }

    async fn open(&self, append_timeout: Duration) -> Arc<dyn Log> {
        let options = Options { append_timeout, ..Options::new(PARTITIONS) };
        kafka_support::open(&self.servers, &prefix(), options).await.unwrap()
    }

    fn stop(&self, brokers: std::ops::Range<usize>) -> Stopped<'_> {
        let pids = &self.pids[brokers];
        signal("-STOP", pids);
        Stopped(pids)
    }

    /// Waits until every partition of every topic has all of its replicas in sync, and as many leaders as
    /// there are brokers.
    async fn whole(&self) {
        let leaders = self.until("every replica is in sync", |metadata| {
            let partitions = || metadata.topics().iter().flat_map(|topic| topic.partitions());
            metadata.brokers().len() == 3
                && partitions().all(|p| p.leader() >= 0 && p.isr().len() == p.replicas().len())
        });
        leaders.await;
    }

    /// Waits until a broker leads nothing any more.
    async fn deposed(&self, broker: usize) {
        let id = i32::try_from(broker).unwrap() + 1;
        let deposed = self.until("another broker leads", |metadata| {
            metadata.topics().iter().flat_map(|topic| topic.partitions()).all(|p| p.leader() != id)
        });
        deposed.await;
    }

    async fn until(&self, what: &str, holds: impl Fn(&rdkafka::metadata::Metadata) -> bool) {
        let client: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", &self.servers).create().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metadata = client.fetch_metadata(None, Duration::from_secs(5));
            if metadata.as_ref().is_ok_and(&holds) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: not seen; {:?}", metadata.map(drop));
            sleep(LOOK).await;
        }
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        signal("-CONT", self.0);
    }
}

fn signal(signal: &str, pids: &[String]) {
    assert!(Command::new("kill").arg(signal).args(pids).status().unwrap().success());
}

/// One handle that appends without a pause.
struct Load {
    reports: Arc<Reports>,
    /// Ends with how many records were taken, and the handle.
    running: tokio::task::JoinHandle<(usize, Box<dyn Producer>)>,
    /// Ends it.
    over: Arc<AtomicBool>,
}

impl Load {
    /// The tag of a record is its partition's place among [`shared_out`], and its number.
    fn start(log: &dyn Log, handle: u64) -> Self {
        let (reports, over) = (Reports::new(), Arc::new(AtomicBool::new(false)));
        let producer = log.producer(50_000, reports.clone()).unwrap();
        let stop = over.clone();
        let running = tokio::spawn(async move {
            let (spots, mut number, mut taken) = (shared_out(), 0, 0);
            let mut turns = tokio::time::interval(TURN_EVERY);
            while !stop.load(Ordering::Relaxed) {
                turns.tick().await;
                for (place, (topic, partition)) in (0_u64..).zip(spots.iter().copied()) {
                    let record = Bytes::from(format!("{handle} {number}"));
                    let append = producer.append(topic, partition, record, Tag(place, number));
                    taken += usize::from(append == Append::Queued);
                    number += 1;
                }
            }
            (taken, producer)
        });
        Self { reports, running, over }
    }

    /// Waits until more appends ended like this than had when it was called.
    async fn until_more(&self, ended: Result<(), AppendError>) {
        let count = || self.reports.so_far().iter().filter(|(_, outcome)| *outcome == ended).count();
        let (before, deadline) = (count(), Instant::now() + PATIENCE);
        while count() <= before {
            assert!(Instant::now() < deadline, "no append ended with {ended:?}");
            sleep(LOOK).await;
        }
    }

    /// Every outcome, once nothing is under way.
    async fn end(self) -> Vec<Outcome> {
        self.over.store(true, Ordering::Relaxed);
        let (taken, producer) = self.running.await.unwrap();
        let outcomes = self.reports.wait(taken).await;
        assert_eq!((outcomes.len(), producer.depth().0), (taken, 0), "each is reported once");
        outcomes
    }
}

/// Reads until the record "end"; (handle, number) of those before it.
async fn read_to_end(mut reader: Box<dyn Reader>) -> Vec<(u64, u64)> {
    let mut read = Vec::new();
    loop {
        let records = timeout(PATIENCE, reader.next(1_000)).await.expect("the reader goes on");
        for record in records.expect("an outage is no error to a reader") {
            let text = std::str::from_utf8(&record.bytes).unwrap();
            let Some((handle, number)) = text.split_once(' ') else { return read };
            read.push((handle.parse().unwrap(), number.parse().unwrap()));
        }
    }
}

/// Appends "end" to every partition until that is confirmed.
async fn append_ends(log: &dyn Log) {
    let reports = Reports::new();
    let producer = log.producer(10, reports.clone()).unwrap();
    let (deadline, mut told) = (Instant::now() + PATIENCE, 0);
    for (topic, partition) in shared_out() {
        loop {
            assert!(Instant::now() < deadline, "{topic}/{partition} takes nothing any more");
            suite::append(&*producer, topic, partition, &Bytes::from_static(b"end"), Tag(0, 0)).await;
            told += 1;
            if reports.wait(told).await[told - 1].1.is_ok() {
                break;
            }
        }
    }
}

/// Compares what one handle appended to one partition with what was read of it there. What it counted.
fn compare(outcomes: &[Outcome], place: u64, read: impl Iterator<Item = u64>) -> String {
    let own = || outcomes.iter().filter(|(Tag(at, _), _)| *at == place);
    let mut confirmed: Vec<u64> = own().filter(|(_, ended)| ended.is_ok()).map(|(tag, _)| tag.1).collect();
    confirmed.sort_unstable();
    let failed: BTreeSet<u64> = own().filter(|(_, ended)| ended.is_err()).map(|(tag, _)| tag.1).collect();
    let (mut seen, mut first, mut copies, mut late) = (BTreeSet::new(), Vec::new(), 0, 0);
    for number in read {
        late += usize::from(!seen.contains(&number) && seen.last() > Some(&number));
        match seen.insert(number) {
            true => first.push(number),
            false => copies += 1,
        }
    }
    let failed_there = first.iter().filter(|number| failed.contains(number)).count();
    first.retain(|number| !failed.contains(number));
    let wrong = first.iter().zip(&confirmed).position(|(read, appended)| read != appended);
    let around = wrong.map(|at| (&first[at.saturating_sub(3)..first.len().min(at + 4)], confirmed[at]));
    assert!(wrong.is_none(), "place {place}: {around:?} is not the order of the appends, or one is missing");
    assert_eq!(first.len(), confirmed.len(), "place {place}: the last that were confirmed are missing");
    let (confirmed, failed) = (confirmed.len(), failed.len());
    format!(
        "{confirmed} confirmed, {failed} failed of which {failed_there} are there, {late} of them late; \
         {copies} copies"
    )
}

/// Records of one handle in one partition that were confirmed are all there, and their first copies are
/// in the order of the appends: also when others failed between them, when a broker goes on and finds
/// requests that the client gave up, and when another broker leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_confirmed_keeps_its_order_when_appends_between_fail() {
    let Some(brokers) = Brokers::find().await else { return };
    let log = brokers.open(Duration::from_secs(2)).await;
    let mut reading = Vec::new();
    for (topic, partition) in shared_out() {
        reading.push(tokio::spawn(read_to_end(log.reader(topic, partition, 0).await.unwrap())));
    }
    let loads: Vec<Load> = (0..HANDLES).map(|handle| Load::start(&*log, handle)).collect();
    loads[0].until_more(Ok(())).await;
    for broker in 0..3 {
        let stopped = brokers.stop(broker..broker + 1);
        loads[0].until_more(Err(AppendError::Timeout)).await;
        if broker == 2 {
            brokers.deposed(broker).await;
        }
        drop(stopped);
        brokers.whole().await;
        loads[0].until_more(Ok(())).await;
    }
    let mut outcomes = Vec::new();
    for load in loads {
        outcomes.push(load.end().await);
    }
    append_ends(&*log).await;
    for (place, reading) in (0..).zip(reading) {
        let read = reading.await.unwrap();
        for (handle, outcomes) in (0..).zip(&outcomes) {
            let own = read.iter().filter(|(by, _)| *by == handle).map(|(_, number)| *number);
            println!("handle {handle}, place {place}: {}", compare(outcomes, place, own));
        }
    }
}

fn is_unreachable<T>(outcome: Result<T, LogError>, servers: &str) {
    match outcome.map(drop) {
        Err(LogError::Unreachable { place, .. }) if place.contains(servers) => {}
        other => panic!("no broker answers, and that gave {other:?}"),
    }
}

/// Whichever broker hangs, those that go on are enough for a start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_goes_on_while_a_broker_hangs() {
    let Some(brokers) = Brokers::find().await else { return };
    let prefix = prefix();
    let open = || kafka_support::open(&brokers.servers, &prefix, Options::new(PARTITIONS));
    drop(open().await.unwrap());
    brokers.whole().await;
    for broker in 0..3 {
        let stopped = brokers.stop(broker..broker + 1);
        let began = Instant::now();
        let opened = open().await.map(drop);
        println!("broker {broker} hangs: {opened:?} after {:?}", began.elapsed());
        drop(stopped);
        opened.unwrap();
        assert!(began.elapsed() < STARTED_MAX);
        brokers.whole().await;
    }
}

/// Nothing answers for a while: questions say so, naming the log; what is open goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_on_after_an_outage() {
    let Some(brokers) = Brokers::find().await else { return };
    let log = brokers.open(PATIENCE).await;
    let (topic, partition) = (Topic::Messages, 1);
    let reports = Reports::new();
    let producer = log.producer(100, reports.clone()).unwrap();
    let mut reader = log.reader(topic, partition, 0).await.unwrap();
    let (mut member, mut owned) = (log.join().unwrap(), BTreeSet::new());
    own(&mut *member, &mut owned, &shared_out()).await;
    let text = |n: u64| Bytes::from(n.to_string());
    suite::append(&*producer, topic, partition, &text(0), Tag(0, 0)).await;
    assert_eq!(suite::read(&mut *reader, 1).await[0].bytes, text(0));

    let stopped = brokers.stop(0..3);
    for n in 1..10 {
        suite::append(&*producer, topic, partition, &text(n), Tag(0, n)).await;
    }
    let opening = kafka_support::open(&brokers.servers, "any", Options::new(PARTITIONS));
    let (opened, bounds, trimmed, read) = tokio::join!(
        opening,
        log.bounds(topic, partition),
        log.trim(topic, partition, 1),
        log.reader(Topic::Timelines, 0, 0)
    );
    is_unreachable(opened, &brokers.servers);
    is_unreachable(bounds, &brokers.servers);
    is_unreachable(trimmed, &brokers.servers);
    is_unreachable(read, &brokers.servers);
    drop(stopped);

    reports.wait_ok(10).await;
    let read = suite::read(&mut *reader, 9).await;
    assert!((1..10).map(text).eq(read.into_iter().map(|record| record.bytes)));
    brokers.whole().await;
    assert_eq!(log.bounds(topic, partition).await.unwrap().1, 10);
    // The group goes on: it shares out anew.
    let (mut other, mut theirs) = (log.join().unwrap(), BTreeSet::new());
    let deadline = Instant::now() + PATIENCE;
    while theirs.is_empty() || owned.is_empty() || owned.union(&theirs).count() < shared_out().len() {
        let (change, whose) = tokio::select! {
            change = member.next() => (change, &mut owned),
            change = other.next() => (change, &mut theirs),
            () = tokio::time::sleep_until(deadline) => panic!("{owned:?} and {theirs:?} are owned"),
        };
        match change.unwrap() {
            Assignment::Assigned(topic, partition) => assert!(whose.insert((topic, partition))),
            Assignment::Revoked(topic, partition) => assert!(whose.remove(&(topic, partition))),
        }
    }
}
