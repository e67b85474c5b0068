//! Faults of the system's calls, as strace injects them into a running process. Ends when dropped.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::Process;
use crate::wait::DEADLINE;

/// An injection that goes on.
pub struct Injection(Process);

impl Injection {
    /// Calls of a set by these threads fail, or wait, as the rule says: `fdatasync`, `error=EIO:when=1`.
    ///
    /// # Panics
    /// There is no strace.
    #[must_use]
    pub fn begin(threads: &[u32], calls: &str, what: &str) -> Self {
        let mut command = Command::new("strace");
        command.args(["-q", "-q", "-o", "/dev/null"]);
        for thread in threads {
            command.arg("-p").arg(thread.to_string());
        }
        command.arg(format!("--trace={calls}")).arg(format!("--inject={calls}:{what}"));
        command.stdin(Stdio::null()).stderr(Stdio::null());
        Self(Process::new(command.spawn().expect("strace is needed")))
    }

    /// Whatever the process waits for on the disk takes so long.
    ///
    /// # Panics
    /// There is no strace.
    #[must_use]
    pub fn slow_syncs(pid: u32, each: Duration) -> Self {
        Self::begin(&threads(pid, ""), "fsync,fdatasync", &format!("delay_enter={}us", each.as_micros()))
    }
}

impl Drop for Injection {
    /// Lets the process go: killed, it might leave a thread of it stopped.
    fn drop(&mut self) {
        if self.0.ended().is_none() {
            self.0.signal(libc::SIGINT);
            let _ = self.0.wait(DEADLINE.max(Duration::from_secs(10)));
        }
    }
}

/// Whether calls may be injected here; where not, it says what is left out.
///
/// # Panics
/// The program for it is missing where nothing may be left out.
#[must_use]
pub fn may_inject(what: &str) -> bool {
    let may =
        Command::new("strace").args(["-q", "-o", "/dev/null", "true"]).status().is_ok_and(|s| s.success());
    assert!(may || std::env::var("CI").is_err(), "strace is missing: {what} cannot run");
    if !may {
        println!("left out: {what}, because there is no strace, or it may not trace");
    }
    may
}

/// The threads of a process whose names begin so.
///
/// # Panics
/// There is no such process.
#[must_use]
pub fn threads(pid: u32, name: &str) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let named = tasks
        .filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.starts_with(name)));
    named.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}
