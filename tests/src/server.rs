//! A `godwit serve` under test.

use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::close::Close;

use crate::binary::binary;
use crate::http;
use crate::process::{Process, forget_peak};
use crate::wait::{DEADLINE, within};

/// The addresses that a server listens on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Devices.
    pub conn: Option<SocketAddr>,
    /// Queries between processes.
    pub api: Option<SocketAddr>,
    /// Push streams between processes.
    pub node: Option<SocketAddr>,
    /// Health and metrics.
    pub ops: Option<SocketAddr>,
}

/// A server process. Dropping it kills it.
pub struct Server {
    name: String,
    dir: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    process: Process,
    ports: Ports,
}

impl Server {
    /// Starts a server on ports of the system's choice and waits until it is ready. `dir` holds its data
    /// (`dir/data`) and its log (`dir/NAME.log`); `arguments` are further ones of `godwit serve`.
    ///
    /// # Panics
    /// It ends, or is not ready in time; its log is printed.
    #[must_use]
    pub fn start(dir: &Path, name: &str, arguments: &[&str]) -> Self {
        Self::start_with(dir, name, arguments, Vec::new())
    }

    /// As [`Server::start`], with further variables in its environment.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start_with(
        dir: &Path,
        name: &str,
        arguments: &[&str],
        environment: Vec<(String, String)>,
    ) -> Self {
        let process = Process::new(spawn(dir, name, arguments, &environment, &Ports::default()));
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        let (name, dir, ports) = (name.into(), dir.into(), Ports::default());
        let mut server = Self { name, dir, arguments, environment, process, ports };
        server.wait_ready();
        server
    }

    /// Starts it again with the same arguments on the same ports, after [`Server::kill`] or
    /// [`Server::terminate`], and waits until it is ready.
    ///
    /// # Panics
    /// As [`Server::start`].
    pub fn restart(&mut self) {
        self.start_again();
        self.wait_ready();
    }

    /// As [`Server::restart`], without waiting for anything.
    ///
    /// # Panics
    /// It still runs.
    pub fn start_again(&mut self) {
        assert!(self.process.ended().is_some(), "{} still runs", self.name);
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let child = spawn(&self.dir, &self.name, &arguments, &self.environment, &self.ports);
        self.process = Process::new(child);
    }

    /// Looks whether it still runs.
    ///
    /// # Panics
    /// It has ended; its log is printed.
    pub fn still_runs(&mut self) {
        if let Some(status) = self.process.ended() {
            panic!("{} ended with {status}:\n{}", self.name, self.log());
        }
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Asks it to drain, and waits until it has ended.
    ///
    /// # Panics
    /// It does not end in time.
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.signal(libc::SIGTERM);
        self.process.wait(DEADLINE)
    }

    /// The process, for other signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Bytes of memory that it has, as the system counts them.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.process.resident_bytes()
    }

    /// Bytes of memory that the process had at the most.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.process.peak_bytes()
    }

    /// Forgets how much memory the process had at the most.
    pub fn forget_peak(&self) {
        forget_peak(self.process.id());
    }

    /// Bytes of memory that a process with its settings may have at the most, as `godwit config memory` has it.
    ///
    /// # Panics
    /// The command fails.
    #[must_use]
    pub fn memory_bytes_max(&self) -> u64 {
        let mut command = Command::new(binary());
        let output = command.args(["config", "memory"]).args(&self.arguments).current_dir(&self.dir).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        text.lines().last().unwrap().split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Where devices connect.
    ///
    /// # Panics
    /// It has no conn role.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.ports.conn.expect("a conn role")
    }

    /// All of its addresses.
    #[must_use]
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        data(&self.dir)
    }

    /// Everything it logged, over all restarts.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join(format!("{}.log", self.name))).unwrap_or_default()
    }

    /// Status and body of its operations port; none where it does not answer.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        http::get(self.ports.ops?, path)
    }

    /// By how many seconds its clock is ahead of the right one; none where it does not answer.
    #[must_use]
    pub fn is_ahead_s(&self) -> Option<f64> {
        let its = self.metric("godwit_time_seconds")?;
        let right = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        Some(its - right.as_secs_f64())
    }

    /// The value of a metric, with its labels as they stand in the text.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse().ok()
    }

    /// Links that it ended for this reason.
    #[must_use]
    pub fn closes(&self, close: Close) -> f64 {
        let (code, reason) = (close.number(), close.name());
        self.metric(&format!("godwit_conn_closes_total{{code=\"{code}\",reason=\"{reason}\"}}"))
            .unwrap_or(0.0)
    }

    /// Bytes that its reactors keep of what links have not sent whole or not read; as of a second ago.
    #[must_use]
    pub fn buffered_bytes(&self) -> f64 {
        let of = |reactor| {
            let labels = format!("reactor=\"{reactor}\",queue=\"buffered_bytes\"");
            self.metric(&format!("godwit_conn_queue_depth{{{labels}}}"))
        };
        (0..).map_while(of).sum()
    }

    /// Waits until /readyz says so.
    ///
    /// # Panics
    /// It ends, or is not ready in time; its log is printed.
    pub fn wait_ready(&mut self) {
        let deadline = Duration::from_secs(120);
        let file = ports_file(&self.dir, &self.name);
        within(deadline, &format!("{} is ready", self.name), || {
            self.still_runs();
            self.ports = read_ports(&file)?;
            (self.get("/readyz")?.0 == 200).then_some(())
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- {} said at last:", self.name);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

fn data(dir: &Path) -> PathBuf {
    dir.join("data")
}

fn ports_file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.ports"))
}

fn spawn(
    dir: &Path,
    name: &str,
    arguments: &[&str],
    environment: &[(String, String)],
    ports: &Ports,
) -> std::process::Child {
    fs::create_dir_all(dir).unwrap();
    let file = ports_file(dir, name);
    let _ = fs::remove_file(&file);
    let log = OpenOptions::new().create(true).append(true).open(dir.join(format!("{name}.log"))).unwrap();
    let mut command = Command::new(binary());
    command.arg("serve").arg("--data").arg(data(dir)).arg("--ports-file").arg(&file);
    let listens = [
        ("--listen", ports.conn),
        ("--ops-listen", ports.ops),
        ("--node-listen", ports.node),
        ("--api-listen", ports.api),
    ];
    for (flag, address) in listens {
        command.arg(flag).arg(address.map_or("127.0.0.1:0".into(), |address| address.to_string()));
    }
    // Outside the repository's directory, so that no settings file or key of its developer is found.
    command.args(arguments).current_dir(dir).env_remove("RUST_LOG");
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

fn read_ports(file: &Path) -> Option<Ports> {
    let value: serde_json::Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let address = |name: &str| value.get(name)?.as_str()?.parse().ok();
    Some(Ports { conn: address("conn"), api: address("api"), node: address("node"), ops: address("ops") })
}
