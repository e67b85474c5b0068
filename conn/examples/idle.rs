//! What an idle signed-in link costs a conn node: anonymous memory by link, and CPU by heartbeat beside a
//! bare epoll echo that is spoken to in the same way. Devices are another process, started by this one.
//!
//! `cargo run --release -p conn --example idle -- [--from 5000] [--to 15000] [--hold-s 60]`
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a measurement")]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a measurement")]
#![allow(clippy::disallowed_methods, missing_docs, unreachable_pub, reason = "a measurement")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use conn::Config;
use mio::{Events, Interest, Poll, Token};
use proto::v1::{self, client_frame::Frame as C, server_frame::Frame as S};
use support::*;

const ROUNDS: usize = 20;
/// Links that send heartbeats: with those that do not, they stay below 20,000 descriptors.
const BEATING: u64 = 1_000;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|arg| arg == "devices") {
        return devices(args[2].parse().unwrap());
    }
    let option = |name: &str, default: u64| {
        let at = args.iter().position(|arg| arg == name);
        at.and_then(|at| args.get(at + 1)).map_or(default, |value| value.parse().unwrap())
    };
    let (from, to, hold) = (option("--from", 5_000), option("--to", 15_000), option("--hold-s", 60));
    let (log, heard) = ScriptedLog::new(false);
    let world = World::with(
        Config { reactors: 1, idle_timeout_ms: 3_600_000, ..config() },
        log.clone(),
        Arc::new(log),
        heard,
    );
    let mut devices = Devices::start(world.node.address());
    let mut at = |links: u64| {
        devices.order(&format!("open {links}"));
        until("all links are there", || world.node.links() == links);
        std::thread::sleep(Duration::from_secs(hold));
        rss_anon()
    };
    let (low, high) = (at(from), at(to));
    println!("RssAnon at {from} links: {low} B, at {to}: {high} B");
    println!("an idle signed-in link: {:.0} B", (high as f64 - low as f64) / (to - from) as f64);

    let (echo_address, echo) = echo();
    let mut bare = Devices::start(echo_address);
    let beating = from.min(BEATING);
    bare.order(&format!("bare {beating}"));
    let beats = (ROUNDS as u64 * beating) as f64;
    let mut ratios = Vec::new();
    for _ in 0..5 {
        let ours = cpu_of(|| devices.order(&format!("beat {beating}")), "conn-");
        let floor = cpu_of(|| bare.order(&format!("beat {beating}")), "echo");
        println!(
            "a heartbeat: {:.2} µs of server CPU, the bare echo {:.2} µs",
            ours / beats * 1e6,
            floor / beats * 1e6
        );
        ratios.push(ours / floor);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio: {:.2}", ratios[ratios.len() / 2]);
    drop(echo);
}

/// Anonymous resident memory of this process.
fn rss_anon() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// CPU seconds that threads of this name used meanwhile.
fn cpu_of(work: impl FnOnce(), name: &str) -> f64 {
    let before = cpu(name);
    work();
    cpu(name) - before
}

fn cpu(name: &str) -> f64 {
    let mut nanos = 0.0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let comm = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let numbered =
            comm.trim().strip_prefix(name).is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()));
        if numbered {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap();
            nanos += stat.split_whitespace().next().unwrap().parse::<f64>().unwrap();
        }
    }
    nanos / 1e9
}

/// The process that plays all devices.
struct Devices {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Devices {
    fn start(address: SocketAddr) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["devices", &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, answers }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{order}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n");
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn devices(address: SocketAddr) {
    let mut links: Vec<TcpStream> = Vec::new();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (what, count) = line.split_once(' ').unwrap();
        let count: usize = count.parse().unwrap();
        match what {
            "open" => (links.len()..count).for_each(|number| links.push(signed_in(address, number))),
            "bare" => (links.len()..count).for_each(|_| links.push(TcpStream::connect(address).unwrap())),
            _ => beat(&mut links[..count]),
        }
        println!("done");
    }
}

/// Signs in, sends one message and gets one.
fn signed_in(address: SocketAddr, number: usize) -> TcpStream {
    let mut device = Device::connect(address);
    let epoch = device.sign_in(&token("quiet", &format!("device-{number}"))).epoch;
    device.send(2, text("bob", epoch, 1));
    device.expect_ack(2);
    device.send(3, C::Ping(v1::Ping::default()));
    assert!(matches!(device.expect(), S::Pong(_)));
    device.stream
}

/// Every link sends a ping and is answered in as many bytes, a hundred links at a time.
fn beat(links: &mut [TcpStream]) {
    let ping = frame_bytes(0, C::Ping(v1::Ping::default()));
    let mut pong = vec![0; ping.len()];
    for _ in 0..ROUNDS {
        for some in links.chunks_mut(100) {
            some.iter_mut().for_each(|link| link.write_all(&ping).unwrap());
            some.iter_mut().for_each(|link| link.read_exact(&mut pong).unwrap());
        }
    }
}

/// A thread that does nothing but epoll, read and write.
fn echo() -> (SocketAddr, std::thread::JoinHandle<()>) {
    let mut listener = mio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr().unwrap();
    let mut poll = Poll::new().unwrap();
    poll.registry().register(&mut listener, Token(usize::MAX), Interest::READABLE).unwrap();
    let thread = std::thread::Builder::new().name("echo".into()).spawn(move || {
        let (mut links, mut events) = (HashMap::new(), Events::with_capacity(1024));
        let mut bytes = [0; 4096];
        loop {
            poll.poll(&mut events, None).unwrap();
            for event in &events {
                if event.token() == Token(usize::MAX) {
                    while let Ok((mut link, _)) = listener.accept() {
                        let token = Token(links.len());
                        poll.registry().register(&mut link, token, Interest::READABLE).unwrap();
                        links.insert(token, link);
                    }
                } else if let Some(link) = links.get_mut(&event.token())
                    && let Ok(count) = link.read(&mut bytes)
                {
                    let _ = link.write(&bytes[..count]);
                }
            }
        }
    });
    (address, thread.unwrap())
}
