//! The stage from outside: entries and their chain, sessions and policies, cursors, rosters, the index.

use bytes::Bytes;
use prost::Message;
use proto::close::Close;
use proto::{Tick, UserId, v1};
use storage::tables::{Checkpoint, Fence, SessionRow, StoredUser};
use v1::timeline_record::Record;

use super::replay::Store;
use super::{CompleteRoster, Effect, NotLoaded, RosterAction, SessionGrant, StateError, TimelineStage};

pub(super) const MESSAGES: u32 = 3;

pub(super) fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

pub(super) fn of(record: Record) -> v1::TimelineRecord {
    v1::TimelineRecord { record: Some(record) }
}

/// A link of reactor 0.
pub(super) fn at(node: &str, incarnation: u64, link: u64) -> v1::Fence {
    v1::Fence { node: node.into(), incarnation, reactor: 0, link }
}

pub(super) fn fence(fence: &v1::Fence) -> Fence {
    let v1::Fence { node, incarnation, reactor, link } = fence.clone();
    Fence { node, incarnation, reactor, link }
}

pub(super) fn start(user: &str, device: &str, class: &str, fence: &v1::Fence) -> v1::TimelineRecord {
    let (user, device, device_class) = (user.into(), device.into(), class.into());
    of(Record::SessionStart(v1::SessionStart { user, device, device_class, fence: Some(fence.clone()) }))
}

pub(super) fn end(user: &str, fence: &v1::Fence) -> v1::TimelineRecord {
    of(Record::SessionEnd(v1::SessionEnd { fence: Some(fence.clone()), user: user.into() }))
}

pub(super) fn down(node: &str, incarnation: u64) -> v1::TimelineRecord {
    of(Record::NodeDown(v1::NodeDown { node: node.into(), incarnation }))
}

pub(super) fn cursors(list: &[(&str, &str, u64)]) -> v1::TimelineRecord {
    let cursor = |(user, device, seq): &(&str, &str, u64)| v1::Cursor {
        user: (*user).into(),
        device: (*device).into(),
        seq: *seq,
    };
    of(Record::Cursors(v1::Cursors { cursors: list.iter().map(cursor).collect() }))
}

/// What stands for an entry: the stage does not look into it.
pub(super) fn posted(no: u64, users: &[&str]) -> v1::Delivery {
    let posted = v1::Posted {
        conversation: vec![9; 16].into(),
        no,
        kind: 16,
        entry: format!("entry {no}").into_bytes().into(),
    };
    let users = users.iter().map(ToString::to_string).collect();
    v1::Delivery { users, what: Some(v1::delivery::What::Posted(posted)), device: String::new() }
}

pub(super) fn output(prev: u64, source: u64, deliveries: Vec<v1::Delivery>) -> v1::TimelineRecord {
    of(Record::Output(v1::Output { source_partition: 1, source, prev, deliveries }))
}

pub(super) fn policy(
    version: u64,
    device_policy: v1::DevicePolicy,
    oldest_stays: bool,
) -> v1::TimelineRecord {
    let device_policy = device_policy.into();
    of(Record::Settings(v1::Settings { version, device_policy, oldest_stays, ..v1::Settings::default() }))
}

/// A stage with its tables.
struct World {
    stage: TimelineStage,
    store: Store,
    source: u64,
}

impl World {
    fn new() -> Self {
        let stage = TimelineStage::new(2, MESSAGES, None, Vec::new()).unwrap();
        Self { stage, store: Store::default(), source: 0 }
    }

    fn step(&mut self, record: &v1::TimelineRecord) -> Vec<Effect> {
        self.step_or_skip(record, false)
    }

    fn step_or_skip(&mut self, record: &v1::TimelineRecord, skip: bool) -> Vec<Effect> {
        let (mut keys, mut effects) = (Vec::new(), Vec::new());
        self.stage.keys(record, &mut keys);
        for key in keys {
            self.stage.load(key.clone(), self.store.users.get(&key).cloned()).unwrap();
        }
        self.stage.step(0, record, skip, &mut effects);
        effects
    }

    /// The next entry, numbered by its source.
    fn entry(&mut self, users: &[&str]) -> Vec<Effect> {
        self.source += 1;
        self.step(&output(self.source - 1, self.source, vec![posted(self.source, users)]))
    }

    fn flush(&mut self) {
        let (sessions, users) = self.stage.clone_dirty();
        sessions.iter().for_each(|session| self.store.save_session(session));
        users.iter().for_each(|user| self.store.save_user(user));
        self.stage.written(&users.iter().map(|write| (write.user.clone(), write.at)).collect::<Vec<_>>());
    }

    fn row(&mut self, id: &str) -> v1::UserRow {
        self.flush();
        v1::UserRow::decode(self.store.users[&user(id)].row.clone()).unwrap()
    }

    /// The devices with a session in the user's row.
    fn devices(&mut self, id: &str) -> Vec<String> {
        self.row(id).sessions.into_iter().map(|session| session.device).collect()
    }

    fn restart(&mut self) {
        self.flush();
        self.flush();
        let (state, tick) = (self.stage.state(), self.stage.tick());
        let checkpoint = Checkpoint { offset: 0, tick, state };
        self.stage = TimelineStage::new(2, MESSAGES, Some(&checkpoint), self.store.live()).unwrap();
    }
}

fn seqs(effects: &[Effect]) -> Vec<(String, u64)> {
    let entry = |effect: &Effect| match effect {
        Effect::Entry(row) => Some((row.user.to_string(), row.seq)),
        _ => None,
    };
    effects.iter().filter_map(entry).collect()
}

fn pushed(effects: &[Effect]) -> Vec<u64> {
    let links = |effect: &Effect| match effect {
        Effect::Push { to, .. } => to.iter().map(|fence| fence.link).collect(),
        _ => Vec::new(),
    };
    effects.iter().flat_map(links).collect()
}

fn kicked(effects: &[Effect]) -> Vec<(u64, Close)> {
    let kick = |effect: &Effect| match effect {
        Effect::Kick { fence, close } => Some((fence.link, *close)),
        _ => None,
    };
    effects.iter().filter_map(kick).collect()
}

fn granted(effects: &[Effect]) -> Option<SessionGrant> {
    effects.iter().find_map(|effect| match effect {
        Effect::Result(grant) => Some(grant.clone()),
        _ => None,
    })
}

#[test]
fn timelines_are_dense_and_entries_name_what_history_keeps() {
    let mut world = World::new();
    assert_eq!(seqs(&world.entry(&["ann", "bob"])), [("ann".into(), 1), ("bob".into(), 1)]);
    let effects = world.entry(&["bob"]);
    let Effect::Entry(row) = &effects[0] else { panic!("{effects:?}") };
    assert_eq!((row.seq, row.at), (2, world.stage.tick()));
    let entry = v1::TimelineRow::decode(row.row.clone()).unwrap();
    assert_eq!((entry.no, entry.kind, entry.inline, entry.conversation.len()), (2, 16, Bytes::new(), 16));
    let effects = world.step(&output(2, 3, vec![posted(0, &["bob"])]));
    let Effect::Entry(row) = &effects[0] else { panic!("{effects:?}") };
    assert_eq!(v1::TimelineRow::decode(row.row.clone()).unwrap().inline, "entry 0");
    let row = world.row("bob");
    assert_eq!((row.head, row.first), (3, 1));
    assert_eq!(world.stage.user(&user("bob")).map(|view| (view.head, view.first)), Some((3, 1)));
}

#[test]
fn one_record_may_bring_a_user_several_entries() {
    let mut world = World::new();
    let effects = world.step(&output(0, 4, vec![posted(1, &["ann", "bob"]), posted(2, &["ann"])]));
    assert_eq!(seqs(&effects), [("ann".into(), 1), ("bob".into(), 1), ("ann".into(), 2)]);
}

#[test]
fn an_output_counts_once_and_never_behind_a_hole() {
    let mut world = World::new();
    let mut applied = |prev, source| !world.step(&output(prev, source, vec![posted(1, &["ann"])])).is_empty();
    assert!(applied(0, 10));
    assert!(!applied(0, 10) && !applied(10, 10) && !applied(0, 9), "a repeat");
    assert!(!applied(11, 12), "behind a hole");
    assert!(applied(10, 20));
    assert!(applied(0, 21), "a new run's first");
    assert!(applied(5, 22), "another run's next");
    assert!(!applied(20, 22));
    let other = |partition| {
        let deliveries = vec![posted(1, &["ann"])];
        of(Record::Output(v1::Output { source_partition: partition, source: 1, prev: 0, deliveries }))
    };
    assert!(!world.step(&other(2)).is_empty(), "each messages partition has its own chain");
    assert!(world.step(&other(MESSAGES)).is_empty(), "no such partition");
    world.restart();
    assert!(world.step(&output(0, 22, vec![posted(1, &["ann"])])).is_empty());
    let state = v1::TimelinePartition::decode(world.stage.state()).unwrap();
    assert_eq!(state.seen, [0, 22, 1]);
}

#[test]
fn a_skipped_output_keeps_its_place_in_the_chain() {
    let mut world = World::new();
    assert!(world.step_or_skip(&output(0, 5, vec![posted(1, &["ann"])]), true).is_empty());
    assert_eq!(seqs(&world.step(&output(5, 6, vec![posted(2, &["ann"])]))), [("ann".into(), 1)]);
    assert!(world.step_or_skip(&start("ann", "d", "", &at("n", 1, 1)), true).is_empty());
    assert!(world.devices("ann").is_empty());
}

#[test]
fn a_sign_in_is_an_exact_boundary() {
    let mut world = World::new();
    assert!(pushed(&world.entry(&["ann"])).is_empty());
    let grant = granted(&world.step(&start("ann", "d", "phone", &at("n", 1, 7)))).unwrap();
    let epoch = world.stage.tick().0;
    let expected = SessionGrant {
        fence: fence(&at("n", 1, 7)),
        user: user("ann"),
        epoch,
        head: 1,
        first: 1,
        cursor: 0,
        best_cursor: 0,
    };
    assert_eq!(grant, expected);
    let effects = world.entry(&["ann", "bob"]);
    let push =
        Effect::Push { user: user("ann"), seq: 2, entry: "entry 2".into(), to: vec![fence(&at("n", 1, 7))] };
    assert_eq!(effects.iter().filter(|effect| **effect == push).count(), 1);
    assert_eq!(pushed(&effects), [7]);
    world.step(&end("ann", &at("n", 1, 7)));
    assert!(pushed(&world.entry(&["ann"])).is_empty());
    assert_eq!(world.stage.sessions(), 0);
}

#[test]
fn a_device_has_one_session_and_its_newest() {
    let mut world = World::new();
    world.step(&start("ann", "d", "phone", &at("n", 1, 1)));
    world.step(&start("ann", "e", "phone", &at("n", 1, 2)));
    let effects = world.step(&start("ann", "d", "phone", &at("m", 5, 1)));
    assert_eq!(kicked(&effects), [(1, Close::Replaced)]);
    assert_eq!(granted(&effects).unwrap().fence, fence(&at("m", 5, 1)));
    // The late farewell of the old link ends nothing.
    world.step(&end("ann", &at("n", 1, 1)));
    world.step(&end("", &at("n", 1, 1)));
    assert_eq!(world.devices("ann"), ["d", "e"]);
    assert_eq!(world.stage.session(&fence(&at("m", 5, 1))), Some(&user("ann")));
    assert_eq!(world.stage.session(&fence(&at("n", 1, 1))), None);
    // The same sign-in, appended twice.
    let first = granted(&effects).unwrap();
    let again = world.step(&start("ann", "d", "phone", &at("m", 5, 1)));
    assert_eq!((kicked(&again), granted(&again)), (Vec::new(), Some(first)));
    // A copy of it, behind a newer sign-in on the same reactor.
    world.step(&start("ann", "d", "phone", &at("m", 5, 2)));
    assert!(world.step(&start("ann", "d", "phone", &at("m", 5, 1))).is_empty());
    assert_eq!(world.stage.session(&fence(&at("m", 5, 2))), Some(&user("ann")));
}

#[test]
fn a_farewell_without_a_user_finds_its_session() {
    let mut world = World::new();
    world.step(&start("ann", "d", "", &at("n", 1, 1)));
    world.restart();
    world.step(&end("", &at("n", 1, 1)));
    assert!(world.devices("ann").is_empty());
    assert!(world.store.live().len() == 1, "the index forgets only after the row");
    world.flush();
    assert!(world.store.live().is_empty());
    world.step(&end("", &at("n", 1, 1)));
    world.step(&end("", &at("nobody", 1, 1)));
    world.step(&end("eve", &at("nobody", 1, 1)));
    assert_eq!(world.stage.clone_dirty(), (Vec::new(), Vec::new()));
}

#[test]
fn device_policies() {
    let mut world = World::new();
    let class = |device: &str| if device.starts_with('p') { "phone" } else { "desk" };
    let mut next = 0;
    let mut sign_in = |world: &mut World, device: &str| {
        next += 1;
        let effects = world.step(&start("ann", device, class(device), &at("n", 1, next)));
        let mut kicks = kicked(&effects);
        kicks.sort_by_key(|kick| kick.0);
        (kicks, granted(&effects).is_some())
    };
    for device in ["p1", "p2", "d1"] {
        assert_eq!(sign_in(&mut world, device), (vec![], true));
    }
    world.step(&policy(1, v1::DevicePolicy::OnePerClass, false));
    let by_policy = Close::DevicePolicy;
    assert_eq!(sign_in(&mut world, "p3"), (vec![(1, by_policy), (2, by_policy)], true));
    assert_eq!(world.devices("ann"), ["d1", "p3"]);
    world.step(&policy(2, v1::DevicePolicy::OnePerClass, true));
    assert_eq!(sign_in(&mut world, "p4"), (vec![(5, by_policy)], false));
    assert_eq!(sign_in(&mut world, "p3"), (vec![(4, Close::Replaced)], true));
    world.step(&policy(3, v1::DevicePolicy::One, false));
    assert_eq!(sign_in(&mut world, "d1"), (vec![(3, Close::Replaced), (6, by_policy)], true));
    world.step(&policy(4, v1::DevicePolicy::One, true));
    assert_eq!(sign_in(&mut world, "p3"), (vec![(8, by_policy)], false));
    assert_eq!(world.devices("ann"), ["d1"]);
    assert_eq!(world.stage.sessions(), 1);
}

#[test]
fn too_many_devices_are_forgotten_but_none_with_a_session() {
    let mut world = World::new();
    let three = v1::Settings { version: 1, devices_per_user_max: 3, ..v1::Settings::default() };
    world.step(&of(Record::Settings(three)));
    world.step(&start("ann", "a", "", &at("n", 1, 1)));
    for (link, device) in (2..).zip(["b", "c", "d"]) {
        world.step(&start("ann", device, "", &at("n", 1, link)));
        world.step(&end("ann", &at("n", 1, link)));
    }
    let remembered: Vec<_> = world.row("ann").cursors.into_iter().map(|cursor| cursor.device).collect();
    assert_eq!(remembered, ["a", "c", "d"]);
    // With sessions in every place the oldest session makes room.
    for (link, device) in (5..).zip(["c", "d"]) {
        assert!(kicked(&world.step(&start("ann", device, "", &at("n", 1, link)))).is_empty());
    }
    let effects = world.step(&start("ann", "e", "", &at("n", 1, 7)));
    assert_eq!(kicked(&effects), [(1, Close::DevicePolicy)]);
    let remembered: Vec<_> = world.row("ann").cursors.into_iter().map(|cursor| cursor.device).collect();
    assert_eq!(remembered, ["c", "d", "e"]);
}

#[test]
fn cursors_rise_per_device_up_to_the_head() {
    let mut world = World::new();
    world.step(&start("ann", "d", "", &at("n", 1, 1)));
    world.step(&start("ann", "e", "", &at("n", 1, 2)));
    (0..5).for_each(|_| drop(world.entry(&["ann"])));
    world.step(&cursors(&[("ann", "d", 3), ("ann", "e", 4), ("ann", "x", 5), ("bob", "d", 1)]));
    world.step(&cursors(&[("ann", "d", 2), ("ann", "e", 6)]));
    let seqs: Vec<_> = world.row("ann").cursors.iter().map(|cursor| cursor.seq).collect();
    assert_eq!(seqs, [3, 4]);
    let grant = granted(&world.step(&start("ann", "d", "", &at("n", 1, 3)))).unwrap();
    assert_eq!((grant.head, grant.cursor, grant.best_cursor), (5, 3, 4));
    let grant = granted(&world.step(&start("ann", "new", "", &at("n", 1, 4)))).unwrap();
    assert_eq!((grant.cursor, grant.best_cursor), (0, 4));
}

#[test]
fn a_node_that_is_down_takes_its_sessions_along() {
    let mut world = World::new();
    world.step(&start("ann", "d", "", &at("n", 3, 1)));
    world.step(&start("ann", "e", "", &at("m", 1, 1)));
    world.step(&start("bob", "d", "", &at("n", 3, 2)));
    world.step(&down("n", 3));
    assert_eq!(world.stage.sessions(), 1);
    assert_eq!(pushed(&world.entry(&["ann", "bob"])), [1], "only the one on m");
    assert_eq!(world.devices("ann"), ["e"]);
    world.restart();
    assert_eq!(world.store.live().len(), 1);
    // A late sign-in of the dead incarnation, and one of the next.
    let late = world.step(&start("bob", "d", "", &at("n", 3, 9)));
    assert_eq!((kicked(&late), granted(&late)), (vec![(9, Close::LeaseLost)], None));
    assert!(granted(&world.step(&start("bob", "d", "", &at("n", 4, 1)))).is_some());
    world.step(&end("bob", &at("n", 3, 2)));
    assert_eq!(world.devices("bob"), ["d"]);
}

#[test]
fn a_new_incarnation_ends_the_sessions_of_those_before() {
    let mut world = World::new();
    world.step(&start("ann", "d", "", &at("n", 3, 1)));
    world.step(&start("bob", "d", "", &at("n", 4, 1)));
    assert_eq!(world.stage.session(&fence(&at("n", 3, 1))), None);
    assert!(pushed(&world.entry(&["ann"])).is_empty());
    assert_eq!(kicked(&world.step(&start("ann", "d", "", &at("n", 3, 2)))), [(2, Close::LeaseLost)]);
    // Not one that is gone may keep a newer out, nor is it kicked.
    world.step(&policy(1, v1::DevicePolicy::One, true));
    world.step(&start("cid", "d", "", &at("n", 4, 7)));
    world.step(&down("n", 4));
    let effects = world.step(&start("cid", "e", "", &at("m", 1, 1)));
    assert_eq!((kicked(&effects), granted(&effects).is_some()), (vec![], true));
    assert_eq!(world.devices("cid"), ["e"]);
}

#[test]
fn a_gap_is_told_to_the_sending_device() {
    let mut world = World::new();
    let send = v1::SendRef { conversation: vec![9; 16].into(), epoch: 4, n: 2 };
    let gap = |device: &str| v1::Delivery {
        users: vec!["ann".into()],
        what: Some(v1::delivery::What::OutOfOrder(send.clone())),
        device: device.into(),
    };
    world.step(&start("ann", "d", "", &at("n", 1, 1)));
    let effects = world.step(&output(0, 1, vec![gap("d")]));
    let expected = Effect::OutOfOrder { user: user("ann"), fence: fence(&at("n", 1, 1)), send: send.clone() };
    assert_eq!(effects, [expected]);
    assert!(world.step(&output(1, 2, vec![gap("e")])).is_empty());
    world.step(&down("n", 1));
    assert!(world.step(&output(2, 3, vec![gap("d")])).is_empty());
    assert_eq!(world.row("ann").head, 0);
}

#[test]
fn an_owner_is_told_of_with_its_term() {
    let mut world = World::new();
    let owner = v1::Owner { node: "l".into(), run: 3 };
    let effects = world.step(&of(Record::Owner(owner.clone())));
    assert_eq!(effects, [Effect::Owner(owner, Tick(1))]);
}

fn link(link: u64, confirmed: bool, told: u64) -> v1::RosterLink {
    let at = Some(v1::LinkRef { reactor: 0, link });
    v1::RosterLink { link: at, user: "ann".into(), device: "d".into(), confirmed, told }
}

#[test]
fn a_roster_is_compared_with_the_sessions() {
    let mut world = World::new();
    for (number, name) in (1..).zip(["u1", "u2", "u3", "u4", "u5"]) {
        world.step(&start(name, "d", "", &at("n", 2, number)));
        world.entry(&[name]);
    }
    let links =
        vec![link(1, true, 1), link(2, true, 0), link(3, false, 0), link(8, true, 0), link(9, false, 0)];
    let roster = CompleteRoster { incarnation: 2, links, bounds: vec![5] };
    let mut actions = Vec::new();
    world.stage.compare("n", &roster, &mut actions).unwrap();
    let grant = SessionGrant {
        fence: fence(&at("n", 2, 3)),
        user: user("u3"),
        epoch: 5,
        head: 1,
        first: 1,
        cursor: 0,
        best_cursor: 0,
    };
    let expected = [
        RosterAction::Hint { fence: fence(&at("n", 2, 2)), head: 1 },
        RosterAction::Result(grant),
        RosterAction::Kick { fence: fence(&at("n", 2, 8)), close: Close::SessionUnknown },
        RosterAction::Append(end("u4", &at("n", 2, 4))),
    ];
    assert_eq!(actions, expected, "the fifth is not below the bound");

    world.restart();
    let (mut keys, mut actions) = (Vec::new(), Vec::new());
    world.stage.roster_keys("n", &roster, &mut keys);
    assert_eq!(keys, [user("u1"), user("u2"), user("u3")]);
    assert_eq!(world.stage.compare("n", &roster, &mut actions), Err(NotLoaded(user("u1"))));
    assert!(actions.is_empty());
    for key in keys {
        world.stage.load(key.clone(), world.store.users.get(&key).cloned()).unwrap();
    }
    world.stage.compare("n", &roster, &mut actions).unwrap();
    assert_eq!(actions, expected, "after a restart as before");
}

#[test]
fn a_session_that_only_a_later_owner_has_read_is_not_confirmed() {
    let mut later = World::new();
    later.step(&start("ann", "d", "", &at("n", 2, 1)));
    later.flush();
    // This run has read nothing yet, and finds in the tables what the later owner wrote.
    let mut stage = TimelineStage::new(2, MESSAGES, None, later.store.live()).unwrap();
    stage.load(user("ann"), later.store.users.get(&user("ann")).cloned()).unwrap();
    let mut actions = Vec::new();
    for confirmed in [false, true] {
        let links = vec![link(1, confirmed, 0)];
        let roster = CompleteRoster { incarnation: 2, links, bounds: vec![9] };
        stage.compare("n", &roster, &mut actions).unwrap();
    }
    assert_eq!(actions, []);
}

#[test]
fn older_incarnations_end_by_one_record_and_dead_ones_are_kicked() {
    let mut world = World::new();
    world.step(&start("ann", "d", "", &at("n", 2, 1)));
    world.step(&start("bob", "d", "", &at("n", 2, 2)));
    let newer = CompleteRoster { incarnation: 7, links: vec![link(1, false, 0)], bounds: vec![2] };
    let mut actions = Vec::new();
    world.stage.compare("n", &newer, &mut actions).unwrap();
    assert_eq!(actions, [RosterAction::Append(down("n", 6))]);
    world.step(&down("n", 6));
    actions.clear();
    world.stage.compare("n", &newer, &mut actions).unwrap();
    assert_eq!(actions, []);
    let older = CompleteRoster { incarnation: 2, links: vec![link(1, true, 0)], bounds: vec![2] };
    world.stage.compare("n", &older, &mut actions).unwrap();
    assert_eq!(actions, [RosterAction::Kick { fence: fence(&at("n", 2, 1)), close: Close::LeaseLost }]);
}

#[test]
fn sessions_that_ended_with_their_node_leave_the_index_at_the_next_start() {
    let mut world = World::new();
    for (user, link) in [("ann", 1), ("bob", 2)] {
        world.step(&start(user, "d", "", &at("n", 1, link)));
    }
    world.flush();
    world.step(&start("eve", "d", "", &at("n", 2, 1)));
    assert_eq!(world.stage.sessions(), 1);
    world.restart();
    assert_eq!((world.stage.sessions(), world.store.live().len()), (1, 3));
    world.flush();
    let left: Vec<_> = world.store.live().into_iter().map(|session| session.user).collect();
    assert_eq!(left, [user("eve")]);
}

#[test]
fn an_index_that_knows_a_session_too_many_is_mended() {
    let mut world = World::new();
    let session =
        SessionRow { fence: fence(&at("n", 2, 1)), user: user("ann"), device: "d".parse().unwrap() };
    world.stage = TimelineStage::new(2, MESSAGES, None, vec![session]).unwrap();
    let roster = CompleteRoster { incarnation: 2, links: vec![link(1, true, 0)], bounds: vec![9] };
    let mut actions = Vec::new();
    world.stage.load(user("ann"), None).unwrap();
    world.stage.compare("n", &roster, &mut actions).unwrap();
    let kick = RosterAction::Kick { fence: fence(&at("n", 2, 1)), close: Close::SessionUnknown };
    assert_eq!(actions, [RosterAction::Append(end("ann", &at("n", 2, 1))), kick]);
    actions.clear();
    world.stage.compare("n", &CompleteRoster { links: Vec::new(), ..roster }, &mut actions).unwrap();
    assert_eq!(actions, [RosterAction::Append(end("ann", &at("n", 2, 1)))]);
    world.step(&end("ann", &at("n", 2, 1)));
    assert_eq!(world.stage.sessions(), 0);
    let (sessions, users) = world.stage.clone_dirty();
    assert_eq!((sessions.len(), sessions[0].live, users.len()), (1, false, 0));
}

#[test]
fn what_could_not_be_is_left_alone() {
    let mut world = World::new();
    let torn = v1::SessionStart { user: "ann".into(), device: "d".into(), ..v1::SessionStart::default() };
    let long = "x".repeat(65);
    for record in [
        of(Record::SessionStart(torn)),
        of(Record::SessionEnd(v1::SessionEnd::default())),
        start("", "d", "", &at("n", 1, 1)),
        start("ann", "\n", "", &at("n", 1, 1)),
        start("ann", "d", &long, &at("n", 1, 1)),
        start("ann", "d", "", &at(&long, 1, 1)),
        start("ann", "d", "", &at("", 1, 1)),
        down("", 5),
        cursors(&[("", "d", 1)]),
        of(Record::Fired(v1::Fired::default())),
        v1::TimelineRecord::default(),
    ] {
        let tick = world.stage.tick();
        assert_eq!(world.step(&record), [], "{record:?}");
        assert_eq!(world.stage.tick(), Tick(tick.0 + 1));
    }
    let mut short = posted(1, &["ann"]);
    if let Some(v1::delivery::What::Posted(posted)) = &mut short.what {
        posted.conversation = vec![1; 3].into();
    }
    let nothing = v1::Delivery { users: vec!["ann".into()], what: None, device: String::new() };
    let effects = world.step(&output(0, 1, vec![short, nothing, posted(1, &["", "ann"])]));
    assert_eq!(seqs(&effects), [("ann".into(), 1)]);
}

#[test]
fn a_state_that_this_build_does_not_know_is_refused() {
    let stage = TimelineStage::new(2, MESSAGES, None, Vec::new()).unwrap();
    let state = v1::TimelinePartition::decode(stage.state()).unwrap();
    let open = |state: v1::TimelinePartition| {
        let checkpoint = Checkpoint { offset: 1, tick: Tick(8), state: state.encode_to_vec().into() };
        TimelineStage::new(2, MESSAGES, Some(&checkpoint), Vec::new())
    };
    assert_eq!(open(state.clone()).unwrap().tick(), Tick(8));
    let level = v1::TimelinePartition { level: 9, ..state.clone() };
    assert_eq!(open(level).unwrap_err(), StateError::Level { found: 9 });
    let seen = v1::TimelinePartition { seen: vec![0; 4], ..state };
    assert_eq!(open(seen).unwrap_err(), StateError::Partitions { found: 4, expected: 3 });
    let mut stage = TimelineStage::new(2, MESSAGES, None, Vec::new()).unwrap();
    let torn = StoredUser { at: Tick(1), row: vec![0xff].into() };
    assert!(matches!(stage.load(user("ann"), Some(torn)), Err(StateError::Unreadable { .. })));
}

#[test]
fn a_signed_in_device_takes_at_most_512_bytes() {
    let mut world = World::new();
    for number in 0..10_000 {
        world.step(&start(&format!("user-{number:08}"), "phone-1", "phone", &at("conn-1", 1, number)));
    }
    world.flush();
    let each = world.stage.bytes() / 10_000;
    assert!((200..=512).contains(&each), "{each} bytes");
    world.stage.evict(0);
    let each = world.stage.bytes() / 10_000;
    assert!((80..=160).contains(&each), "{each} bytes in the index alone");
}
