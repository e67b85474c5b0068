//! Points on a message's way, each as the system call of a thread: there a process is killed, or stands still.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::stage::{Stage, Storage};
use crate::trace::{Injection, threads};
use crate::wait::asked_for;

/// How long it takes at most until a step is reached.
const REACHED: Duration = Duration::from_secs(10);
/// How often a thread may reach it before.
const TIMES_MAX: u32 = 20;

/// A point at which something is about to be done, and is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// A reactor reads frames of a link.
    Reading,
    /// A batch of records is written, and not synced.
    Syncing,
    /// A request goes to a broker: records, mostly.
    Sending,
    /// A broker's answer is read.
    Reported,
    /// Rows, or records and rows, are written; on a cluster, whatever a stage's process says to others.
    Storing,
    /// A reactor writes acks and pushes to a link.
    Answering,
}

impl Step {
    /// Those that there are on a storage.
    pub(super) fn all(storage: &Storage) -> &'static [Self] {
        match storage {
            Storage::Embedded => &[Self::Reading, Self::Syncing, Self::Storing, Self::Answering],
            Storage::Cluster { .. } => {
                &[Self::Reading, Self::Sending, Self::Reported, Self::Storing, Self::Answering]
            }
        }
    }

    /// How the names of its threads begin.
    fn thread(self, storage: &Storage) -> &'static str {
        match (self, storage) {
            (Self::Reading | Self::Answering, _) => "conn-",
            (Self::Syncing, _) | (Self::Storing, Storage::Embedded) => "godwit-writer",
            (Self::Sending | Self::Reported, _) => "rdk:broker",
            (Self::Storing, Storage::Cluster { .. }) => "tokio-rt-worker",
        }
    }

    fn calls(self) -> &'static str {
        match self {
            Self::Reading => "recvfrom",
            Self::Syncing => "fsync,fdatasync",
            Self::Sending => "sendmsg",
            Self::Reported => "recvmsg,recvfrom",
            Self::Storing => "write,writev,pwrite64,sendto",
            Self::Answering => "writev",
        }
    }
}

impl Stage {
    /// A server that passes this step.
    pub(super) fn passes(&self, step: Step, rng: &mut SmallRng) -> usize {
        if matches!(step, Step::Reading | Step::Answering) {
            return self.busiest();
        }
        let conns = self.conns();
        let is_candidate = |i: &usize| match step {
            Step::Storing => self.servers.len() == 1 || !conns.contains(i),
            _ => true,
        };
        let candidates: Vec<usize> = (0..self.servers.len()).filter(is_candidate).collect();
        candidates[rng.random_range(0..candidates.len())]
    }

    /// Kills a server at a step, or without it where it does not come there; whether it did.
    pub(super) fn kill_at(&mut self, whom: usize, step: Step, rng: &mut SmallRng) -> bool {
        let injection = self.signal_at(whom, step, "KILL", rng);
        let killed = asked_for(REACHED, || self.servers[whom].process().ended());
        drop(injection);
        let by = killed.map(|status| status.signal());
        assert!(matches!(by, None | Some(Some(libc::SIGKILL))), "a server ended by itself: {killed:?}");
        self.servers[whom].kill();
        self.servers[whom].restart();
        killed.is_some()
    }

    /// Has a server stand still at a step, or anywhere where it does not come there; whether it did.
    pub(super) fn stop_at(&mut self, whom: usize, step: Step, lasts: Duration, rng: &mut SmallRng) -> bool {
        let injection = self.signal_at(whom, step, "STOP", rng);
        let pid = self.servers[whom].process().id();
        let stopped = asked_for(REACHED, || is_stopped(pid).then_some(()));
        drop(injection);
        self.stop(whom, lasts);
        stopped.is_some()
    }

    fn signal_at(&mut self, whom: usize, step: Step, signal: &str, rng: &mut SmallRng) -> Injection {
        let thread = step.thread(&self.storage);
        let threads = threads(self.servers[whom].process().id(), thread);
        assert!(!threads.is_empty(), "no thread is called {thread}");
        let when = rng.random_range(1..=TIMES_MAX);
        Injection::begin(&threads, step.calls(), &format!("signal={signal}:when={when}"))
    }
}

fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}
