//! Whatever happens to a run between two records, the log decides alone: random records, with checkpoints, torn
//! flushes, restarts and evictions at random places, against one run without any of them. And: no bytes break
//! the stage.

use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message;
use proto::{Tick, UserId, v1};
use storage::tables::{Checkpoint, Fence, SessionRow, SessionWrite, StoredUser, UserWrite};

use super::tests::{MESSAGES, at, cursors, down, end, fence, output, policy, posted, start};
use super::{Effect, TimelineStage};

/// The tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Store {
    pub(super) users: BTreeMap<UserId, StoredUser>,
    sessions: BTreeMap<Fence, SessionWrite>,
}

impl Store {
    pub(super) fn save_user(&mut self, write: &UserWrite) {
        let at = self.users.get(&write.user).map_or(Tick::ZERO, |row| row.at);
        if at < write.at {
            self.users.insert(write.user.clone(), StoredUser { at: write.at, row: write.row.clone() });
        }
    }

    pub(super) fn save_session(&mut self, write: &SessionWrite) {
        let old = self.sessions.get(&write.session.fence);
        if old.is_none_or(|old| (old.at, !old.live) < (write.at, !write.live)) {
            self.sessions.insert(write.session.fence.clone(), write.clone());
        }
    }

    pub(super) fn live(&self) -> Vec<SessionRow> {
        self.sessions.values().filter(|write| write.live).map(|write| write.session.clone()).collect()
    }
}

type Log = [(u64, v1::TimelineRecord)];

struct Run {
    stage: TimelineStage,
    offset: usize,
    store: Store,
    checkpoint: Option<Checkpoint>,
    /// By tick: what the record came to when it was stepped first.
    effects: BTreeMap<Tick, Vec<Effect>>,
}

impl Run {
    fn new() -> Self {
        let stage = TimelineStage::new(2, MESSAGES, None, Vec::new()).unwrap();
        Self { stage, offset: 0, store: Store::default(), checkpoint: None, effects: BTreeMap::new() }
    }

    fn step(&mut self, log: &Log) -> bool {
        let Some((append_us, record)) = log.get(self.offset) else { return false };
        self.offset += 1;
        let (mut keys, mut effects) = (Vec::new(), Vec::new());
        self.stage.keys(record, &mut keys);
        for key in keys {
            if !self.stage.is_loaded(&key) {
                self.stage.load(key.clone(), self.store.users.get(&key).cloned()).unwrap();
            }
        }
        self.stage.step(*append_us, record, false, &mut effects);
        match self.effects.get(&self.stage.tick()) {
            Some(before) => assert!(is_part_of(&effects, before), "{effects:?} of {before:?}"),
            None => drop(self.effects.insert(self.stage.tick(), effects)),
        }
        true
    }

    /// Stores what is dirty, sessions first; with `whole` all of it and the checkpoint, otherwise the first few.
    fn flush(&mut self, whole: bool, few: usize) {
        let (sessions, users) = self.stage.clone_dirty();
        let (state, offset, tick) = (self.stage.state(), self.offset as u64, self.stage.tick());
        let few = if whole { usize::MAX } else { few };
        sessions.iter().take(few).for_each(|write| self.store.save_session(write));
        let left = few.saturating_sub(sessions.len());
        users.iter().take(left).for_each(|write| self.store.save_user(write));
        let landed: Vec<_> = users.iter().take(left).map(|write| (write.user.clone(), write.at)).collect();
        self.stage.written(&landed);
        if whole {
            self.checkpoint = Some(Checkpoint { offset, tick, state });
        }
    }

    fn restart(&mut self) {
        let checkpoint = self.checkpoint.as_ref();
        self.stage = TimelineStage::new(2, MESSAGES, checkpoint, self.store.live()).unwrap();
        self.offset = checkpoint.map_or(0, |checkpoint| usize::try_from(checkpoint.offset).unwrap());
    }

    /// Every session that a stored row has, and that has not ended with its node, is in both indexes.
    fn check_index(&self) {
        let state = v1::TimelinePartition::decode(self.stage.state()).unwrap();
        let floors: BTreeMap<_, _> = state.nodes.into_iter().map(|n| (n.node, n.incarnation)).collect();
        for (user, row) in &self.store.users {
            for session in v1::UserRow::decode(row.row.clone()).unwrap().sessions {
                let place = fence(&session.fence.unwrap());
                if place.incarnation >= floors.get(&place.node).copied().unwrap_or(0) {
                    assert_eq!(self.stage.session(&place), Some(user));
                    assert!(self.store.sessions.get(&place).is_some_and(|write| write.live));
                }
            }
        }
    }
}

/// Whether `part` is what is left of `whole` when some users' share is left out.
fn is_part_of(part: &[Effect], whole: &[Effect]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|effect| whole.any(|other| other == effect))
}

/// One step of a schedule.
#[derive(Clone, Debug)]
enum Move {
    Step,
    Flush(bool, usize),
    Restart,
    Evict(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        12 => Just(Move::Step),
        3 => (prop::bool::weighted(0.3), 0usize..6).prop_map(|(whole, few)| Move::Flush(whole, few)),
        1 => Just(Move::Restart),
        2 => (0usize..3_000).prop_map(Move::Evict),
    ];
    prop::collection::vec(step, 0..250)
}

fn a_user() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["ann", "bob", "cid"])
}

fn a_device() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["d", "e", "f"])
}

/// A few fences, so that they meet again.
fn a_fence() -> impl Strategy<Value = v1::Fence> {
    (prop::sample::select(vec!["n", "m"]), 1u64..4, 0u64..27).prop_map(|(node, incarnation, link)| {
        // Most of the time the incarnation is the first, or the others would seldom have sessions.
        at(node, if link > 8 { 1 } else { incarnation }, link)
    })
}

/// The sign-in of a link: a link is one device's for ever.
fn a_start() -> impl Strategy<Value = v1::TimelineRecord> {
    (a_fence(), prop::sample::select(vec!["phone", "desk"])).prop_map(|(fence, class)| {
        let link = usize::try_from(fence.link).unwrap();
        let (user, device) = (["ann", "bob", "cid"][link % 3], ["d", "e", "f"][link / 3 % 3]);
        start(user, device, class, &fence)
    })
}

fn a_record() -> impl Strategy<Value = v1::TimelineRecord> {
    let end_of =
        (prop::option::of(a_user()), a_fence()).prop_map(|(user, fence)| end(user.unwrap_or(""), &fence));
    let users = prop::collection::btree_set(a_user(), 1..4);
    let entry = (0u64..3, 0u64..60, 0u64..3, users).prop_map(|(no, source, prev, users)| {
        let users: Vec<_> = users.into_iter().collect();
        output(prev, source, vec![posted(no, &users), posted(no + 1, &users[..1])])
    });
    let acks = prop::collection::vec((a_user(), a_device(), 0u64..20), 0..4);
    let one_of = prop::sample::select(vec![0, 1, 2]);
    prop_oneof![
        6 => a_start(),
        4 => end_of,
        8 => entry,
        3 => acks.prop_map(|acks| cursors(&acks)),
        1 => (prop::sample::select(vec!["n", "m"]), 0u64..3).prop_map(|(node, inc)| down(node, inc)),
        1 => (1u64..4, one_of, any::<bool>()).prop_map(|(version, one, oldest)| {
            policy(version, v1::DevicePolicy::try_from(one).unwrap(), oldest)
        }),
    ]
}

/// Sources mostly rise, so that most outputs count.
fn a_log() -> impl Strategy<Value = Vec<(u64, v1::TimelineRecord)>> {
    prop::collection::vec((0u64..50, a_record()), 0..90).prop_map(|mut log| {
        for (i, (_, record)) in log.iter_mut().enumerate() {
            if let Some(v1::timeline_record::Record::Output(output)) = &mut record.record {
                output.source += 10 * i as u64;
            }
        }
        log
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn state_is_a_function_of_the_log(log in a_log(), moves in moves()) {
        let mut straight = Run::new();
        while straight.step(&log) {}
        straight.flush(true, 0);

        let mut run = Run::new();
        for step in moves {
            match step {
                Move::Step => drop(run.step(&log)),
                Move::Flush(whole, few) => run.flush(whole, few),
                Move::Restart => run.restart(),
                Move::Evict(bytes_max) => run.stage.evict(bytes_max),
            }
        }
        while run.step(&log) {}
        run.flush(true, 0);
        prop_assert_eq!(&run.store.users, &straight.store.users);
        prop_assert_eq!(&run.effects, &straight.effects);
        prop_assert_eq!(&run.checkpoint, &straight.checkpoint);
        run.check_index();
        run.flush(true, 0);
        run.restart();
        run.check_index();
    }

    #[test]
    fn no_bytes_break_the_stage(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..20)) {
        torn(records.into_iter().map(|bytes| v1::TimelineRecord::decode(bytes.as_slice()).unwrap_or_default()));
    }

    #[test]
    fn no_record_breaks_the_stage(log in a_log(), cuts in prop::collection::vec((any::<u16>(), any::<u8>()), 1..8)) {
        torn(log.into_iter().filter_map(|(_, record)| {
            let mut bytes = record.encode_to_vec();
            for (at, byte) in &cuts {
                let at = usize::from(*at) % (bytes.len() + 1);
                if let Some(place) = bytes.get_mut(at) { *place ^= byte; }
            }
            v1::TimelineRecord::decode(bytes.as_slice()).ok()
        }));
    }
}

fn torn(records: impl Iterator<Item = v1::TimelineRecord>) {
    let mut stage = TimelineStage::new(2, MESSAGES, None, Vec::new()).unwrap();
    for (i, record) in records.enumerate() {
        let mut keys = Vec::new();
        stage.keys(&record, &mut keys);
        keys.into_iter().for_each(|key| stage.load(key, None).unwrap());
        stage.step(1, &record, i % 5 == 4, &mut Vec::new());
        let (_, users) = stage.clone_dirty();
        assert!(users.iter().all(|write| v1::UserRow::decode(write.row.clone()).is_ok()));
    }
}
