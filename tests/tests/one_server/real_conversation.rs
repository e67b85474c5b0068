//! A real conversation: twelve users read a novel to each other, in one group and in pairs, one of them away for
//! the middle third. Every device reads the same, in the same order, byte for byte.
//!
//! It says how to watch it, and `GODWIT_TEST_PACE_MS` slows it down for that: `docs/CHAT.md`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Chat, Server, binary, sentences};

const USERS: usize = 12;
const LINES: usize = 5_100;
/// Who is away in the middle.
const AWAY: usize = 5;
const PATIENCE: Duration = Duration::from_secs(240);

/// One line of the book, who says it, and to whom.
struct Line {
    speaker: usize,
    /// None: to the group.
    to: Option<usize>,
    text: String,
}

fn name(user: usize) -> String {
    format!("reader-{user:02}")
}

/// The lines of a third, spread over the speakers; whoever is away says nothing.
fn script(book: &[String]) -> Vec<Vec<Line>> {
    let third = LINES / 3;
    (0..3)
        .map(|part| {
            let lines = book[part * third..(part + 1) * third].iter().enumerate();
            lines
                .map(|(i, text)| {
                    let mut speaker = i % USERS;
                    if part == 1 && speaker == AWAY {
                        speaker += 1;
                    }
                    let to = (i % 4 == 0).then_some((speaker + 1 + i % 3) % USERS);
                    Line { speaker, to, text: text.clone() }
                })
                .collect()
        })
        .collect()
}

fn start(server: &Server, dir: &Path, user: usize, device: &str) -> Chat {
    let state = dir.join(format!("{user}-{device}"));
    let chat = Chat::start(&name(user), device, &[server.address()], &server.data(), &state);
    chat.wait_connected(0);
    chat
}

/// A pause after each line, for whoever watches; usually none.
fn pace() -> Duration {
    let pace = std::env::var("GODWIT_TEST_PACE_MS");
    Duration::from_millis(pace.map_or(0, |ms| ms.parse().expect("GODWIT_TEST_PACE_MS is a number")))
}

/// The line with which a further device of a reader follows the group.
fn print_how_to_watch(server: &Server, dir: &Path, group: &str) {
    let state = dir.join("watcher");
    println!(
        "watch it: {} chat --as {} --device watcher --group {group} --from all --server {} --data {} --state {}",
        binary().display(),
        name(1),
        server.address(),
        server.data().display(),
        state.display()
    );
}

fn is(event: &Value, kind: &str) -> bool {
    event["event"] == kind
}

/// Says the lines of a third and waits until the log has them all.
fn say(chats: &mut [Option<Chat>], group: &str, lines: &[Line], said: &mut [usize]) {
    let pace = pace();
    for line in lines {
        std::thread::sleep(pace);
        said[line.speaker] += 1;
        let chat = chats[line.speaker].as_mut().unwrap();
        match line.to {
            Some(to) => chat.say(&name(to), &line.text, 0),
            None => chat.say_in(group, &line.text, 0),
        }
    }
    for (chat, said) in chats.iter().zip(said) {
        let Some(chat) = chat else { continue };
        let acked = |events: &[Value]| events.iter().filter(|e| is(e, "acked")).count() >= *said;
        chat.wait_until("every ack", PATIENCE, |events| acked(events).then_some(()));
    }
}

/// What a device has read: the texts of each conversation, in order.
type Read = BTreeMap<String, Vec<(String, String)>>;

fn read(entries: &[Value]) -> Read {
    let mut read = Read::new();
    for (entry, seq) in entries.iter().zip(1_u64..) {
        assert_eq!(entry["seq"].as_u64(), Some(seq), "{entry}");
        if entry["type"] == "message" {
            let text =
                (entry["sender"].as_str().unwrap().to_owned(), entry["text"].as_str().unwrap().to_owned());
            read.entry(entry["conversation"].as_str().unwrap().to_owned()).or_default().push(text);
        }
    }
    read
}

/// How many entries a user's timeline must have: the group's creation, the group's lines, and the user's pairs.
fn due(script: &[Vec<Line>], user: usize) -> usize {
    let concerns = |line: &&Line| line.to.is_none_or(|to| to == user || line.speaker == user);
    1 + script.iter().flatten().filter(concerns).count()
}

fn wait_for(chat: &Chat, before: usize, due: usize) -> Vec<Value> {
    chat.wait_until("every entry", PATIENCE, |events| {
        (events.iter().filter(|e| is(e, "entry")).count() + before >= due).then_some(())
    });
    chat.entries()
}

#[test]
fn a_novel_is_read_the_same_on_every_device() {
    let dir = tempfile::tempdir().unwrap();
    let Some(book) = sentences(dir.path()) else { return };
    assert!(book.len() >= LINES, "{} sentences", book.len());
    let script = script(&book);
    let server = Server::start(dir.path(), "server", &[]);
    let mut chats: Vec<Option<Chat>> =
        (0..USERS).map(|user| Some(start(&server, dir.path(), user, "phone"))).collect();
    let second = start(&server, dir.path(), 0, "tablet");
    let members: Vec<String> = (1..USERS).map(name).collect();
    chats[0].as_mut().unwrap().command(&json!({ "do": "create", "name": "readers", "members": members }));
    let created = chats[0].as_ref().unwrap().wait("the group", |event| is(event, "acked"));
    let group = created["conversation"].as_str().unwrap().to_owned();
    print_how_to_watch(&server, dir.path(), &group);
    let mut said = [0; USERS];
    said[0] = 1;

    say(&mut chats, &group, &script[0], &mut said);
    let mut gone = chats[AWAY].take().unwrap();
    assert!(gone.quit().success());
    let before = gone.entries();
    say(&mut chats, &group, &script[1], &mut said);
    chats[AWAY] = Some(start(&server, dir.path(), AWAY, "phone"));
    said[AWAY] = 0;
    say(&mut chats, &group, &script[2], &mut said);

    let mut reads = Vec::new();
    for (user, chat) in chats.iter().flatten().enumerate() {
        let earlier = if user == AWAY { before.clone() } else { Vec::new() };
        let now = wait_for(chat, earlier.len(), due(&script, user));
        reads.push((user, read(&[earlier, now].concat())));
    }
    reads.push((0, read(&wait_for(&second, 0, due(&script, 0)))));
    same_everywhere(&reads, &group, &script);
}

/// The group's lines are in one order everywhere, those of each pair on both sides; every speaker's lines are
/// all there, in the order of speaking.
fn same_everywhere(reads: &[(usize, Read)], group: &str, script: &[Vec<Line>]) {
    let first = &reads[0].1[group];
    let mut pairs: BTreeMap<&str, &Vec<(String, String)>> = BTreeMap::new();
    for (user, read) in reads {
        assert!(read[group] == *first, "{} has another order in the group", name(*user));
        for (conversation, texts) in read {
            let other = pairs.entry(conversation).or_insert(texts);
            assert!(*other == texts, "{} has another order in {conversation}", name(*user));
        }
    }
    for speaker in 0..USERS {
        let mine = |texts: &[(String, String)]| -> Vec<String> {
            texts
                .iter()
                .filter(|(sender, _)| *sender == name(speaker))
                .map(|(_, text)| text.clone())
                .collect()
        };
        let to_group = |line: &&Line| line.speaker == speaker && line.to.is_none();
        let spoken: Vec<String> = script.iter().flatten().filter(to_group).map(|l| l.text.clone()).collect();
        assert!(mine(first) == spoken, "{}: not what was said to the group", name(speaker));
        let mut paired: Vec<String> =
            pairs.iter().filter(|(id, _)| **id != group).flat_map(|(_, texts)| mine(texts)).collect();
        let to_one = |line: &&Line| line.speaker == speaker && line.to.is_some();
        let mut spoken: Vec<String> =
            script.iter().flatten().filter(to_one).map(|l| l.text.clone()).collect();
        paired.sort();
        spoken.sort();
        assert!(paired == spoken, "{}: not what was said in pairs", name(speaker));
    }
}
