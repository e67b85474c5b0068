//! Faults of the system's calls, as strace injects them into a running process. Ends when dropped.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::left_out::can;
use crate::process::Process;
use crate::wait::{DEADLINE, asked_for};

/// An injection that goes on.
pub struct Injection {
    strace: Process,
    /// What strace says of the calls.
    calls: NamedTempFile,
}

impl Injection {
    /// Calls of a set by these threads fail, or wait, as the rule says: `fdatasync`, `error=EIO:when=1`.
    ///
    /// # Panics
    /// There is no strace.
    #[must_use]
    pub fn begin(threads: &[u32], calls: &str, what: &str) -> Self {
        let mut command = Command::new("strace");
        let file = NamedTempFile::new().unwrap();
        command.args(["-q", "-q", "--string-limit=0", "-o"]).arg(file.path());
        for thread in threads {
            command.arg("-p").arg(thread.to_string());
        }
        command.arg(format!("--trace={calls}")).arg(format!("--inject={calls}:{what}"));
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let mut strace = Process::new(command.spawn().expect("strace is needed"));
        // A thread may have ended by now, and strace with the last of them.
        asked_for(DEADLINE, || {
            (strace.ended().is_some() || threads.iter().all(|thread| is_traced(*thread))).then_some(())
        });
        Self { strace, calls: file }
    }

    /// Ends it: how many calls failed or waited by it.
    pub(crate) fn end(mut self) -> usize {
        self.let_go();
        let calls = fs::read_to_string(self.calls.path()).unwrap();
        calls.lines().filter(|call| call.contains("(INJECTED)") || call.contains("(DELAYED)")).count()
    }

    /// Killed, it might leave a thread of the process stopped.
    fn let_go(&mut self) {
        if self.strace.ended().is_none() {
            self.strace.signal(libc::SIGINT);
            let _ = self.strace.wait(DEADLINE.max(Duration::from_secs(10)));
        }
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
    fn drop(&mut self) {
        self.let_go();
    }
}

/// Whether strace is attached to the thread, or it has ended.
fn is_traced(thread: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{thread}/status")) else { return true };
    status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
}

/// Whether calls may be injected here; where not, it says what is left out.
///
/// # Panics
/// They may not, where nothing may be left out.
#[must_use]
pub fn may_inject(what: &str) -> bool {
    // Into a process that it has not started itself, which is less often allowed.
    let mut sleep = Process::new(Command::new("sleep").arg("60").spawn().unwrap());
    let mut command = Command::new("strace");
    command.args(["-q", "-o", "/dev/null", "-p", &sleep.id().to_string()]).stderr(Stdio::null());
    let attached = command.spawn().is_ok_and(|strace| {
        let mut strace = Process::new(strace);
        let waits = || is_traced(sleep.id()).then_some(true).or(strace.ended().map(|_| false));
        asked_for(DEADLINE, waits) == Some(true)
    });
    sleep.kill();
    can(what, attached, "there is no strace, or it may not trace")
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
