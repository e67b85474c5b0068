//! How each fault is done, for its time, and undone.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::SmallRng;

use super::fault::Fault;
use crate::net::{Cut, cut};
use crate::process::signal;
use crate::stage::{Stage, ended};
use crate::trace::{Injection, threads};

/// What `godwit serve` ends with where an fsync failed.
const SYNC_FAILED: i32 = 6;
/// How long a process lives that is killed while it starts, at most.
const STARTING_MS: u64 = 300;
/// Between two interruptions of every call that waits.
const BETWEEN_EINTR: Duration = Duration::from_millis(5);
/// What a wait for a slow disk takes.
const SLOW_SYNC: Duration = Duration::from_millis(150);
/// How far a clock goes wrong at most, in seconds.
const HOUR: i64 = 3_600;

impl Stage {
    /// Lets a fault happen for its time. What happened, in words.
    pub(super) fn suffer(&mut self, fault: Fault, lasts: Duration, rng: &mut SmallRng) -> String {
        let any = rng.random_range(0..self.servers.len());
        let conns = self.conns();
        let conn = conns[rng.random_range(0..conns.len())];
        match fault {
            Fault::KillAt(step) => {
                let whom = self.passes(step, rng);
                format!("server {whom}, {}", self.kill_at(whom, step, rng))
            }
            Fault::StopAt(step) => {
                let whom = self.passes(step, rng);
                let reached = self.stop_at(whom, step, lasts, rng);
                format!("server {whom}, {reached}, {} ms", lasts.as_millis())
            }
            Fault::Kill | Fault::KillTwice | Fault::Stop | Fault::Drain | Fault::ClockShift => {
                self.suffer_process(fault, any, lasts, rng);
                format!("server {any}, {} ms", lasts.as_millis())
            }
            Fault::BrokerKill
            | Fault::BrokerStop
            | Fault::BrokerCut
            | Fault::NodeKill
            | Fault::NodeStop
            | Fault::NodeCut => {
                let which = rng.random_range(0..3_usize);
                self.suffer_back_end(fault, which, lasts);
                format!("back end {}, {} ms", which + 1, lasts.as_millis())
            }
            _ => {
                self.suffer_links(fault, conn, lasts);
                format!("server {conn}, {} ms", lasts.as_millis())
            }
        }
    }

    fn suffer_process(&mut self, fault: Fault, whom: usize, lasts: Duration, rng: &mut SmallRng) {
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
                self.clocks[whom].shift(rng.random_range(-HOUR..=HOUR));
                sleep(lasts);
                self.clocks[whom].shift(0);
            }
            _ => self.kill(whom, lasts),
        }
    }

    fn suffer_links(&mut self, fault: Fault, conn: usize, lasts: Duration) {
        match fault {
            Fault::DropIn => cut(self.servers[conn].address(), Cut::In, lasts),
            Fault::DropOut => cut(self.servers[conn].address(), Cut::Out, lasts),
            Fault::DropBoth => cut(self.servers[conn].address(), Cut::Both, lasts),
            Fault::Descriptors => self.descriptors(conn, lasts),
            Fault::AcceptFails => {
                let _accepts = self.inject(conn, "accept4", "error=ENFILE");
                cut(self.servers[conn].address(), Cut::Reset, lasts);
            }
            Fault::WaitFails => self.wait_fails(conn, lasts),
            Fault::WriteFails => self.inject_for(conn, "writev,sendto", "error=ENOBUFS:when=1+50", lasts),
            Fault::SyncFails => self.sync_fails(conn),
            Fault::SlowSync => {
                let _syncs = Injection::slow_syncs(self.servers[conn].process().id(), SLOW_SYNC);
                sleep(lasts);
            }
            Fault::DiskFull => {
                self.disk().is_full(true);
                sleep(lasts);
                self.disk().is_full(false);
            }
            _ => cut(self.servers[conn].address(), Cut::Reset, lasts),
        }
    }

    fn suffer_back_end(&self, fault: Fault, which: usize, lasts: Duration) {
        match fault {
            Fault::BrokerKill => self.kill_back_end("broker", which, lasts),
            Fault::BrokerStop => self.stop_back_end("broker", which, lasts),
            Fault::BrokerCut => cut(self.addresses(|b| &b.log)[which], Cut::Both, lasts),
            Fault::NodeKill => self.kill_back_end("node", which, lasts),
            Fault::NodeStop => self.stop_back_end("node", which, lasts),
            _ => cut(self.addresses(|b| &b.store)[which], Cut::Both, lasts),
        }
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
        self.servers[whom].kill();
    }

    /// Starts a server again with descriptors for half of its links, which all come again.
    fn descriptors(&mut self, whom: usize, lasts: Duration) {
        let had = descriptors(self.servers[whom].process().id());
        self.servers[whom].kill();
        self.servers[whom].restart();
        let pid = self.servers[whom].process().id();
        let has = descriptors(pid);
        let before = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let before = before.lines().find(|line| line.starts_with("Max open files")).unwrap();
        limit(pid, &(has + had.saturating_sub(has) / 2).to_string());
        sleep(lasts);
        limit(pid, before.split_whitespace().nth(3).unwrap());
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

    fn inject_for(&mut self, whom: usize, calls: &str, what: &str, lasts: Duration) {
        let _injection = self.inject(whom, calls, what);
        sleep(lasts);
    }

    fn kill_back_end(&self, kind: &str, which: usize, lasts: Duration) {
        signal(self.pids(kind)[which], libc::SIGKILL);
        sleep(lasts);
        self.backends_up();
    }

    fn stop_back_end(&self, kind: &str, which: usize, lasts: Duration) {
        let pid = self.pids(kind)[which];
        signal(pid, libc::SIGSTOP);
        sleep(lasts);
        signal(pid, libc::SIGCONT);
    }
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn limit(pid: u32, descriptors: &str) {
    let mut set = Command::new("prlimit");
    let status = set.args(["--pid", &pid.to_string()]).arg(format!("--nofile={descriptors}:")).status();
    assert!(status.unwrap().success(), "prlimit --nofile={descriptors}");
}
