//! A deployment of one process on embedded storage, with a scripted conn node behind `Dial`.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use logic::nodes::{Lease, Member, NodeInfo, Nodes};
use logic::push::{Dial, DialError, Ends};
use logic::{Config, Logic};
use prometheus_client::registry::Registry;
use prost::Message;
use proto::partition::{of_conversation, of_user};
use proto::{ConversationId, UserId, v1};
use storage::embedded::{self, Embedded, Options};
use storage::log::{Append, AppendError, Log, Partitions, Producer, Report, Tag, Topic};
use tokio::sync::{Notify, mpsc, watch};
use v1::down::Down as Kind;

pub const PARTITIONS: Partitions = Partitions { messages: 2, timelines: 3 };
const NODE: &str = "n1";

/// Waits until `look` finds something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    for _ in 0..2000 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {what}");
}

pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// A conn node as the test plays it.
#[derive(Default)]
pub struct Conn {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    incarnation: u64,
    links: BTreeMap<u64, v1::RosterLink>,
    next_link: u64,
    down: Vec<Kind>,
    ups: BTreeMap<u32, mpsc::Sender<v1::Up>>,
    terms: BTreeMap<u32, u64>,
}

impl Conn {
    pub fn set_incarnation(&self, incarnation: u64) {
        self.state.lock().unwrap().incarnation = incarnation;
    }

    /// A link that is not signed in yet.
    pub fn open(&self, user: &str, device: &str) -> v1::Fence {
        let mut state = self.state.lock().unwrap();
        state.next_link += 1;
        let link = state.next_link;
        let (user, device) = (user.to_owned(), device.to_owned());
        let reference = Some(v1::LinkRef { reactor: 0, link });
        state.links.insert(link, v1::RosterLink { link: reference, user, device, ..Default::default() });
        v1::Fence { node: NODE.into(), incarnation: state.incarnation, reactor: 0, link }
    }

    /// The link is gone, and nobody is told.
    pub fn lose(&self, link: u64) {
        self.state.lock().unwrap().links.remove(&link);
    }

    /// As if an earlier owner had confirmed the link.
    pub fn confirm(&self, link: u64) {
        self.state.lock().unwrap().links.get_mut(&link).unwrap().confirmed = true;
    }

    /// Every stream breaks.
    pub fn cut(&self) {
        self.state.lock().unwrap().ups.clear();
    }

    pub fn streams(&self) -> usize {
        self.state.lock().unwrap().ups.len()
    }

    pub fn term(&self, partition: u32) -> u64 {
        self.state.lock().unwrap().terms.get(&partition).copied().unwrap_or(0)
    }

    /// Asks on the stream of the user's partition.
    pub async fn ask(&self, user_name: &str, link: u64, request_id: u64, after: u64, limit: u32) {
        let partition = of_user(&user(user_name), PARTITIONS.timelines);
        let up = eventually("a stream for the ask", || async move {
            self.state.lock().unwrap().ups.get(&partition).cloned()
        })
        .await;
        let link = Some(v1::LinkRef { reactor: 0, link });
        let ask = v1::SyncAsk { link, request_id, user: user_name.into(), after, limit };
        up.send(v1::Up { up: Some(v1::up::Up::Sync(ask)) }).await.unwrap();
    }

    /// Waits for a frame and takes it.
    pub async fn expect<T>(&self, what: &str, pick: impl Fn(&Kind) -> Option<T>) -> T {
        let look = async {
            loop {
                let changed = self.changed.notified();
                let found = {
                    let mut state = self.state.lock().unwrap();
                    let at = state.down.iter().position(|down| pick(down).is_some());
                    at.map(|at| state.down.remove(at))
                };
                match found {
                    Some(down) => return pick(&down).unwrap(),
                    None => changed.await,
                }
            }
        };
        match tokio::time::timeout(Duration::from_secs(10), look).await {
            Ok(found) => found,
            Err(_) => panic!("never came: {what}; there is {:?}", self.state.lock().unwrap().down),
        }
    }

    pub async fn expect_result(&self, link: u64) -> v1::SessionResult {
        self.expect(&format!("the result of link {link}"), |down| match down {
            Kind::Result(result) if result.link.unwrap().link == link => Some(*result),
            _ => None,
        })
        .await
    }

    pub async fn expect_hint(&self, link: u64) -> u64 {
        self.expect(&format!("a hint for link {link}"), |down| match down {
            Kind::Hint(hint) if hint.link.unwrap().link == link => Some(hint.head),
            _ => None,
        })
        .await
    }

    pub async fn expect_kick(&self, link: u64) -> u32 {
        self.expect(&format!("a kick of link {link}"), |down| match down {
            Kind::Kick(kick) if kick.link.unwrap().link == link => Some(kick.code),
            _ => None,
        })
        .await
    }

    /// The entries of the next push to a link.
    pub async fn expect_push(&self, link: u64) -> Vec<v1::Entry> {
        let push = self
            .expect(&format!("a push to link {link}"), |down| match down {
                Kind::Push(push) if push.links.iter().any(|l| l.link == link) => Some(push.clone()),
                _ => None,
            })
            .await;
        let Some(v1::server_frame::Frame::Push(frame)) = v1::ServerFrame::decode(push.frame).unwrap().frame
        else {
            panic!("not a push")
        };
        assert_eq!((push.first, push.last), (frame.entries[0].seq, frame.entries.last().unwrap().seq));
        frame.entries
    }

    /// Pushes until an entry with this seq.
    pub async fn expect_entries(&self, link: u64, upto: u64) -> Vec<v1::Entry> {
        let mut entries = Vec::new();
        while entries.last().is_none_or(|entry: &v1::Entry| entry.seq < upto) {
            entries.extend(self.expect_push(link).await);
        }
        entries
    }

    pub async fn expect_answer(&self, request_id: u64) -> Result<v1::SyncPage, v1::Error> {
        let answer = self
            .expect(&format!("the answer to {request_id}"), |down| match down {
                Kind::SyncAnswer(answer) if answer.request_id == request_id => Some(answer.clone()),
                _ => None,
            })
            .await;
        match answer.result.unwrap() {
            v1::sync_answer::Result::Page(page) => Ok(v1::SyncPage::decode(page).unwrap()),
            v1::sync_answer::Result::Error(error) => Err(error),
        }
    }

    async fn serve(self: Arc<Self>, mut down: mpsc::Receiver<v1::Down>, up: mpsc::Sender<v1::Up>) {
        let Some(v1::Down { down: Some(Kind::Open(open)) }) = down.recv().await else { return };
        let roster = {
            let mut state = self.state.lock().unwrap();
            let term = state.terms.entry(open.partition).or_default();
            assert!(open.term >= *term, "a lower term after {term}: {open:?}");
            *term = open.term;
            state.ups.insert(open.partition, up.clone());
            let of_partition =
                |link: &&v1::RosterLink| of_user(&user(&link.user), PARTITIONS.timelines) == open.partition;
            let links = state.links.values().filter(of_partition).cloned().collect();
            let bounds = vec![state.next_link + 1];
            v1::Roster { incarnation: state.incarnation, links, bounds, complete: true }
        };
        let weak = up.downgrade();
        if up.send(v1::Up { up: Some(v1::up::Up::Roster(roster)) }).await.is_err() {
            return;
        }
        drop(up);
        // `cut` drops the last sender of the stream; the owner then closes its end.
        while let Some(frame) = down.recv().await {
            if weak.upgrade().is_none() {
                return;
            }
            self.took(frame.down.unwrap());
        }
    }

    fn took(&self, down: Kind) {
        let mut state = self.state.lock().unwrap();
        match &down {
            Kind::Result(result) => {
                if let Some(link) = state.links.get_mut(&result.link.unwrap().link) {
                    link.confirmed = true;
                    link.told = link.told.max(result.head);
                }
            }
            Kind::Push(push) => {
                for to in &push.links {
                    let link = state.links.get_mut(&to.link).expect("a push to a link that is gone");
                    assert!(link.confirmed, "a push before the result");
                    link.told = link.told.max(push.last);
                }
            }
            Kind::Kick(kick) => {
                state.links.remove(&kick.link.unwrap().link);
            }
            _ => {}
        }
        state.down.push(down);
        drop(state);
        self.changed.notify_waiters();
    }
}

/// Dials the scripted node.
pub struct Local(pub Arc<Conn>);

impl Dial for Local {
    fn dial(&self, node: &NodeInfo) -> BoxFuture<'_, Result<Ends, DialError>> {
        assert_eq!(node.name, NODE);
        let (down, down_in) = mpsc::channel(64);
        let (up, up_in) = mpsc::channel(64);
        tokio::spawn(self.0.clone().serve(down_in, up));
        async move { Ok((down, up_in)) }.boxed()
    }
}

/// Counts what was appended and reported.
#[derive(Default)]
pub struct Acks(pub Mutex<Vec<(Tag, Result<(), AppendError>)>>);

impl Report for Acks {
    fn reported(&self, outcomes: &[(Tag, Result<(), AppendError>)]) {
        self.0.lock().unwrap().extend_from_slice(outcomes);
    }
}

/// The process: storage, nodes, stages, conn.
pub struct Process {
    pub log: Arc<dyn Log>,
    pub data: Embedded,
    pub conn: Arc<Conn>,
    pub logic: Option<Logic>,
    pub nodes: Nodes,
    pub producer: Box<dyn Producer>,
    pub acks: Arc<Acks>,
    pub registry: Registry,
}

impl Process {
    pub async fn start(dir: &Path) -> Self {
        let mut options = Options::new(PARTITIONS);
        options.reserve_bytes = 0;
        let data = embedded::open(dir, options).unwrap();
        let log = data.log();
        let me = Member {
            name: NODE.into(),
            stream_address: "local".into(),
            api_address: "local".into(),
            logic: true,
        };
        let nodes = Nodes::start(log.clone(), me);
        let conn = Arc::new(Conn::default());
        let mut lease = nodes.lease();
        let held = lease.wait_for(|lease| matches!(lease, Lease::Held { .. })).await.unwrap();
        let Lease::Held { incarnation } = *held else { unreachable!() };
        conn.set_incarnation(incarnation);
        let acks = Arc::new(Acks::default());
        let producer = log.producer(100_000, acks.clone()).unwrap();
        let mut process =
            Self { log, data, conn, logic: None, nodes, producer, acks, registry: Registry::default() };
        process.start_logic().await;
        process
    }

    pub fn config() -> Config {
        Config {
            flush_every_ms: 50,
            flush_users_every_ms: 50,
            chores_every_ms: 200,
            reclaim_after_ms: 100,
            ..Config::new(NODE)
        }
    }

    pub async fn start_logic(&mut self) {
        let dial = Arc::new(Local(self.conn.clone()));
        let table: watch::Receiver<_> = self.nodes.table();
        let mut registry = Registry::default();
        let store = self.data.store();
        let started = logic::start(Self::config(), self.log.clone(), store, dial, table, &mut registry);
        let logic = started.unwrap();
        self.registry = registry;
        eventually("the stages are ready", || async { logic.ready().ok() }).await;
        self.logic = Some(logic);
    }

    /// As kill -9 would, as far as one process can.
    pub fn crash_logic(&mut self) {
        self.logic = None;
        self.conn.cut();
    }

    pub fn append(&self, topic: Topic, partition: u32, record: &impl Message) {
        let taken = self.producer.append(topic, partition, record.encode_to_vec().into(), Tag(0, 0));
        assert_eq!(taken, Append::Queued);
    }

    /// Signs a device in; its link and the answer.
    pub async fn sign_in(&self, name: &str, device: &str) -> (u64, v1::SessionResult) {
        let fence = self.conn.open(name, device);
        let link = fence.link;
        self.append(
            Topic::Timelines,
            of_user(&user(name), PARTITIONS.timelines),
            &v1::TimelineRecord {
                record: Some(v1::timeline_record::Record::SessionStart(v1::SessionStart {
                    user: name.into(),
                    device: device.into(),
                    device_class: "phone".into(),
                    fence: Some(fence),
                })),
            },
        );
        (link, self.conn.expect_result(link).await)
    }

    pub fn submit(&self, from: &str, device: &str, id: ConversationId, send: v1::Send) {
        self.append(
            Topic::Messages,
            of_conversation(&id, PARTITIONS.messages),
            &v1::MessageRecord {
                record: Some(v1::message_record::Record::Submission(v1::Submission {
                    conversation: id.to_bytes(),
                    user: from.into(),
                    device: device.into(),
                    send: Some(send),
                })),
            },
        );
    }

    pub fn send_text(&self, from: &str, device: &str, to: &str, epoch: u64, n: u64, text: &str) {
        let id = ConversationId::direct(&user(from), &user(to));
        let message = v1::Message { kind: 1, data: Bytes::copy_from_slice(text.as_bytes()) };
        let send = v1::Send {
            to: Some(v1::send::To::User(to.into())),
            epoch,
            n,
            body: Some(v1::send::Body::Message(message)),
        };
        self.submit(from, device, id, send);
    }
}

/// The text of an entry.
pub fn text(entry: &v1::Entry) -> String {
    match &entry.event {
        Some(v1::entry::Event::Message(message)) => String::from_utf8(message.data.to_vec()).unwrap(),
        other => format!("{other:?}"),
    }
}
