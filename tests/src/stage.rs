//! The processes that suffer: one server on embedded storage, or two conn and two logic processes on brokers and
//! CQL nodes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::ValueEnum;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::{MetadataPartition, MetadataTopic};

use crate::backends::Backends;
use crate::clock::Clock;
use crate::server::Server;
use crate::wait::within;

/// What the servers are to stand on, as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// One process on embedded storage.
    Embedded,
    /// Two conn and two logic processes on three brokers and three CQL nodes.
    Cluster,
}

impl Backend {
    /// It, where it can be had; `what` needs it.
    ///
    /// # Panics
    /// Back ends are needed and not given.
    #[must_use]
    pub fn storage(self, what: &str) -> Storage {
        match self {
            Self::Embedded => Storage::Embedded,
            Self::Cluster => Storage::cluster(what).expect("back ends are given"),
        }
    }
}

/// What the servers stand on.
#[derive(Clone, Debug)]
pub enum Storage {
    /// Data in a directory, on a small disk of its own.
    Embedded,
    /// Real back ends.
    Cluster {
        /// Where they are.
        backends: Backends,
        /// Where their pids lie (`broker-1/pid`, `node-1/pid`, …).
        dir: PathBuf,
        /// A command line for the shell that brings those up again that died.
        up: String,
    },
}

impl Storage {
    /// Its name, as it is asked for.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Cluster { .. } => "cluster",
        }
    }

    /// The back ends of the environment; none where they are not given, which is said.
    ///
    /// # Panics
    /// CI is set, and they are not given.
    #[must_use]
    pub fn cluster(what: &str) -> Option<Self> {
        let backends = Backends::find(what)?;
        let given = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let (dir, up) = (given("GODWIT_TEST_BACKENDS_DIR").into(), given("GODWIT_TEST_BACKENDS_UP"));
        Some(Self::Cluster { backends, dir, up })
    }
}

/// The disk of embedded data, in bytes.
const DISK_BYTES: u64 = 6 << 30;

/// Everything that runs.
pub(crate) struct Stage {
    pub(crate) storage: Storage,
    pub(crate) servers: Vec<Server>,
    /// Of each server.
    pub(crate) clocks: Vec<Clock>,
    disk: Option<Disk>,
    dir: PathBuf,
}

impl Stage {
    /// Starts it, each server with these arguments of `godwit serve` besides.
    pub(crate) fn start(storage: &Storage, dir: &Path, more: &[&str]) -> Self {
        Self::start_on(None, storage, dir, more)
    }

    /// As [`Stage::start`]; embedded data, and its server's log, are on a disk that can be made full.
    pub(crate) fn start_with_disk(storage: &Storage, dir: &Path, more: &[&str]) -> Self {
        let disk = matches!(storage, Storage::Embedded).then(|| Disk::mount(&dir.join("disk")));
        Self::start_on(disk, storage, dir, more)
    }

    fn start_on(disk: Option<Disk>, storage: &Storage, dir: &Path, more: &[&str]) -> Self {
        let servers = match storage {
            Storage::Embedded => {
                let clock = Clock::new(dir, "server");
                let at = disk.as_ref().map_or(dir, |disk| &disk.0);
                vec![(Server::start_with(at, "server", more, clock.environment()), clock)]
            }
            Storage::Cluster { backends, .. } => cluster(backends, dir, more),
        };
        let (servers, clocks) = servers.into_iter().unzip();
        Self { storage: storage.clone(), servers, clocks, disk, dir: dir.to_owned() }
    }

    pub(crate) fn servers(&self) -> Vec<&Server> {
        self.servers.iter().collect()
    }

    /// Where the development key is.
    pub(crate) fn data(&self) -> PathBuf {
        self.servers[0].data()
    }

    pub(crate) fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("embedded data is on a disk of its own")
    }

    pub(crate) fn has_links(&self, links: u32) -> bool {
        self.links() >= f64::from(links)
    }

    /// Links that are signed in, on all servers.
    pub(crate) fn links(&self) -> f64 {
        let count = |server: &Server| server.metric("godwit_conn_live_links").unwrap_or(0.0);
        self.servers.iter().map(count).sum()
    }

    /// The servers with a conn role, which devices have links to.
    pub(crate) fn conns(&self) -> Vec<usize> {
        (0..self.servers.len()).filter(|i| self.servers[*i].ports().conn.is_some()).collect()
    }

    /// Where devices connect to them.
    pub(crate) fn conn_addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().filter_map(|server| server.ports().conn).collect()
    }

    /// Where logic processes push to conn processes.
    pub(crate) fn stream_addresses(&self) -> Vec<SocketAddr> {
        self.conns().into_iter().filter_map(|i| self.servers[i].ports().node).collect()
    }

    /// The one of them that has the most links.
    pub(crate) fn busiest(&self) -> usize {
        let links = |i: &usize| self.servers[*i].metric("godwit_conn_live_links").unwrap_or(0.0);
        self.conns().into_iter().max_by(|a, b| links(a).total_cmp(&links(b))).expect("a conn role")
    }

    /// Waits until everything that runs says that it is ready.
    pub(crate) fn heal(&mut self) {
        self.servers.iter_mut().for_each(Server::wait_ready);
    }

    /// Looks whether every server still runs, and none of its threads has ended in a panic.
    ///
    /// # Panics
    /// One has.
    pub(crate) fn all_run(&mut self) {
        for server in &mut self.servers {
            server.still_runs();
            let log = server.log();
            let panic = log.lines().find(|line| line.contains("a panic, which is a bug"));
            assert!(panic.is_none(), "{panic:?}");
        }
    }

    /// The ids of back ends: `broker` or `node`.
    pub(crate) fn pids(&self, kind: &str) -> Vec<u32> {
        let Storage::Cluster { dir, .. } = &self.storage else { return Vec::new() };
        let pid = |i| std::fs::read_to_string(dir.join(format!("{kind}-{i}/pid"))).ok();
        (1..).map_while(pid).map(|pid| pid.trim().parse().unwrap()).collect()
    }

    /// Starts those back ends that died.
    pub(crate) fn backends_up(&self) {
        let Storage::Cluster { up, .. } = &self.storage else { return };
        let output = Command::new("sh").args(["-c", up]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The broker that leads each partition of the servers' topics; empty where there is none.
    pub(crate) fn leaders(&self) -> Vec<i32> {
        let Storage::Cluster { backends, .. } = &self.storage else { return Vec::new() };
        let brokers: Vec<_> = self.addresses(|b| &b.log).iter().map(SocketAddr::to_string).collect();
        let client: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", brokers.join(",")).create().unwrap();
        let metadata = within(Duration::from_secs(60), "the brokers say who leads", || {
            client.fetch_metadata(None, Duration::from_secs(5)).ok()
        });
        let deployment = format!("{}.", backends.log.rsplit('/').next().unwrap_or_default());
        let is_ours = |topic: &&MetadataTopic| topic.name().starts_with(&deployment);
        metadata
            .topics()
            .iter()
            .filter(is_ours)
            .flat_map(|topic| topic.partitions().iter().map(MetadataPartition::leader))
            .collect()
    }

    /// Where brokers or CQL nodes listen.
    pub(crate) fn addresses(&self, url: impl Fn(&Backends) -> &str) -> Vec<SocketAddr> {
        let Storage::Cluster { backends, .. } = &self.storage else { return Vec::new() };
        let hosts = url(backends).split("://").nth(1).and_then(|rest| rest.split('/').next());
        hosts.unwrap_or_default().split(',').map(|host| host.parse().unwrap()).collect()
    }
}

fn cluster(backends: &Backends, dir: &Path, more: &[&str]) -> Vec<(Server, Clock)> {
    let start = |name: &str, roles: &str| {
        let (log, store) = (&*backends.log, &*backends.store);
        let partitions =
            ["--set", "storage.messages_partitions=6", "--set", "storage.timelines_partitions=6"];
        let arguments = ["--roles", roles, "--name", name, "--log", log, "--store", store];
        let clock = Clock::new(dir, name);
        let arguments = [&arguments[..], &partitions, more].concat();
        (Server::start_with(dir, name, &arguments, clock.environment()), clock)
    };
    // One after the other: the first creates topics and tables.
    let mut servers: Vec<_> = ["logic-1", "logic-2"].map(|name| start(name, "logic,api")).into();
    servers.extend(["conn-1", "conn-2"].map(|name| start(name, "conn")));
    servers
}

impl Drop for Stage {
    /// The disk goes, and with it what is on it.
    fn drop(&mut self) {
        if self.disk.is_some() {
            let logs = self.servers.iter().map(Server::log).collect::<String>();
            let _ = std::fs::write(self.dir.join("server.log"), logs);
        }
    }
}

/// A small file system in memory. Unmounted when dropped.
pub(crate) struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={DISK_BYTES}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).status();
        assert!(mount.unwrap().success(), "a campaign needs the right to mount a disk of its own");
        Self(at.to_owned())
    }

    /// Makes it as large as what is on it, or as large as it was.
    pub(crate) fn is_full(&self, is_full: bool) {
        // More may be written than there is to be room for before it is so.
        within(Duration::from_secs(10), "the disk has another size", || {
            let size = if is_full { self.used() + (1 << 20) } else { DISK_BYTES };
            let options = format!("remount,size={size}");
            let mount = Command::new("mount").args(["-o", &options]).arg(&self.0).status();
            mount.unwrap().success().then_some(())
        });
    }

    fn used(&self) -> u64 {
        let df = Command::new("df").args(["--output=used", "-B1"]).arg(&self.0).output().unwrap();
        String::from_utf8(df.stdout).unwrap().lines().last().unwrap().trim().parse().unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Waits until a process has ended by itself.
pub(crate) fn ended(server: &mut Server) -> i32 {
    within(Duration::from_secs(30), "the process ends", || server.process().ended()).code().unwrap_or(-1)
}
