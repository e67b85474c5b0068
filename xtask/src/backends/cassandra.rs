//! Cassandra nodes on 127.0.0.1, 127.0.0.2, …: one ring, small heaps.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};

use super::Cluster;
use super::node::{Node, jars};

const LOGGING: &str = r#"<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{HH:mm:ss.SSS} %-5level %logger{20} %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="OUT"/></root>
</configuration>
"#;

/// What Java 17 must be told to let Cassandra in.
const EXPORTS: [&str; 8] = [
    "java.base/jdk.internal.misc",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "java.base/java.lang.ref",
    "jdk.unsupported/sun.misc",
    "jdk.attach/sun.tools.attach",
];
const OPENS: [&str; 14] = [
    "java.base/java.lang.module",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.util.jar",
    "jdk.management/com.sun.management.internal",
    "java.base/sun.nio.ch",
    "java.base/java.io",
    "java.base/java.lang.reflect",
    "java.base/java.lang",
    "java.base/java.util",
    "java.base/java.nio",
];

/// Writes the nodes' settings and returns them ready to start, one after the other.
pub(crate) fn prepare(cluster: &Cluster) -> Result<Vec<Node>> {
    let jars = jars("cassandra")?;
    (1..=cluster.nodes).map(|i| node(cluster, &jars, i)).collect()
}

fn node(cluster: &Cluster, jars: &Path, i: u16) -> Result<Node> {
    let dir = cluster.dir.join(format!("node-{i}"));
    let conf = dir.join("conf");
    std::fs::create_dir_all(&conf)?;
    std::fs::write(conf.join("cassandra.yaml"), settings(cluster, &dir, i))?;
    std::fs::write(conf.join("logback.xml"), LOGGING)?;
    let agent = std::fs::read_dir(jars)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("jamm-")));
    let agent = agent.context("cassandra's jars lack jamm")?;
    let mut java: Vec<String> = [
        "-Xms384m",
        "-Xmx768m",
        "-XX:MaxDirectMemorySize=384m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+PerfDisableSharedMem",
        "-XX:+ExitOnOutOfMemoryError",
        "-Xss512k",
        "-Djdk.attach.allowAttachSelf=true",
        "-Djava.net.preferIPv4Stack=true",
        "-Dchronicle.announcer.disable=true",
        "-Dcassandra-foreground=yes",
        "-Dcassandra.ring_delay_ms=2000",
        "-Dcassandra.superuser_setup_delay_ms=0",
        "-Dcassandra.skip_wait_for_gossip_to_settle=0",
        "-Dcassandra.consistent.rangemovement=false",
        "-Dio.netty.tryReflectionSetAccessible=true",
    ]
    .map(String::from)
    .into();
    java.extend(EXPORTS.iter().map(|module| format!("--add-exports={module}=ALL-UNNAMED")));
    java.extend(["--add-exports=jdk.compiler/com.sun.tools.javac.file=ALL-UNNAMED".to_owned()]);
    java.extend(OPENS.iter().map(|module| format!("--add-opens={module}=ALL-UNNAMED")));
    java.extend(["--add-opens=java.base/java.util.concurrent=ALL-UNNAMED".to_owned()]);
    java.extend(["--add-opens=java.base/java.util.concurrent.atomic=ALL-UNNAMED".to_owned()]);
    java.extend(["--add-opens=jdk.compiler/com.sun.tools.javac=ALL-UNNAMED".to_owned()]);
    java.extend([
        format!("-javaagent:{}", agent.display()),
        format!("-Dcassandra.config=file://{}/cassandra.yaml", conf.display()),
        format!("-Dcassandra.storagedir={}", dir.display()),
        format!("-Dcassandra.logdir={}", dir.display()),
        format!("-Dlogback.configurationFile={}/logback.xml", conf.display()),
        "-cp".to_owned(),
        format!("{}:{}/*", conf.display(), jars.display()),
        "org.apache.cassandra.service.CassandraDaemon".to_owned(),
    ]);
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) - 1 + u32::from(i));
    let listens = [cluster.cql_port, storage_port(cluster)].map(|port| SocketAddr::from((address, port)));
    Ok(Node::new(dir, java, "Starting listening for CQL", listens.into()))
}

/// Where the nodes of the ring find each other.
fn storage_port(cluster: &Cluster) -> u16 {
    cluster.cql_port - 1_000
}

fn settings(cluster: &Cluster, dir: &Path, i: u16) -> String {
    let (dir, port, storage) = (dir.display(), cluster.cql_port, storage_port(cluster));
    format!(
        "cluster_name: godwit
num_tokens: 4
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
data_file_directories: [ {dir}/data ]
commitlog_directory: {dir}/commitlog
saved_caches_directory: {dir}/saved_caches
hints_directory: {dir}/hints
cdc_raw_directory: {dir}/cdc_raw
commitlog_sync: periodic
commitlog_sync_period: 10000ms
commitlog_segment_size: 8MiB
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [ {{ seeds: \"127.0.0.1:{storage}\" }} ]
listen_address: 127.0.0.{i}
rpc_address: 127.0.0.{i}
storage_port: {storage}
native_transport_port: {port}
start_native_transport: true
endpoint_snitch: SimpleSnitch
memtable_allocation_type: heap_buffers
memtable_heap_space: 160MiB
file_cache_size: 32MiB
networking_cache_size: 32MiB
auto_snapshot: false
concurrent_reads: 4
concurrent_writes: 4
concurrent_counter_writes: 2
native_transport_max_threads: 12
"
    )
}
