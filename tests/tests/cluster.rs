//! Two conn and two logic processes on three brokers and three CQL nodes, under load: every process is killed in
//! turn, and a logic process is stopped for longer than its peers wait, and goes on when they have begun again. Nothing
//! acknowledged is lost, nothing is there twice, nothing out of order, and no link that lives is taken for gone.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test: what it does not expect ends it")]

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proto::close::Close;
use tests::{Backends, Chat, Load, Run, Server, texts, within};

/// Of each log.
const PARTITIONS: usize = 6;
/// What its peer goes on for, before a zombie wakes, and what both have after that.
const AGAIN: Duration = Duration::from_secs(5);

/// Four processes, three brokers and three nodes are enough for one machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Cluster {
    conns: [Server; 2],
    logics: [Server; 2],
}

impl Cluster {
    fn start(dir: &Path, backends: &Backends) -> Self {
        let start = |name: &str, roles: &str| {
            let (log, store) = (&*backends.log, &*backends.store);
            let partitions =
                ["messages", "timelines"].map(|log| format!("storage.{log}_partitions={PARTITIONS}"));
            let [messages, timelines] = partitions.each_ref().map(String::as_str);
            let arguments = ["--roles", roles, "--name", name, "--log", log, "--store", store];
            Server::start(dir, name, &[&arguments[..], &["--set", messages, "--set", timelines]].concat())
        };
        // One after the other: the first creates topics and tables.
        Self {
            logics: [start("logic-1", "logic,api"), start("logic-2", "logic,api")],
            conns: [start("conn-1", "conn"), start("conn-2", "conn")],
        }
    }

    fn servers(&self) -> [&Server; 4] {
        [&self.conns[0], &self.conns[1], &self.logics[0], &self.logics[1]]
    }

    /// No link that lives was taken for gone, by any process.
    fn no_link_is_taken_for_gone(&self) {
        for close in [Close::SessionUnknown, Close::LeaseLost] {
            let closed = self.conns.each_ref().map(|conn| conn.closes(close));
            assert_eq!(closed, [0.0, 0.0], "{}", close.name());
        }
    }

    /// Waits until a logic process has every partition: its peer is taken for gone.
    fn wait_owner(&self, logic: usize) {
        within(Duration::from_secs(90), "one process has every partition", || {
            let owned = |stage| {
                self.logics[logic].metric(&format!("godwit_logic_owned_partitions{{stage=\"{stage}\"}}"))
            };
            let all = PARTITIONS as f64;
            (owned("conversation") == Some(all) && owned("timeline") == Some(all)).then_some(())
        });
    }

    /// Waits until links are signed in: then every partition that they need has an owner.
    fn wait_links(&self, links: f64) {
        within(Duration::from_secs(90), "the links are back", || {
            let count = |server: &Server| server.metric("godwit_conn_links").unwrap_or(0.0);
            (self.conns.iter().map(count).sum::<f64>() >= links).then_some(())
        });
    }
}

#[test]
fn processes_die_and_stop_in_turn_and_nothing_is_lost() {
    let Some(backends) = Backends::find("a cluster whose processes die in turn") else { return };
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path(), &backends);
    // For as long as all of this takes.
    let load = Load { links: 200, rate: 150, duration: Duration::from_secs(900) };
    let run = Run::start(dir.path(), &cluster.conns[0].data(), &cluster.servers(), load);
    run.begins();
    for i in 0..2 {
        cluster.conns[i].kill();
        cluster.conns[i].restart();
        cluster.wait_links(150.0);
        cluster.no_link_is_taken_for_gone();
        cluster.logics[i].kill();
        cluster.logics[i].restart();
        cluster.wait_links(150.0);
        cluster.no_link_is_taken_for_gone();
    }
    // It wakes when its peer has taken over, gone on, and been started again itself.
    cluster.logics[0].process().signal(libc::SIGSTOP);
    cluster.wait_owner(1);
    cluster.logics[1].kill();
    cluster.logics[1].restart();
    cluster.wait_owner(1);
    std::thread::sleep(AGAIN);
    cluster.logics[0].process().signal(libc::SIGCONT);
    std::thread::sleep(AGAIN);
    let figures = run.enough().passes();
    // Whichever conn process was killed took half of the links with it.
    assert!(figures["reconnects"].as_u64() >= Some(150), "{figures}");
    cluster.no_link_is_taken_for_gone();
}

#[test]
fn two_devices_talk_across_nodes() {
    let Some(backends) = Backends::find("a conversation across nodes") else { return };
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path(), &backends);
    let data = cluster.conns[0].data();
    let on = |i: usize, user: &str| {
        let state = dir.path().join(user);
        Chat::start(user, "phone", &[cluster.conns[i].address()], &data, &state)
    };
    let (mut ann, mut bob) = (on(0, "ann"), on(1, "bob"));
    ann.wait_connected(0);
    bob.wait_connected(0);
    for i in 0..50 {
        ann.say("bob", &format!("ann {i}"), i);
        bob.say("ann", &format!("bob {i}"), i);
    }
    for chat in [&ann, &bob] {
        chat.wait_count("every entry", 100, |event| event["event"] == "entry");
    }
    assert_eq!(texts(&ann.entries()), texts(&bob.entries()));
    assert!(ann.quit().success() && bob.quit().success());
}
