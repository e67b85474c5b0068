//! A child process that is signalled by its id and never outlives the test.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use crate::wait::within;

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Watches over a child.
    #[must_use]
    pub fn new(child: Child) -> Self {
        Self { child }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory that it has, as the system counts them.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        1024 * u64::from(memory_kib(self.child.id(), "VmRSS:"))
    }

    /// Bytes of memory that it had at the most.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        1024 * u64::from(memory_kib(self.child.id(), "VmHWM:"))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: libc::c_int) {
        // The child was not waited for yet, so its id is still its own.
        self::signal(self.child.id(), signal);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// It does not within the time.
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        within(deadline, "the process ends", || self.ended())
    }

    /// Kills it as a power cut would, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a program that ends by itself: its exit code, and what it said to stderr.
///
/// # Panics
/// It does not end within the time.
pub fn run_until_it_ends(command: &mut Command, deadline: Duration) -> (Option<i32>, String) {
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let listener = thread::spawn(move || {
        let mut said = String::new();
        stderr.read_to_string(&mut said).map(|_| said)
    });
    let status = Process::new(child).wait(deadline);
    (status.code(), listener.join().unwrap().unwrap())
}

/// A line of a living process's /proc/PID/status that counts memory, in KiB.
pub(crate) fn memory_kib(pid: u32, name: &str) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a living process");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Forgets how much memory a process had at the most.
pub(crate) fn forget_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}

/// Sends a signal to a process whose id is known to be its own.
pub(crate) fn signal(pid: u32, signal: libc::c_int) {
    let id = libc::pid_t::try_from(pid).unwrap();
    // SAFETY: kill takes plain numbers.
    assert_eq!(unsafe { libc::kill(id, signal) }, 0, "signal {signal} to {pid}");
}
