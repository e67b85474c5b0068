//! Devices that are who they say, and want what is not theirs: another's conversation, another's group, another's
//! history, another's name.

use bytes::Bytes;
use prost::Message;
use proto::close::Close;
use proto::v1::{
    self, client_frame::Frame as C, entry::Event, send::Body, send::To, server_frame::Frame as S,
};
use proto::{Code, ConversationId, DeviceId, UserId};
use tests::{DEADLINE, Device, sign_in, text, within};

use crate::{MIB, World};

/// A link that counts its sends.
struct Peer {
    link: Device,
    epoch: u64,
    request: u64,
}

impl Peer {
    fn new(world: &World, user: &str) -> Self {
        let (link, epoch) = world.signed_in(user, "phone");
        Self { link, epoch, request: 1 }
    }

    /// Sends, and hears the ack and the entry that came of it: none for what was carried out, or the rejection's code.
    fn send(&mut self, to: To, n: u64, body: Body) -> Option<Code> {
        self.request += 1;
        self.link
            .send(self.request, C::Send(v1::Send { to: Some(to), epoch: self.epoch, n, body: Some(body) }));
        let (mut acked, mut entry) = (false, None);
        while !acked || entry.is_none() {
            match self.link.expect() {
                S::SendAck(_) => acked = true,
                S::Push(push) => entry = push.entries.into_iter().next(),
                other => panic!("{other:?}"),
            }
        }
        match entry?.event? {
            Event::Rejected(rejected) => Code::from_number(rejected.code),
            _ => None,
        }
    }

    fn call(&mut self, method: &str, request: &impl Message) -> Result<Bytes, Code> {
        self.request += 1;
        let call =
            v1::Call { method: format!("godwit.v1.{method}"), request: request.encode_to_vec().into() };
        self.link.send(self.request, C::Call(call));
        match self.link.expect() {
            S::CallResult(result) => Ok(result.response),
            S::Error(error) => Err(Code::from_number(error.code).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until it was told of so many entries.
    fn hear(&mut self, entries: usize) {
        let mut heard = 0;
        while heard < entries {
            match self.link.expect() {
                S::Push(push) => heard += push.entries.len(),
                other => panic!("{other:?}"),
            }
        }
    }

    /// What it was told until now: every frame before the answer to a ping.
    fn told(&mut self) -> Vec<S> {
        self.link.send(9_999, C::Ping(v1::Ping::default()));
        let until_pong = || self.link.next().filter(|(id, _)| *id != 9_999).map(|(_, frame)| frame);
        std::iter::from_fn(until_pong).collect()
    }
}

fn message(text: &'static str) -> Body {
    Body::Message(v1::Message { kind: 1, data: Bytes::from_static(text.as_bytes()) })
}

fn id(user: &str) -> UserId {
    UserId::new(user).unwrap()
}

/// A group of dan and eve, created by dan.
fn group_of_others(dan: &mut Peer) -> Bytes {
    let device = DeviceId::new("phone").unwrap();
    let group = ConversationId::group(&id("dan"), &device, "key").unwrap().to_bytes();
    let create =
        v1::CreateGroup { request_key: "key".into(), name: "ours".into(), members: vec!["eve".into()] };
    assert_eq!(dan.send(To::Group(group.clone()), 1, Body::CreateGroup(create)), None);
    assert_eq!(dan.send(To::Group(group.clone()), 2, message("secret")), None);
    group
}

#[test]
fn nobody_says_reads_or_changes_anything_in_a_conversation_of_others() {
    let world = World::start(&[]);
    let (mut dan, mut eve) = (Peer::new(&world, "dan"), Peer::new(&world, "eve"));
    let group = group_of_others(&mut dan);
    assert_eq!(dan.send(To::User("eve".into()), 1, message("just us")), None);
    eve.hear(3);
    let members = v1::MembersRequest { group: group.clone(), ..v1::MembersRequest::default() };
    within(DEADLINE, "the tables know the group", || dan.call("Groups/Members", &members).ok());
    let direct = ConversationId::direct(&id("dan"), &id("eve")).to_bytes();
    world.under_attack("impostors", 8 * MIB, || {
        let mut mal = Peer::new(&world, "mal");
        writes(&mut mal, &group, &direct);
        reads(&mut mal, &group, &direct);
    });
    for peer in [&mut dan, &mut eve] {
        let told = peer.told();
        assert_eq!(told, [], "whoever is not concerned hears nothing");
    }
    // And what they say to each other goes on under the numbers that it would have had.
    assert_eq!(dan.send(To::Group(group), 3, message("still ours")), None);
    assert!(matches!(&eve.link.expect(), S::Push(push) if push.entries[0].no == 3));
}

fn writes(mal: &mut Peer, group: &Bytes, direct: &Bytes) {
    let users = || vec!["mal".into()];
    let bodies = [
        message("let me in"),
        Body::AddMembers(v1::AddMembers { users: users() }),
        Body::RemoveMembers(v1::RemoveMembers { users: vec!["eve".into()] }),
        Body::RenameGroup(v1::RenameGroup { name: "mine".into() }),
        Body::LeaveGroup(v1::LeaveGroup {}),
        Body::DissolveGroup(v1::DissolveGroup {}),
    ];
    for (n, body) in (1..).zip(bodies.clone()) {
        assert_eq!(mal.send(To::Group(group.clone()), n, body), Some(Code::NotMember), "{n}");
    }
    // A direct conversation is no group, whoever names it as one.
    for (n, body) in (1..).zip(bodies) {
        assert_eq!(mal.send(To::Group(direct.clone()), n, body), Some(Code::NoSuchConversation), "{n}");
    }
    // An id is made of who creates.
    let create = |key: &str| {
        Body::CreateGroup(v1::CreateGroup {
            request_key: key.into(),
            name: "mine".into(),
            members: vec!["eve".into()],
        })
    };
    assert_eq!(mal.send(To::Group(group.clone()), 7, create("key")), Some(Code::InvalidArgument));
    assert_eq!(mal.send(To::Group(direct.clone()), 7, create("key")), Some(Code::InvalidArgument));
    assert_eq!(
        mal.send(To::Group(Bytes::from_static(&[9; 16])), 1, create("key")),
        Some(Code::InvalidArgument)
    );
}

fn reads(mal: &mut Peer, group: &Bytes, direct: &Bytes) {
    let history = |of| v1::HistoryRequest { of: Some(of), backward: true, ..v1::HistoryRequest::default() };
    for (id, code) in [(group, Code::NotMember), (direct, Code::NoSuchConversation)] {
        let of = v1::history_request::Of::Group(id.clone());
        assert_eq!(mal.call("Conversations/History", &history(of)), Err(code));
        let members = v1::MembersRequest { group: id.clone(), ..v1::MembersRequest::default() };
        assert_eq!(mal.call("Groups/Members", &members), Err(code));
    }
    // The conversation with a user is one's own with them, and empty.
    let of = v1::history_request::Of::User("eve".into());
    let read = mal.call("Conversations/History", &history(of)).unwrap();
    assert_eq!(v1::HistoryResponse::decode(read).unwrap().entries, []);
}

#[test]
fn a_link_that_signs_in_twice_ends_and_nobody_else_does() {
    let world = World::start(&[]);
    let mut dan = Peer::new(&world, "dan");
    let tokens = ["dan", "mal"].map(|user| world.token(user, "phone"));
    world.under_attack("links that sign in twice", 8 * MIB, || {
        for i in 0..200 {
            // As another, whose token was stolen, and as itself.
            let (mut mal, _) = world.signed_in("mal", "phone");
            mal.send(2, C::SignIn(sign_in(&tokens[i % 2])));
            mal.expect_kick(Close::OutOfState);
        }
    });
    assert_eq!(world.closes(Close::OutOfState), 200.0);
    assert_eq!(dan.told(), [], "the other's link goes on");
}

#[test]
fn a_device_says_nothing_in_the_name_of_another() {
    let world = World::start(&[]);
    let mut eve = Peer::new(&world, "eve");
    let (mut mal, epoch) = world.signed_in("mal", "phone");
    // Fields of records, and of frames that a server sends, mean nothing in what a device sends.
    let claim = v1::Submission { user: "dan".into(), device: "phone".into(), ..v1::Submission::default() };
    let entry = v1::Entry { sender: "dan".into(), device: "phone".into(), ..v1::Entry::default() };
    let claims = [(15_u32, claim.encode_to_vec()), (16, entry.encode_to_vec())];
    world.under_attack("another's name", 8 * MIB, || {
        for n in 1..=200 {
            let frame = v1::ClientFrame { request_id: 1 + n, frame: Some(text("eve", epoch, n)) };
            let mut frame = frame.encode_to_vec();
            for (field, bytes) in &claims {
                prost::encoding::bytes::encode(*field, bytes, &mut frame);
            }
            mal.write(&[&proto::frame::prefix(frame.len())[..], &frame].concat());
            let S::Push(push) = eve.link.expect() else { panic!("no push") };
            let told = &push.entries[0];
            assert_eq!((told.sender.as_str(), told.device.as_str(), told.n), ("mal", "phone", n));
        }
    });
}
