//! What must hold of whatever stands in the logs and the tables, as `proto::check` says it of messages: no record
//! breaks a stage, no row does, and what a stage writes it reads. A violation panics. For tests, and for the fuzz
//! targets under `fuzz/`.

mod queries;

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use proto::frame::Decoder;
use proto::limits::RECORD_BYTES_MAX;
use proto::{ConversationId, Tick, UserId, v1};
use storage::tables::{
    Checkpoint, ConversationRow, ConversationWrite, Fence, Sender, SessionRow, SessionWrite, StoredUser,
};

use crate::conversation::{self, ConversationStage};
use crate::nodes::NodeTable;
use crate::timeline::{self, CompleteRoster, TimelineStage};

pub use self::queries::queries;

/// Rows and checkpoints, one after the other as delimited messages: each reads or is an error that says so, and a
/// row that reads is written as one that reads.
pub fn rows(bytes: &[u8]) {
    let mut pieces = delimited(bytes).into_iter();
    let mut piece = || pieces.next().unwrap_or_default();
    let ann = UserId::new("ann").expect("an id");
    let sender = Sender { user: ann.clone(), device: "phone".parse().expect("an id") };
    let conversation = ConversationRow {
        at: Tick(1),
        head: piece(),
        members: vec![(ann.clone(), piece())],
        senders: vec![(sender, piece())],
    };
    let mut world = World::default();
    if world.conversations.load(group(), Some(conversation)).is_ok() {
        world.submit(&rename());
    }
    let user = StoredUser { at: Tick(1), row: piece() };
    if world.timelines.load(ann, Some(user)).is_ok() {
        world.timeline(&delivery(), false);
    }
    world.restart();
    for offset in [0, 1] {
        let checkpoint = Checkpoint { offset, tick: Tick(offset), state: piece() };
        let _ = ConversationStage::new(0, 1, Some(&checkpoint));
        let _ = TimelineStage::new(0, 1, Some(&checkpoint), Vec::new());
    }
}

/// Records of all three logs, rosters and restarts, one after the other as delimited letters whose first byte says
/// what they are: every user's entries are dense, every conversation's numbers are, and a restart changes nothing.
pub fn stages(bytes: &[u8]) {
    let mut world = World::default();
    for letter in delimited(bytes) {
        let Some((kind, body)) = letter.split_first() else { continue };
        match kind % 8 {
            0 => world.submit(&decoded(body)),
            1 => world.timeline(&decoded(body), false),
            2 => world.node(&decoded(body)),
            3 => world.roster(decoded(body)),
            4 => world.restart(),
            5 => world.skip(&decoded(body)),
            6 => world.timeline(&decoded(body), true),
            _ => world.evict(),
        }
    }
    world.restart();
}

fn delimited(bytes: &[u8]) -> Vec<Bytes> {
    let mut decoder = Decoder::new(RECORD_BYTES_MAX);
    decoder.extend(bytes);
    std::iter::from_fn(|| decoder.next_frame().ok().flatten()).collect()
}

/// As the shells take them: what does not decode is an empty record.
fn decoded<M: Message + Default>(body: &[u8]) -> M {
    M::decode(body).unwrap_or_default()
}

fn group() -> ConversationId {
    ConversationId::from_slice(&[7; 16]).expect("sixteen bytes")
}

/// The highest epoch that is still judged, so that it is next whatever the row says.
fn rename() -> v1::MessageRecord {
    let body = v1::send::Body::RenameGroup(v1::RenameGroup { name: "new".into() });
    let to = Some(v1::send::To::Group(group().to_bytes()));
    let send = v1::Send { to, epoch: u64::MAX, n: 1, body: Some(body) };
    let submission = v1::Submission {
        conversation: group().to_bytes(),
        user: "ann".into(),
        device: "phone".into(),
        send: Some(send),
    };
    v1::MessageRecord { record: Some(v1::message_record::Record::Submission(submission)) }
}

fn delivery() -> v1::TimelineRecord {
    let conversation = group().to_bytes();
    let posted = v1::Posted { conversation, no: 1, kind: 16, entry: Bytes::new() };
    let what = Some(v1::delivery::What::Posted(posted));
    let deliveries = vec![v1::Delivery { users: vec!["ann".into()], what, device: String::new() }];
    let output = v1::Output { source_partition: 0, source: u64::MAX, prev: 0, deliveries };
    v1::TimelineRecord { record: Some(v1::timeline_record::Record::Output(output)) }
}

/// Both stages of a deployment with one partition each, the nodes, and the tables.
struct World {
    conversations: ConversationStage,
    timelines: TimelineStage,
    nodes: NodeTable,
    /// The source of the last output.
    prev: u64,
    stored: Stored,
    /// By user: the seq of the last entry that was seen.
    seqs: BTreeMap<UserId, u64>,
}

#[derive(Default)]
struct Stored {
    conversations: BTreeMap<ConversationId, ConversationRow>,
    users: BTreeMap<UserId, StoredUser>,
    sessions: BTreeMap<Fence, SessionWrite>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            conversations: ConversationStage::new(0, 1, None).expect("an empty one"),
            timelines: TimelineStage::new(0, 1, None, Vec::new()).expect("an empty one"),
            nodes: NodeTable::default(),
            prev: 0,
            stored: Stored::default(),
            seqs: BTreeMap::new(),
        }
    }
}

impl World {
    /// A record of the messages log, and what it means for the timelines.
    fn submit(&mut self, record: &v1::MessageRecord) {
        self.judge(record, false);
    }

    fn skip(&mut self, record: &v1::MessageRecord) {
        self.judge(record, true);
    }

    fn judge(&mut self, record: &v1::MessageRecord, skip: bool) {
        if let Some(id) = ConversationStage::key(record)
            && !self.conversations.is_loaded(&id)
        {
            let row = self.stored.conversations.get(&id).cloned();
            self.conversations.load(id, row).expect("the stage wrote this row");
        }
        let mut effects = Vec::new();
        self.conversations.step(1, record, skip, &mut effects);
        for effect in effects {
            if let conversation::Effect::Output { mut output, .. } = effect {
                output.prev = std::mem::replace(&mut self.prev, output.source);
                let record = v1::timeline_record::Record::Output(output);
                self.timeline(&v1::TimelineRecord { record: Some(record) }, false);
            }
        }
    }

    fn timeline(&mut self, record: &v1::TimelineRecord, skip: bool) {
        let mut keys = Vec::new();
        self.timelines.keys(record, &mut keys);
        keys.iter().for_each(|user| self.load(user));
        let mut effects = Vec::new();
        self.timelines.step(1, record, skip, &mut effects);
        for effect in effects {
            if let timeline::Effect::Entry(entry) = effect {
                let last = self.seqs.insert(entry.user.clone(), entry.seq);
                assert!(last.is_none_or(|last| last + 1 == entry.seq), "{}: a hole or a repeat", entry.user);
            }
        }
    }

    fn load(&mut self, user: &UserId) {
        if !self.timelines.is_loaded(user) {
            let row = self.stored.users.get(user).cloned();
            self.timelines.load(user.clone(), row).expect("the stage wrote this row");
        }
    }

    fn node(&mut self, record: &v1::NodeRecord) {
        self.nodes.apply(1, record);
        assert!(self.nodes.live().all(|node| !node.left), "whoever said farewell lives");
    }

    fn roster(&mut self, part: v1::Roster) {
        let v1::Roster { incarnation, links, bounds, .. } = part;
        let (roster, mut keys) = (CompleteRoster { incarnation, links, bounds }, Vec::new());
        self.timelines.roster_keys("n", &roster, &mut keys);
        keys.iter().for_each(|user| self.load(user));
        let mut out = Vec::new();
        self.timelines.compare("n", &roster, &mut out).expect("every user of the roster is loaded");
    }

    fn evict(&mut self) {
        self.save();
        self.conversations.evict(0);
        self.timelines.evict(0);
    }

    /// Stores what is dirty, as tables do, and checkpoints both stages.
    fn save(&mut self) -> (Checkpoint, Checkpoint) {
        for write in self.conversations.clone_dirty() {
            self.conversations.written(&[(write.id, write.at)]);
            self.stored.conversation(write);
        }
        let (sessions, users) = self.timelines.clone_dirty();
        self.stored.sessions.extend(sessions.into_iter().map(|write| (write.session.fence.clone(), write)));
        for write in users {
            self.timelines.written(&[(write.user.clone(), write.at)]);
            self.stored.users.insert(write.user, StoredUser { at: write.at, row: write.row });
        }
        let at = |tick, state| Checkpoint { offset: 0, tick, state };
        let conversations = at(self.conversations.tick(), self.conversations.state());
        (conversations, at(self.timelines.tick(), self.timelines.state()))
    }

    /// Both stages as the tables have them are the stages that there were.
    fn restart(&mut self) {
        let (conversations, timelines) = self.save();
        let live = self.stored.sessions.values().filter(|write| write.live);
        let sessions: Vec<SessionRow> = live.map(|write| write.session.clone()).collect();
        let before = std::mem::take(self);
        self.conversations = ConversationStage::new(0, 1, Some(&conversations)).expect("just written");
        self.timelines = TimelineStage::new(0, 1, Some(&timelines), sessions).expect("just written");
        assert_eq!(self.conversations.state(), conversations.state);
        assert_eq!(self.timelines.state(), timelines.state);
        (self.nodes, self.prev, self.stored, self.seqs) =
            (before.nodes, before.prev, before.stored, before.seqs);
        let (users, ids): (Vec<_>, Vec<_>) = (
            self.stored.users.keys().cloned().collect(),
            self.stored.conversations.clone().into_iter().collect(),
        );
        for user in users {
            self.load(&user);
            if let Some(view) = before.timelines.user(&user) {
                assert_eq!(self.timelines.user(&user), Some(view), "{user} after a restart");
            }
        }
        for (id, row) in ids {
            self.conversations.load(id, Some(row)).expect("the stage wrote this row");
        }
    }
}

impl Stored {
    fn conversation(&mut self, write: ConversationWrite) {
        let row = self.conversations.entry(write.id).or_default();
        (row.at, row.head) = (write.at, write.head);
        merge(&mut row.members, write.members);
        merge(&mut row.senders, write.senders);
    }
}

fn merge<K: Ord>(rows: &mut Vec<(K, Bytes)>, changed: Vec<(K, Bytes)>) {
    let whole: BTreeMap<K, Bytes> = rows.drain(..).chain(changed).collect();
    rows.extend(whole);
}
