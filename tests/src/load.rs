//! A `loadtest send` under test: the harness loads the servers and judges every timeline, while the test does
//! to the servers what it likes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::binary::loadtest;
use crate::process::Process;
use crate::server::Server;
use crate::wait::within;

/// What is loaded, and how much.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Links; two make a pair.
    pub links: u32,
    /// Messages a second.
    pub rate: u32,
    /// For how long.
    pub duration: Duration,
}

/// A run of the harness. Dropping it kills it.
pub struct Run {
    process: Process,
    dir: PathBuf,
    load: Load,
}

impl Run {
    /// Starts the harness against the conn servers among `servers`, with the development key in `data`.
    #[must_use]
    pub fn start(dir: &Path, data: &Path, servers: &[&Server], load: Load) -> Self {
        Self::start_with(dir, data, servers, load, &["--drain", "600s"])
    }

    /// As [`Run::start`], with further arguments of `loadtest send` in place of the long drain.
    #[must_use]
    pub fn start_with(dir: &Path, data: &Path, servers: &[&Server], load: Load, more: &[&str]) -> Self {
        let mut command = harness(dir, data, servers, load);
        command.arg("--journal").arg(dir.join("journal")).args(more);
        Self { process: Process::new(command.spawn().unwrap()), dir: dir.to_owned(), load }
    }

    /// Waits for the verdict.
    ///
    /// # Panics
    /// It is not "pass", or does not come; what the harness said is printed.
    #[must_use]
    pub fn passes(self) -> Value {
        self.ends(0)
    }

    /// Waits until the first message is due: links are signed in, and groups are made.
    ///
    /// # Panics
    /// It does not come to that.
    pub fn begins(&self) {
        let log = self.dir.join("loadtest.log");
        within(Duration::from_secs(120), "the load begins", || {
            std::fs::read_to_string(&log).ok()?.contains("the load begins").then_some(())
        });
    }

    /// Ends the load before its time; what was sent is judged as ever.
    #[must_use]
    pub fn enough(self) -> Self {
        self.process.signal(libc::SIGTERM);
        self
    }

    /// Waits for the end, whatever the harness makes of it, and has what the devices kept judged by a process that
    /// saw nothing else: the harness's figures, and the judge's.
    ///
    /// # Panics
    /// It does not end in time, or what was kept cannot be read.
    #[must_use]
    pub fn judged(mut self) -> (Value, Value) {
        self.process.wait(self.load.duration + Duration::from_secs(1_800));
        let (journal, json) = (self.dir.join("journal"), self.dir.join("check.json"));
        let mut check = Command::new(loadtest());
        let output =
            check.args(["check", "--journal"]).arg(journal).arg("--json").arg(&json).output().unwrap();
        println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let read = |file: PathBuf| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        (read(self.dir.join("loadtest.json")), read(json))
    }

    /// Waits for the end with this exit code; the figures. A verdict on promises has to be the same once more,
    /// from what the devices kept.
    ///
    /// # Panics
    /// It ends otherwise, or not in time; what the harness said is printed.
    #[must_use]
    pub fn ends(mut self, code: i32) -> Value {
        let status = self.process.wait(self.load.duration + Duration::from_secs(720));
        let said = std::fs::read_to_string(self.dir.join("loadtest.log")).unwrap_or_default();
        println!("{said}");
        assert_eq!(status.code(), Some(code), "{said}");
        if [0, 20].contains(&code) {
            let check =
                Command::new(loadtest()).args(["check", "--journal"]).arg(self.dir.join("journal")).output();
            let check = check.unwrap();
            assert_eq!(check.status.code(), Some(code), "{check:?}");
        }
        serde_json::from_slice(&std::fs::read(self.dir.join("loadtest.json")).unwrap()).unwrap()
    }
}

/// `loadtest send` against the conn servers among `servers`: what it says goes to `dir/loadtest.log`, its figures to
/// `dir/loadtest.json`. What is tested is what becomes of the messages, so the machine may keep the harness waiting.
pub(crate) fn harness(dir: &Path, data: &Path, servers: &[&Server], load: Load) -> Command {
    let addresses: Vec<String> =
        servers.iter().filter_map(|s| s.ports().conn).map(|a| a.to_string()).collect();
    let ops: Vec<String> = servers.iter().filter_map(|s| s.ports().ops).map(|a| a.to_string()).collect();
    let log = File::create(dir.join("loadtest.log")).unwrap();
    let mut command = Command::new(loadtest());
    command.args(["send", "--server", &addresses.join(","), "--ops", &ops.join(",")]);
    command.arg("--links").arg(load.links.to_string()).arg("--rate").arg(load.rate.to_string());
    command.arg("--duration").arg(format!("{}s", load.duration.as_secs())).args(["--late", "60s"]);
    command.arg("--json").arg(dir.join("loadtest.json")).arg("--key").arg(data.join("dev-key.pem"));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command
}
