//! What can go wrong around a server: a full disk, a log that is not there, and one that goes away. Each is said
//! for what it is, and nothing that was acknowledged is lost.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test: what it does not expect ends it")]
#![allow(clippy::disallowed_methods, reason = "a test: it reads the clock")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::{
    Backends, Chat, DEADLINE, Injection, Load, Process, Run, Server, binary, can, get, may_inject,
    run_until_it_ends, texts, threads, within,
};

const MIB: u64 = 1024 * 1024;

/// A file system of its own in memory; gone with the test.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// None where mounting is not allowed, which is said.
    fn mount(at: &Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={bytes}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        let is_mounted = mounted.is_ok_and(|output| output.status.success());
        can("the full disk", is_mounted, "mounting a tmpfs is not allowed here").then(|| Self(at.to_owned()))
    }

    fn resize(&self, bytes: u64) {
        let size = format!("remount,size={bytes}");
        assert!(Command::new("mount").args(["-o", &size]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn chat(server: &Server, dir: &Path, name: &str) -> Chat {
    let chat = Chat::start(name, "phone", &[server.address()], &server.data(), &dir.join("chat").join(name));
    chat.wait_connected(0);
    chat
}

fn acked(chat: &Chat) -> usize {
    chat.events().iter().filter(|event| event["event"] == "acked").count()
}

#[test]
fn log_lines_that_cannot_be_written_end_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ports = dir.path().join("ports");
    let full = std::fs::File::create("/dev/full").unwrap();
    let mut command = Command::new(binary());
    command.args(["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data"]);
    command.arg(dir.path().join("data")).arg("--ports-file").arg(&ports).current_dir(dir.path());
    command.stdin(Stdio::null()).stdout(full.try_clone().unwrap()).stderr(full);
    let mut process = Process::new(command.spawn().unwrap());
    within(Duration::from_secs(60), "it is ready", || {
        assert_eq!(process.ended(), None);
        let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(&ports).ok()?).ok()?;
        let (status, _) = get(ports["ops"].as_str()?.parse().ok()?, "/readyz")?;
        (status == 200).then_some(())
    });
    process.signal(libc::SIGTERM);
    assert_eq!(process.wait(DEADLINE).code(), Some(0));
}

#[test]
fn a_thread_that_panics_ends_the_process_and_loses_nothing() {
    if !may_inject("a thread that panics") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), "server", &[]);
    let (mut ann, bob) = (chat(&server, dir.path(), "ann"), chat(&server, dir.path(), "bob"));
    ann.say("bob", "before", 0);
    bob.wait_count("the first", 1, |event| event["event"] == "entry");
    // The runtime does not know what to make of it, and panics.
    let runtime = threads(server.process().id(), "tokio");
    let injection = Injection::begin(&runtime, "epoll_wait", "error=ENOSYS");
    let ended = within(DEADLINE, "the process ends", || server.process().ended());
    drop(injection);
    assert_eq!(ended.code(), Some(7));
    assert!(server.log().contains("a panic, which is a bug"));
    server.restart();
    ann.say("bob", "after", 1);
    bob.wait_count("the second", 2, |event| event["event"] == "entry");
    assert_eq!(texts(&bob.entries()), ["before", "after"]);
}

#[test]
fn a_full_disk_stops_the_sends_and_room_brings_them_back() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    let Some(tmpfs) = Tmpfs::mount(&disk, 160 * MIB) else { return };
    let reserve = format!("embedded.reserve_bytes={}", 64 * MIB);
    let server = Server::start(&disk, "server", &["--set", &reserve]);
    // What the devices keep is elsewhere: their disks have room.
    let (mut ann, bob) = (chat(&server, dir.path(), "ann"), chat(&server, dir.path(), "bob"));

    let body = "x".repeat(60_000);
    let mut said = 0;
    let reason = within(Duration::from_secs(120), "the disk is full", || {
        // A device keeps only so much that is not acknowledged.
        if said < acked(&ann) + 40 {
            said += 1;
            ann.say("bob", &format!("{said} {body}"), 0);
        }
        let (status, text) = server.get("/readyz")?;
        (status == 503).then_some(text)
    });
    assert!(reason.contains("the disk is full") && reason.contains("embedded.reserve_bytes"), "{reason}");
    for _ in 0..20 {
        said += 1;
        ann.say("bob", &format!("{said} {body}"), 0);
    }
    within(Duration::from_secs(30), "the writer holds back", || {
        server.log().contains("the disk is full").then_some(())
    });
    assert!(acked(&ann) < said, "nothing was held back");

    tmpfs.resize(1_024 * MIB);
    within(Duration::from_secs(60), "it is ready again", || {
        server.get("/readyz").filter(|(status, _)| *status == 200)
    });
    bob.wait_until("every message", Duration::from_secs(120), |events| {
        (events.iter().filter(|event| event["event"] == "entry").count() >= said).then_some(())
    });
    let read = texts(&bob.entries());
    let expected: Vec<String> = (1..=said).map(|n| format!("{n} {body}")).collect();
    assert!(read == expected, "{} of {said} messages, or another order", read.len());
}

/// Runs `serve` until it ends by itself: its exit code, the line that it ended with, and how long it took.
fn serve(dir: &Path, arguments: &[&str]) -> (Option<i32>, String, Duration) {
    let began = Instant::now();
    let mut command = Command::new(binary());
    command.args(["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data"]).arg(dir);
    command.args(["--name", "one", "--node-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0"]);
    let (code, said) = run_until_it_ends(command.args(arguments).current_dir(dir), DEADLINE);
    let took = began.elapsed();
    // What is logged on the way may name what the reason does not.
    let reason = said.lines().last().expect("it says why").to_owned();
    (code, reason, took)
}

#[test]
fn back_ends_that_are_not_there_at_the_start_are_5_and_both_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (log, store) = ("kafka://127.0.0.1:1/nowhere", "scylla://127.0.0.1:2/nowhere");
    let (code, said, took) = serve(dir.path(), &["--log", log, "--store", store]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("127.0.0.1:1") && said.contains("127.0.0.1:2"), "{said}");
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn a_store_that_is_not_there_at_the_start_is_5_and_named() {
    let Some(backends) = Backends::find("a store that is not there") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (code, said, took) =
        serve(dir.path(), &["--log", &backends.log, "--store", "scylla://127.0.0.1:1/nowhere"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("127.0.0.1:1"), "{said}");
    assert!(took < Duration::from_secs(30), "{took:?}");
}

/// Brokers that stand still; they go on when this is dropped, also where the test ends badly.
struct Stopped(Vec<String>);

impl Stopped {
    fn all(dir: &Path) -> Self {
        let pid = |i| std::fs::read_to_string(dir.join(format!("broker-{i}/pid"))).ok();
        let pids: Vec<String> = (1..).map_while(pid).map(|pid| pid.trim().to_owned()).collect();
        assert!(!pids.is_empty(), "no broker in {}", dir.display());
        signal("-STOP", &pids);
        Self(pids)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

fn signal(signal: &str, pids: &[String]) {
    assert!(Command::new("kill").arg(signal).args(pids).status().unwrap().success());
}

#[test]
fn brokers_that_go_away_in_mid_run_stop_the_acks_and_lose_nothing() {
    let Some(backends) = Backends::find("brokers that go away") else { return };
    let brokers = std::env::var_os("GODWIT_TEST_BACKENDS_DIR").map(PathBuf::from);
    can("brokers that go away", brokers.is_some(), "GODWIT_TEST_BACKENDS_DIR is not set");
    let Some(brokers) = brokers else { return };
    let dir = tempfile::tempdir().unwrap();
    let counts = ["--set", "storage.messages_partitions=2", "--set", "storage.timelines_partitions=2"];
    let places = ["--name", "one", "--log", &backends.log, "--store", &backends.store];
    let server = Server::start(dir.path(), "server", &[&places[..], &counts].concat());
    let (mut ann, bob) = (chat(&server, dir.path(), "ann"), chat(&server, dir.path(), "bob"));
    ann.say("bob", "before", 1);
    bob.wait("it arrives", |event| event["text"] == "before");

    let stopped = Stopped::all(&brokers);
    let load = Load { links: 20, rate: 20, duration: Duration::from_secs(20) };
    ann.say("bob", "meanwhile", 2);
    within(Duration::from_secs(60), "the server says that it is not ready", || {
        server.get("/readyz").filter(|(status, _)| *status == 503)
    });
    assert_eq!(acked(&ann), 1, "nothing is acknowledged without the log");
    drop(stopped);

    bob.wait_until("it arrives", Duration::from_secs(120), |events| {
        events.iter().any(|event| event["text"] == "meanwhile").then_some(())
    });
    assert_eq!(texts(&bob.entries()), ["before", "meanwhile"]);
    within(Duration::from_secs(60), "it is ready again", || {
        server.get("/readyz").filter(|(status, _)| *status == 200)
    });
    let run = Run::start(dir.path(), &server.data(), &[&server], load);
    let _ = run.passes();
}
