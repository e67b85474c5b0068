//! One Java process with a directory of its own: `pid`, `log`, and its data.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::started;
use crate::tools::{now, run};

/// How long a node may take to start, on two busy cores.
const START: Duration = Duration::from_secs(480);
/// How long it may take to end before it is killed.
const END: Duration = Duration::from_secs(20);

/// A node, running or not.
pub(crate) struct Node {
    dir: PathBuf,
    /// Arguments of `java`.
    java: Vec<String>,
    /// The line in the log that says it is ready.
    ready: &'static str,
    /// Where it will listen.
    listens: Vec<SocketAddr>,
    /// The process, where it is known from elsewhere than the directory.
    pid: Option<i32>,
}

impl Node {
    /// A node that can be started.
    pub(crate) fn new(
        dir: PathBuf,
        java: Vec<String>,
        ready: &'static str,
        listens: Vec<SocketAddr>,
    ) -> Self {
        Self { dir, java, ready, listens, pid: None }
    }

    /// A node by its directory alone, to end it.
    pub(crate) fn at(dir: PathBuf) -> Self {
        Self { dir, java: Vec::new(), ready: "", listens: Vec::new(), pid: None }
    }

    fn name(&self) -> String {
        self.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    fn pid(&self) -> Option<i32> {
        if self.pid.is_some() {
            return self.pid;
        }
        std::fs::read_to_string(self.dir.join("pid")).ok()?.trim().parse().ok()
    }

    /// Whether the process that the pid file names is one of ours and lives.
    pub(crate) fn is_running(&self) -> bool {
        let Some(pid) = self.pid() else { return false };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let ours = String::from_utf8_lossy(&line).contains(&*self.dir.to_string_lossy());
        ours && !status.contains("State:\tZ")
    }

    /// Fails where anything else listens on one of the ports that it needs; a node that runs has them itself.
    pub(crate) fn check_ports(&self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        for address in &self.listens {
            TcpListener::bind(address).with_context(|| {
                format!(
                    "{} cannot listen on {address}; choose other ports (brokers take --kafka-port and those behind \
                     it, and as many from 101 above it; Cassandra --cql-port, and the one 1000 below it)",
                    self.name()
                )
            })?;
        }
        Ok(())
    }

    /// Starts the process in a session of its own, so that it outlives this one. Nothing if it runs.
    pub(crate) fn start(&self) -> Result<()> {
        let mut started = started::lock();
        if self.is_running() {
            return Ok(());
        }
        let log = File::create(self.dir.join("log"))?;
        let mut command = Command::new("java");
        command.args(&self.java).current_dir(&self.dir).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        // SAFETY: setsid is async-signal-safe and touches no memory of this process.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                Ok(())
            });
        }
        let child = command.spawn().context("cannot run java")?;
        let pid = i32::try_from(child.id()).context("a pid fits")?;
        started.push(Self { pid: Some(pid), ..Self::at(self.dir.clone()) });
        std::fs::write(self.dir.join("pid"), pid.to_string())?;
        Ok(())
    }

    /// Waits until the log says that it is ready.
    pub(crate) fn wait(&self) -> Result<()> {
        let begun = now();
        loop {
            let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            if log.contains(self.ready) {
                println!("{} is up", self.name());
                return Ok(());
            }
            if !self.is_running() || begun.elapsed() > START {
                let tail: Vec<&str> = log.lines().rev().take(20).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                bail!("{} did not start:\n{}", self.name(), tail.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Asks the process to end.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits until it has ended; kills it when that takes too long.
    pub(crate) fn wait_gone(&self) -> Result<()> {
        let begun = now();
        while self.is_running() {
            if begun.elapsed() > END {
                self.signal(Signal::KILL);
            }
            if begun.elapsed() > 2 * END {
                bail!("{} does not end", self.name());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("{} is down", self.name());
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid().filter(|_| self.is_running()).and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(pid, signal);
        }
    }
}

/// The directory with a POM's jars, fetched once per user and version.
pub(crate) fn jars(name: &str) -> Result<PathBuf> {
    let pom = crate::tools::root().join(format!("xtask/backends/{name}/pom.xml"));
    let text = std::fs::read_to_string(&pom)?;
    let version = text.split_once(&format!("<{name}.version>")).and_then(|(_, rest)| rest.split_once('<'));
    let (version, _) = version.with_context(|| format!("{} names no version", pom.display()))?;
    let cache = cache()?.join(format!("{name}-{version}"));
    if cache.is_dir() {
        return Ok(cache);
    }
    println!("fetching the jars of {name} {version}");
    let part = cache.with_extension("part");
    let output = format!("-DoutputDirectory={}", part.display());
    let mut command = Command::new("mvn");
    command.args(["-q", "-B", "-f"]).arg(&pom).arg("dependency:copy-dependencies");
    run(command.args(["-DincludeScope=runtime", &output]))?;
    std::fs::rename(&part, &cache)?;
    Ok(cache)
}

fn cache() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let dir = Path::new(&home).join(".cache/godwit-backends");
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let dir = std::env::temp_dir().join("broker-7");
        let node = || Node::new(dir.clone(), Vec::new(), "", vec![address]);
        let text = node().check_ports().unwrap_err().to_string();
        assert!(text.contains(&format!("broker-7 cannot listen on {address}")), "{text}");
        drop(taken);
        node().check_ports().unwrap();
    }
}
