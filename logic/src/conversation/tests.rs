//! The stage from outside: every verb and every rejection, numbering, fan-out, former members.

use bytes::Bytes;
use prost::Message;
use proto::limits::{BODY_BYTES_MAX, GROUP_NAME_BYTES_MAX};
use proto::{Code, ConversationId, DeviceId, Tick, UserId, partition, v1};
use storage::tables::{ConversationRow, ConversationWrite, HistoryRow};
use v1::entry::Event;
use v1::message_record::Record;
use v1::send::{Body, To};

use super::{ConversationStage, Effect, StateError};

pub(super) const TIMELINES: u32 = 4;

pub(super) fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

pub(super) fn group_of(creator: &str, key: &str) -> ConversationId {
    ConversationId::group(&user(creator), &DeviceId::new("d").unwrap(), key).unwrap()
}

pub(super) fn text(text: &str) -> Body {
    Body::Message(v1::Message { kind: 1, data: Bytes::copy_from_slice(text.as_bytes()) })
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

pub(super) fn create(key: &str, members: &[&str]) -> Body {
    Body::CreateGroup(v1::CreateGroup {
        request_key: key.into(),
        name: "walk".into(),
        members: strings(members),
    })
}

pub(super) fn add(users: &[&str]) -> Body {
    Body::AddMembers(v1::AddMembers { users: strings(users) })
}

pub(super) fn remove(users: &[&str]) -> Body {
    Body::RemoveMembers(v1::RemoveMembers { users: strings(users) })
}

pub(super) fn rename(name: &str) -> Body {
    Body::RenameGroup(v1::RenameGroup { name: name.into() })
}

pub(super) const LEAVE: Body = Body::LeaveGroup(v1::LeaveGroup {});
pub(super) const DISSOLVE: Body = Body::DissolveGroup(v1::DissolveGroup {});
pub(super) const BLOCK: Body = Body::Block(v1::Block {});
pub(super) const UNBLOCK: Body = Body::Unblock(v1::Unblock {});
pub(super) const VOID: Body = Body::Void(v1::Void {});

/// The record that conn makes of a send.
pub(super) fn record(who: &str, to: &To, (epoch, n): (u64, u64), body: Option<Body>) -> v1::MessageRecord {
    let conversation = match to {
        To::User(peer) => ConversationId::direct(&user(who), &user(peer)).to_bytes(),
        To::Group(id) => id.clone(),
    };
    let send = v1::Send { to: Some(to.clone()), epoch, n, body };
    let (user, device) = (who.into(), "d".into());
    let submission = v1::Submission { conversation, user, device, send: Some(send) };
    v1::MessageRecord { record: Some(Record::Submission(submission)) }
}

pub(super) fn settings(settings: v1::Settings) -> v1::MessageRecord {
    v1::MessageRecord { record: Some(Record::Settings(settings)) }
}

/// What one send came to.
#[derive(Debug, Default)]
struct Outcome {
    history: Vec<HistoryRow>,
    /// Who is told, sorted, with the entry.
    told: Vec<(String, v1::Entry)>,
    gaps: Vec<v1::SendRef>,
}

impl Outcome {
    fn of(effects: Vec<Effect>, tick: Tick) -> Self {
        let mut this = Self::default();
        let mut last = None;
        for effect in effects {
            let (at, output) = match effect {
                Effect::History(row) => {
                    assert!(last.is_none(), "history comes first");
                    this.history.push(row);
                    continue;
                }
                Effect::Output { partition, output } => (partition, output),
                Effect::Owner(_) => continue,
            };
            assert!(last < Some(at), "one output for each partition, in their order");
            last = Some(at);
            assert_eq!((output.source_partition, output.source, output.prev), (7, tick.0, 0));
            for delivery in output.deliveries {
                assert!(delivery.users.is_sorted() && !delivery.users.is_empty());
                assert!(delivery.users.iter().all(|u| partition::of_user(&user(u), TIMELINES) == at));
                match delivery.what.unwrap() {
                    v1::delivery::What::OutOfOrder(send) => this.gaps.push(send),
                    v1::delivery::What::Posted(posted) => {
                        let entry = v1::Entry::decode(posted.entry).unwrap();
                        assert_eq!((posted.no, &posted.conversation), (entry.no, &entry.conversation));
                        this.told.extend(delivery.users.into_iter().map(|user| (user, entry.clone())));
                    }
                }
            }
        }
        this.told.sort_by(|a, b| a.0.cmp(&b.0));
        this
    }

    fn users(&self) -> Vec<&str> {
        self.told.iter().map(|(user, _)| user.as_str()).collect()
    }

    fn event(&self) -> &Event {
        self.told[0].1.event.as_ref().unwrap()
    }

    fn is_nothing(&self) -> bool {
        self.history.is_empty() && self.told.is_empty() && self.gaps.is_empty()
    }

    /// A numbered event: in history, and the same for everyone who is told.
    fn accepted(&self, no: u64, users: &[&str]) -> &Event {
        assert_eq!(self.users(), users);
        let entry = &self.told[0].1;
        assert_eq!(entry.no, no, "{entry:?}");
        assert!(self.told.iter().all(|(_, other)| other == entry));
        assert_eq!(v1::Entry::decode(self.history[0].entry.clone()).unwrap(), *entry);
        assert_eq!((self.history.len(), self.history[0].no, self.history[0].at.0), (1, no, entry.time_us));
        self.event()
    }

    /// An event of the sender's alone.
    fn alone(&self, who: &str) -> &Event {
        assert_eq!((self.users(), self.told[0].1.no, self.history.len()), (vec![who], 0, 0));
        self.event()
    }

    fn rejected(&self, who: &str, code: Code) {
        match self.alone(who) {
            Event::Rejected(r) => {
                assert_eq!((r.code, &*r.name), (code.number(), code.name()), "{}", r.detail);
            }
            other => panic!("{other:?} is not {code:?}"),
        }
    }
}

/// A stage with its tables.
struct World {
    stage: ConversationStage,
    store: super::replay::Store,
    /// By (user, conversation): the last n in epoch 1.
    numbers: std::collections::BTreeMap<(String, Bytes), u64>,
}

impl World {
    fn new() -> Self {
        let stage = ConversationStage::new(7, TIMELINES, None).unwrap();
        Self { stage, store: Default::default(), numbers: Default::default() }
    }

    fn step(&mut self, record: &v1::MessageRecord, skip: bool) -> Outcome {
        if let Some(id) = ConversationStage::key(record) {
            self.stage.load(id, self.store.get(&id).cloned()).unwrap();
        }
        let mut effects = Vec::new();
        self.stage.step(0, record, skip, &mut effects);
        Outcome::of(effects, self.stage.tick())
    }

    fn flush(&mut self) -> Vec<ConversationWrite> {
        let writes = self.stage.clone_dirty();
        writes.iter().for_each(|write| super::replay::save(&mut self.store, write));
        self.stage.written(&writes.iter().map(|write| (write.id, write.at)).collect::<Vec<_>>());
        writes
    }

    fn send(&mut self, who: &str, to: &To, body: Body) -> Outcome {
        let key = match record(who, to, (1, 1), None).record {
            Some(Record::Submission(s)) => (who.to_string(), s.conversation),
            _ => unreachable!(),
        };
        let n = self.numbers.entry(key).or_default();
        *n += 1;
        let record = record(who, to, (1, *n), Some(body));
        self.step(&record, false)
    }

    fn group(&mut self, creator: &str, members: &[&str]) -> To {
        let to = To::Group(group_of(creator, "k").to_bytes());
        self.send(creator, &to, create("k", members));
        to
    }

    fn row(&self, id: &ConversationId) -> (v1::ConversationHead, Vec<(String, v1::MemberRow)>) {
        let row = self.store.get(id).unwrap();
        let members =
            row.members.iter().map(|(u, m)| (u.to_string(), v1::MemberRow::decode(m.clone()).unwrap()));
        (v1::ConversationHead::decode(row.head.clone()).unwrap(), members.collect())
    }
}

fn to(peer: &str) -> To {
    To::User(peer.into())
}

#[test]
fn a_message_reaches_both_and_its_sender_on_every_device() {
    let mut world = World::new();
    let first = world.send("ann", &to("bob"), text("hi"));
    assert_eq!(
        first.accepted(1, &["ann", "bob"]),
        &Event::Message(v1::Message { kind: 1, data: "hi".into() })
    );
    let entry = &first.told[0].1;
    assert_eq!(
        (&*entry.sender, &*entry.device, entry.epoch, entry.n, &*entry.peer),
        ("ann", "d", 1, 1, "bob")
    );
    assert_eq!(entry.time_us, world.stage.tick().0);
    world.send("bob", &to("ann"), text("ho")).accepted(2, &["ann", "bob"]);
    world.send("ann", &to("ann"), text("note")).accepted(1, &["ann"]);
    world.flush();
    let (head, members) = world.row(&ConversationId::direct(&user("ann"), &user("bob")));
    assert_eq!((head.kind(), head.no, head.members), (v1::ConversationKind::Direct, 2, 2));
    assert!(members.iter().all(|(_, m)| m.role() == v1::Role::Member && m.since == 1));
}

#[test]
fn numbers_are_judged_once_and_in_order() {
    let mut world = World::new();
    let mut at = |epoch, n| world.step(&record("ann", &to("bob"), (epoch, n), Some(text("x"))), false);
    let missing = |outcome: Outcome| {
        assert!(outcome.told.is_empty() && outcome.history.is_empty());
        let send = outcome.gaps.into_iter().next().unwrap();
        (send.epoch, send.n)
    };
    assert_eq!(missing(at(5, 2)), (5, 1));
    at(5, 1).accepted(1, &["ann", "bob"]);
    assert!(at(5, 1).is_nothing());
    assert_eq!(missing(at(5, 3)), (5, 2));
    at(5, 2).accepted(2, &["ann", "bob"]);
    assert!(at(4, 1).is_nothing() && at(4, 3).is_nothing() && at(0, 0).is_nothing());
    assert_eq!(missing(at(6, 3)), (6, 1));
    assert_eq!(missing(at(6, 0)), (6, 1));
    at(9, 1).accepted(3, &["ann", "bob"]);
    assert!(at(5, 3).is_nothing() && at(6, 1).is_nothing());
    assert_eq!(missing(at(u64::MAX, u64::MAX)), (u64::MAX, 1));
    // Another device of hers counts for itself.
    let mut other = record("ann", &to("bob"), (1, 1), Some(text("y")));
    if let Some(Record::Submission(submission)) = &mut other.record {
        submission.device = "tablet".into();
    }
    world.step(&other, false).accepted(4, &["ann", "bob"]);
}

#[test]
fn void_and_rejections_move_the_number() {
    let mut world = World::new();
    assert!(world.send("ann", &to("bob"), VOID).is_nothing());
    world.send("ann", &to("bob"), add(&["eve"])).rejected("ann", Code::InvalidArgument);
    world.send("ann", &to("bob"), text("x")).accepted(1, &["ann", "bob"]);
    let stranger = To::Group(group_of("ann", "none").to_bytes());
    world.send("eve", &stranger, text("x")).rejected("eve", Code::NoSuchConversation);
    world.flush();
    world.stage.evict(0);
    assert_eq!(world.stage.bytes(), 0);
    let again = record("eve", &stranger, (1, 1), Some(text("x")));
    assert!(world.step(&again, false).is_nothing());
}

#[test]
fn block_stops_messages_both_ways_until_unblocked() {
    let mut world = World::new();
    assert_eq!(world.send("ann", &to("bob"), BLOCK).alone("ann"), &Event::Blocked(v1::Blocked {}));
    world.send("bob", &to("ann"), text("x")).rejected("bob", Code::Blocked);
    world.send("ann", &to("bob"), text("x")).rejected("ann", Code::Blocked);
    assert_eq!(world.send("bob", &to("ann"), BLOCK).alone("bob"), &Event::Blocked(v1::Blocked {}));
    world.flush();
    world.stage.evict(0);
    assert_eq!(world.send("ann", &to("bob"), UNBLOCK).alone("ann"), &Event::Unblocked(v1::Unblocked {}));
    world.send("ann", &to("bob"), text("x")).rejected("ann", Code::Blocked);
    world.send("bob", &to("ann"), UNBLOCK).alone("bob");
    world.send("ann", &to("bob"), text("x")).accepted(1, &["ann", "bob"]);
    world.send("ann", &to("ann"), BLOCK).rejected("ann", Code::InvalidArgument);
}

#[test]
fn a_group_from_its_first_member_to_its_last() {
    let mut world = World::new();
    let group = To::Group(group_of("ann", "k").to_bytes());
    let created = world.send("ann", &group, create("k", &["cid", "bob", "cid", "ann"]));
    match created.accepted(1, &["ann", "bob", "cid"]) {
        Event::GroupCreated(g) => {
            let members: Vec<_> = g.members.iter().map(|m| (&*m.user, m.role(), m.since)).collect();
            let (owner, member) = (v1::Role::Owner, v1::Role::Member);
            assert_eq!(members, [("ann", owner, 1), ("bob", member, 1), ("cid", member, 1)]);
        }
        other => panic!("{other:?}"),
    }
    world.send("bob", &group, text("x")).accepted(2, &["ann", "bob", "cid"]);
    let added = world.send("bob", &group, add(&["dan", "cid", "dan"]));
    let expected = v1::MembersAdded { users: strings(&["dan"]), name: "walk".into(), members: 4 };
    assert_eq!(added.accepted(3, &["ann", "bob", "cid", "dan"]), &Event::MembersAdded(expected));
    let removed = world.send("ann", &group, remove(&["cid", "eve"]));
    let expected = v1::MembersRemoved { users: strings(&["cid"]) };
    assert_eq!(removed.accepted(4, &["ann", "bob", "cid", "dan"]), &Event::MembersRemoved(expected));
    world.send("ann", &group, rename("run")).accepted(5, &["ann", "bob", "dan"]);
    world.send("bob", &group, LEAVE).accepted(6, &["ann", "bob", "dan"]);
    world.flush();
    let (head, members) = world.row(&group_of("ann", "k"));
    assert_eq!((&*head.name, head.members, &*head.owner, head.no), ("run", 2, "ann", 6));
    let rows: Vec<_> = members.iter().map(|(u, m)| (&**u, m.role() as i32, m.since, m.until)).collect();
    assert_eq!(rows, [("ann", 2, 1, 0), ("bob", 0, 1, 6), ("cid", 0, 1, 4), ("dan", 1, 3, 0)]);
    world.stage.evict(0);
    // Back again: reads from now on.
    world.send("ann", &group, add(&["bob"])).accepted(7, &["ann", "bob", "dan"]);
    let left = world.send("ann", &group, LEAVE);
    let expected = v1::MemberLeft { user: "ann".into(), new_owner: "dan".into() };
    assert_eq!(left.accepted(8, &["ann", "bob", "dan"]), &Event::MemberLeft(expected));
    world.send("dan", &group, DISSOLVE).accepted(9, &["bob", "dan"]);
    world.flush();
    let (head, members) = world.row(&group_of("ann", "k"));
    assert_eq!((head.kind(), head.members, &*head.owner), (v1::ConversationKind::Dissolved, 0, ""));
    let rows: Vec<_> = members.iter().map(|(u, m)| (&**u, m.role() as i32, m.since, m.until)).collect();
    assert_eq!(rows, [("ann", 0, 1, 8), ("bob", 0, 7, 9), ("cid", 0, 1, 4), ("dan", 0, 3, 9)]);
    world.send("dan", &group, text("x")).rejected("dan", Code::Dissolved);
    world.send("ann", &group, create("k", &[])).rejected("ann", Code::Dissolved);
}

#[test]
fn the_longest_standing_member_inherits_and_the_last_one_ends_the_group() {
    let mut world = World::new();
    let group = world.group("cid", &["bob"]);
    world.send("cid", &group, add(&["ann"]));
    let left = world.send("cid", &group, LEAVE);
    assert!(matches!(left.event(), Event::MemberLeft(l) if l.new_owner == "bob"));
    world.send("bob", &group, LEAVE);
    world.send("ann", &group, rename("mine")).accepted(5, &["ann"]);
    let left = world.send("ann", &group, LEAVE);
    assert!(matches!(left.accepted(6, &["ann"]), Event::MemberLeft(l) if l.new_owner.is_empty()));
    world.send("ann", &group, text("x")).rejected("ann", Code::Dissolved);
}

#[test]
fn what_a_group_turns_down() {
    let mut world = World::new();
    let group = To::Group(group_of("ann", "k").to_bytes());
    world.send("bob", &group, create("k", &[])).rejected("bob", Code::InvalidArgument);
    world.send("ann", &group, create("", &[])).rejected("ann", Code::InvalidArgument);
    world.send("ann", &group, create("k", &["a\nb"])).rejected("ann", Code::InvalidArgument);
    let name = "n".repeat(GROUP_NAME_BYTES_MAX + 1);
    let named = |name: &str| {
        Body::CreateGroup(v1::CreateGroup { request_key: "k".into(), name: name.into(), members: Vec::new() })
    };
    world.send("ann", &group, named(&name)).rejected("ann", Code::TooLarge);
    world.send("ann", &group, named(&name[1..])).accepted(1, &["ann"]);
    world.send("ann", &group, create("k", &[])).rejected("ann", Code::AlreadyExists);
    world.send("eve", &group, text("x")).rejected("eve", Code::NotMember);
    world.send("eve", &group, LEAVE).rejected("eve", Code::NotMember);
    world.send("ann", &group, add(&["bob"])).accepted(2, &["ann", "bob"]);
    world.send("ann", &group, add(&["bob"])).rejected("ann", Code::InvalidArgument);
    world.send("ann", &group, add(&[""])).rejected("ann", Code::InvalidArgument);
    for body in [remove(&["ann"]), rename("x"), DISSOLVE] {
        world.send("bob", &group, body).rejected("bob", Code::NotAllowed);
    }
    world.send("ann", &group, rename(&name)).rejected("ann", Code::TooLarge);
    world.send("ann", &group, remove(&["eve"])).rejected("ann", Code::InvalidArgument);
    world.send("ann", &group, remove(&["ann", "bob"])).rejected("ann", Code::InvalidArgument);
    for body in [BLOCK, UNBLOCK] {
        world.send("ann", &group, body).rejected("ann", Code::InvalidArgument);
    }
    let big = |bytes| Body::Message(v1::Message { kind: 1, data: vec![0; bytes].into() });
    world.send("ann", &group, big(BODY_BYTES_MAX + 1)).rejected("ann", Code::TooLarge);
    world.send("ann", &group, big(BODY_BYTES_MAX)).accepted(3, &["ann", "bob"]);
    world.send("ann", &group, remove(&["bob"])).accepted(4, &["ann", "bob"]);
    world.send("bob", &group, text("x")).rejected("bob", Code::NotMember);
}

#[test]
fn a_group_has_no_more_members_than_the_settings_say() {
    let mut world = World::new();
    let four = v1::Settings { version: 2, group_members_max: 4, ..v1::Settings::default() };
    world.step(&settings(four), false);
    let older = v1::Settings { version: 1, group_members_max: 9, ..v1::Settings::default() };
    world.step(&settings(older), false);
    assert_eq!(world.stage.settings().group_members_max, 4);
    let group = To::Group(group_of("ann", "k").to_bytes());
    world.send("ann", &group, create("k", &["b", "c", "d", "e"])).rejected("ann", Code::GroupFull);
    world.send("ann", &group, create("k", &["b", "c", "c", "d"])).accepted(1, &["ann", "b", "c", "d"]);
    world.send("b", &group, add(&["e"])).rejected("b", Code::GroupFull);
    let most = v1::Settings { version: 3, group_members_max: 1_000_000, ..v1::Settings::default() };
    world.step(&settings(most), false);
    assert_eq!(world.stage.settings().group_members_max, 500);
    let names: Vec<String> = (0..497).map(|i| format!("u{i:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.send("b", &group, add(&names)).rejected("b", Code::GroupFull);
    assert_eq!(world.send("b", &group, add(&names[1..])).users().len(), 500);
}

#[test]
fn a_send_that_does_not_fit_its_conversation_is_turned_down() {
    let mut world = World::new();
    let direct = ConversationId::direct(&user("ann"), &user("bob"));
    world.send("ann", &to("bob"), text("x"));
    // The pair's id in the place of a group's.
    let group = To::Group(direct.to_bytes());
    world
        .step(&record("eve", &group, (1, 1), Some(text("x"))), false)
        .rejected("eve", Code::NoSuchConversation);
    // Somebody else's pair.
    let mut foreign = record("eve", &to("bob"), (1, 2), Some(text("x")));
    let Some(Record::Submission(submission)) = &mut foreign.record else { panic!() };
    submission.conversation = direct.to_bytes();
    world.step(&foreign, false).rejected("eve", Code::InvalidArgument);
    // A receiver of its own or none, a body or none.
    let mut torn = record("ann", &to("bob"), (1, 2), None);
    world.step(&torn, false).rejected("ann", Code::InvalidArgument);
    let Some(Record::Submission(submission)) = &mut torn.record else { panic!() };
    submission.send = Some(v1::Send { to: None, epoch: 1, n: 3, body: Some(text("x")) });
    world.step(&torn, false).rejected("ann", Code::InvalidArgument);
    // What nobody could be told of.
    for broken in [
        v1::Submission {
            conversation: vec![1; 15].into(),
            user: "ann".into(),
            device: "d".into(),
            send: None,
        },
        v1::Submission {
            conversation: direct.to_bytes(),
            user: "ann".into(),
            device: "d".into(),
            send: None,
        },
        v1::Submission {
            conversation: direct.to_bytes(),
            user: String::new(),
            device: "d".into(),
            send: None,
        },
    ] {
        let tick = world.stage.tick();
        assert!(
            world.step(&v1::MessageRecord { record: Some(Record::Submission(broken)) }, false).is_nothing()
        );
        assert_eq!(world.stage.tick(), Tick(tick.0 + 1));
    }
}

#[test]
fn a_skipped_record_becomes_a_rejection_unless_it_would_not_be_judged() {
    let mut world = World::new();
    let mut skip = |n, body| world.step(&record("ann", &to("bob"), (1, n), Some(body)), true);
    assert!(skip(2, text("gap")).is_nothing());
    skip(1, text("x")).rejected("ann", Code::Skipped);
    assert!(skip(1, text("x")).is_nothing());
    assert!(skip(2, VOID).is_nothing());
    world.step(&record("ann", &to("bob"), (1, 3), Some(text("x"))), false).accepted(1, &["ann", "bob"]);
    let newer = v1::Settings { version: 1, group_members_max: 4, ..v1::Settings::default() };
    world.step(&settings(newer), true);
    assert_eq!(world.stage.settings().version, 0);
    assert!(world.step(&v1::MessageRecord::default(), true).is_nothing());
}

#[test]
fn an_owner_is_told_of() {
    let mut stage = ConversationStage::new(7, TIMELINES, None).unwrap();
    let owner = v1::Owner { node: "l1".into(), run: 9 };
    let mut effects = Vec::new();
    let record = v1::MessageRecord { record: Some(Record::Owner(owner.clone())) };
    stage.step(50, &record, false, &mut effects);
    assert_eq!((effects, stage.tick()), (vec![Effect::Owner(owner)], Tick(50)));
}

#[test]
fn a_write_holds_what_changed_since_the_last_one_that_landed() {
    let mut world = World::new();
    let group = world.group("ann", &["bob", "cid"]);
    let first = world.flush().remove(0);
    assert_eq!((first.members.len(), first.senders.len()), (3, 1));
    world.send("bob", &group, text("x"));
    let second = world.stage.clone_dirty().remove(0);
    assert_eq!((second.members.len(), second.senders.len()), (0, 1));
    world.send("ann", &group, remove(&["cid"]));
    // The second has not landed yet: the third brings everything again.
    let third = world.stage.clone_dirty().remove(0);
    assert_eq!((third.members.len(), third.senders.len()), (1, 2));
    world.stage.written(&[(second.id, second.at)]);
    assert_eq!(world.stage.clone_dirty()[0].senders.len(), 1);
    world.stage.evict(0);
    assert!(world.stage.is_loaded(&third.id));
    world.stage.written(&[(third.id, third.at)]);
    assert!(world.stage.clone_dirty().is_empty());
    world.stage.evict(0);
    assert!(!world.stage.is_loaded(&third.id));
}

#[test]
fn a_state_that_this_build_does_not_know_is_refused() {
    let stage = ConversationStage::new(7, TIMELINES, None).unwrap();
    let level = |level| {
        let state = v1::ConversationPartition::decode(stage.state()).unwrap();
        let state = v1::ConversationPartition { level, ..state }.encode_to_vec().into();
        storage::tables::Checkpoint { offset: 3, tick: Tick(4), state }
    };
    assert_eq!(ConversationStage::new(7, TIMELINES, Some(&level(1))).unwrap().tick(), Tick(4));
    let refused = ConversationStage::new(7, TIMELINES, Some(&level(2))).unwrap_err();
    assert_eq!(refused, StateError::Level { found: 2 });
    let torn = storage::tables::Checkpoint { state: vec![0xff].into(), ..level(1) };
    assert!(matches!(ConversationStage::new(7, TIMELINES, Some(&torn)), Err(StateError::Unreadable { .. })));
    let row = ConversationRow { head: vec![0xff].into(), ..ConversationRow::default() };
    let mut stage = ConversationStage::new(7, TIMELINES, None).unwrap();
    assert!(matches!(stage.load(group_of("ann", "k"), Some(row)), Err(StateError::Unreadable { .. })));
}
