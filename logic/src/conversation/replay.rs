//! Whatever happens to a run between two records, the log decides alone: random records, with checkpoints,
//! restarts and evictions at random places, against one run without any of them. And: no bytes break the stage.

use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message;
use proto::{ConversationId, Tick, v1};
use storage::tables::{Checkpoint, ConversationRow, ConversationWrite};
use v1::message_record::Record;
use v1::send::{Body, To};

use super::tests::{
    BLOCK, DISSOLVE, LEAVE, TIMELINES, UNBLOCK, VOID, add, create, group_of, record, remove, rename,
    settings, text,
};
use super::{ConversationStage, Effect};

pub(super) type Store = BTreeMap<ConversationId, ConversationRow>;

fn merge<K: Ord + Clone, V: Clone>(rows: &mut Vec<(K, V)>, changed: &[(K, V)]) {
    let mut map: BTreeMap<K, V> = rows.drain(..).collect();
    map.extend(changed.iter().cloned());
    rows.extend(map);
}

/// What a table does with a write.
pub(super) fn save(store: &mut Store, write: &ConversationWrite) {
    let row = store.entry(write.id).or_default();
    if row.at < write.at {
        row.at = write.at;
        row.head = write.head.clone();
        merge(&mut row.members, &write.members);
        merge(&mut row.senders, &write.senders);
    }
}

/// A run and what it leaves outside.
struct Run {
    stage: ConversationStage,
    offset: usize,
    store: Store,
    checkpoint: Option<Checkpoint>,
    /// By tick: what the record came to. A record that is stepped again comes to the same or to nothing.
    effects: BTreeMap<Tick, Vec<Effect>>,
    /// Clones on their way, the oldest first.
    writes: Vec<ConversationWrite>,
}

impl Run {
    fn new() -> Self {
        let stage = ConversationStage::new(7, TIMELINES, None).unwrap();
        let (store, effects) = (Store::new(), BTreeMap::new());
        Self { stage, offset: 0, store, checkpoint: None, effects, writes: Vec::new() }
    }

    fn step(&mut self, log: &[(u64, v1::MessageRecord)]) -> bool {
        let Some((append_us, record)) = log.get(self.offset) else { return false };
        self.offset += 1;
        if let Some(id) = ConversationStage::key(record)
            && !self.stage.is_loaded(&id)
        {
            self.stage.load(id, self.store.get(&id).cloned()).unwrap();
        }
        let mut effects = Vec::new();
        self.stage.step(*append_us, record, false, &mut effects);
        match self.effects.get(&self.stage.tick()) {
            Some(before) => assert!(effects.is_empty() || effects == *before),
            None => drop(self.effects.insert(self.stage.tick(), effects)),
        }
        true
    }

    /// Stores some of the dirty rows; all of them, and then the checkpoint, with `whole`.
    fn flush(&mut self, whole: bool, mut lands: impl FnMut() -> bool) {
        self.writes = self.stage.clone_dirty();
        let (state, offset, tick) = (self.stage.state(), self.offset as u64, self.stage.tick());
        for write in std::mem::take(&mut self.writes) {
            if whole || lands() {
                save(&mut self.store, &write);
                self.stage.written(&[(write.id, write.at)]);
            }
        }
        if whole {
            self.checkpoint = Some(Checkpoint { offset, tick, state });
        }
    }

    fn restart(&mut self) {
        self.stage = ConversationStage::new(7, TIMELINES, self.checkpoint.as_ref()).unwrap();
        self.offset =
            self.checkpoint.as_ref().map_or(0, |checkpoint| usize::try_from(checkpoint.offset).unwrap());
    }
}

/// One step of a schedule.
#[derive(Clone, Debug)]
enum Move {
    Step,
    Flush(bool, u64),
    Restart,
    Evict(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        12 => Just(Move::Step),
        3 => (any::<bool>(), any::<u64>()).prop_map(|(whole, seed)| Move::Flush(whole, seed)),
        1 => Just(Move::Restart),
        2 => (0usize..3_000).prop_map(Move::Evict),
    ];
    prop::collection::vec(step, 0..250)
}

const USERS: [&str; 4] = ["ann", "bob", "cid", "a-user-with-an-id-that-does-not-fit-in-place"];

fn a_user() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&USERS[..])
}

fn a_body() -> impl Strategy<Value = Body> {
    prop_oneof![
        6 => "[a-z]{0,8}".prop_map(|t| text(&t)),
        1 => Just(VOID),
        2 => prop::collection::vec(a_user(), 0..4).prop_map(|users| create("k", &users)),
        2 => prop::collection::vec(a_user(), 0..3).prop_map(|users| add(&users)),
        2 => prop::collection::vec(a_user(), 0..3).prop_map(|users| remove(&users)),
        1 => Just(LEAVE),
        1 => "[a-z]{0,8}".prop_map(|name| rename(&name)),
        1 => prop::sample::select(vec![DISSOLVE, BLOCK, UNBLOCK]),
    ]
}

/// Where to and from whom, in which epoch, whether it leaves a gap or repeats, and what.
type Draft = (&'static str, &'static str, bool, u64, u64, Body);

/// One record to be.
#[derive(Clone, Debug)]
enum Line {
    Send(Box<Draft>),
    Settings(v1::Settings),
}

fn a_log() -> impl Strategy<Value = Vec<(u64, v1::MessageRecord)>> {
    let draft = (a_user(), a_user(), any::<bool>(), 1u64..3, 0u64..10, a_body());
    let line = prop_oneof![
        20 => draft.prop_map(|draft| Line::Send(Box::new(draft))),
        1 => (1u64..5, 2u32..5).prop_map(|(version, max)| {
            Line::Settings(v1::Settings { version, group_members_max: max, ..v1::Settings::default() })
        }),
    ];
    prop::collection::vec((0u64..50, line), 0..90).prop_map(numbered)
}

/// Numbers most sends as a device would, some as none should.
fn numbered(lines: Vec<(u64, Line)>) -> Vec<(u64, v1::MessageRecord)> {
    let mut last: BTreeMap<(&str, String), (u64, u64)> = BTreeMap::new();
    let mut record_of = |line| match line {
        Line::Settings(newer) => settings(newer),
        Line::Send(draft) => {
            let (from, peer, group, epoch, slip, body) = *draft;
            let to = if group { To::Group(group_of(peer, "k").to_bytes()) } else { To::User(peer.into()) };
            let at = last.entry((from, format!("{to:?}"))).or_default();
            let next = if epoch > at.0 { (epoch, 1) } else { (at.0, at.1 + 1) };
            let number = match slip {
                0 => *at,
                1 => (next.0, next.1 + 1),
                _ => next,
            };
            *at = number.max(*at);
            record(from, &to, number, Some(body))
        }
    };
    lines.into_iter().map(|(append_us, line)| (append_us, record_of(line))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn state_is_a_function_of_the_log(log in a_log(), moves in moves()) {
        let mut straight = Run::new();
        while straight.step(&log) {}
        straight.flush(true, || true);

        let mut run = Run::new();
        for step in moves {
            match step {
                Move::Step => drop(run.step(&log)),
                Move::Flush(whole, seed) => {
                    let mut bits = seed;
                    run.flush(whole, || { bits = bits.rotate_left(1); bits & 1 == 1 });
                }
                Move::Restart => run.restart(),
                Move::Evict(bytes_max) => run.stage.evict(bytes_max),
            }
        }
        while run.step(&log) {}
        run.flush(true, || true);
        prop_assert_eq!(&run.store, &straight.store);
        prop_assert_eq!(&run.effects, &straight.effects);
        prop_assert_eq!(run.checkpoint, straight.checkpoint);
        run.stage.evict(0);
        prop_assert_eq!(run.stage.bytes(), 0);
    }

    #[test]
    fn no_bytes_break_the_stage(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..20)) {
        let mut stage = ConversationStage::new(7, TIMELINES, None).unwrap();
        for bytes in records {
            let record = v1::MessageRecord::decode(bytes.as_slice()).unwrap_or_default();
            if let Some(id) = ConversationStage::key(&record) {
                stage.load(id, None).unwrap();
            }
            stage.step(1, &record, false, &mut Vec::new());
        }
    }

    #[test]
    fn no_submission_breaks_the_stage(log in a_log(), cuts in prop::collection::vec((any::<u16>(), any::<u8>()), 1..8)) {
        let mut stage = ConversationStage::new(7, TIMELINES, None).unwrap();
        for (append_us, record) in log {
            let mut bytes = record.encode_to_vec();
            for (at, byte) in &cuts {
                let at = usize::from(*at) % (bytes.len() + 1);
                if let Some(place) = bytes.get_mut(at) { *place ^= byte; }
            }
            let Ok(record) = v1::MessageRecord::decode(bytes.as_slice()) else { continue };
            if let Some(id) = ConversationStage::key(&record) {
                stage.load(id, None).unwrap();
            }
            let skip = matches!(&record.record, Some(Record::Submission(s)) if s.user.len() > 9);
            stage.step(append_us, &record, skip, &mut Vec::new());
        }
    }
}
