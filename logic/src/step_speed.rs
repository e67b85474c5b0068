//! What a step costs: nanoseconds, printed. `cargo test --release -p logic --lib -- --ignored --nocapture step_costs`

use std::time::Duration;

use prost::Message;
use proto::{ConversationId, DeviceId, UserId, v1};
use v1::message_record::Record;
use v1::send::{Body, To};
use v1::timeline_record::Record as TimelineRecord;

use crate::clock::now;
use crate::conversation::{self, ConversationStage};
use crate::timeline::{self, TimelineStage};

const TIMELINES: u32 = 16;
const STEPS: u64 = 200_000;
const PAIRS: u64 = 10_000;
/// Records stepped between two looks at the clock, as a shell would fetch them.
const BATCH: usize = 256;

fn user(i: u64) -> UserId {
    UserId::new(&format!("user-{i:06}")).unwrap()
}

fn record(id: ConversationId, from: u64, to: To, n: u64, body: Body) -> v1::MessageRecord {
    let send = v1::Send { to: Some(to), epoch: 1, n, body: Some(body) };
    let (user, device) = (user(from).to_string(), "phone-1".into());
    let submission = v1::Submission { conversation: id.to_bytes(), user, device, send: Some(send) };
    let record = v1::MessageRecord { record: Some(Record::Submission(submission)) };
    // As from the log: bodies are slices of the record.
    v1::MessageRecord::decode(bytes::Bytes::from(record.encode_to_vec())).unwrap()
}

fn text() -> Body {
    Body::Message(v1::Message { kind: 1, data: vec![b'x'; 100].into() })
}

/// Steps every record and returns the time of a step and the outputs.
fn run(stage: &mut ConversationStage, records: &[v1::MessageRecord]) -> (Duration, Vec<v1::Output>) {
    for id in records.iter().filter_map(ConversationStage::key) {
        stage.load(id, None).unwrap();
    }
    let (mut effects, mut outputs, mut spent) = (Vec::new(), Vec::new(), Duration::ZERO);
    for batch in records.chunks(BATCH) {
        let begun = now();
        for record in batch {
            stage.step(0, record, false, &mut effects);
        }
        spent += begun.elapsed();
        outputs.extend(effects.drain(..).filter_map(|effect| match effect {
            conversation::Effect::Output { partition: 0, output } => Some(output),
            _ => None,
        }));
    }
    (spent / u32::try_from(records.len()).unwrap(), outputs)
}

#[test]
#[ignore = "measures, judges nothing"]
fn step_costs() {
    let mut stage = ConversationStage::new(0, TIMELINES, None).unwrap();
    let direct = |i: u64| {
        let (from, peer) = (i % PAIRS, i % PAIRS + PAIRS);
        let id = ConversationId::direct(&user(from), &user(peer));
        record(id, from, To::User(user(peer).to_string()), i / PAIRS + 1, text())
    };
    let (each, outputs) = run(&mut stage, &(0..STEPS).map(direct).collect::<Vec<_>>());
    println!("direct message, {PAIRS} conversations: {} ns a step", each.as_nanos());
    println!("  {} bytes a conversation", stage.bytes() as u64 / PAIRS);

    let device = DeviceId::new("phone-1").unwrap();
    let id = ConversationId::group(&user(0), &device, "k").unwrap();
    let members = (1..100).map(|i| user(i).to_string()).collect();
    let create = v1::CreateGroup { request_key: "k".into(), name: "g".into(), members };
    let to = To::Group(id.to_bytes());
    run(&mut stage, &[record(id, 0, to.clone(), 1, Body::CreateGroup(create))]);
    let posts: Vec<_> = (2..5_000).map(|n| record(id, 0, to.clone(), n, text())).collect();
    let (each, _) = run(&mut stage, &posts);
    println!("group of 100, {TIMELINES} timelines partitions: {} ns a step", each.as_nanos());

    let mut stage = TimelineStage::new(0, 1, None, Vec::new()).unwrap();
    let mut effects: Vec<timeline::Effect> = Vec::new();
    let mut records = Vec::new();
    for i in 0..2 * PAIRS {
        let fence = Some(v1::Fence { node: "conn-1".into(), incarnation: 1, reactor: 0, link: i });
        let (user, device, device_class) = (user(i).to_string(), "phone-1".into(), "phone".into());
        let start = v1::SessionStart { user, device, device_class, fence };
        records.push(v1::TimelineRecord { record: Some(TimelineRecord::SessionStart(start)) });
    }
    let starts = records.len();
    records.extend(outputs.into_iter().map(|output| {
        let record = v1::TimelineRecord { record: Some(TimelineRecord::Output(output)) };
        v1::TimelineRecord::decode(bytes::Bytes::from(record.encode_to_vec())).unwrap()
    }));
    let mut keys = Vec::new();
    records.iter().for_each(|record| stage.keys(record, &mut keys));
    keys.into_iter().for_each(|key| stage.load(key, None).unwrap());
    for (name, records) in [("sign-in", &records[..starts]), ("entry with a push", &records[starts..])] {
        let mut spent = Duration::ZERO;
        for batch in records.chunks(BATCH) {
            effects.clear();
            let begun = now();
            for record in batch {
                stage.step(0, record, false, &mut effects);
            }
            spent += begun.elapsed();
        }
        println!("{name}: {} ns a step", spent.as_nanos() / records.len() as u128);
    }
    println!("  {} bytes a user with a session", stage.bytes() as u64 / (2 * PAIRS));
}
