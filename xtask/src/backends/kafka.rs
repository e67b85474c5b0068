//! Kafka brokers in KRaft mode, each its own controller too. What the topics promise is Godwit's to set.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use super::Cluster;
use super::node::{Node, jars};
use crate::tools::run;

/// Any 16 bytes, in base64: the cluster's own name.
const CLUSTER_ID: &str = "Z29kd2l0LXRlc3Qta2Fma2";
const LOGGING: &str = "rootLogger.level = WARN
rootLogger.appenderRef.out.ref = OUT
appender.out.type = Console
appender.out.name = OUT
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c %m%n
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = INFO
";

/// Writes the brokers' settings, formats their directories, and returns them ready to start.
pub(crate) fn prepare(cluster: &Cluster) -> Result<Vec<Node>> {
    let jars = jars("kafka")?;
    (1..=cluster.brokers).map(|i| broker(cluster, &jars, i)).collect()
}

fn broker(cluster: &Cluster, jars: &Path, i: u16) -> Result<Node> {
    let dir = cluster.dir.join(format!("broker-{i}"));
    std::fs::create_dir_all(&dir)?;
    let (properties, logging) = (dir.join("server.properties"), dir.join("log4j2.properties"));
    std::fs::write(&properties, settings(cluster, &dir, i))?;
    std::fs::write(&logging, LOGGING)?;
    let path = format!("{}/*", jars.display());
    let logging = format!("-Dlog4j2.configurationFile={}", logging.display());
    let mut format = Command::new("java");
    format.args(["-Xmx128m", &logging, "-cp", &path, "kafka.tools.StorageTool", "format"]);
    format.args(["--ignore-formatted", "-t", CLUSTER_ID, "-c"]).arg(&properties).stdout(Stdio::null());
    run(&mut format)?;
    let logs = format!("-Dkafka.logs.dir={}", dir.display());
    let mut java: Vec<String> = [
        "-Xms192m",
        "-Xmx512m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
    ]
    .map(String::from)
    .into();
    java.extend([logging, logs, "-cp".into(), path, "kafka.Kafka".into(), properties.display().to_string()]);
    let listens =
        [port(cluster, i), controller(cluster, i)].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    Ok(Node::new(dir, java, "Kafka Server started", listens.into()))
}

/// Where clients and other brokers find it.
fn port(cluster: &Cluster, i: u16) -> u16 {
    cluster.kafka_port + i - 1
}

/// Where controllers find it.
fn controller(cluster: &Cluster, i: u16) -> u16 {
    cluster.kafka_port + 100 + i
}

fn settings(cluster: &Cluster, dir: &Path, i: u16) -> String {
    let voters: Vec<String> =
        (1..=cluster.brokers).map(|i| format!("{i}@127.0.0.1:{}", controller(cluster, i))).collect();
    let (replicas, in_sync) = if cluster.brokers >= 3 { (3, 2) } else { (1, 1) };
    let (port, controller, voters) = (port(cluster, i), controller(cluster, i), voters.join(","));
    let data = dir.join("data");
    format!(
        "process.roles=broker,controller
node.id={i}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={}
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.num.partitions=6
offsets.topic.replication.factor={replicas}
transaction.state.log.num.partitions=6
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
leader.imbalance.check.interval.seconds=10
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=16777216
",
        data.display()
    )
}
