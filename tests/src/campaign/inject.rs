//! How each fault is done, for its time, and undone.

use std::fmt::{self, Display};
use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::SmallRng;

use super::fault::Fault;
use crate::backends::Backends;
use crate::net::{Cut, cut};
use crate::process::signal;
use crate::stage::{Stage, ended};
use crate::trace::{Injection, threads};
use crate::wait::asked_for;

/// What `godwit serve` ends with where an fsync failed.
const SYNC_FAILED: i32 = 6;
/// How long a process lives that is killed while it starts, at most.
const STARTING_MS: u64 = 300;
/// Between two interruptions of every call that waits.
const BETWEEN_EINTR: Duration = Duration::from_millis(5);
/// What a wait for a slow disk takes.
const SLOW_SYNC: Duration = Duration::from_millis(150);
/// How far a clock goes wrong, in seconds.
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
/// Resets for so long end every link.
const RESETS: Duration = Duration::from_millis(500);

/// What came of one fault.
#[derive(Debug)]
pub(super) struct Happened {
    /// Who suffered it.
    whom: String,
    lasts: Duration,
    /// Whether it was felt: a step was reached, a call failed, a packet was dropped, a link was turned away.
    pub(super) is_felt: bool,
    /// Partitions of the log that have another leader by it.
    pub(super) leaders_moved: usize,
}

impl Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { whom, lasts, is_felt, leaders_moved } = self;
        write!(f, "{whom}, {} ms", lasts.as_millis())?;
        if *leaders_moved > 0 {
            write!(f, ", {leaders_moved} leaders moved")?;
        }
        if *is_felt { Ok(()) } else { f.write_str(", NOT FELT") }
    }
}

impl Stage {
    /// Lets a fault happen for its time, to servers that so many devices want to be at.
    ///
    /// # Panics
    /// A server has ended by itself, or one of its threads in a panic.
    pub(super) fn suffer(
        &mut self,
        fault: Fault,
        lasts: Duration,
        links: u32,
        rng: &mut SmallRng,
    ) -> Happened {
        self.all_run();
        let mut leaders_moved = 0;
        let (whom, is_felt) = match fault {
            Fault::KillAt(step) => {
                let whom = self.passes(step, rng);
                (server(whom), self.kill_at(whom, step, rng))
            }
            Fault::StopAt(step) => {
                let whom = self.passes(step, rng);
                (server(whom), self.stop_at(whom, step, lasts, rng))
            }
            Fault::Kill | Fault::KillTwice | Fault::Stop | Fault::Drain | Fault::ClockShift => {
                let whom = rng.random_range(0..self.servers.len());
                (server(whom), self.suffer_process(fault, whom, lasts, rng))
            }
            Fault::BrokerKill | Fault::BrokerStop | Fault::BrokerCut => {
                let (which, before) = (rng.random_range(0..3), self.leaders());
                let is_felt = self.suffer_back_end(fault, "broker", which, lasts, |b| &b.log);
                let has_moved = |(after, before): &(&i32, &i32)| **after >= 0 && after != before;
                leaders_moved = self.leaders().iter().zip(&before).filter(has_moved).count();
                (format!("broker {}", which + 1), is_felt)
            }
            Fault::NodeKill | Fault::NodeStop | Fault::NodeCut => {
                let which = rng.random_range(0..3);
                (
                    format!("node {}", which + 1),
                    self.suffer_back_end(fault, "node", which, lasts, |b| &b.store),
                )
            }
            _ => {
                let whom = self.busiest();
                (server(whom), self.suffer_links(fault, whom, lasts, links, rng))
            }
        };
        Happened { whom, lasts, is_felt, leaders_moved }
    }

    /// Whether it was felt: there is no other way with most.
    fn suffer_process(&mut self, fault: Fault, whom: usize, lasts: Duration, rng: &mut SmallRng) -> bool {
        match fault {
            Fault::KillTwice => {
                self.kill_starting(whom, Duration::from_millis(rng.random_range(0..STARTING_MS)));
                self.servers[whom].restart();
            }
            Fault::Stop => self.stop(whom, lasts),
            Fault::Drain => {
                assert_eq!(self.servers[whom].terminate().code(), Some(0), "a drain ends well");
                self.servers[whom].restart();
            }
            Fault::ClockShift => {
                let seconds = rng.random_range(MINUTE..=HOUR) * [1, -1][rng.random_range(0..2)];
                self.clocks[whom].shift(seconds);
                sleep(lasts);
                let is_wrong = self.servers[whom].is_ahead_s().is_some_and(|by| by.abs() > 30.0);
                self.clocks[whom].shift(0);
                return is_wrong;
            }
            _ => self.kill(whom, lasts),
        }
        true
    }

    fn suffer_links(
        &mut self,
        fault: Fault,
        conn: usize,
        lasts: Duration,
        links: u32,
        rng: &mut SmallRng,
    ) -> bool {
        let devices = [self.servers[conn].address()];
        match fault {
            Fault::DropIn => cut(&devices, Cut::In, lasts) > 0,
            Fault::DropOut => cut(&devices, Cut::Out, lasts) > 0,
            Fault::DropBoth => cut(&devices, Cut::Both, lasts) > 0,
            Fault::StreamsIn => cut(&self.stream_addresses(), Cut::In, lasts) > 0,
            Fault::StreamsOut => cut(&self.stream_addresses(), Cut::Out, lasts) > 0,
            Fault::Descriptors => self.descriptors(conn, lasts, links as usize),
            Fault::AcceptFails => {
                let error = ["ENFILE", "ENOMEM"][rng.random_range(0..2)];
                let accepts = self.inject(conn, "accept4", &format!("error={error}"));
                cut(&self.conn_addresses(), Cut::Reset, RESETS);
                sleep(lasts);
                accepts.end() > 0
            }
            Fault::WaitFails => {
                self.wait_fails(conn, lasts);
                true
            }
            Fault::WriteFails => {
                let error = ["ENOBUFS", "ENOMEM"][rng.random_range(0..2)];
                let writes = self.inject(conn, "writev,sendto", &format!("error={error}:when=1+50"));
                sleep(lasts);
                writes.end() > 0
            }
            Fault::SyncFails => {
                self.sync_fails(conn);
                true
            }
            Fault::SlowSync => {
                let syncs = Injection::slow_syncs(self.servers[conn].process().id(), SLOW_SYNC);
                sleep(lasts);
                syncs.end() > 0
            }
            Fault::DiskFull => {
                self.disk().is_full(true);
                let is_unready =
                    || self.servers[conn].get("/readyz").is_some_and(|(status, _)| status == 503);
                let is_said = asked_for(lasts, || is_unready().then_some(())).is_some();
                sleep(lasts);
                self.disk().is_full(false);
                is_said
            }
            _ => cut(&devices, Cut::Reset, lasts) > 0,
        }
    }

    fn suffer_back_end(
        &self,
        fault: Fault,
        kind: &str,
        which: usize,
        lasts: Duration,
        url: impl Fn(&Backends) -> &str,
    ) -> bool {
        let is_killed = match fault {
            Fault::BrokerKill | Fault::NodeKill => true,
            Fault::BrokerStop | Fault::NodeStop => false,
            _ => return cut(&self.addresses(url)[which..=which], Cut::Both, lasts) > 0,
        };
        let pid = self.pids(kind)[which];
        signal(pid, if is_killed { libc::SIGKILL } else { libc::SIGSTOP });
        sleep(lasts);
        if is_killed {
            self.backends_up();
        } else {
            signal(pid, libc::SIGCONT);
        }
        true
    }

    fn kill(&mut self, whom: usize, lasts: Duration) {
        self.servers[whom].kill();
        sleep(lasts);
        self.servers[whom].restart();
    }

    /// Every call that waits ends with EINTR when a process goes on that stood still. Injected, the error would be
    /// another one (ENOSYS) for whoever waits while the injection ends.
    fn wait_fails(&mut self, whom: usize, lasts: Duration) {
        let end = Instant::now() + lasts;
        while Instant::now() < end {
            self.stop(whom, Duration::from_millis(1));
            sleep(BETWEEN_EINTR);
        }
    }

    pub(super) fn stop(&mut self, whom: usize, lasts: Duration) {
        self.servers[whom].process().signal(libc::SIGSTOP);
        sleep(lasts);
        self.servers[whom].process().signal(libc::SIGCONT);
    }

    fn kill_starting(&mut self, whom: usize, lives: Duration) {
        self.servers[whom].kill();
        self.servers[whom].start_again();
        sleep(lives);
        self.servers[whom].still_runs();
        self.servers[whom].kill();
    }

    /// Starts a server again with descriptors for half of its links, and has all links come again.
    fn descriptors(&mut self, whom: usize, lasts: Duration, links: usize) -> bool {
        self.servers[whom].kill();
        self.servers[whom].restart();
        let pid = self.servers[whom].process().id();
        let has = descriptors(pid);
        let before = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let before = before.lines().find(|line| line.starts_with("Max open files")).unwrap();
        limit(pid, &(has + links / self.conns().len() / 2).to_string());
        let others: Vec<_> =
            self.conn_addresses().into_iter().filter(|to| *to != self.servers[whom].address()).collect();
        // For as long: devices have nowhere else to go.
        cut(&others, Cut::Reset, lasts);
        let turned_away = self.servers[whom].metric("godwit_conn_accepts_total{outcome=\"no_descriptors\"}");
        limit(pid, before.split_whitespace().nth(3).unwrap());
        turned_away > Some(0.0)
    }

    fn sync_fails(&mut self, whom: usize) {
        let injection = self.inject(whom, "fsync,fdatasync", "error=EIO");
        let code = ended(&mut self.servers[whom]);
        drop(injection);
        assert_eq!(code, SYNC_FAILED, "a failed fsync ends the process");
        self.servers[whom].restart();
    }

    fn inject(&mut self, whom: usize, calls: &str, what: &str) -> Injection {
        Injection::begin(&threads(self.servers[whom].process().id(), ""), calls, what)
    }
}

fn server(whom: usize) -> String {
    format!("server {whom}")
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn limit(pid: u32, descriptors: &str) {
    let mut set = Command::new("prlimit");
    let status = set.args(["--pid", &pid.to_string()]).arg(format!("--nofile={descriptors}:")).status();
    assert!(status.unwrap().success(), "prlimit --nofile={descriptors}");
}
