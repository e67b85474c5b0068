//! What the parts of a message's way cost, one by one: frames, the wheel, the outbox, both stages.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a bench: criterion's macros make undocumented items, and a wrong set-up has to end it"
)]

use std::hint::black_box;
use std::io::{self, IoSlice, Write};

use bytes::{Bytes, BytesMut};
use conn::{Caps, Outbox, Wheel};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use logic::conversation::{self, ConversationStage};
use logic::timeline::TimelineStage;
use prost::Message;
use proto::{ConversationId, UserId, frame, v1};
use v1::message_record::Record;
use v1::send::{Body, To};

const PAIRS: u64 = 1_000;
const STEPS: u64 = 4_000;
const BODY: Bytes = Bytes::from_static(&[b'x'; 100]);

fn user(i: u64) -> UserId {
    UserId::new(&format!("user-{i:06}")).unwrap()
}

fn send(to: u64, n: u64) -> v1::Send {
    let message = v1::Message { kind: 1, data: BODY };
    v1::Send { to: Some(To::User(user(to).to_string())), epoch: 1, n, body: Some(Body::Message(message)) }
}

fn codec(c: &mut Criterion) {
    let frame = v1::ClientFrame { request_id: 7, frame: Some(v1::client_frame::Frame::Send(send(1, 1))) };
    let bytes = frame::to_bytes(&frame);
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode a send", |b| {
        let mut out = BytesMut::with_capacity(1024);
        b.iter(|| {
            out.clear();
            frame::encode(black_box(&frame), &mut out);
        });
    });
    group.bench_function("cut and decode a send", |b| {
        b.iter(|| {
            let Ok(frame::Peek::Whole { start, end }) = frame::peek(black_box(&bytes), 1 << 20) else {
                return None;
            };
            v1::ClientFrame::decode(bytes.slice(start..end)).ok()
        });
    });
    group.finish();
}

fn wheel(c: &mut Criterion) {
    const SLOTS: u32 = 100_000;
    let mut group = c.benchmark_group("wheel");
    group.throughput(Throughput::Elements(1));
    group.bench_function("move a deadline among 100,000", |b| {
        let mut wheel = Wheel::new(0);
        (0..SLOTS).for_each(|slot| wheel.arm(slot, 60_000 + u64::from(slot)));
        let mut slot = 0;
        b.iter(|| {
            slot = (slot + 7_919) % SLOTS;
            wheel.arm(slot, 60_000 + u64::from(slot));
        });
    });
    group.bench_function("arm and expire", |b| {
        let mut wheel = Wheel::new(0);
        let (mut now_ms, mut due) = (0, Vec::new());
        b.iter(|| {
            wheel.arm(1, now_ms + 64);
            now_ms += 128;
            due.clear();
            wheel.expire(now_ms, 16, &mut due);
            assert_eq!(due.len(), 1);
        });
    });
    group.finish();
}

/// Takes everything, as a socket with room does.
struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn outbox(c: &mut Criterion) {
    const CAPS: Caps = Caps { high: 1 << 18, max: 1 << 20 };
    let small = Bytes::from(vec![1; 160]);
    let large = Bytes::from(vec![1; 4_096]);
    let mut group = c.benchmark_group("outbox");
    group.throughput(Throughput::Elements(10));
    for (name, frame) in [("ten small frames", small), ("ten large frames", large)] {
        group.bench_function(name, |b| {
            let mut outbox = Outbox::default();
            b.iter(|| {
                for _ in 0..10 {
                    let _ = black_box(outbox.push_encoded(&frame, CAPS));
                }
                outbox.flush(&mut Sink).unwrap()
            });
        });
    }
    group.finish();
}

/// Messages in turns over a thousand conversations, as they come from the log.
fn records() -> Vec<v1::MessageRecord> {
    let record = |i: u64| {
        let (from, to) = (i % PAIRS, i % PAIRS + PAIRS);
        let conversation = ConversationId::direct(&user(from), &user(to)).to_bytes();
        let (user, device) = (user(from).to_string(), "phone".into());
        let send = Some(send(to, i / PAIRS + 1));
        let submission = v1::Submission { conversation, user, device, send };
        let record = v1::MessageRecord { record: Some(Record::Submission(submission)) };
        v1::MessageRecord::decode(Bytes::from(record.encode_to_vec())).unwrap()
    };
    (0..STEPS).map(record).collect()
}

fn conversations(records: &[v1::MessageRecord]) -> ConversationStage {
    let mut stage = ConversationStage::new(0, 1, None).unwrap();
    for id in records.iter().filter_map(ConversationStage::key) {
        if !stage.is_loaded(&id) {
            stage.load(id, None).unwrap();
        }
    }
    stage
}

fn judge(stage: &mut ConversationStage, records: &[v1::MessageRecord]) -> Vec<conversation::Effect> {
    let mut effects = Vec::new();
    for record in records {
        stage.step(0, record, false, &mut effects);
    }
    effects
}

fn stages(c: &mut Criterion) {
    let records = records();
    let mut group = c.benchmark_group("stages");
    group.throughput(Throughput::Elements(STEPS));
    group.bench_function("conversation: direct messages", |b| {
        let set_up = || conversations(&records);
        b.iter_batched_ref(set_up, |stage| judge(stage, &records), BatchSize::LargeInput);
    });
    let outputs: Vec<v1::TimelineRecord> = judge(&mut conversations(&records), &records)
        .into_iter()
        .filter_map(|effect| match effect {
            conversation::Effect::Output { output, .. } => Some(output),
            _ => None,
        })
        .map(|output| v1::TimelineRecord { record: Some(v1::timeline_record::Record::Output(output)) })
        .map(|record| v1::TimelineRecord::decode(Bytes::from(record.encode_to_vec())).unwrap())
        .collect();
    group.throughput(Throughput::Elements(outputs.len() as u64));
    group.bench_function("timeline: outputs for two users", |b| {
        b.iter_batched_ref(
            || timelines(&outputs),
            |stage| {
                let mut effects = Vec::new();
                outputs.iter().for_each(|record| stage.step(0, record, false, &mut effects));
                effects
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn timelines(outputs: &[v1::TimelineRecord]) -> TimelineStage {
    let mut stage = TimelineStage::new(0, 1, None, Vec::new()).unwrap();
    let mut keys = Vec::new();
    outputs.iter().for_each(|record| stage.keys(record, &mut keys));
    for key in keys {
        if !stage.is_loaded(&key) {
            stage.load(key, None).unwrap();
        }
    }
    stage
}

criterion_group!(benches, codec, wheel, outbox, stages);
criterion_main!(benches);
