//! The client on real sockets, against a server that says what the test tells it to.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use client::core::{Settings, Start};
use client::store::{Change, File, Memory, Saved, Store};
use client::{Cause, Client, Config, Error, Event, EventStream, Target, TokenSource, fixed_token};
use prost::Message as _;
use proto::frame::{self, Decoder};
use proto::{Code, ConversationId, DeviceId, Fault, UserId, limits, v1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use v1::client_frame::Frame as Up;
use v1::server_frame::Frame as Down;

const PATIENCE: Duration = Duration::from_secs(20);

/// The server's side of a link.
struct Peer {
    stream: TcpStream,
    decoder: Decoder,
}

impl Peer {
    async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        Self { stream, decoder: Decoder::new(limits::CLIENT_FRAME_BYTES_MAX) }
    }

    /// Accepts a link and signs it in.
    async fn live(listener: &TcpListener, epoch: u64, head: u64) -> Self {
        let mut peer = Self::accept(listener).await;
        let (request, up) = peer.expect().await;
        assert!(matches!(up, Up::SignIn(_)), "{up:?}");
        let result = v1::SignInResult { epoch, head, first: 1, ..v1::SignInResult::default() };
        peer.send(request, Down::SignInResult(result)).await;
        peer
    }

    async fn read(&mut self) -> Option<v1::ClientFrame> {
        loop {
            if let Some(message) = self.decoder.next_frame().unwrap() {
                return Some(v1::ClientFrame::decode(message).unwrap());
            }
            let read = self.stream.read_buf(self.decoder.buffer());
            if tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn expect(&mut self) -> (u64, Up) {
        let frame = self.read().await.expect("the client closed the link");
        (frame.request_id, frame.frame.unwrap())
    }

    async fn expect_text(&mut self) -> (u64, u64, u64, String) {
        match self.expect().await {
            (request, Up::Send(v1::Send { epoch, n, body: Some(v1::send::Body::Message(m)), .. })) => {
                (request, epoch, n, String::from_utf8(m.data.to_vec()).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    async fn send(&mut self, reply_to: u64, frame: Down) {
        let frame = v1::ServerFrame { reply_to, frame: Some(frame) };
        self.stream.write_all(&frame::to_bytes(&frame)).await.unwrap();
    }
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn config(address: &str, store: impl Store + 'static) -> Config {
    let mut settings = Settings::new(user("ann"), DeviceId::new("phone").unwrap());
    settings.start = Start::All;
    Config {
        addresses: vec![address.to_owned()],
        settings,
        token: fixed_token("token".into()),
        store: Box::new(store),
    }
}

fn bob() -> Target {
    Target::User(user("bob"))
}

fn entries(seqs: std::ops::RangeInclusive<u64>) -> Vec<v1::Entry> {
    seqs.map(|seq| v1::Entry { seq, ..v1::Entry::default() }).collect()
}

async fn next(events: &mut EventStream) -> Event {
    tokio::time::timeout(PATIENCE, events.next()).await.unwrap().expect("the client ended")
}

async fn next_entry(events: &mut EventStream) -> u64 {
    loop {
        if let Event::Entry(entry) = next(events).await {
            return entry.seq;
        }
    }
}

/// Who waits for the answer may be who has to take the events: more of them than the stream holds.
#[tokio::test]
async fn a_call_is_answered_though_nobody_takes_events_meanwhile() {
    const ENTRIES: u64 = 200;
    let (listener, address) = listen().await;
    let (client, mut events) = Client::connect(config(&address, Memory::default()));
    let mut peer = Peer::live(&listener, 10, 0).await;
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    peer.send(0, Down::Push(v1::Push { entries: entries(1..=ENTRIES) })).await;
    let answered = async {
        loop {
            if let (request, Up::Call(_)) = peer.expect().await {
                return peer.send(request, Down::CallResult(v1::CallResult::default())).await;
            }
        }
    };
    let bob = bob();
    let history = tokio::time::timeout(PATIENCE, client.history(&bob, 0, true, 10));
    let (history, ()) = tokio::join!(history, answered);
    history.expect("the answer came, and was not given").unwrap();
    for seq in 1..=ENTRIES {
        assert_eq!(next_entry(&mut events).await, seq);
    }
}

#[tokio::test]
async fn a_text_survives_a_broken_link_and_is_sent_again_as_it_was() {
    let (listener, address) = listen().await;
    let (client, mut events) = Client::connect(config(&address, Memory::default()));
    let mut peer = Peer::live(&listener, 10, 0).await;
    assert_eq!(next(&mut events).await, Event::Connected { epoch: 10, head: 0 });
    let local = client.send_text(bob(), "hello").await.unwrap();
    assert_eq!(peer.expect_text().await.1, 10);
    drop(peer);
    assert!(matches!(
        next(&mut events).await,
        Event::Disconnected { cause: Cause::Lost, retry_in_ms: Some(_) }
    ));
    let mut peer = Peer::live(&listener, 11, 0).await;
    let (request, epoch, n, text) = peer.expect_text().await;
    assert_eq!((epoch, n, text.as_str()), (10, 1, "hello"));
    peer.send(request, Down::SendAck(v1::SendAck {})).await;
    assert!(matches!(next(&mut events).await, Event::Connected { epoch: 11, .. }));
    assert!(matches!(next(&mut events).await, Event::Acked(sent) if sent.local == local));
    assert_eq!(client.close(Duration::from_secs(5)).await.unwrap(), 0);
    assert!(matches!(next(&mut events).await, Event::Disconnected { cause: Cause::App, .. }));
    assert_eq!(events.next().await, None);
    assert_eq!(peer.read().await, None);
    assert!(matches!(client.send_text(bob(), "x").await, Err(Error::Closed)));
}

#[tokio::test]
async fn what_the_file_store_holds_goes_out_in_the_next_run_and_entries_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let open = || File::open(dir.path(), &user("ann"), &DeviceId::new("phone").unwrap()).unwrap();
    let (listener, address) = listen().await;
    let (client, mut events) = Client::connect(config(&address, open()));
    let mut peer = Peer::live(&listener, 10, 0).await;
    peer.send(0, Down::Push(v1::Push { entries: entries(1..=3) })).await;
    for seq in 1..=3 {
        assert_eq!(next_entry(&mut events).await, seq);
    }
    client.send_text(bob(), "one").await.unwrap();
    client.send_text(bob(), "two").await.unwrap();
    let (request, ..) = peer.expect_text().await;
    peer.send(request, Down::SendAck(v1::SendAck {})).await;
    assert!(matches!(next(&mut events).await, Event::Acked(_)), "asking for this said that 3 is taken");
    assert_eq!(client.close(Duration::ZERO).await.unwrap(), 1);
    while events.next().await.is_some() {}
    drop(peer);

    let (client, mut events) = Client::connect(config(&address, open()));
    let mut peer = Peer::live(&listener, 11, 4).await;
    let mut got = vec![];
    while got.len() < 2 {
        match peer.expect().await {
            (request, Up::Send(send)) => {
                assert_eq!((send.epoch, send.n), (10, 2));
                peer.send(request, Down::SendAck(v1::SendAck {})).await;
                got.push("send");
            }
            (request, Up::Sync(sync)) => {
                assert_eq!(sync.after, 3);
                let page = v1::SyncPage { entries: entries(4..=4), head: 4, first: 1, truncated: false };
                peer.send(request, Down::SyncPage(page)).await;
                got.push("sync");
            }
            (_, Up::Ack(ack)) => assert_eq!(ack.seq, 3),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(next_entry(&mut events).await, 4);
    assert_eq!(client.close(PATIENCE).await.unwrap(), 0);
}

#[tokio::test]
async fn an_entry_that_the_app_is_busy_with_is_not_acknowledged() {
    let (listener, address) = listen().await;
    let (client, mut events) = Client::connect(config(&address, Memory::default()));
    let mut peer = Peer::live(&listener, 10, 0).await;
    peer.send(0, Down::Push(v1::Push { entries: entries(1..=2) })).await;
    assert_eq!(next_entry(&mut events).await, 1);
    assert_eq!(next_entry(&mut events).await, 2);
    loop {
        if let (_, Up::Ack(ack)) = peer.expect().await {
            assert!(ack.seq <= 1, "{ack:?}");
            if ack.seq == 1 {
                break;
            }
        }
    }
    assert!(tokio::time::timeout(Duration::from_millis(1), events.next()).await.is_err());
    assert_eq!(peer.expect().await.1, Up::Ack(v1::Ack { seq: 2 }));
    drop(client);
}

#[tokio::test]
async fn an_app_that_does_not_listen_holds_nothing_up_and_loses_nothing() {
    const ALL: u64 = 5_000;
    let (listener, address) = listen().await;
    let (client, mut events) = Client::connect(config(&address, Memory::default()));
    let mut peer = Peer::live(&listener, 10, 0).await;
    for first in (1..=ALL).step_by(100) {
        peer.send(0, Down::Push(v1::Push { entries: entries(first..=first + 99) })).await;
    }
    let serve = tokio::spawn(async move {
        while let Some(frame) = peer.read().await {
            if let Some(Up::Sync(sync)) = frame.frame {
                let last = (sync.after + 100).min(ALL);
                let page = v1::SyncPage {
                    entries: entries(sync.after + 1..=last),
                    head: ALL,
                    first: 1,
                    truncated: false,
                };
                peer.send(frame.request_id, Down::SyncPage(page)).await;
            }
        }
    });
    let local = client.send_text(bob(), "still here").await;
    assert!(local.is_ok());
    for seq in 1..=ALL {
        assert_eq!(next_entry(&mut events).await, seq);
    }
    drop(events);
    serve.await.unwrap();
}

#[tokio::test]
async fn queries_and_commands_reach_the_server_and_come_back() {
    let (listener, address) = listen().await;
    let (client, _events) = Client::connect(config(&address, Memory::default()));
    let mut peer = Peer::live(&listener, 10, 0).await;
    let (group, _) = client.create_group("crew", &[user("bob")]).await.unwrap();
    let (request, Up::Send(send)) = peer.expect().await else { panic!() };
    let Some(v1::send::Body::CreateGroup(create)) = send.body else { panic!() };
    let made = ConversationId::group(&user("ann"), &DeviceId::new("phone").unwrap(), &create.request_key);
    assert_eq!((made.unwrap(), create.members), (group, vec![String::from("bob")]));
    assert_eq!(send.to, Some(v1::send::To::Group(group.to_bytes())));
    peer.send(request, Down::SendAck(v1::SendAck {})).await;

    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.members(group, 7).await }
    });
    for (user, more) in [("ann", true), ("bob", false)] {
        let (request, Up::Call(call)) = peer.expect().await else { panic!() };
        assert_eq!(call.method, "godwit.v1.Groups/Members");
        let asked = v1::MembersRequest::decode(call.request).unwrap();
        assert_eq!((asked.min_no, asked.after.as_str()), (7, if more { "" } else { "ann" }));
        let members = vec![v1::Member { user: user.into(), role: 1, since: 1 }];
        let response = v1::MembersResponse { name: "crew".into(), members, more, no: 9, next: user.into() };
        let response = Bytes::from(response.encode_to_vec());
        peer.send(request, Down::CallResult(v1::CallResult { response })).await;
    }
    let members = asking.await.unwrap().unwrap();
    assert_eq!((members.members.len(), members.name.as_str()), (2, "crew"));

    let asking = tokio::spawn(async move { client.history(&bob(), 0, true, 5).await });
    let (request, Up::Call(_)) = peer.expect().await else { panic!() };
    peer.send(request, Down::Error(Fault::new(Code::NotMember, "no").to_error(None))).await;
    assert!(matches!(asking.await.unwrap(), Err(Error::Call(client::CallError::Refused { code: 1200, .. }))));
}

fn counting(tokens: &'static [&'static str], count: Arc<AtomicUsize>) -> TokenSource {
    Box::new(move || {
        let index = count.fetch_add(1, Ordering::Relaxed).min(tokens.len() - 1);
        Box::pin(async move { Ok(tokens[index].to_owned()) })
    })
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_by_another() {
    let (listener, address) = listen().await;
    let count = Arc::new(AtomicUsize::new(0));
    let mut config = config(&address, Memory::default());
    config.token = counting(&["old", "new"], Arc::clone(&count));
    let (_client, mut events) = Client::connect(config);
    let kick = v1::Kick { code: 3504, reason: "unauthorized".into(), after_ms: 0 };
    for expected in ["old", "new"] {
        let mut peer = Peer::accept(&listener).await;
        let (_, Up::SignIn(sign_in)) = peer.expect().await else { panic!() };
        assert_eq!(sign_in.token, expected);
        peer.send(0, Down::Kick(kick.clone())).await;
        assert!(matches!(next(&mut events).await, Event::Kicked { code: 3504, .. }));
        assert!(matches!(next(&mut events).await, Event::Disconnected { retry_in_ms: None, .. }));
    }
    assert_eq!(
        count.load(Ordering::Relaxed),
        3,
        "one for each link, and one to see whether there is another"
    );
    assert!(tokio::time::timeout(Duration::from_millis(50), listener.accept()).await.is_err());
}

#[tokio::test]
async fn no_server_and_no_token_are_told_and_tried_again() {
    let (listener, address) = listen().await;
    let (first, second) = (listener.local_addr().unwrap(), address.clone());
    drop(listener);
    let mut config = config(&second, Memory::default());
    config.token = counting(&["t"], Arc::default());
    let (_client, mut events) = Client::connect(config);
    let event = next(&mut events).await;
    assert!(
        matches!(&event, Event::Disconnected { cause: Cause::Unreachable(why), retry_in_ms: Some(_) } if why.contains(&second))
    );
    let listener = TcpListener::bind(first).await.unwrap();
    let _peer = Peer::live(&listener, 1, 0).await;
    while !matches!(next(&mut events).await, Event::Connected { .. }) {}

    let mut without = self::config(&address, Memory::default());
    without.token = Box::new(|| Box::pin(async { Err("the issuer sleeps".into()) }));
    let (_client, mut events) = Client::connect(without);
    let event = next(&mut events).await;
    assert!(
        matches!(&event, Event::Disconnected { cause: Cause::Unreachable(why), .. } if why.contains("sleeps"))
    );
}

#[tokio::test]
async fn a_go_away_moves_the_link_to_where_it_says() {
    let (listener, address) = listen().await;
    let (other, other_address) = listen().await;
    let (client, mut events) = Client::connect(config(&address, Memory::default()));
    let mut peer = Peer::live(&listener, 10, 0).await;
    next(&mut events).await;
    let away = v1::GoAway { code: 3000, within_ms: 50, addresses: vec![other_address] };
    peer.send(0, Down::GoAway(away)).await;
    assert!(matches!(
        next(&mut events).await,
        Event::Disconnected { cause: Cause::GoAway, retry_in_ms: Some(0) }
    ));
    let _peer = Peer::live(&other, 11, 0).await;
    assert!(matches!(next(&mut events).await, Event::Connected { epoch: 11, .. }));
    drop(client);
}

/// Fails when told to.
#[derive(Clone, Default)]
struct Failing(Arc<Mutex<(Memory, bool)>>);

impl Store for Failing {
    fn saved(&self) -> Saved {
        self.0.lock().unwrap().0.saved()
    }

    fn commit(&mut self, changes: &[Change]) -> std::io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        if inner.1 { Err(std::io::Error::other("disk full")) } else { inner.0.commit(changes) }
    }

    fn blocks(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_failing_store_ends_the_client_and_nothing_of_it_goes_out() {
    let (listener, address) = listen().await;
    let store = Failing::default();
    let (client, mut events) = Client::connect(config(&address, store.clone()));
    let mut peer = Peer::live(&listener, 10, 0).await;
    next(&mut events).await;
    client.send_text(bob(), "kept").await.unwrap();
    assert_eq!(peer.expect_text().await.3, "kept");
    store.0.lock().unwrap().1 = true;
    assert!(matches!(client.send_text(bob(), "lost").await, Err(Error::Store(_))));
    assert!(matches!(
        next(&mut events).await,
        Event::Disconnected { cause: Cause::Store(_), retry_in_ms: None }
    ));
    while let Some(frame) = peer.read().await {
        assert!(!matches!(frame.frame, Some(Up::Send(_))), "{frame:?}");
    }
    assert!(matches!(client.send_text(bob(), "x").await, Err(Error::Closed)));
}

#[tokio::test]
async fn bytes_that_are_not_the_protocol_end_the_link_only() {
    let (listener, address) = listen().await;
    let (_client, mut events) = Client::connect(config(&address, Memory::default()));
    for garbage in [&[0xff; 32][..], &b"HTTP/1.1 400 Bad Request\r\n\r\n".repeat(4), &[3, 0xff, 0xff, 0xff]] {
        let mut peer = Peer::accept(&listener).await;
        peer.expect().await;
        peer.stream.write_all(garbage).await.unwrap();
        let event = next(&mut events).await;
        assert!(
            matches!(event, Event::Disconnected { cause: Cause::Protocol(_) | Cause::Lost, .. }),
            "{event:?}"
        );
    }
}
