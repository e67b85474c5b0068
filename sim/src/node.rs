//! A conn node: the real sessions, and around them in a few lines what the reactor, uplink and downlink do.

use std::collections::{BTreeMap, VecDeque};

use conn::Now;
use conn::session::{Action, Appended, Deadline, Rules, Session, Verified};
use prost::Message;
use proto::close::Close;
use proto::partition::Partition;
use proto::v1;
use rand::RngExt;
use rand::rngs::SmallRng;
use storage::log::{AppendError, Partitions, Topic};
use storage::tables::Fence;

use crate::Mutation;
use crate::device::Device;
use crate::fault::Fault;
use crate::log::Producer;
use crate::shared::Shared;

/// A link's two directions and its session.
pub struct Link {
    /// The session.
    pub session: Session,
    /// Which device dialled; its core no longer listens if it has dialled again.
    pub device: usize,
    /// Frames on their way to the server.
    pub up: VecDeque<v1::ClientFrame>,
    /// Frames on their way to the device. None: the server closed the link here.
    pub down: VecDeque<Option<v1::ServerFrame>>,
    who: Verified,
    /// Frames to the server do not arrive for now.
    frozen_up: bool,
    /// Frames to the device do not arrive for now.
    pub frozen_down: bool,
    /// Which request each send was; for a mutation alone.
    requests: BTreeMap<u32, u64>,
    /// The request that is being read.
    reading: u64,
}

/// A conn node in one incarnation.
pub struct Node {
    /// Its name.
    pub name: String,
    /// The rules of its only reactor.
    pub rules: Rules,
    /// By a key that is the simulation's own: sessions change their link number when they are verified.
    pub links: BTreeMap<u64, Link>,
    next_key: u64,
    pub(crate) next_link: u64,
    pub(crate) terms: BTreeMap<Partition, u64>,
    producers: BTreeMap<(Topic, Partition), Producer<(u64, Appended)>>,
    /// Sign-offs that could not be appended: the streams of these partitions must break.
    pub breaks: Vec<Partition>,
}

impl Node {
    /// A node in its first incarnation.
    #[must_use]
    pub fn new(name: &str, incarnation: u64, partitions: Partitions) -> Self {
        let rules = Rules {
            node: name.to_owned(),
            incarnation,
            reactor: 0,
            partitions,
            unauthenticated_ms: u64::MAX,
            sign_in_ms: 0,
            idle_ms: u64::MAX,
            sync_ms: u64::MAX,
            heartbeat_ms: (5_000, 10_000),
            frame_cost_us: 0,
            burst_us: u64::MAX,
            calls_max: 8,
            group_members_max: 500,
        };
        Self {
            name: name.to_owned(),
            rules,
            links: BTreeMap::new(),
            // Never reused, so that a device's old link is not found in a new process.
            next_key: incarnation << 32,
            next_link: 1,
            terms: BTreeMap::new(),
            producers: BTreeMap::new(),
            breaks: Vec::new(),
        }
    }

    /// Takes a link; returns its key.
    pub fn accept(&mut self, shared: &Shared, device: usize, who: Verified) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        let session = Session::new(0, now(shared));
        let link = Link {
            session,
            device,
            up: VecDeque::new(),
            down: VecDeque::new(),
            who,
            frozen_up: false,
            frozen_down: false,
            requests: BTreeMap::new(),
            reading: 0,
        };
        self.links.insert(key, link);
        key
    }

    /// The session of a link number.
    pub(crate) fn key_of(&self, link: u64) -> Option<u64> {
        let is = |session: &Session| session.link() == link && session.is_verified() && !session.is_closing();
        self.links.iter().find(|(_, l)| is(&l.session)).map(|(key, _)| *key)
    }

    /// The server reads one frame of a link.
    pub fn read(&mut self, shared: &Shared, key: u64, rng: &mut SmallRng) {
        let Some(link) = self.links.get_mut(&key).filter(|l| l.session.reads() && !l.frozen_up) else {
            return;
        };
        let Some(frame) = link.up.pop_front() else { return };
        link.reading = frame.request_id;
        let mut actions = Vec::new();
        link.session.on_message(&self.rules, now(shared), &frame.encode_to_vec(), &mut actions);
        self.perform(shared, key, actions, rng);
    }

    /// The device's socket is gone.
    pub fn lose(&mut self, shared: &Shared, key: u64, rng: &mut SmallRng) {
        let Some(link) = self.links.get_mut(&key) else { return };
        let mut actions = Vec::new();
        link.session.on_gone(&self.rules, &mut actions);
        self.perform(shared, key, actions, rng);
        self.links.remove(&key);
    }

    pub(crate) fn perform(&mut self, shared: &Shared, key: u64, actions: Vec<Action>, rng: &mut SmallRng) {
        for action in actions {
            match action {
                Action::Write(frame) if self.acks_itself(shared, &frame) => {}
                Action::Write(frame) => self.write(key, Some(frame)),
                Action::WriteEncoded(bytes) => self.write(key, v1::ServerFrame::decode(bytes).ok()),
                Action::Verify(_) => self.verified(shared, key, rng),
                Action::Append { topic, partition, record, what } => {
                    self.append(shared, key, (topic, partition), record, what, rng);
                }
                Action::Ask(partition, ask) => {
                    shared.asks.borrow_mut().push((self.name.clone(), partition, ask));
                }
                Action::Call { .. } | Action::Acked => {}
                Action::Close(_) => self.write(key, None),
            }
        }
    }

    /// Whether an ack of the session's is left out, because this node's own have gone already.
    fn acks_itself(&self, shared: &Shared, frame: &v1::ServerFrame) -> bool {
        let itself = shared.breaks(Mutation::AckOutOfOrder) || shared.breaks(Mutation::AckBeforeReport);
        itself && matches!(frame.frame, Some(v1::server_frame::Frame::SendAck(_)))
    }

    /// The log's queue has taken a record.
    fn queued(&mut self, shared: &Shared, key: u64, what: Appended) {
        let (Appended::Send(number), Some(link)) = (what, self.links.get_mut(&key)) else { return };
        if shared.breaks(Mutation::AckBeforeReport) {
            link.down.push_back(Some(ack(link.reading)));
        }
        if shared.breaks(Mutation::AckOutOfOrder) {
            link.requests.insert(number, link.reading);
        }
    }

    /// The record that ends a link's session; without fencing, whichever session its device has here.
    fn sign_off(&self, shared: &Shared, key: u64, record: bytes::Bytes) -> bytes::Bytes {
        let Some(link) = self.links.get(&key).filter(|_| shared.breaks(Mutation::UnfencedEnd)) else {
            return record;
        };
        let of_device = self.links.values().filter(|l| l.who == link.who && l.session.is_verified());
        let latest = of_device.map(|l| l.session.link()).max().unwrap_or(link.session.link());
        self.rules.session_end(latest, link.who.user.as_str())
    }

    /// Frames of a link stop in one direction.
    pub fn freeze(&mut self, key: u64, rng: &mut SmallRng) {
        if let Some(link) = self.links.get_mut(&key) {
            let up = rng.random_bool(0.5);
            (link.frozen_up, link.frozen_down) = (up, !up);
        }
    }

    /// Frames go both ways again.
    pub fn thaw(&mut self) {
        self.links.values_mut().for_each(|link| (link.frozen_up, link.frozen_down) = (false, false));
    }

    /// The numbers of the links of a partition's users that are not closing.
    pub fn live_links(&self, partition: Partition) -> impl Iterator<Item = u64> {
        let sessions = self.links.values().map(|link| &link.session);
        let live = sessions.filter(move |s| s.partition() == Some(partition) && !s.is_closing());
        live.map(Session::link)
    }

    /// The name of any of its links, but for the link's number.
    #[must_use]
    pub fn fence(&self) -> Fence {
        Fence { node: self.name.clone(), incarnation: self.rules.incarnation, reactor: 0, link: 0 }
    }

    fn write(&mut self, key: u64, frame: Option<v1::ServerFrame>) {
        if let Some(link) = self.links.get_mut(&key) {
            link.down.push_back(frame);
        }
    }

    fn verified(&mut self, shared: &Shared, key: u64, rng: &mut SmallRng) {
        let number = self.next_link;
        self.next_link += 1;
        let Some(link) = self.links.get_mut(&key) else { return };
        let mut actions = Vec::new();
        link.session.on_verified(&self.rules, number, Ok(link.who.clone()), &mut actions);
        self.perform(shared, key, actions, rng);
    }

    /// The log's queue takes a record or not. What it does not take is told before anything else.
    pub(crate) fn append(
        &mut self,
        shared: &Shared,
        key: u64,
        (topic, partition): (Topic, Partition),
        record: bytes::Bytes,
        what: Appended,
        rng: &mut SmallRng,
    ) {
        let probability = if what == Appended::End { 0.2 } else { 0.05 };
        if !shared.faults.happens(Fault::RefusedAppend, rng, probability) {
            let record = if what == Appended::End { self.sign_off(shared, key, record) } else { record };
            self.producers.entry((topic, partition)).or_default().append(record, (key, what));
            return self.queued(shared, key, what);
        }
        if what == Appended::End {
            if !shared.breaks(Mutation::NoBreak) {
                self.breaks.push(partition);
            }
            return;
        }
        let Some(link) = self.links.get_mut(&key) else { return };
        let mut actions = Vec::new();
        link.session.on_refused(&self.rules, what, &mut actions);
        self.perform(shared, key, actions, rng);
    }

    /// Lets one of the producers go on.
    pub fn produce(&mut self, shared: &mut Shared, rng: &mut SmallRng) {
        let busy: Vec<_> = self.producers.iter().filter(|(_, p)| !p.is_idle()).map(|(at, _)| *at).collect();
        if busy.is_empty() {
            return;
        }
        let Some(at) = busy.get(rng.random_range(0..busy.len())).copied() else { return };
        let Some(producer) = self.producers.get_mut(&at) else { return };
        let (now_us, faults) = (shared.log_us(), shared.faults.clone());
        let report = producer.advance(shared.log_mut(at.0, at.1), now_us, rng, &faults);
        let Some(((key, what), ok)) = report else { return };
        if what == Appended::End && !ok {
            self.breaks.push(at.1);
        }
        let Some(link) = self.links.get_mut(&key) else { return };
        if let (Appended::Send(number), true, true) = (what, ok, shared.breaks(Mutation::AckOutOfOrder)) {
            let reply_to = link.requests.get(&number).copied().unwrap_or(0);
            link.down.push_back(Some(ack(reply_to)));
        }
        let outcome = if ok { Ok(()) } else { Err(AppendError::Timeout) };
        let mut actions = Vec::new();
        link.session.on_report(&self.rules, what, outcome, &mut actions);
        self.perform(shared, key, actions, rng);
    }

    /// Whether nothing is under way to the log.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.producers.values().all(Producer::is_idle)
    }

    /// Appends what devices have acknowledged, one record a partition.
    pub fn gather_cursors(&mut self, shared: &Shared, rng: &mut SmallRng) {
        let mut batches: BTreeMap<Partition, Vec<v1::Cursor>> = BTreeMap::new();
        for link in self.links.values_mut() {
            if let (Some(partition), Some(cursor)) = (link.session.partition(), link.session.take_cursor()) {
                batches.entry(partition).or_default().push(cursor);
            }
        }
        for (partition, cursors) in batches {
            let record = v1::timeline_record::Record::Cursors(v1::Cursors { cursors });
            let bytes = v1::TimelineRecord { record: Some(record) }.encode_to_vec();
            // Not a sign-off, but lost without further ado just the same: the next ack covers it.
            if !shared.faults.happens(Fault::LostCursors, rng, 0.1) {
                let producer = self.producers.entry((Topic::Timelines, partition)).or_default();
                producer.append(bytes.into(), (0, Appended::Send(0)));
            }
        }
    }

    /// Closed links whose device no longer listens.
    pub fn forget_closed(&mut self, place: usize, devices: &[Device]) {
        self.links.retain(|key, link| {
            let listens = devices.get(link.device).is_some_and(|device| device.link == Some((place, *key)));
            listens || !link.session.is_closing()
        });
    }

    /// Outboxes have room again.
    pub fn drain_outboxes(&mut self, shared: &Shared, rng: &mut SmallRng) {
        let keys: Vec<u64> = self.links.keys().copied().collect();
        for key in keys {
            let Some(link) = self.links.get_mut(&key) else { continue };
            let mut out = Vec::new();
            link.session.on_room(&mut out);
            self.perform(shared, key, out, rng);
        }
    }

    /// The sign-in deadline of every link that is not confirmed passes.
    pub fn sign_in_deadline(&mut self, shared: &Shared, rng: &mut SmallRng) {
        let keys: Vec<u64> = self.links.keys().copied().collect();
        for key in keys {
            let Some(link) = self.links.get_mut(&key) else { continue };
            let mut out = Vec::new();
            link.session.on_deadline(&self.rules, now(shared), Deadline::SignIn, &mut out);
            self.perform(shared, key, out, rng);
        }
    }

    /// The lease is lost: every link closes, and a new incarnation begins.
    pub fn new_incarnation(&mut self, shared: &Shared, incarnation: u64, rng: &mut SmallRng) {
        let keys: Vec<u64> = self.links.keys().copied().collect();
        for key in keys {
            let Some(link) = self.links.get_mut(&key) else { continue };
            let mut out = Vec::new();
            link.session.on_close(&self.rules, Close::LeaseLost, &mut out);
            self.perform(shared, key, out, rng);
        }
        self.rules.incarnation = incarnation;
        self.next_link = 1;
    }
}

fn ack(reply_to: u64) -> v1::ServerFrame {
    v1::ServerFrame { reply_to, frame: Some(v1::server_frame::Frame::SendAck(v1::SendAck {})) }
}

pub(crate) fn now(shared: &Shared) -> Now {
    Now { ms: shared.now_us / 1_000, wall_us: shared.now_us }
}
