//! What an earlier build made of its logs, kept as text: every record, and every output, row and state that is to come of
//! them. A build that makes others of the same records judges differently, and would have to raise
//! [`logic::settings::LEVEL`].
//!
//! A line is a word and its fields: numbers as they are, everything else as the hexadecimal digits of its bytes.

use std::fmt::Write as _;
use std::rc::Rc;

use bytes::Bytes;
use logic::settings::LEVEL;
use prost::Message;
use storage::log::{Partitions, Topic};

use crate::fault::Faults;
use crate::plan::Plan;
use crate::replay::replayed;
use crate::shared::Shared;
use crate::store::Store;
use crate::world;

/// The logs that a seed ends with, and the rows of this build.
///
/// # Errors
/// The seed finds a violation, or its logs cannot be replayed.
pub fn keep(seed: u64) -> Result<String, String> {
    let shared = world::shared_after(&Plan::new(seed, None)).map_err(|violation| violation.to_string())?;
    let Partitions { messages, timelines } = shared.partitions;
    let mut text = format!("level {LEVEL}\npartitions {messages} {timelines}\n");
    for topic in [Topic::Messages, Topic::Timelines] {
        for partition in 0..shared.partitions.of(topic) {
            for (append_us, bytes) in &shared.log(topic, partition).records {
                let _ = writeln!(text, "{} {partition} {append_us} {}", word(topic), hex(bytes));
            }
        }
    }
    Ok(text + &made(&shared)?)
}

/// Replays logs that were kept; how much came of them, each as it was.
///
/// # Errors
/// What differs first, or does not read.
pub fn check(text: &str) -> Result<usize, String> {
    let mut lines = text.lines().peekable();
    let level = lines.next().and_then(|line| line.strip_prefix("level ")?.parse().ok());
    if level != Some(LEVEL) {
        return Err(format!("kept by a build of level {level:?}"));
    }
    let counts: Option<Vec<u32>> = lines
        .next()
        .and_then(|line| line.strip_prefix("partitions ")?.split(' ').map(|n| n.parse().ok()).collect());
    let Some([messages, timelines]) = counts.as_deref() else { return Err("no partitions".into()) };
    let partitions = Partitions { messages: *messages, timelines: *timelines };
    let mut shared = Shared::new(partitions, None, Rc::new(Faults::new(&[], 0.0)));
    while let Some((topic, partition, append_us, bytes)) = lines.peek().and_then(|line| record(line)) {
        if partition >= partitions.of(topic) {
            return Err(format!("no partition {partition}"));
        }
        shared.log_mut(topic, partition).records.push((append_us, bytes));
        lines.next();
    }
    let made = made(&shared)?;
    let mut made = made.lines();
    let mut count = 0;
    loop {
        match (lines.next(), made.next()) {
            (None, None) => return Ok(count),
            (kept, made) if kept == made => count += 1,
            (kept, made) => return Err(format!("kept: {kept:?}\nmade: {made:?}")),
        }
    }
}

fn word(topic: Topic) -> &'static str {
    match topic {
        Topic::Messages => "message",
        Topic::Timelines => "timeline",
        Topic::Nodes => "node",
    }
}

fn record(line: &str) -> Option<(Topic, u32, u64, Bytes)> {
    let mut fields = line.split(' ');
    let name = fields.next();
    let topic = [Topic::Messages, Topic::Timelines].into_iter().find(|topic| name == Some(word(*topic)))?;
    let (partition, append_us) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((topic, partition, append_us, unhex(fields.next()?)?))
}

/// Every output, row and state, in order.
fn made(shared: &Shared) -> Result<String, String> {
    let mut outputs = Vec::new();
    let store = replayed(shared, Store::default(), &mut outputs)?;
    let mut text = String::new();
    for (partition, output) in outputs {
        let _ = writeln!(text, "output {partition} {}", hex(&output.encode_to_vec()));
    }
    let mut line = |words: &[&str]| {
        text.push_str(&words.join(" "));
        text.push('\n');
    };
    for (id, row) in &store.conversations {
        let id = hex(&id.to_bytes());
        line(&["conversation", &id, &row.at.0.to_string(), &hex(&row.head)]);
        row.members.iter().for_each(|(user, row)| line(&["member", &id, &name(user.as_str()), &hex(row)]));
        for (sender, row) in &row.senders {
            line(&["sender", &id, &name(sender.user.as_str()), &name(sender.device.as_str()), &hex(row)]);
        }
    }
    for row in store.history.values() {
        let id = hex(&row.conversation.to_bytes());
        line(&["history", &id, &row.no.to_string(), &row.at.0.to_string(), &hex(&row.entry)]);
    }
    for (user, row) in &store.users {
        line(&["user", &name(user.as_str()), &row.at.0.to_string(), &hex(&row.row)]);
    }
    for row in store.entries.values() {
        let (seq, at) = (row.seq.to_string(), row.at.0.to_string());
        line(&["entry", &name(row.user.as_str()), &seq, &at, &hex(&row.row)]);
    }
    for ((partition, fence), (at, live, row)) in &store.sessions {
        let link =
            [(*partition).into(), fence.incarnation, fence.reactor.into(), fence.link, at.0, (*live).into()];
        let link = link.map(|number: u64| number.to_string()).join(" ");
        line(&["session", &link, &name(&fence.node), &name(row.user.as_str()), &name(row.device.as_str())]);
    }
    for ((topic, partition), state) in &store.checkpoints {
        let (partition, offset) = (partition.to_string(), state.offset.to_string());
        line(&["state", word(*topic), &partition, &offset, &state.tick.0.to_string(), &hex(&state.state)]);
    }
    Ok(text)
}

fn name(name: &str) -> String {
    hex(name.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Bytes> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
