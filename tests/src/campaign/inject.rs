//! How each fault is done, for its time, and undone.

use std::net::SocketAddr;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::fault::Fault;
use super::net::{Cut, Rules};
use super::stage::{Stage, ended};
use super::trace::Injection;

/// What `godwit serve` ends with where an fsync failed.
const SYNC_FAILED: i32 = 6;
/// How long a process lives that is killed while it starts, at most.
const STARTING_MS: u64 = 300;

impl Stage {
    /// Lets a fault happen for its time. What happened, in words.
    pub(super) fn suffer(&mut self, fault: Fault, lasts: Duration, rng: &mut SmallRng) -> String {
        let any = rng.random_range(0..self.servers.len());
        let conns = self.conns();
        let conn = conns[rng.random_range(0..conns.len())];
        let back_end = rng.random_range(0..3_usize);
        let whom = match fault {
            Fault::Kill | Fault::KillTwice | Fault::Stop | Fault::Drain => any,
            _ => conn,
        };
        match fault {
            Fault::Kill => self.kill(whom, lasts),
            Fault::KillTwice => {
                self.kill_starting(whom, Duration::from_millis(rng.random_range(0..STARTING_MS)));
                self.servers[whom].restart();
            }
            Fault::Stop => {
                self.servers[whom].process().signal(libc::SIGSTOP);
                sleep(lasts);
                self.servers[whom].process().signal(libc::SIGCONT);
            }
            Fault::Drain => {
                assert_eq!(self.servers[whom].terminate().code(), Some(0), "a drain ends well");
                self.servers[whom].restart();
            }
            Fault::DropIn => cut(self.servers[conn].address(), Cut::In, lasts),
            Fault::DropOut => cut(self.servers[conn].address(), Cut::Out, lasts),
            Fault::DropBoth => cut(self.servers[conn].address(), Cut::Both, lasts),
            Fault::Reset => cut(self.servers[conn].address(), Cut::Reset, lasts),
            Fault::Descriptors => self.descriptors(conn, lasts),
            Fault::AcceptFails => {
                let _accepts = self.inject(conn, "accept4", "error=ENFILE");
                cut(self.servers[conn].address(), Cut::Reset, lasts);
            }
            Fault::WaitFails => self.inject_for(conn, "epoll_wait", "error=EINTR:when=1+3", lasts),
            Fault::WriteFails => self.inject_for(conn, "writev,sendto", "error=ENOBUFS:when=1+50", lasts),
            Fault::SyncFails => self.sync_fails(whom),
            Fault::SlowSync => self.inject_for(conn, "fsync,fdatasync", "delay_enter=150000", lasts),
            Fault::DiskFull => {
                self.disk().is_full(true);
                sleep(lasts);
                self.disk().is_full(false);
            }
            Fault::BrokerKill => self.kill_back_end("broker", back_end, lasts),
            Fault::NodeKill => self.kill_back_end("node", back_end, lasts),
            Fault::BrokerStop => self.stop_back_end("broker", back_end, lasts),
            Fault::NodeStop => self.stop_back_end("node", back_end, lasts),
            Fault::BrokerCut => cut(self.addresses(|b| &b.log)[back_end], Cut::Both, lasts),
            Fault::NodeCut => cut(self.addresses(|b| &b.store)[back_end], Cut::Both, lasts),
        }
        format!("server {whom} or back end {back_end}, {} ms", lasts.as_millis())
    }

    fn kill(&mut self, whom: usize, lasts: Duration) {
        self.servers[whom].kill();
        sleep(lasts);
        self.servers[whom].restart();
    }

    fn kill_starting(&mut self, whom: usize, lives: Duration) {
        self.servers[whom].kill();
        self.servers[whom].start_again();
        sleep(lives);
        self.servers[whom].kill();
    }

    /// Leaves the process as many descriptors as it has, and has its links come again.
    fn descriptors(&mut self, whom: usize, lasts: Duration) {
        let pid = self.servers[whom].process().id();
        let has = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        let limit = |limit: &str| {
            let set = Command::new("prlimit")
                .args(["--pid", &pid.to_string()])
                .arg(format!("--nofile={limit}:"))
                .status();
            assert!(set.unwrap().success(), "prlimit --nofile={limit}");
        };
        let before = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let before = before.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let before = before.split_whitespace().nth(3).unwrap().to_owned();
        limit(&(has / 2).max(64).to_string());
        cut(self.servers[whom].address(), Cut::Reset, lasts / 2);
        sleep(lasts / 2);
        limit(&before);
    }

    fn sync_fails(&mut self, whom: usize) {
        let injection = self.inject(whom, "fsync,fdatasync", "error=EIO");
        let code = ended(&mut self.servers[whom]);
        drop(injection);
        assert_eq!(code, SYNC_FAILED, "a failed fsync ends the process");
        self.servers[whom].restart();
    }

    fn inject(&mut self, whom: usize, calls: &str, what: &str) -> Injection {
        Injection::begin(self.servers[whom].process().id(), calls, what)
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

fn cut(address: SocketAddr, how: Cut, lasts: Duration) {
    let _rules = Rules::cut(address, how);
    sleep(lasts);
}

fn signal(pid: u32, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(pid).unwrap();
    // SAFETY: kill takes plain numbers; the back ends of the campaign wrote the id down themselves.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "signal {signal} to {pid}");
}
