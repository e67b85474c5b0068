//! Golden byte vectors: `proto/vectors/godwit.v1.json` holds every frame and record as canonical protobuf
//! JSON and as the bytes it must have, so that a client in any language can check itself. Written anew by
//! `UPDATE_VECTORS=1 cargo test -p proto --test vectors`; a diff there is a change of the wire.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use proto::{Code, ConversationId, DeviceId, Fault, UserId, frame, v1};
use serde_json::{Value, json};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/godwit.v1.json");

/// Every oneof whose alternatives must all have a vector.
const ONEOFS: [&str; 9] = [
    "ClientFrame.frame",
    "ServerFrame.frame",
    "Send.body",
    "Send.to",
    "Entry.event",
    "MessageRecord.record",
    "TimelineRecord.record",
    "NodeRecord.record",
    "Delivery.what",
];

struct Vectors {
    pool: DescriptorPool,
    rows: Vec<Value>,
}

impl Vectors {
    fn add<M: Message>(&mut self, kind: &str, name: &str, message: M) {
        let bytes = message.encode_to_vec();
        let descriptor = self.pool.get_message_by_name(&format!("godwit.v1.{kind}")).unwrap();
        let dynamic = DynamicMessage::decode(descriptor, bytes.as_slice()).unwrap();
        let framed = frame::to_bytes(&message);
        self.rows.push(json!({
            "name": name,
            "type": format!("godwit.v1.{kind}"),
            "json": serde_json::to_value(&dynamic).unwrap(),
            "bytes": hex(&bytes),
            "delimited": hex(&framed),
        }));
    }

    fn client(&mut self, name: &str, request_id: u64, frame: v1::client_frame::Frame) {
        self.add("ClientFrame", name, v1::ClientFrame { request_id, frame: Some(frame) });
    }

    fn server(&mut self, name: &str, reply_to: u64, frame: v1::server_frame::Frame) {
        self.add("ServerFrame", name, v1::ServerFrame { reply_to, frame: Some(frame) });
    }

    fn send(&mut self, name: &str, to: v1::send::To, body: v1::send::Body) {
        let send = v1::Send { to: Some(to), epoch: 1_700_000_000_000_000, n: 3, body: Some(body) };
        self.client(name, 9, v1::client_frame::Frame::Send(send));
    }

    fn entry(&mut self, name: &str, no: u64, event: v1::entry::Event) {
        let entry = v1::Entry { no, event: Some(event), ..entry() };
        self.add("Entry", name, entry);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn direct() -> ConversationId {
    ConversationId::direct(&UserId::new("ann").unwrap(), &UserId::new("bob").unwrap())
}

fn group() -> ConversationId {
    ConversationId::group(&UserId::new("ann").unwrap(), &DeviceId::new("phone").unwrap(), "key-1").unwrap()
}

fn message() -> v1::Message {
    v1::Message { kind: 1, data: Bytes::from_static("grüß dich".as_bytes()) }
}

fn entry() -> v1::Entry {
    v1::Entry {
        seq: 41,
        conversation: direct().to_bytes(),
        no: 7,
        time_us: 1_700_000_000_123_456,
        sender: "ann".into(),
        device: "phone".into(),
        epoch: 1_700_000_000_000_000,
        n: 3,
        peer: "bob".into(),
        event: Some(v1::entry::Event::Message(message())),
    }
}

fn fence() -> v1::Fence {
    v1::Fence { node: "conn-1".into(), incarnation: 1_700_000_000_000_000, reactor: 1, link: 4_242 }
}

fn settings() -> v1::Settings {
    v1::Settings {
        version: 2,
        group_members_max: 200,
        device_policy: v1::DevicePolicy::OnePerClass.into(),
        oldest_stays: true,
        devices_per_user_max: 8,
    }
}

fn vectors() -> Vectors {
    let pool = DescriptorPool::decode(proto::SCHEMA).unwrap();
    let mut v = Vectors { pool, rows: Vec::new() };
    client_frames(&mut v);
    server_frames(&mut v);
    entries(&mut v);
    message_records(&mut v);
    timeline_records(&mut v);
    node_records(&mut v);
    v
}

fn client_frames(v: &mut Vectors) {
    use v1::client_frame::Frame;
    use v1::send::{Body, To};
    let user = || To::User("bob".into());
    let to_group = || To::Group(group().to_bytes());
    let list = || vec!["bob".to_owned(), "carol".to_owned()];
    let sign_in = v1::SignIn {
        token: "header.claims.signature".into(),
        protocol: 1,
        device_class: "phone".into(),
        client: "example 1.0".into(),
        resume_ticket: Bytes::new(),
    };
    v.client("sign in", 1, Frame::SignIn(sign_in.clone()));
    let ticket = v1::SignIn { token: String::new(), resume_ticket: Bytes::from_static(b"ticket"), ..sign_in };
    v.client("sign in by resume ticket", 1, Frame::SignIn(ticket));
    v.client("ping", 0, Frame::Ping(v1::Ping { battery: None }));
    v.client("ping with an empty battery", 0, Frame::Ping(v1::Ping { battery: Some(0) }));
    v.client("ack", 0, Frame::Ack(v1::Ack { seq: 41 }));
    v.client("sync", 3, Frame::Sync(v1::Sync { after: 40, limit: 100 }));
    let query = v1::MembersRequest { group: group().to_bytes(), min_no: 1, after: String::new(), limit: 50 };
    let call = v1::Call { method: "godwit.v1.Groups/Members".into(), request: query.encode_to_vec().into() };
    v.client("call", 4, Frame::Call(call));
    v.client("notice", 0, Frame::Notice(notice("bob", "")));
    v.send("send text to a user", user(), Body::Message(message()));
    v.send("send text to a group", to_group(), Body::Message(message()));
    v.send("void", user(), Body::Void(v1::Void {}));
    let create = v1::CreateGroup { request_key: "key-1".into(), name: "Godwits".into(), members: list() };
    v.send("create group", to_group(), Body::CreateGroup(create));
    v.send("add members", to_group(), Body::AddMembers(v1::AddMembers { users: list() }));
    v.send("remove members", to_group(), Body::RemoveMembers(v1::RemoveMembers { users: list() }));
    v.send("leave group", to_group(), Body::LeaveGroup(v1::LeaveGroup {}));
    v.send("rename group", to_group(), Body::RenameGroup(v1::RenameGroup { name: "Waders".into() }));
    v.send("dissolve group", to_group(), Body::DissolveGroup(v1::DissolveGroup {}));
    v.send("block", user(), Body::Block(v1::Block {}));
    v.send("unblock", user(), Body::Unblock(v1::Unblock {}));
}

fn notice(user: &str, device: &str) -> v1::Notice {
    v1::Notice {
        user: user.into(),
        group: Bytes::new(),
        kind: 1,
        data: Bytes::from_static(b"typing"),
        device: device.into(),
    }
}

fn server_frames(v: &mut Vectors) {
    use v1::server_frame::Frame;
    let limits = v1::Limits {
        frame_bytes_max: 69_632,
        body_bytes_max: 65_536,
        unacked_sends_max: 64,
        sync_entries_max: 200,
        group_members_max: 500,
    };
    let result = v1::SignInResult {
        epoch: 1_700_000_000_000_000,
        head: 41,
        first: 1,
        cursor: 40,
        best_cursor: 41,
        limits: Some(limits),
        heartbeat_min_ms: 25_000,
        heartbeat_max_ms: 300_000,
        resume_ticket: Bytes::from_static(b"ticket"),
        resume_ticket_life_ms: 600_000,
        server_time_us: 1_700_000_000_123_456,
    };
    v.server("sign-in result", 1, Frame::SignInResult(result));
    v.server("pong", 0, Frame::Pong(v1::Pong {}));
    v.server("send ack", 9, Frame::SendAck(v1::SendAck {}));
    let second = v1::Entry { seq: 42, no: 8, n: 4, ..entry() };
    v.server("push of two", 0, Frame::Push(v1::Push { entries: vec![entry(), second] }));
    let page = v1::SyncPage { entries: vec![entry()], head: 42, first: 1, truncated: false };
    v.server("sync page", 3, Frame::SyncPage(page));
    let gone = v1::SyncPage { entries: vec![], head: 42, first: 30, truncated: true };
    v.server("sync page, truncated", 3, Frame::SyncPage(gone));
    v.server("sync hint", 0, Frame::SyncHint(v1::SyncHint { head: 42 }));
    let member = v1::Member { user: "ann".into(), role: v1::Role::Owner.into(), since: 1 };
    let members =
        v1::MembersResponse { name: "Godwits".into(), members: vec![member], no: 1, ..Default::default() };
    v.server(
        "call result",
        4,
        Frame::CallResult(v1::CallResult { response: members.encode_to_vec().into() }),
    );
    v.server("notice to the device", 0, Frame::Notice(notice("ann", "phone")));
    let away = v1::GoAway { code: 3_000, within_ms: 10_000, addresses: vec!["127.0.0.2:7100".into()] };
    v.server("go away", 0, Frame::GoAway(away));
    v.server("kick", 0, Frame::Kick(v1::Kick { code: 3_505, reason: "replaced".into(), after_ms: 0 }));
    let about = v1::SendRef { conversation: direct().to_bytes(), epoch: 1_700_000_000_000_000, n: 3 };
    let error = Fault { code: Code::RateLimited, after_ms: 500, detail: "20 sends a second".into() };
    v.server("error about a send", 9, Frame::Error(error.to_error(Some(about.clone()))));
    let gap = Fault::new(Code::OutOfOrder, "n 3 is missing");
    v.server("out of order", 0, Frame::Error(gap.to_error(Some(about))));
}

fn entries(v: &mut Vectors) {
    use v1::entry::Event;
    let member = |user: &str, role: v1::Role| v1::Member { user: user.into(), role: role.into(), since: 1 };
    let users = || vec!["bob".to_owned()];
    let created = v1::GroupCreated {
        name: "Godwits".into(),
        members: vec![member("ann", v1::Role::Owner), member("bob", v1::Role::Member)],
    };
    v.entry("message", 7, Event::Message(message()));
    v.entry("group created", 1, Event::GroupCreated(created));
    let added = v1::MembersAdded { users: users(), name: "Godwits".into(), members: 3 };
    v.entry("members added", 2, Event::MembersAdded(added));
    v.entry("members removed", 3, Event::MembersRemoved(v1::MembersRemoved { users: users() }));
    v.entry(
        "member left",
        4,
        Event::MemberLeft(v1::MemberLeft { user: "ann".into(), new_owner: "bob".into() }),
    );
    v.entry("group renamed", 5, Event::GroupRenamed(v1::GroupRenamed { name: "Waders".into() }));
    v.entry("group dissolved", 6, Event::GroupDissolved(v1::GroupDissolved {}));
    v.entry("blocked", 0, Event::Blocked(v1::Blocked {}));
    v.entry("unblocked", 0, Event::Unblocked(v1::Unblocked {}));
    let no = v1::Rejected { code: 1_202, name: "BLOCKED".into(), detail: String::new() };
    v.entry("rejected", 0, Event::Rejected(no));
}

fn message_records(v: &mut Vectors) {
    use v1::message_record::Record;
    let send = v1::Send {
        to: Some(v1::send::To::User("bob".into())),
        epoch: 1_700_000_000_000_000,
        n: 3,
        body: Some(v1::send::Body::Message(message())),
    };
    let submission = v1::Submission {
        conversation: direct().to_bytes(),
        user: "ann".into(),
        device: "phone".into(),
        send: Some(send),
    };
    let mut add =
        |name: &str, record| v.add("MessageRecord", name, v1::MessageRecord { record: Some(record) });
    add("submission", Record::Submission(submission));
    add("owner of messages", Record::Owner(v1::Owner { node: "logic-1".into(), run: 77 }));
    add("settings of messages", Record::Settings(settings()));
    add("fired in messages", Record::Fired(v1::Fired { key: Bytes::from_static(b"key"), token: 5 }));
}

fn timeline_records(v: &mut Vectors) {
    use v1::delivery::What;
    use v1::timeline_record::Record;
    let posted = v1::Posted {
        conversation: direct().to_bytes(),
        no: 7,
        kind: 16,
        entry: v1::Entry { seq: 0, ..entry() }.encode_to_vec().into(),
    };
    let gap = v1::SendRef { conversation: direct().to_bytes(), epoch: 1_700_000_000_000_000, n: 3 };
    let delivery = |what, device: &str| v1::Delivery {
        users: vec!["ann".into()],
        what: Some(what),
        device: device.into(),
    };
    let output = |delivery| v1::Output {
        source_partition: 5,
        source: 1_700_000_000_123_456,
        prev: 1_700_000_000_123_000,
        deliveries: vec![delivery],
    };
    let start = v1::SessionStart {
        user: "ann".into(),
        device: "phone".into(),
        device_class: "phone".into(),
        fence: Some(fence()),
    };
    let cursor = v1::Cursor { user: "ann".into(), device: "phone".into(), seq: 41 };
    let mut add =
        |name: &str, record| v.add("TimelineRecord", name, v1::TimelineRecord { record: Some(record) });
    add("output", Record::Output(output(delivery(What::Posted(posted), ""))));
    add("output, out of order", Record::Output(output(delivery(What::OutOfOrder(gap), "phone"))));
    add("session start", Record::SessionStart(start));
    add("session end", Record::SessionEnd(v1::SessionEnd { fence: Some(fence()), user: "ann".into() }));
    add("cursors", Record::Cursors(v1::Cursors { cursors: vec![cursor] }));
    add("node down", Record::NodeDown(v1::NodeDown { node: "conn-1".into(), incarnation: 1 }));
    add("owner of timelines", Record::Owner(v1::Owner { node: "logic-1".into(), run: 78 }));
    add("settings of timelines", Record::Settings(settings()));
    add("fired in timelines", Record::Fired(v1::Fired { key: Bytes::from_static(b"key"), token: 5 }));
}

fn node_records(v: &mut Vectors) {
    use v1::node_record::Record;
    let join = v1::Join {
        node: "conn-1".into(),
        nonce: 99,
        stream_address: "127.0.0.1:7120".into(),
        api_address: "127.0.0.1:7110".into(),
        logic: true,
    };
    let state = v1::NodeState {
        join: Some(join.clone()),
        incarnation: 1_700_000_000_000_000,
        renewed_tick: 1_700_000_000_123_456,
        renewals: 12,
        links: 3,
        draining: false,
        left: true,
    };
    let renewal = v1::Renewal { node: "conn-1".into(), incarnation: 1, links: 3, draining: true };
    let skip = v1::Skip { topic: 1, partition: 5, tick: 1_700_000_000_123_456 };
    let snapshot = v1::NodeSnapshot { tick: 1, nodes: vec![state], skips: vec![skip], next_offset: 7 };
    let mut add = |name: &str, record| v.add("NodeRecord", name, v1::NodeRecord { record: Some(record) });
    add("join", Record::Join(join));
    add("renewal", Record::Renewal(renewal));
    add("leave", Record::Leave(v1::Leave { node: "conn-1".into(), incarnation: 1 }));
    add("skip", Record::Skip(skip));
    add("node snapshot", Record::Snapshot(snapshot));
}

/// Ids are bytes on the wire too: other languages must make the same.
fn id_rows() -> Value {
    json!([
        {"of": "direct", "users": ["ann", "bob"], "id": direct().to_string()},
        {"of": "direct", "users": ["ann", "ann"],
         "id": ConversationId::direct(&UserId::new("ann").unwrap(), &UserId::new("ann").unwrap()).to_string()},
        {"of": "group", "user": "ann", "device": "phone", "request_key": "key-1", "id": group().to_string()},
    ])
}

#[test]
fn every_frame_has_the_bytes_it_had() {
    let now = json!({"frames": vectors().rows, "conversation_ids": id_rows()});
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(FILE, serde_json::to_string_pretty(&now).unwrap() + "\n").unwrap();
    }
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    let (now, golden) = (now.as_object().unwrap(), golden.as_object().unwrap());
    assert_eq!(now["conversation_ids"], golden["conversation_ids"]);
    let (now, golden) = (now["frames"].as_array().unwrap(), golden["frames"].as_array().unwrap());
    for (a, b) in now.iter().zip(golden) {
        assert_eq!(a, b, "{} has changed on the wire", b["name"]);
    }
    assert_eq!(now.len(), golden.len(), "a vector was added or lost");
}

#[test]
fn the_json_of_a_vector_makes_its_bytes() {
    let vectors = vectors();
    for row in &vectors.rows {
        let descriptor = vectors.pool.get_message_by_name(row["type"].as_str().unwrap()).unwrap();
        let read = DynamicMessage::deserialize(descriptor, &row["json"]).unwrap();
        assert_eq!(hex(&read.encode_to_vec()), row["bytes"].as_str().unwrap(), "{}", row["name"]);
    }
}

#[test]
fn every_alternative_has_a_vector() {
    let vectors = vectors();
    let mut seen = BTreeSet::new();
    for row in &vectors.rows {
        let descriptor = vectors.pool.get_message_by_name(row["type"].as_str().unwrap()).unwrap();
        walk(&DynamicMessage::deserialize(descriptor, &row["json"]).unwrap(), &mut seen);
    }
    for oneof in ONEOFS {
        let (message, name) = oneof.split_once('.').unwrap();
        let descriptor = vectors.pool.get_message_by_name(&format!("godwit.v1.{message}")).unwrap();
        let oneof = descriptor.oneofs().find(|o| o.name() == name).unwrap();
        for field in oneof.fields() {
            assert!(seen.contains(field.full_name()), "no vector has {}", field.full_name());
        }
    }
}

fn walk(message: &DynamicMessage, seen: &mut BTreeSet<String>) {
    use prost_reflect::Value as Field;
    for (field, value) in message.fields() {
        seen.insert(field.full_name().to_owned());
        match value {
            Field::Message(inner) => walk(inner, seen),
            Field::List(list) => list.iter().filter_map(Field::as_message).for_each(|m| walk(m, seen)),
            _ => {}
        }
    }
}
