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

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use storage::conformance::log::{self as suite, LogHarness};
use storage::conformance::reports::Reports;
use storage::kafka::{self, Options};
use storage::log::{Append, Log, LogError, Partitions, Tag, Topic};

const PARTITIONS: Partitions = Partitions { messages: 3, timelines: 2 };

/// The brokers to test against; none, and a word about it, where there are none.
fn servers() -> Option<String> {
    let servers = std::env::var("GODWIT_TEST_KAFKA").ok().filter(|servers| !servers.is_empty());
    if servers.is_none() {
        println!("left out: everything about Kafka, because GODWIT_TEST_KAFKA names no brokers");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI must name brokers in GODWIT_TEST_KAFKA");
    }
    servers
}

/// A prefix that no other test and no earlier run uses.
fn prefix() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    format!("test-{}-{now}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

async fn open(servers: &str, prefix: &str, partitions: Partitions) -> Result<Arc<dyn Log>, LogError> {
    kafka::open(&format!("kafka://{servers}/{prefix}"), Options::new(partitions)).await
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
        while producer.append(Topic::Messages, partition, record.clone(), Tag(0, n)) == Append::Refused {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    reports.wait_ok(COUNT).await;
    let took = begun.elapsed();
    println!("{COUNT} records of 100 bytes were confirmed in {took:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
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

/// A process that stands still for longer than its session loses its partitions to another one, and is
/// told so when it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_member_learns_that_it_lost() {
    use std::io::BufRead;
    let Some(servers) = servers() else { return };
    let prefix = prefix();
    let log = open(&servers, &prefix, PARTITIONS).await.unwrap();
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_other_process", "--nocapture"]).env(MEMBER, &prefix);
    let mut child = Child(command.stdout(std::process::Stdio::piped()).spawn().unwrap());
    let lines = std::io::BufReader::new(child.0.stdout.take().unwrap()).lines();
    let (told, mut changes) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let changes = lines.map_while(Result::ok).filter(|line| line.starts_with("change "));
        changes.for_each(|line| drop(told.send(line)));
    });
    let mut count = async |what: &str, enough: usize| {
        let mut seen = 0;
        while seen < enough {
            let line = tokio::time::timeout(Duration::from_secs(30), changes.recv()).await;
            seen += usize::from(line.expect("a change").expect("a line").contains(what));
        }
    };
    count("Assigned", 5).await;
    child.signal("-STOP");
    let mut member = log.join().unwrap();
    for _ in 0..5 {
        let change = tokio::time::timeout(Duration::from_secs(30), member.next()).await.expect("a takeover");
        assert!(matches!(change.unwrap(), storage::log::Assignment::Assigned(..)));
    }
    child.signal("-CONT");
    count("Revoked", 5).await;
    count("Assigned", 1).await;
}
