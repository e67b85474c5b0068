//! `backends`: a real Kafka (KRaft) and a real Cassandra, from their Maven jars, on loopback. Their data and
//! pids lie in one directory; a node that died comes back with its data at the next `up`.

mod cassandra;
mod kafka;
mod node;
mod started;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Subcommand;

use crate::tools::{answers, root};
use node::Node;

/// How often a node that has given up is started.
const JOINS_MAX: u32 = 3;

/// `cargo xtask backends …`
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    /// Where data and pids are.
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    /// Kafka brokers; replication comes from three on.
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u16).range(..=50))]
    brokers: u16,
    /// Cassandra nodes, on 127.0.0.1, 127.0.0.2, …
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u16).range(..=50))]
    nodes: u16,
    /// The first broker's port.
    #[arg(long, global = true, default_value_t = 9092, value_parser = clap::value_parser!(u16).range(2_000..=65_000))]
    kafka_port: u16,
    /// The port on which every Cassandra node answers CQL.
    #[arg(long, global = true, default_value_t = 9042, value_parser = clap::value_parser!(u16).range(2_000..=65_000))]
    cql_port: u16,
}

#[derive(Subcommand)]
enum Command {
    /// Starts what is not running, and waits until it answers.
    Up,
    /// Ends what is running; the data stays.
    Down,
    /// Says what is running; fails if something is not.
    Status,
}

/// The programs that are needed and not there.
pub(crate) fn missing() -> Vec<&'static str> {
    [("java", "-version", "JDK 17 (java)"), ("mvn", "-v", "Maven (mvn)")]
        .into_iter()
        .filter(|(program, arg, _)| !answers(program, arg))
        .map(|(_, _, name)| name)
        .collect()
}

/// Fetches what they are run from, where it is not there yet.
pub(crate) fn fetch() -> Result<()> {
    ["kafka", "cassandra"].into_iter().try_for_each(|name| node::jars(name).map(drop))
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<()> {
    let dir = args.dir.clone().unwrap_or_else(|| root().join("target/backends"));
    let cluster = Cluster {
        // Java wants whole paths.
        dir: std::path::absolute(dir)?,
        brokers: args.brokers,
        nodes: args.nodes,
        kafka_port: args.kafka_port,
        cql_port: args.cql_port,
    };
    match args.command {
        Command::Up => {
            let missing = missing();
            if !missing.is_empty() {
                bail!("needed and not found: {}", missing.join(", "));
            }
            cluster.up()?;
            println!("--log kafka://{}/godwit --store scylla://{}/godwit", cluster.kafka(), cluster.cql());
            Ok(())
        }
        Command::Down => cluster.down(),
        Command::Status => cluster.status(),
    }
}

/// Starts nodes, and waits until they answer.
fn start(kafka: &[Node], cassandra: &[Node]) -> Result<()> {
    kafka.iter().try_for_each(Node::start)?;
    // Nodes of a ring join one at a time.
    cassandra.iter().try_for_each(join)?;
    kafka.iter().try_for_each(Node::wait)
}

/// Has a node join its ring. It gives up by itself where the others do not answer within seconds, which on a busy machine
/// says little.
fn join(node: &Node) -> Result<()> {
    for _ in 1..JOINS_MAX {
        node.start()?;
        match node.wait() {
            Err(error) if !node.is_running() => println!("{error:#}\nagain"),
            outcome => return outcome,
        }
    }
    node.start()?;
    node.wait()
}

/// Brokers and nodes that belong together.
pub(crate) struct Cluster {
    dir: PathBuf,
    brokers: u16,
    nodes: u16,
    kafka_port: u16,
    cql_port: u16,
}

impl Cluster {
    /// Three of each, on ports of their own, so that a developer's can run beside them.
    pub(crate) fn for_tests() -> Result<Self> {
        let dir = root().join("target/test-backends");
        Ok(Self { dir, brokers: 3, nodes: 3, kafka_port: 19_092, cql_port: 19_042 })
    }

    /// Starts what is not running. What it has started ends again where something fails, or where this process
    /// is interrupted from now on.
    pub(crate) fn up(&self) -> Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let (kafka, cassandra) = (kafka::prepare(self)?, cassandra::prepare(self)?);
        kafka.iter().chain(&cassandra).try_for_each(Node::check_ports)?;
        started::end_on_signals()?;
        start(&kafka, &cassandra).inspect_err(|_| {
            if let Err(error) = started::end(&started::lock()) {
                eprintln!("{error:#}");
            }
        })
    }

    /// Ends everything that is running in the directory.
    pub(crate) fn down(&self) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return Ok(()) };
        let nodes: Vec<Node> = entries.flatten().map(|entry| Node::at(entry.path())).collect();
        let _nothing_starts = started::lock();
        started::end(&nodes)
    }

    /// Removes the data.
    pub(crate) fn wipe(&self) -> Result<()> {
        if self.dir.exists() {
            std::fs::remove_dir_all(&self.dir)?;
        }
        Ok(())
    }

    /// `host:port,…` of the brokers.
    pub(crate) fn kafka(&self) -> String {
        let address = |i| format!("127.0.0.1:{}", self.kafka_port + i);
        (0..self.brokers).map(address).collect::<Vec<_>>().join(",")
    }

    /// `host:port,…` of the Cassandra nodes.
    pub(crate) fn cql(&self) -> String {
        let address = |i| format!("127.0.0.{i}:{}", self.cql_port);
        (1..=self.nodes).map(address).collect::<Vec<_>>().join(",")
    }

    /// What tests are told: where the back ends are, in which directory their pids lie (`broker-1/pid`,
    /// `node-1/pid`, …), and how those that died come up again.
    pub(crate) fn env(&self) -> Result<[(&'static str, String); 4]> {
        Ok([
            ("GODWIT_TEST_KAFKA", self.kafka()),
            ("GODWIT_TEST_CQL", self.cql()),
            ("GODWIT_TEST_BACKENDS_DIR", self.dir.display().to_string()),
            ("GODWIT_TEST_BACKENDS_UP", self.up_again()?),
        ])
    }

    /// A command line for the shell.
    fn up_again(&self) -> Result<String> {
        let quoted =
            |path: &std::path::Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
        let (this, dir) = (quoted(&std::env::current_exe()?), quoted(&self.dir));
        let Self { brokers, nodes, kafka_port, cql_port, .. } = self;
        let counts = format!("--brokers {brokers} --nodes {nodes}");
        Ok(format!("{this} backends up --dir {dir} {counts} --kafka-port {kafka_port} --cql-port {cql_port}"))
    }

    fn status(&self) -> Result<()> {
        let brokers = (1..=self.brokers).map(|i| format!("broker-{i}"));
        let nodes = (1..=self.nodes).map(|i| format!("node-{i}"));
        let mut down = 0;
        for name in brokers.chain(nodes) {
            let running = Node::at(self.dir.join(&name)).is_running();
            println!("{name}: {}", if running { "running" } else { "not running" });
            down += u32::from(!running);
        }
        if down > 0 {
            bail!("{down} not running");
        }
        Ok(())
    }
}
