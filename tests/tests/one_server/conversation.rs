//! Two devices and one server on embedded storage, as in the README: they talk, the server is killed and
//! restarted under them, drained, and nothing is lost, doubled or out of order.

use std::path::Path;
use std::time::{Duration, Instant};

use proto::close::Close;
use serde_json::{Value, json};
use tests::{Chat, DEADLINE, Device, Server, texts, within};

fn device(server: &Server, dir: &Path, user: &str, device: &str) -> Chat {
    Chat::start(user, device, &[server.address()], &server.data(), &dir.join(format!("{user}-{device}")))
}

fn is_ack(event: &Value) -> bool {
    event["event"] == "acked"
}

fn is_entry(event: &Value) -> bool {
    event["event"] == "entry"
}

/// seqs and numbers of one conversation count up from 1 without a hole.
fn assert_dense(entries: &[Value]) {
    for (i, entry) in (1..).zip(entries) {
        assert_eq!((entry["seq"].as_u64(), entry["no"].as_u64()), (Some(i), Some(i)), "{entry}");
    }
}

/// Says texts `from..to` to a user, each once.
fn say_all(chat: &mut Chat, to: &str, range: std::ops::Range<u64>) {
    for i in range {
        chat.say(to, &format!("text {i}"), i);
    }
}

fn expected(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|i| format!("text {i}")).collect()
}

#[test]
fn two_devices_talk_and_the_server_leaves_in_good_order() {
    let dir = tempfile::tempdir().unwrap();
    tests::binary();
    let began = Instant::now();
    let mut server = Server::start(dir.path(), "server", &[]);
    assert!(began.elapsed() < Duration::from_secs(2), "ready only after {:?}", began.elapsed());
    let said = server.log();
    assert_eq!(said.matches(" chat ").count(), 2, "two lines to paste:\n{said}");
    assert!(said.contains("DEVELOPMENT MODE"));
    assert_eq!(server.get("/livez").unwrap().0, 200);
    assert_eq!(server.get("/readyz").unwrap().1, r#"{"ready":true,"reasons":[]}"#);

    let mut ann = device(&server, dir.path(), "ann", "phone");
    let mut bob = device(&server, dir.path(), "bob", "phone");
    ann.wait_connected(0);
    bob.wait_connected(0);
    ann.say("bob", "hello bob", 1);
    ann.wait("the ack", is_ack);
    let heard = bob.wait("ann's text", is_entry);
    assert_eq!((heard["text"].as_str(), heard["sender"].as_str()), (Some("hello bob"), Some("ann")));
    assert_eq!((heard["device"].as_str(), heard["no"].as_u64()), (Some("phone"), Some(1)));
    bob.say("ann", "hello ann", 1);
    ann.wait_count("both texts", 2, is_entry);
    assert_eq!(texts(&ann.entries()), ["hello bob", "hello ann"]);
    assert_eq!(server.metric("godwit_conn_links"), Some(2.0));
    assert!(server.metric("process_resident_memory_bytes").unwrap() > 0.0);

    assert_eq!(server.terminate().code(), Some(0));
    ann.wait("the end of the link", |event| event["event"] == "disconnected");
    assert!(ann.quit().success() && bob.quit().success());
}

#[test]
fn nothing_acknowledged_is_missing_or_twice_after_kill_9() {
    talk_through_ends(3, Server::kill);
}

#[test]
fn a_drain_under_load_loses_nothing() {
    talk_through_ends(2, |server| assert_eq!(server.terminate().code(), Some(0)));
}

/// Ann says much to Bob; in the middle of each round the server is ended, and started again.
fn talk_through_ends(rounds: u64, end: impl Fn(&mut Server)) {
    const TEXTS: u64 = 300;
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), "server", &[]);
    let mut ann = device(&server, dir.path(), "ann", "phone");
    let bob = device(&server, dir.path(), "bob", "phone");
    ann.wait_connected(0);
    bob.wait_connected(0);
    let count = |texts: u64| usize::try_from(texts).unwrap();
    for from in (0..rounds).map(|round| round * TEXTS) {
        say_all(&mut ann, "bob", from..from + TEXTS);
        // Some are acknowledged, some are on their way.
        ann.wait_count("some acks", count(from) + 20, is_ack);
        end(&mut server);
        server.restart();
    }
    let all = rounds * TEXTS;
    ann.wait_count("every ack", count(all), is_ack);
    for chat in [&ann, &bob] {
        chat.wait_count("every entry", count(all), is_entry);
        let entries = chat.entries();
        assert_eq!(texts(&entries), expected(0..all));
        assert_dense(&entries);
    }
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn a_device_that_was_away_catches_up_also_on_a_second_device() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "server", &[]);
    let mut ann = device(&server, dir.path(), "ann", "phone");
    let mut bob = device(&server, dir.path(), "bob", "phone");
    bob.wait_connected(0);
    say_all(&mut ann, "bob", 0..50);
    bob.wait_count("the first texts", 50, is_entry);
    assert!(bob.quit().success());
    say_all(&mut ann, "bob", 50..300);
    ann.wait_count("every ack", 300, is_ack);

    let bob = device(&server, dir.path(), "bob", "phone");
    bob.wait_count("what it missed", 250, is_entry);
    assert_eq!(texts(&bob.entries()), expected(50..300));
    let tablet = device(&server, dir.path(), "bob", "tablet");
    tablet.wait_count("everything that is kept", 300, is_entry);
    assert_eq!(texts(&tablet.entries()), expected(0..300));
    assert_dense(&tablet.entries());
}

#[test]
fn a_group_is_made_talked_in_and_asked_about() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "server", &[]);
    let mut chats: Vec<Chat> =
        ["ann", "bob", "carol"].iter().map(|user| device(&server, dir.path(), user, "phone")).collect();
    chats.iter().for_each(|chat| chat.wait_connected(0));
    chats[0].command(&json!({ "do": "create", "name": "crew", "members": ["bob", "carol"], "ref": 0 }));
    let accepted = chats[0].wait("the group's id", |event| event["event"] == "accepted");
    let group = accepted["conversation"].as_str().unwrap().to_owned();
    chats.iter().for_each(|chat| chat.wait_count("the group", 1, is_entry));
    for (i, chat) in (1..).zip(chats.iter_mut()) {
        chat.say_in(&group, &format!("from {i}"), i);
    }
    let orders: Vec<Vec<String>> = chats
        .iter()
        .map(|chat| {
            chat.wait_count("all texts", 4, is_entry);
            texts(&chat.entries())
        })
        .collect();
    assert_eq!(orders[0].len(), 3);
    assert!(orders.iter().all(|order| *order == orders[0]), "{orders:?}");

    let members = ask(&mut chats[2], "members", &json!({ "do": "members", "group": group, "min_no": 4 }));
    assert_eq!(members["members"].as_array().unwrap().len(), 3, "{members}");
    let history = ask(&mut chats[1], "history", &json!({ "do": "history", "group": group, "from": 0 }));
    assert_eq!(history["entries"].as_array().unwrap().len(), 4, "{history}");
}

/// Asks until the answer is as new as asked for: rows are stored about a second after they are judged.
fn ask(chat: &mut Chat, event: &str, command: &Value) -> Value {
    for reference in 1000.. {
        let mut command = command.clone();
        command["ref"] = json!(reference);
        chat.command(&command);
        let answer = chat.wait(event, |answer| answer["ref"] == reference);
        if answer["event"] == event {
            return answer;
        }
        assert_eq!(answer["code"], "STALE_READ", "{answer}");
    }
    unreachable!("references do not run out")
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(
        dir.path(),
        "server",
        &["--set", "conn.drain_within_ms=50000", "--set", "conn.drain_timeout_ms=60000"],
    );
    // A link makes the drain last; otherwise it would be over before the second signal.
    let ann = device(&server, dir.path(), "ann", "phone");
    ann.wait_connected(0);
    server.process().signal(libc::SIGTERM);
    within(DEADLINE, "draining", || server.log().contains("draining").then_some(()));
    server.process().signal(libc::SIGTERM);
    assert_eq!(server.process().wait(Duration::from_secs(10)).code(), Some(130));
}

/// The document from which operators make their dashboards and alerts.
const OPERATING: &str = include_str!("../../../docs/OPERATING.md");

#[test]
fn every_metric_that_operators_are_told_of_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "server", &[]);
    let (mut ann, bob) =
        (device(&server, dir.path(), "ann", "phone"), device(&server, dir.path(), "bob", "phone"));
    say_all(&mut ann, "bob", 0..1);
    bob.wait("the text", is_entry);
    assert_eq!(server.metric("godwit_conn_live_links"), Some(2.0));
    // What counts closed links has nothing to count before one is closed.
    let mut stranger = Device::connect(server.address());
    stranger.write(&[0xff; 6]);
    stranger.expect_kick(Close::Malformed);
    let named =
        OPERATING.split('`').filter(|name| name.starts_with("godwit_") || name.starts_with("process_"));
    let named: Vec<&str> = named.filter_map(|name| name.split('{').next()).collect();
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        within(DEADLINE, name, || {
            let (_, text) = server.get("/metrics")?;
            text.lines().any(|line| line.starts_with(name)).then_some(())
        });
    }
    drop(bob);
    within(DEADLINE, "a device left", || {
        (server.metric("godwit_conn_live_links") == Some(1.0)).then_some(())
    });
}
