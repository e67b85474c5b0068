//! The Kafka log: the suite, and what only it promises about its topics. Needs brokers:
//! `GODWIT_TEST_KAFKA=host:port[,host:port]`.

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
use std::io::BufRead;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use kafka_support::{PARTITIONS, own, prefix, servers, shared_out};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use storage::conformance::log::{self as suite, LogHarness};
use storage::conformance::reports::{PATIENCE, Reports};
use storage::kafka::Options;
use storage::log::{Append, Log, LogError, Partitions, Tag, Topic};

async fn open(servers: &str, prefix: &str, partitions: Partitions) -> Result<Arc<dyn Log>, LogError> {
    kafka_support::open(servers, prefix, Options::new(partitions)).await
}

struct Cluster {
    servers: String,
    prefix: String,
}

impl LogHarness for Cluster {
    fn fresh(&self) -> BoxFuture<'_, Arc<dyn Log>> {
        async { open(&self.servers, &self.prefix, PARTITIONS).await.unwrap() }.boxed()
    }

    fn reopen(&self, log: Arc<dyn Log>) -> BoxFuture<'_, Arc<dyn Log>> {
        drop(log);
        self.fresh()
    }

    fn shares_out(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_passes_the_suite() {
    let Some(servers) = servers() else { return };
    suite::all(&Cluster { servers, prefix: prefix() }).await;
}

/// What opening says about a topic that was created like this.
async fn refusal(servers: &str, topic: &str, count: i32, setting: Option<(&str, &str)>) -> String {
    let prefix = prefix();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
    let name = format!("{prefix}.{topic}");
    let brokers = admin.inner().fetch_metadata(None, Duration::from_secs(5)).unwrap().brokers().len();
    let replication = TopicReplication::Fixed(i32::try_from(brokers.min(3)).unwrap());
    let good = [("message.timestamp.type", "LogAppendTime"), ("retention.ms", "-1")];
    let all = good.into_iter().chain(setting);
    let new = all.fold(NewTopic::new(&name, count, replication), |new, (k, v)| new.set(k, v));
    admin.create_topics(&[new], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    let mut tries = 0;
    while admin
        .inner()
        .fetch_metadata(None, Duration::from_secs(5))
        .unwrap()
        .topics()
        .iter()
        .all(|t| t.name() != name)
    {
        tries += 1;
        assert!(tries < 1_000, "{name} does not appear");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    match open(servers, &prefix, PARTITIONS).await.map(|_| ()) {
        Err(LogError::Refused(text)) => {
            assert!(text.contains(&name), "{text}");
            text
        }
        other => panic!("{name} with {setting:?} was not refused: {other:?}"),
    }
}

#[tokio::test]
async fn topics_that_lose_messages_are_refused() {
    let Some(servers) = servers() else { return };
    for (key, value) in [
        ("retention.ms", "86400000"),
        ("retention.bytes", "1000000"),
        ("cleanup.policy", "compact"),
        ("message.timestamp.type", "CreateTime"),
        ("max.message.bytes", "300000"),
    ] {
        let text = refusal(&servers, "messages", 3, Some((key, value))).await;
        assert!(text.contains(key) && text.contains(value) && text.contains("--add-config"), "{text}");
    }
    let text = refusal(&servers, "timelines", 5, None).await;
    assert!(text.contains("has 5 partitions, 2 are set"), "{text}");
}

#[tokio::test]
async fn other_partition_counts_than_created_are_refused() {
    let Some(servers) = servers() else { return };
    let prefix = prefix();
    let log = open(&servers, &prefix, PARTITIONS).await.unwrap();
    drop(log);
    let other = Partitions { messages: 4, ..PARTITIONS };
    let error = open(&servers, &prefix, other).await.map(|_| ()).unwrap_err();
    assert!(
        matches!(&error, LogError::Refused(text) if text.contains("has 3 partitions, 4 are set")),
        "{error}"
    );
    open(&servers, &prefix, PARTITIONS).await.unwrap();
}

#[tokio::test]
async fn nobody_there_is_said_soon() {
    let begun = Instant::now();
    let error = open("127.0.0.1:1", "nowhere", PARTITIONS).await.map(|_| ()).unwrap_err();
    assert!(
        matches!(&error, LogError::Unreachable { place, .. } if place.contains("127.0.0.1:1")),
        "{error}"
    );
    assert!(begun.elapsed() < Duration::from_secs(8), "it took {:?}", begun.elapsed());
}

/// A reader that stands still while its offset is trimmed away learns where the partition begins.
#[tokio::test]
async fn a_reader_overtaken_by_a_trim_is_told() {
    let Some(servers) = servers() else { return };
    let log = open(&servers, &prefix(), PARTITIONS).await.unwrap();
    let reports = Reports::new();
    let producer = log.producer(100, reports.clone()).unwrap();
    for n in 0..20 {
        suite::append(&*producer, Topic::Messages, 2, &Bytes::from_static(b"x"), Tag(0, n)).await;
    }
    reports.wait_ok(20).await;
    log.trim(Topic::Messages, 2, 15).await.unwrap();
    match log.reader(Topic::Messages, 2, 7).await.map(|_| ()) {
        Err(LogError::OutOfRange { offset: 7, earliest: 15, .. }) => {}
        other => panic!("a trimmed offset gave {other:?}"),
    }
    // Two readers of one partition at once, as while an owner goes and the next one comes.
    let mut first = log.reader(Topic::Messages, 2, 15).await.unwrap();
    let mut second = log.reader(Topic::Messages, 2, 15).await.unwrap();
    let read = suite::read(&mut *first, 5).await;
    assert_eq!(read, suite::read(&mut *second, 5).await);
    drop(first);
    let mut third = log.reader(Topic::Messages, 2, 18).await.unwrap();
    assert_eq!(suite::read(&mut *third, 2).await, read[3..]);
}

/// A reader that is open and has read, and is overtaken beyond what was fetched ahead for it, is told
/// where it stood and where the partition begins; what it got before is without a gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_reader_overtaken_by_a_trim_is_told() {
    const COUNT: u64 = 120;
    let Some(servers) = servers() else { return };
    let log = open(&servers, &prefix(), PARTITIONS).await.unwrap();
    let reports = Reports::new();
    let producer = log.producer(1_000, reports.clone()).unwrap();
    for n in 0..COUNT {
        suite::append(&*producer, Topic::Timelines, 1, &noise(n, 100_000), Tag(0, n)).await;
    }
    reports.wait_ok(120).await;
    let mut reader = log.reader(Topic::Timelines, 1, 0).await.unwrap();
    let mut position = suite::read(&mut *reader, 1).await[0].offset + 1;
    log.trim(Topic::Timelines, 1, COUNT - 1).await.unwrap();
    let told = loop {
        match tokio::time::timeout(PATIENCE, reader.next(10)).await.expect("the reader learns of it") {
            Ok(records) => {
                assert!(records.iter().map(|r| r.offset).eq(position..position + records.len() as u64));
                position += records.len() as u64;
                assert!(position < COUNT - 1, "everything was fetched ahead: nothing was overtaken");
            }
            Err(error) => break error,
        }
    };
    let LogError::OutOfRange { topic: Topic::Timelines, partition: 1, offset, earliest } = told else {
        panic!("an overtaken reader was told {told}");
    };
    assert_eq!((offset, earliest), (position, COUNT - 1));
    let mut reader = log.reader(Topic::Timelines, 1, earliest).await.unwrap();
    assert_eq!(suite::read(&mut *reader, 1).await[0].bytes, noise(COUNT - 1, 100_000));
}

/// Bytes that no compression makes smaller.
fn noise(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[3]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// A topic that appears when a member has joined is shared out within seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_a_member_sees_late_is_shared_out_soon() {
    let Some(servers) = servers() else { return };
    // Where the member hears of it an instant before its coordinator does, the group plans without it and
    // leaves it at that. `open` waits until every broker knows; here it may happen, but not every time.
    for _ in 0..3 {
        if a_late_topic_is_shared_out(&servers).await {
            return;
        }
        println!("the group planned without it; once more");
    }
    panic!("the late topic was not shared out");
}

async fn a_late_topic_is_shared_out(servers: &str) -> bool {
    const SOON: Duration = Duration::from_secs(15);
    let prefix = prefix();
    let log = open(servers, &prefix, PARTITIONS).await.unwrap();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
    let late = format!("{prefix}.{}", Topic::Timelines);
    admin.delete_topics(&[&late], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    let mut member = log.join().unwrap();
    let (late, others): (Vec<_>, Vec<_>) =
        shared_out().into_iter().partition(|(topic, _)| *topic == Topic::Timelines);
    let mut owned = BTreeSet::new();
    own(&mut *member, &mut owned, &others).await;
    // Creates what is missing.
    open(servers, &prefix, PARTITIONS).await.unwrap();
    tokio::time::timeout(SOON, own(&mut *member, &mut owned, &late)).await.is_ok()
}

/// The rate at which small records are confirmed; only a floor that any machine reaches is asserted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_records_go_in_batches() {
    const COUNT: usize = 100_000;
    let Some(servers) = servers() else { return };
    let log = open(&servers, &prefix(), PARTITIONS).await.unwrap();
    let reports = Reports::new();
    let producer = log.producer(20_000, reports.clone()).unwrap();
    let record = Bytes::from(vec![7; 100]);
    let begun = Instant::now();
    for n in 0..COUNT as u64 {
        let partition = u32::try_from(n % 3).unwrap();
        while producer.append(Topic::Messages, partition, record.clone(), Tag(0, n)) == Append::Full {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    reports.wait_ok(COUNT).await;
    let took = begun.elapsed();
    println!("{COUNT} records of 100 bytes were confirmed in {took:?}");
    assert!(took < Duration::from_secs(60), "{took:?}");
}

/// Set for the process that `a_stopped_member_learns_that_it_lost` starts: the prefix to join at.
const MEMBER: &str = "GODWIT_TEST_KAFKA_MEMBER";

/// Not a test of its own: a member in another process, which says what it is told.
#[tokio::test]
async fn the_other_process() {
    let (Some(servers), Ok(prefix)) = (servers(), std::env::var(MEMBER)) else { return };
    let log = open(&servers, &prefix, PARTITIONS).await.unwrap();
    let mut member = log.join().unwrap();
    loop {
        let change = member.next().await.unwrap();
        println!("\nchange {change:?}");
    }
}

struct Child(std::process::Child);

impl Child {
    fn signal(&self, signal: &str) {
        let kill = std::process::Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What another process prints about its membership.
struct Told {
    lines: tokio::sync::mpsc::UnboundedReceiver<String>,
    seen: Vec<String>,
}

impl Told {
    fn by(child: &mut Child) -> Self {
        let lines = std::io::BufReader::new(child.0.stdout.take().unwrap()).lines();
        let (told, changes) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let changes = lines.map_while(Result::ok).filter(|line| line.starts_with("change "));
            changes.for_each(|line| drop(told.send(line)));
        });
        Self { lines: changes, seen: Vec::new() }
    }

    /// Waits for `count` more changes of a kind.
    async fn wait(&mut self, kind: &str, count: usize) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut missing = count;
        while missing > 0 {
            match tokio::time::timeout_at(deadline, self.lines.recv()).await {
                Ok(Some(line)) => {
                    missing -= usize::from(line.contains(kind));
                    self.seen.push(line);
                }
                Ok(None) => panic!("the other process ended before {count} {kind}; seen: {:?}", self.seen),
                Err(_) => panic!("{missing} of {count} {kind} did not come; seen: {:?}", self.seen),
            }
        }
    }
}

/// A process that stands still for longer than its session loses its partitions to another one, and is
/// told so when it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_member_learns_that_it_lost() {
    let Some(servers) = servers() else { return };
    let prefix = prefix();
    let log = open(&servers, &prefix, PARTITIONS).await.unwrap();
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_other_process", "--nocapture"]).env(MEMBER, &prefix);
    let mut child = Child(command.stdout(std::process::Stdio::piped()).spawn().unwrap());
    let mut told = Told::by(&mut child);
    told.wait("Assigned", 5).await;
    child.signal("-STOP");
    let mut member = log.join().unwrap();
    own(&mut *member, &mut BTreeSet::new(), &shared_out()).await;
    child.signal("-CONT");
    told.wait("Revoked", 5).await;
    told.wait("Assigned", 1).await;
}
