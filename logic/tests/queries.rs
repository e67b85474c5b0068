//! Who may ask what, and what they are told: the queries over rows in an embedded store.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use logic::api::Api;
use prost::Message;
use proto::{ConversationId, DeviceId, Tick, UserId, v1};
use storage::embedded::{self, Options};
use storage::log::Partitions;
use storage::tables::{ConversationWrite, HistoryRow, Store};
use v1::history_request::Of;

struct Fixture {
    store: Arc<dyn Store>,
    api: Api,
    _dir: tempfile::TempDir,
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn group(key: &str) -> ConversationId {
    ConversationId::group(&user("owner"), &DeviceId::new("d").unwrap(), key).unwrap()
}

fn row(role: v1::Role, since: u64, until: u64) -> Bytes {
    v1::MemberRow { role: role.into(), since, until }.encode_to_vec().into()
}

impl Fixture {
    /// Histories of 30 messages each: the group "g" with its owner, a member since 10, and a former member
    /// from 5 to 20; the same dissolved as "d"; and the pair of ann and bob.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new(Partitions { messages: 1, timelines: 1 });
        options.reserve_bytes = 0;
        let data = embedded::open(dir.path(), options).unwrap();
        let store = data.store();
        let fixture = Self { api: Api::new(store.clone(), 256), store, _dir: dir };
        let members = vec![
            (user("former"), row(v1::Role::None, 5, 20)),
            (user("member"), row(v1::Role::Member, 10, 0)),
            (user("owner"), row(v1::Role::Owner, 1, 0)),
        ];
        let (kind_of, pair) =
            (v1::ConversationKind::Group, ConversationId::direct(&user("ann"), &user("bob")));
        fixture.write(group("g"), kind_of, 30, members.clone(), 1).await;
        fixture.write(group("d"), v1::ConversationKind::Dissolved, 30, members, 1).await;
        fixture.write(pair, v1::ConversationKind::Direct, 30, vec![], 1).await;
        fixture.write(group("never"), v1::ConversationKind::Unknown, 0, vec![], 1).await;
        for id in [group("g"), group("d"), pair] {
            for no in 1..=30 {
                let entry = v1::Entry { no, ..Default::default() }.encode_to_vec().into();
                let row = HistoryRow { conversation: id, no, at: Tick(no), entry };
                fixture.store.histories().put(vec![row]).await.unwrap();
            }
        }
        fixture
    }

    async fn write(
        &self,
        id: ConversationId,
        kind: v1::ConversationKind,
        no: u64,
        members: Vec<(UserId, Bytes)>,
        at: u64,
    ) {
        let head = v1::ConversationHead { kind: kind.into(), no, name: "G".into(), ..Default::default() };
        let write = ConversationWrite {
            id,
            at: Tick(at),
            head: head.encode_to_vec().into(),
            members,
            senders: vec![],
        };
        self.store.conversations().save(vec![write]).await.unwrap();
    }

    async fn members(&self, who: &str, request: v1::MembersRequest) -> Result<v1::MembersResponse, String> {
        self.call(who, "godwit.v1.Groups/Members", &request).await
    }

    async fn history(&self, who: &str, request: v1::HistoryRequest) -> Result<(Vec<u64>, bool), String> {
        let response: v1::HistoryResponse =
            self.call(who, "godwit.v1.Conversations/History", &request).await?;
        Ok((response.entries.iter().map(|entry| entry.no).collect(), response.more))
    }

    async fn call<M: Message + Default>(
        &self,
        who: &str,
        method: &str,
        request: &impl Message,
    ) -> Result<M, String> {
        let call = v1::Call { method: method.into(), request: request.encode_to_vec().into() };
        let answer = self.api.call(&user(who), call).await.map_err(|fault| fault.code.name().to_owned())?;
        Ok(M::decode(answer.response).unwrap())
    }
}

fn of_group(id: ConversationId) -> v1::HistoryRequest {
    v1::HistoryRequest { of: Some(Of::Group(id.to_bytes())), ..Default::default() }
}

fn of_user(name: &str) -> v1::HistoryRequest {
    v1::HistoryRequest { of: Some(Of::User(name.into())), ..Default::default() }
}

fn fault<T>(name: &str) -> Result<T, String> {
    Err(name.into())
}

#[tokio::test]
async fn everyone_reads_what_they_were_there_for() {
    let fixture = Fixture::new().await;
    for id in [group("g"), group("d")] {
        for (who, want) in [
            ("owner", Ok(((1..=30).collect(), false))),
            ("member", Ok(((10..=30).collect(), false))),
            ("former", Ok(((5..=20).collect(), false))),
            ("stranger", fault("NOT_MEMBER")),
        ] {
            assert_eq!(fixture.history(who, of_group(id)).await, want, "{who}");
        }
        // Asking beyond what one may read does not reach further.
        let beyond = v1::HistoryRequest { from: 25, backward: true, ..of_group(id) };
        assert_eq!(fixture.history("former", beyond).await, Ok(((5..=20).rev().collect(), false)));
        let below = v1::HistoryRequest { from: 20, ..of_group(id) };
        assert_eq!(fixture.history("former", below).await, Ok((vec![], false)));
    }
    assert_eq!(fixture.history("ann", of_user("bob")).await, Ok(((1..=30).collect(), false)));
    assert_eq!(fixture.history("bob", of_user("ann")).await, Ok(((1..=30).collect(), false)));
    assert_eq!(fixture.history("eve", of_user("bob")).await, Ok((vec![], false)));
    let pair = ConversationId::direct(&user("ann"), &user("bob"));
    for who in ["ann", "eve"] {
        assert_eq!(fixture.history(who, of_group(pair)).await, fault("NO_SUCH_CONVERSATION"));
    }
    assert_eq!(fixture.history("owner", of_group(group("none"))).await, fault("NO_SUCH_CONVERSATION"));
    assert_eq!(fixture.history("owner", of_group(group("never"))).await, fault("NO_SUCH_CONVERSATION"));
}

#[tokio::test]
async fn only_members_see_members() {
    let fixture = Fixture::new().await;
    let ask = |id: ConversationId| v1::MembersRequest { group: id.to_bytes(), ..Default::default() };
    for who in ["owner", "member"] {
        let answer = fixture.members(who, ask(group("g"))).await.unwrap();
        let names: Vec<_> = answer.members.iter().map(|m| (m.user.as_str(), m.role(), m.since)).collect();
        assert_eq!(names, [("member", v1::Role::Member, 10), ("owner", v1::Role::Owner, 1)]);
        assert_eq!((answer.name.as_str(), answer.no, answer.more), ("G", 30, false));
    }
    let pair = ConversationId::direct(&user("ann"), &user("bob"));
    for (who, id, code) in [
        ("former", group("g"), "NOT_MEMBER"),
        ("stranger", group("g"), "NOT_MEMBER"),
        ("owner", group("d"), "DISSOLVED"),
        ("owner", group("none"), "NO_SUCH_CONVERSATION"),
        ("owner", group("never"), "NO_SUCH_CONVERSATION"),
        ("ann", pair, "NO_SUCH_CONVERSATION"),
    ] {
        assert_eq!(fixture.members(who, ask(id)).await, fault(code), "{who} {id}");
    }
}

#[tokio::test]
async fn pages_of_members_leave_former_ones_out_and_end_rightly() {
    let fixture = Fixture::new().await;
    let name = |i: usize| format!("u{i:03}");
    let role = |i: usize| if i.is_multiple_of(3) { v1::Role::None } else { v1::Role::Member };
    let members = (0..100).map(|i| (user(&name(i)), row(role(i), 1, 9))).collect();
    fixture.write(group("big"), v1::ConversationKind::Group, 200, members, 1).await;
    let want: Vec<String> = (0..100).filter(|i: &usize| !i.is_multiple_of(3)).map(name).collect();
    for limit in [1, 2, 7, 65, 66, 67, 500, 0] {
        let (mut got, mut after) = (Vec::new(), String::new());
        loop {
            let request =
                v1::MembersRequest { group: group("big").to_bytes(), after, limit, ..Default::default() };
            let answer = fixture.members("u001", request).await.unwrap();
            assert!(limit == 0 || answer.members.len() <= limit as usize);
            got.extend(answer.members.into_iter().map(|m| m.user));
            assert_eq!(answer.more, !answer.next.is_empty());
            if !answer.more {
                break;
            }
            assert!(got.len() < want.len(), "more was promised after the last");
            after = answer.next;
        }
        assert_eq!(got, want, "{limit}");
    }
}

#[tokio::test]
async fn one_call_looks_at_so_many_former_members_and_no_more() {
    let fixture = Fixture::new().await;
    let former = (0..5_000).map(|i| (user(&format!("f{i:04}")), row(v1::Role::None, 1, 9)));
    let members = former.chain([(user("last"), row(v1::Role::Owner, 1, 9))]).collect();
    fixture.write(group("old"), v1::ConversationKind::Group, 200, members, 1).await;
    let mut request = v1::MembersRequest { group: group("old").to_bytes(), ..Default::default() };
    let mut pages = Vec::new();
    loop {
        let answer = fixture.members("last", request.clone()).await.unwrap();
        pages.push(answer.members.len());
        if !answer.more {
            break;
        }
        request.after = answer.next;
    }
    assert_eq!(pages, [0, 0, 1]);
}

#[tokio::test]
async fn history_is_read_in_both_directions_by_pages() {
    let fixture = Fixture::new().await;
    let page = |from, backward, limit| v1::HistoryRequest { from, backward, limit, ..of_user("bob") };
    for (from, backward, limit, want, more) in [
        (0, true, 10, (21..=30).rev().collect::<Vec<_>>(), true),
        (21, true, 10, (11..=20).rev().collect(), true),
        (11, true, 10, (1..=10).rev().collect(), false),
        (11, true, 9, (2..=10).rev().collect(), true),
        (1, true, 9, vec![], false),
        (0, false, 29, (1..=29).collect(), true),
        (0, false, 30, (1..=30).collect(), false),
        (29, false, 1, vec![30], false),
        (30, false, 1, vec![], false),
        (u64::MAX, false, 1, vec![], false),
    ] {
        assert_eq!(fixture.history("ann", page(from, backward, limit)).await, Ok((want, more)), "{from}");
    }
}

#[tokio::test]
async fn a_history_with_a_hole_is_not_shown() {
    let fixture = Fixture::new().await;
    fixture
        .write(
            group("hole"),
            v1::ConversationKind::Group,
            3,
            vec![(user("owner"), row(v1::Role::Owner, 1, 0))],
            1,
        )
        .await;
    for no in [1, 3] {
        let entry = v1::Entry { no, ..Default::default() }.encode_to_vec().into();
        let row = HistoryRow { conversation: group("hole"), no, at: Tick(no), entry };
        fixture.store.histories().put(vec![row]).await.unwrap();
    }
    assert_eq!(fixture.history("owner", of_group(group("hole"))).await, fault("STALE_READ"));
}

#[tokio::test]
async fn a_caller_that_has_seen_more_waits_for_it_and_not_for_ever() {
    let fixture = Fixture::new().await;
    let newer = v1::HistoryRequest { min_no: 31, ..of_group(group("g")) };
    let group_to_be = v1::MembersRequest { group: group("none").to_bytes(), min_no: 1, ..Default::default() };
    let both = async {
        tokio::join!(fixture.history("owner", newer.clone()), fixture.members("owner", group_to_be))
    };
    let (history, members) = tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
    assert_eq!((history, members), (fault("UNAVAILABLE"), fault("UNAVAILABLE")));
    let (waited, ()) = tokio::join!(fixture.history("owner", newer), async {
        tokio::task::yield_now().await;
        let entry = v1::Entry { no: 31, ..Default::default() }.encode_to_vec().into();
        let row = HistoryRow { conversation: group("g"), no: 31, at: Tick(31), entry };
        fixture.store.histories().put(vec![row]).await.unwrap();
        fixture.write(group("g"), v1::ConversationKind::Group, 31, vec![], 2).await;
    });
    assert_eq!(waited, Ok(((1..=31).collect(), false)));
}

#[tokio::test]
async fn what_makes_no_sense_is_said_to_make_none() {
    let fixture = Fixture::new().await;
    let none = v1::HistoryRequest::default();
    assert_eq!(fixture.history("ann", none).await, fault("INVALID_ARGUMENT"));
    let short = v1::HistoryRequest { of: Some(Of::Group(Bytes::from_static(b"x"))), ..Default::default() };
    assert_eq!(fixture.history("ann", short).await, fault("INVALID_ARGUMENT"));
    assert_eq!(fixture.history("ann", of_user("")).await, fault("INVALID_ARGUMENT"));
    let empty = v1::MembersRequest::default();
    let unknown: Result<v1::MembersResponse, _> =
        fixture.call("ann", "godwit.v1.Groups/Rename", &empty).await;
    assert_eq!(unknown, fault("UNKNOWN_METHOD"));
    let call = v1::Call { method: "godwit.v1.Groups/Members".into(), request: Bytes::from_static(&[0xff]) };
    assert_eq!(fixture.api.call(&user("ann"), call).await.unwrap_err().code.name(), "INVALID_ARGUMENT");
}
