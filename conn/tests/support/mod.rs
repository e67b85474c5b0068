//! What the tests of the node share: a log with scripted faults, an owner that confirms sessions, and
//! devices that speak the protocol over real sockets.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test uses its part")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use conn::{CallRequest, Config, Keys, Node};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use prometheus_client::registry::Registry;
use prost::Message;
use proto::UserId;
use proto::v1::{self, down, server_frame::Frame as S, timeline_record, up};
use serde_json::json;
use storage::log::{
    Append, AppendError, Log, LogError, Membership, Partition, Partitions, Producer, Reader, Report, Tag,
    Topic,
};
pub use tests::{Device, frame_bytes, sign_in, text};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::mpsc;
use tokio::time::timeout;

pub const PARTITIONS: Partitions = Partitions { messages: 4, timelines: 2 };
const DEPTH_MAX: usize = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// How the scripted log treats what is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Land,
    /// Takes it and reports nothing until the mode changes.
    Hold,
    /// Takes nothing, now or for good.
    Refuse(Append),
    Fail(AppendError),
}

pub type Appended = (Topic, Partition, Bytes);

/// A log that does what it is told, and shows what was appended.
#[derive(Clone)]
pub struct ScriptedLog {
    inner: Arc<Mutex<Script>>,
    timelines: mpsc::UnboundedSender<Bytes>,
    keeps: bool,
}

struct Script {
    modes: [Mode; 3],
    records: Vec<Appended>,
    held: Vec<(Arc<dyn Report>, Tag)>,
    producers: usize,
}

struct ScriptedProducer {
    log: ScriptedLog,
    report: Arc<dyn Report>,
}

impl ScriptedLog {
    /// The second part hears every record of the timelines log that lands.
    pub fn new(keeps: bool) -> (Self, mpsc::UnboundedReceiver<Bytes>) {
        let (timelines, heard) = mpsc::unbounded_channel();
        let script = Script { modes: [Mode::Land; 3], records: Vec::new(), held: Vec::new(), producers: 0 };
        (Self { inner: Arc::new(Mutex::new(script)), timelines, keeps }, heard)
    }

    pub fn set(&self, topic: Topic, mode: Mode) {
        let held = {
            let mut script = self.inner.lock().unwrap();
            script.modes[topic as usize] = mode;
            if mode == Mode::Hold { Vec::new() } else { std::mem::take(&mut script.held) }
        };
        let outcome = if let Mode::Fail(error) = mode { Err(error) } else { Ok(()) };
        for (report, tag) in held {
            report.reported(&[(tag, outcome)]);
        }
    }

    pub fn producers(&self) -> usize {
        self.inner.lock().unwrap().producers
    }

    pub fn sends(&self) -> Vec<v1::Submission> {
        let script = self.inner.lock().unwrap();
        let of = script.records.iter().filter(|(topic, _, _)| *topic == Topic::Messages);
        of.filter_map(|(_, _, record)| match v1::MessageRecord::decode(record.clone()).unwrap().record {
            Some(v1::message_record::Record::Submission(submission)) => Some(submission),
            _ => None,
        })
        .collect()
    }

    pub fn timelines(&self) -> Vec<timeline_record::Record> {
        let script = self.inner.lock().unwrap();
        let of = script.records.iter().filter(|(topic, _, _)| *topic == Topic::Timelines);
        of.map(|(_, _, record)| v1::TimelineRecord::decode(record.clone()).unwrap().record.unwrap()).collect()
    }

    pub fn ends(&self) -> Vec<u64> {
        let end = |record| match record {
            timeline_record::Record::SessionEnd(end) => end.fence.map(|fence| fence.link),
            _ => None,
        };
        self.timelines().into_iter().filter_map(end).collect()
    }
}

impl Producer for ScriptedProducer {
    fn append(&self, topic: Topic, partition: Partition, record: Bytes, tag: Tag) -> Append {
        let mut script = self.log.inner.lock().unwrap();
        let mode = script.modes[topic as usize];
        if let Mode::Refuse(verdict) = mode {
            return verdict;
        }
        if mode == Mode::Hold {
            script.held.push((self.report.clone(), tag));
        }
        if self.log.keeps {
            script.records.push((topic, partition, record.clone()));
        }
        drop(script);
        match mode {
            Mode::Land => {
                if topic == Topic::Timelines {
                    let _ = self.log.timelines.send(record);
                }
                self.report.reported(&[(tag, Ok(()))]);
            }
            Mode::Fail(error) => self.report.reported(&[(tag, Err(error))]),
            Mode::Hold | Mode::Refuse(_) => {}
        }
        Append::Queued
    }

    fn depth(&self) -> (usize, usize) {
        let is_full = self.log.inner.lock().unwrap().modes.contains(&Mode::Refuse(Append::Full));
        (if is_full { DEPTH_MAX } else { 0 }, DEPTH_MAX)
    }
}

impl Log for ScriptedLog {
    fn partitions(&self) -> Partitions {
        PARTITIONS
    }

    fn producer(&self, _: usize, report: Arc<dyn Report>) -> Result<Box<dyn Producer>, LogError> {
        self.inner.lock().unwrap().producers += 1;
        Ok(Box::new(ScriptedProducer { log: self.clone(), report }))
    }

    fn reader(
        &self,
        _: Topic,
        _: Partition,
        _: u64,
    ) -> futures::future::BoxFuture<'_, Result<Box<dyn Reader>, LogError>> {
        unreachable!("conn reads no log")
    }

    fn join(&self) -> Result<Box<dyn Membership>, LogError> {
        unreachable!("conn owns no partition")
    }

    fn bounds(&self, _: Topic, _: Partition) -> futures::future::BoxFuture<'_, Result<(u64, u64), LogError>> {
        unreachable!("conn reads no log")
    }

    fn trim(&self, _: Topic, _: Partition, _: u64) -> futures::future::BoxFuture<'_, Result<(), LogError>> {
        unreachable!("conn reads no log")
    }
}

/// One stream of an owner, and what came up on it.
pub struct Stream {
    pub down: mpsc::Sender<v1::Down>,
    pub up: mpsc::Receiver<v1::Up>,
    runtime: Handle,
}

impl Stream {
    pub fn say(&self, frame: down::Down) {
        self.down.blocking_send(v1::Down { down: Some(frame) }).unwrap();
    }

    /// What the node says next; none where it ended the stream.
    #[track_caller]
    pub fn next(&mut self) -> Option<up::Up> {
        in_time(&self.runtime, self.up.recv()).map(|frame| frame.up.unwrap())
    }

    /// The roster, put together, and the number of its parts.
    pub fn roster(&mut self) -> (v1::Roster, usize) {
        let (mut whole, mut parts) = (v1::Roster::default(), 0);
        loop {
            match self.next() {
                Some(up::Up::Roster(part)) => {
                    parts += 1;
                    whole.links.extend(part.links);
                    (whole.bounds, whole.incarnation) = (part.bounds, part.incarnation);
                    if part.complete {
                        return (whole, parts);
                    }
                }
                other => panic!("not a roster: {other:?}"),
            }
        }
    }
}

/// A node, its log, and an owner of every partition that confirms every session.
pub struct World {
    pub node: Arc<Node>,
    pub log: ScriptedLog,
    /// Of the owner.
    pub runtime: Runtime,
    calls: Mutex<mpsc::Receiver<CallRequest>>,
    pub starts: Arc<Mutex<Vec<v1::SessionStart>>>,
    pub epoch: Arc<AtomicU64>,
}

pub fn config() -> Config {
    Config {
        node: "n1".into(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        reactors: 2,
        ..Config::default()
    }
}

impl World {
    pub fn start(config: Config) -> Self {
        let (log, heard) = ScriptedLog::new(true);
        Self::with(config, log.clone(), Arc::new(log), heard)
    }

    pub fn with(
        config: Config,
        log: ScriptedLog,
        real: Arc<dyn Log>,
        heard: mpsc::UnboundedReceiver<Bytes>,
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let (calls_in, calls) = mpsc::channel(16);
        let node = Node::start(config, real, keys(), calls_in, &mut Registry::default()).unwrap();
        let node = Arc::new(node);
        node.set_incarnation(7);
        let starts = Arc::new(Mutex::new(Vec::new()));
        let epoch = Arc::new(AtomicU64::new(1_000));
        let downs: Downs = Arc::default();
        for partition in 0..PARTITIONS.timelines {
            let (node, handle) = (node.clone(), runtime.handle().clone());
            runtime.spawn(own(node, handle, partition, downs.clone()));
        }
        runtime.spawn(confirm(heard, downs, starts.clone(), epoch.clone()));
        let world = Self { node: node.clone(), log, calls: Mutex::new(calls), starts, epoch, runtime };
        until("streams are attached", || node.ready().is_ok());
        world
    }

    /// Another stream for a partition.
    pub fn attach(&self, partition: Partition, term: u64) -> Stream {
        attach(self.runtime.handle(), &self.node, partition, term)
    }

    /// The next call that a device made.
    pub fn call(&self) -> CallRequest {
        in_time(self.runtime.handle(), self.calls.lock().unwrap().recv()).unwrap()
    }

    pub fn device(&self) -> Device {
        Device::connect(self.node.address())
    }

    pub fn signed_in(&self, user: &str, device: &str) -> Device {
        let mut link = self.device();
        link.sign_in(&token(user, device));
        link
    }

    pub fn link_of(&self, user: &str) -> v1::LinkRef {
        let starts = self.starts.lock().unwrap();
        let fence = starts.iter().rfind(|start| start.user == user).unwrap().fence.clone().unwrap();
        v1::LinkRef { reactor: fence.reactor, link: fence.link }
    }
}

pub fn attach(runtime: &Handle, node: &Node, partition: Partition, term: u64) -> Stream {
    let _inside = runtime.enter();
    let (down, down_out) = mpsc::channel(1_024);
    let (up_in, up) = mpsc::channel(64);
    node.attach(down_out, up_in);
    let open = v1::Open { partition, term, owner: "owner".into() };
    down.try_send(v1::Down { down: Some(down::Down::Open(open)) }).unwrap();
    Stream { down, up, runtime: runtime.clone() }
}

type Downs = Arc<Mutex<HashMap<Partition, mpsc::Sender<v1::Down>>>>;

/// Owns a partition until a higher term does: dials again where the stream breaks.
async fn own(node: Arc<Node>, handle: Handle, partition: Partition, downs: Downs) {
    loop {
        let Stream { down, mut up, .. } = attach(&handle, &node, partition, 1);
        downs.lock().unwrap().insert(partition, down);
        while let Some(frame) = up.recv().await {
            if let Some(up::Up::Refused(_)) = frame.up {
                return;
            }
        }
    }
}

async fn confirm(
    mut heard: mpsc::UnboundedReceiver<Bytes>,
    downs: Downs,
    starts: Arc<Mutex<Vec<v1::SessionStart>>>,
    epoch: Arc<AtomicU64>,
) {
    while let Some(record) = heard.recv().await {
        let record = v1::TimelineRecord::decode(record).unwrap().record;
        let Some(timeline_record::Record::SessionStart(start)) = record else { continue };
        let fence = start.fence.clone().unwrap();
        let user = UserId::new(&start.user).unwrap();
        let partition = proto::partition::of_user(&user, PARTITIONS.timelines);
        let link = Some(v1::LinkRef { reactor: fence.reactor, link: fence.link });
        let epoch = epoch.fetch_add(1, Ordering::SeqCst);
        let result = v1::SessionResult { link, epoch, head: 10, first: 1, ..Default::default() };
        if user.as_str() != "quiet" {
            starts.lock().unwrap().push(start);
        }
        if user.as_str().starts_with("unconfirmed") {
            continue;
        }
        let down = downs.lock().unwrap()[&partition].clone();
        let _ = down.send(v1::Down { down: Some(down::Down::Result(result)) }).await;
    }
}

fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

pub fn keys() -> Keys {
    let public = DecodingKey::from_ed_der(signing_key().verifying_key().as_bytes());
    Keys::new().with_issuer("test", "godwit", Algorithm::EdDSA, vec![(None, public)])
}

pub fn token(user: &str, device: &str) -> String {
    let pem = signing_key().to_pkcs8_pem(LineEnding::LF).unwrap();
    let key = EncodingKey::from_ed_pem(pem.as_bytes()).unwrap();
    let claims = json!({"iss": "test", "aud": "godwit", "sub": user, "did": device, "exp": 4_000_000_000u64});
    jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap()
}

#[track_caller]
fn in_time<T>(runtime: &Handle, coming: impl Future<Output = T>) -> T {
    runtime.block_on(async { timeout(PATIENCE, coming).await }).expect("not in time")
}

pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

pub fn push(seq: u64, bytes: usize) -> Bytes {
    let message = v1::Message { kind: 1, data: vec![b'x'; bytes].into() };
    let entry = v1::Entry { seq, event: Some(v1::entry::Event::Message(message)), ..Default::default() };
    let push = S::Push(v1::Push { entries: vec![entry] });
    v1::ServerFrame { reply_to: 0, frame: Some(push) }.encode_to_vec().into()
}
