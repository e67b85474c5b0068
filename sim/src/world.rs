//! The world: devices, conn nodes, logs, runs of both stages, tables; a schedule of random steps and faults,
//! then healing, then the oracles.

use std::cell::RefCell;
use std::collections::BTreeMap;

use conn::session::Verified;
use prost::Message;
use proto::partition::Partition;
use proto::{ConversationId, DeviceId, UserId, v1};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use storage::log::{Partitions, Topic};
use storage::tables::Fence;

use crate::conversation_run::ConversationRun;
use crate::device::Device;
use crate::log::Partition as LogPartition;
use crate::node::Node;
use crate::store::Store;
use crate::timeline_run::TimelineRun;
use crate::{Mutation, check};

const USERS: [&str; 4] = ["ann", "bob", "carol", "dave"];
const PARTITIONS: Partitions = Partitions { messages: 2, timelines: 2 };

/// What everyone reaches: the logs, the tables, the time.
pub struct Shared {
    /// The frozen counts.
    pub partitions: Partitions,
    logs: BTreeMap<(Topic, Partition), LogPartition>,
    /// The tables.
    pub store: Store,
    /// The log's clock.
    pub now_us: u64,
    /// The rule that is broken, if any.
    pub mutation: Option<Mutation>,
    /// Syncs on their way to an owner: from which node, for which partition.
    pub asks: RefCell<Vec<(String, Partition, v1::SyncAsk)>>,
    /// What was seen to be wrong while it happened.
    pub violations: RefCell<Vec<String>>,
}

impl Shared {
    fn new(mutation: Option<Mutation>) -> Self {
        let mut logs = BTreeMap::new();
        for topic in [Topic::Messages, Topic::Timelines] {
            (0..PARTITIONS.of(topic)).for_each(|p| drop(logs.insert((topic, p), LogPartition::default())));
        }
        Self {
            partitions: PARTITIONS,
            logs,
            store: Store::default(),
            now_us: 1_000_000,
            mutation,
            asks: RefCell::default(),
            violations: RefCell::default(),
        }
    }

    /// One partition.
    #[must_use]
    pub fn log(&self, topic: Topic, partition: Partition) -> &LogPartition {
        self.logs.get(&(topic, partition)).expect("every partition is made at the beginning")
    }

    /// One partition, to append to.
    pub fn log_mut(&mut self, topic: Topic, partition: Partition) -> &mut LogPartition {
        self.logs.get_mut(&(topic, partition)).expect("every partition is made at the beginning")
    }

    /// Stored entries of a user after a seq, with their bodies, as far as they are contiguous.
    ///
    /// # Errors
    /// A row does not read.
    pub fn entries(&self, user: &UserId, after: u64, limit: usize) -> Result<Vec<v1::Entry>, String> {
        let mut entries = Vec::new();
        let range = (user.clone(), after + 1)..=(user.clone(), u64::MAX);
        for (row, seq) in self.store.entries.range(range).map(|(_, row)| row).zip(after + 1..).take(limit) {
            if row.seq != seq {
                break;
            }
            let row = v1::TimelineRow::decode(row.row.clone()).map_err(|e| e.to_string())?;
            let body = if row.no == 0 {
                row.inline
            } else {
                let id = ConversationId::from_slice(&row.conversation).map_err(|e| e.to_string())?;
                let Some(history) = self.store.history.get(&(id, row.no)) else { break };
                history.entry.clone()
            };
            let entry = v1::Entry::decode(body).map_err(|e| e.to_string())?;
            entries.push(v1::Entry { seq, ..entry });
        }
        Ok(entries)
    }
}

/// What came of a seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Sends that were acknowledged.
    pub acked: usize,
    /// Entries that were shown, over all devices.
    pub shown: usize,
    /// Of them, rejections.
    pub rejected: usize,
    /// Records in the messages log.
    pub records: usize,
    /// Records before the checkpoints when healing began.
    pub checkpointed: u64,
}

struct World {
    rng: SmallRng,
    shared: Shared,
    nodes: Vec<Node>,
    devices: Vec<Device>,
    conversations: Vec<ConversationRun>,
    timelines: Vec<TimelineRun>,
    groups: Vec<ConversationId>,
    /// Incarnations that ended and were not yet declared down.
    dead: Vec<(String, u64)>,
    counter: u64,
    timeouts: f64,
}

/// Runs one seed to its end.
///
/// # Errors
/// The first violation, in words.
pub fn run(seed: u64, mutation: Option<Mutation>) -> Result<Summary, String> {
    let mut world = World::new(seed, mutation)?;
    let steps = *pick(&mut world.rng, &[150, 400, 1_600]);
    for _ in 0..steps {
        world.step()?;
    }
    let checkpointed = world.shared.store.checkpoints.values().map(|c| c.offset).sum();
    world.heal()?;
    if let Some(violation) = world.shared.violations.borrow().first() {
        return Err(violation.clone());
    }
    let views: Vec<_> = world.devices.iter().map(|device| device.view.clone()).collect();
    check::all(&views, &world.shared.store)?;
    world.sessions_are_links()?;
    crate::replay::same_rows(&world.shared)?;
    let rejected = |e: &&v1::Entry| matches!(e.event, Some(v1::entry::Event::Rejected(_)));
    Ok(Summary {
        acked: views.iter().map(|view| view.acked.len()).sum(),
        shown: views.iter().map(|view| view.shown.len()).sum(),
        rejected: views.iter().flat_map(|view| &view.shown).filter(rejected).count(),
        records: (0..PARTITIONS.messages).map(|p| world.shared.log(Topic::Messages, p).records.len()).sum(),
        checkpointed,
    })
}

fn pick<'a, T>(rng: &mut SmallRng, of: &'a [T]) -> &'a T {
    of.get(rng.random_range(0..of.len())).expect("there is something to pick from")
}

impl World {
    fn new(seed: u64, mutation: Option<Mutation>) -> Result<Self, String> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let shared = Shared::new(mutation);
        let mut devices = Vec::new();
        for user in USERS {
            for i in 0..*pick(&mut rng, &[1, 1, 2]) {
                let who = Verified {
                    user: UserId::new(user).map_err(|e| e.to_string())?,
                    device: DeviceId::new(&format!("{user}-{i}")).map_err(|e| e.to_string())?,
                };
                devices.push(Device::new(devices.len(), who, &mut rng));
            }
        }
        let nodes =
            ["conn-0", "conn-1"].iter().zip(1..).map(|(name, i)| Node::new(name, i, PARTITIONS)).collect();
        let timeouts = *pick(&mut rng, &[0.02, 0.05, 0.15, 0.3]);
        let mut world = Self {
            rng,
            shared,
            nodes,
            devices,
            conversations: Vec::new(),
            timelines: Vec::new(),
            groups: Vec::new(),
            dead: Vec::new(),
            counter: 10,
            timeouts,
        };
        (0..PARTITIONS.messages).try_for_each(|p| world.start_conversations(p))?;
        (0..PARTITIONS.timelines).try_for_each(|p| world.start_timelines(p))?;
        Ok(world)
    }

    fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn start_conversations(&mut self, partition: Partition) -> Result<(), String> {
        self.conversations.push(ConversationRun::start(&self.shared, partition)?);
        if self.conversations.len() > 5 {
            self.conversations.remove(0);
        }
        Ok(())
    }

    fn start_timelines(&mut self, partition: Partition) -> Result<(), String> {
        let me = self.count();
        self.timelines.push(TimelineRun::start(&self.shared, partition, me)?);
        if self.timelines.len() > 6 {
            self.timelines.first_mut().into_iter().for_each(TimelineRun::break_streams);
            self.lost_syncs();
            self.timelines.remove(0);
        }
        Ok(())
    }

    /// One random thing happens.
    fn step(&mut self) -> Result<(), String> {
        // The log's clock runs on, by up to 40 ms, and now and then steps back a little.
        let us = self.rng.random_range(0..40_000);
        let back = self.rng.random_bool(0.02);
        self.shared.now_us = if back { self.shared.now_us - us } else { self.shared.now_us + us };
        match self.rng.random_range(0..100) {
            0..10 => self.say()?,
            10..14 => self.trouble_a_device(),
            14..26 => self.turn_devices()?,
            26..36 => self.nodes_read(),
            36..44 => self.devices_read(),
            44..53 => self.nodes_produce(self.timeouts),
            53..60 => drop(self.one_conversation(ConversationRun::step)?),
            60..66 => self.one_conversation_mut(|run, shared, _, _| run.emit(shared).map(drop))?,
            66..71 => self.one_conversation_mut(|run, shared, rng, timeouts| {
                run.produce(shared, rng, timeouts);
                Ok(())
            })?,
            71..74 => self.one_conversation_mut(|run, shared, rng, _| {
                run.flush(shared, rng);
                Ok(())
            })?,
            74..80 => self.one_timeline(|run, shared, _| run.step(shared).map(drop))?,
            80..86 => self.one_timeline(|run, shared, rng| run.emit(shared, rng).map(drop))?,
            86..88 => self.one_timeline(|run, shared, rng| {
                run.flush(shared, rng);
                Ok(())
            })?,
            88..93 => self.streams()?,
            93..96 => self.connect_stream(),
            96 => self.evict(),
            97 => self.start_a_run()?,
            _ => self.trouble_a_node(),
        }
        self.route()
    }

    fn one_conversation(
        &mut self,
        act: impl Fn(&mut ConversationRun, &Shared) -> Result<bool, String>,
    ) -> Result<bool, String> {
        let i = self.rng.random_range(0..self.conversations.len());
        self.conversations.get_mut(i).map_or(Ok(false), |run| act(run, &self.shared))
    }

    fn one_conversation_mut(
        &mut self,
        act: impl Fn(&mut ConversationRun, &mut Shared, &mut SmallRng, f64) -> Result<(), String>,
    ) -> Result<(), String> {
        let i = self.rng.random_range(0..self.conversations.len());
        let run = self.conversations.get_mut(i).ok_or("no run")?;
        act(run, &mut self.shared, &mut self.rng, self.timeouts)
    }

    fn one_timeline(
        &mut self,
        act: impl Fn(&mut TimelineRun, &mut Shared, &mut SmallRng) -> Result<(), String>,
    ) -> Result<(), String> {
        // Mostly the newest: older runs lag behind, as one does that was stopped and goes on.
        let lag = if self.rng.random_bool(0.8) { self.timelines.len().saturating_sub(3) } else { 0 };
        let i = self.rng.random_range(lag..self.timelines.len());
        let run = self.timelines.get_mut(i).ok_or("no run")?;
        act(run, &mut self.shared, &mut self.rng)
    }

    /// An app says or does something. Refused by the core when its outbox is full: so be it.
    fn say(&mut self) -> Result<(), String> {
        use client::Target;
        use v1::send::Body;
        let count = self.count();
        let users: Vec<UserId> = USERS.iter().filter_map(|u| UserId::new(u).ok()).collect();
        let i = self.rng.random_range(0..self.devices.len());
        let other = pick(&mut self.rng, &users).clone();
        let some: Vec<String> =
            USERS.iter().filter(|_| self.rng.random_bool(0.5)).map(|u| (*u).to_owned()).collect();
        let stranger = ConversationId::direct(&other, &other);
        let group = match self.groups.is_empty() {
            true => stranger,
            false => *pick(&mut self.rng, &self.groups),
        };
        let text = Body::Message(v1::Message { kind: 1, data: format!("text {count}").into_bytes().into() });
        let device = self.devices.get_mut(i).ok_or("no device")?;
        let core = device.core();
        let _ = match self.rng.random_range(0..100) {
            0..45 => core.send(Target::User(other), text),
            45..75 => core.send(Target::Group(group), text),
            75..83 => {
                let members: Vec<UserId> = some.iter().filter_map(|u| UserId::new(u).ok()).collect();
                let created = core.create_group(&format!("key-{}", count % 16), "name", &members);
                created.map(|(id, local)| {
                    self.groups.push(id);
                    local
                })
            }
            83..86 => core.send(Target::Group(group), Body::AddMembers(v1::AddMembers { users: some })),
            86..89 => core.send(Target::Group(group), Body::RemoveMembers(v1::RemoveMembers { users: some })),
            89..91 => core.send(Target::Group(group), Body::LeaveGroup(v1::LeaveGroup {})),
            91..93 => {
                core.send(Target::Group(group), Body::RenameGroup(v1::RenameGroup { name: "new".into() }))
            }
            93..94 => core.send(Target::Group(group), Body::DissolveGroup(v1::DissolveGroup {})),
            94..96 => core.send(Target::User(other), Body::Block(v1::Block {})),
            96..99 => core.send(Target::User(other), Body::Unblock(v1::Unblock {})),
            _ => {
                // More members than a list may have: refused for good, so a Void follows.
                let users = (0..600).map(|n| format!("stranger-{n}")).collect();
                core.send(Target::Group(group), Body::AddMembers(v1::AddMembers { users }))
            }
        };
        Ok(())
    }

    fn trouble_a_device(&mut self) {
        let i = self.rng.random_range(0..self.devices.len());
        let Some(device) = self.devices.get_mut(i) else { return };
        match self.rng.random_range(0..10) {
            0 => device.back_up(),
            1 => device.restart(true, &mut self.rng),
            2 | 3 => device.restart(false, &mut self.rng),
            _ => {
                // The link breaks on the server's side first.
                if let Some((node, key)) = device.link
                    && let Some(node) = self.nodes.get_mut(node)
                {
                    node.lose(&self.shared, key, &mut self.rng);
                }
            }
        }
    }

    fn turn_devices(&mut self) -> Result<(), String> {
        for device in &mut self.devices {
            device.turn(&self.shared, &mut self.nodes, &mut self.rng)?;
        }
        Ok(())
    }

    fn nodes_read(&mut self) {
        for (place, node) in self.nodes.iter_mut().enumerate() {
            for key in node.links.keys().copied().collect::<Vec<_>>() {
                if self.rng.random_bool(0.7) {
                    node.read(&self.shared, key, &mut self.rng);
                }
            }
            node.gather_cursors(&mut self.rng);
            node.forget_closed(place, &self.devices);
        }
    }

    fn devices_read(&mut self) {
        for node in &mut self.nodes {
            if self.rng.random_bool(0.5) {
                node.drain_outboxes(&self.shared, &mut self.rng);
            }
        }
        for device in &mut self.devices {
            for _ in 0..self.rng.random_range(0..4) {
                device.read(&self.shared, &mut self.nodes);
            }
        }
    }

    fn nodes_produce(&mut self, timeouts: f64) {
        for node in &mut self.nodes {
            for _ in 0..3 {
                let timeouts = if self.rng.random_bool(0.5) { timeouts } else { 0.0 };
                node.produce(&mut self.shared, &mut self.rng, timeouts);
            }
        }
    }

    /// Frames move on some streams, both ways; marks become hints.
    fn streams(&mut self) -> Result<(), String> {
        for run in &mut self.timelines {
            for i in 0..run.streams.len() {
                let Some(stream) = run.streams.get_mut(i).filter(|s| s.alive) else { continue };
                let Some(node) = self.nodes.iter_mut().find(|n| n.name == stream.node) else { continue };
                if node.rules.incarnation != stream.incarnation {
                    stream.alive = false;
                    continue;
                }
                if self.rng.random_bool(0.7)
                    && let Some(down) = stream.down.pop_front()
                {
                    node.hear(&self.shared, run.partition, run.term, down, &mut self.rng);
                }
                if self.rng.random_bool(0.7) {
                    run.hear(&mut self.shared, i)?;
                }
            }
            if self.rng.random_bool(0.3) {
                run.hint_marked(&self.shared)?;
            }
        }
        Ok(())
    }

    fn connect_stream(&mut self) {
        let (i, j) =
            (self.rng.random_range(0..self.timelines.len()), self.rng.random_range(0..self.nodes.len()));
        self.connect(i, j);
    }

    fn connect(&mut self, i: usize, j: usize) {
        let (Some(run), Some(node)) = (self.timelines.get_mut(i), self.nodes.get_mut(j)) else { return };
        if !run.is_active() {
            return;
        }
        run.break_streams_to(&node.name);
        self.lost_syncs();
        let (Some(run), Some(node)) = (self.timelines.get_mut(i), self.nodes.get_mut(j)) else { return };
        run.streams.extend(node.open(&self.shared, run.partition, run.term));
    }

    fn evict(&mut self) {
        let bytes_max = self.rng.random_range(0..4_000);
        self.conversations.iter_mut().for_each(|run| run.evict(bytes_max));
        self.timelines.iter_mut().for_each(|run| run.evict(bytes_max));
    }

    /// A new run takes over, whether the old one knows or not.
    fn start_a_run(&mut self) -> Result<(), String> {
        if self.rng.random_bool(0.5) {
            let partition = self.rng.random_range(0..PARTITIONS.messages);
            self.start_conversations(partition)
        } else {
            let partition = self.rng.random_range(0..PARTITIONS.timelines);
            self.start_timelines(partition)
        }
    }

    fn trouble_a_node(&mut self) {
        let i = self.rng.random_range(0..self.nodes.len());
        let fresh = self.count();
        match self.rng.random_range(0..12) {
            0 => self.renew_node(i, fresh),
            1 => self.kill_node(i, fresh),
            2..4 => self.declare_down(),
            4..8 => {
                let i = self.rng.random_range(0..self.timelines.len());
                let stream = self.timelines.get_mut(i).and_then(|run| run.streams.first_mut());
                stream.into_iter().for_each(|stream| stream.alive = false);
            }
            _ => {}
        }
    }

    /// The lease is lost: its links close, a new incarnation begins.
    fn renew_node(&mut self, i: usize, incarnation: u64) {
        let Some(node) = self.nodes.get_mut(i) else { return };
        self.dead.push((node.name.clone(), node.rules.incarnation));
        node.new_incarnation(&self.shared, incarnation, &mut self.rng);
    }

    /// Its process is gone, with its queue; it comes back as a new incarnation.
    fn kill_node(&mut self, i: usize, incarnation: u64) {
        let Some(node) = self.nodes.get_mut(i) else { return };
        self.dead.push((node.name.clone(), node.rules.incarnation));
        *node = Node::new(&node.name.clone(), incarnation, PARTITIONS);
    }

    fn declare_down(&mut self) {
        if self.dead.is_empty() {
            return;
        }
        let (node, incarnation) = self.dead.remove(0);
        let down = v1::timeline_record::Record::NodeDown(v1::NodeDown { node, incarnation });
        let bytes = v1::TimelineRecord { record: Some(down) }.encode_to_vec();
        for partition in 0..PARTITIONS.timelines {
            let now_us = self.shared.now_us;
            self.shared.log_mut(Topic::Timelines, partition).records.push((now_us, bytes.clone().into()));
        }
    }

    /// What was said between steps reaches whom it is for: appends of runs, syncs, broken streams.
    fn route(&mut self) -> Result<(), String> {
        let now_us = self.shared.now_us;
        for run in &mut self.timelines {
            for record in run.appends.drain(..) {
                let log = self.shared.log_mut(Topic::Timelines, run.partition);
                log.records.push((now_us, record.encode_to_vec().into()));
            }
        }
        for (name, partition, ask) in self.shared.asks.take() {
            let runs = self.timelines.iter_mut().filter(|run| run.partition == partition && run.is_active());
            let mut streams = runs.flat_map(|run| &mut run.streams).filter(|s| s.alive && s.node == name);
            if let Some(stream) = streams.next() {
                stream.up.push_back(v1::Up { up: Some(v1::up::Up::Sync(ask)) });
            } else if let Some(node) = self.nodes.iter_mut().find(|node| node.name == name) {
                node.sync_lost(&self.shared, ask.link.map_or(0, |l| l.link), &mut self.rng);
            }
        }
        for node in &mut self.nodes {
            for partition in std::mem::take(&mut node.breaks) {
                let runs = self.timelines.iter_mut().filter(|run| run.partition == partition);
                runs.flat_map(|run| &mut run.streams)
                    .filter(|s| s.node == node.name)
                    .for_each(|s| s.alive = false);
            }
        }
        self.timelines.iter_mut().filter(|run| run.stopped).for_each(TimelineRun::break_streams);
        self.lost_syncs();
        Ok(())
    }

    /// A node whose stream broke tells the links that wait for an answer on it.
    fn lost_syncs(&mut self) {
        for run in &mut self.timelines {
            for stream in run.streams.extract_if(.., |stream| !stream.alive) {
                let Some(node) = self.nodes.iter_mut().find(|node| node.name == stream.node) else {
                    continue;
                };
                node.syncs_lost(&self.shared, run.partition, &mut self.rng);
            }
        }
    }

    /// Every fault ends, and everything gets the time it needs.
    fn heal(&mut self) -> Result<(), String> {
        self.nodes.iter_mut().for_each(|node| node.faulty = false);
        while !self.dead.is_empty() {
            self.declare_down();
        }
        let stays = self.rng.random_bool(0.5);
        self.replace_runs(stays)?;
        for turn in 0..400 {
            self.shared.now_us += 500_000;
            self.heal_turn(turn)?;
            if turn > 60 && self.is_settled() {
                return self.last_flush();
            }
        }
        let words: Vec<_> = self.devices.iter().map(Device::describe).collect();
        Err(format!("never settled: {}", words.join("; ")))
    }

    /// One run a partition is left: the last one if it may stay and works, else a new one.
    fn replace_runs(&mut self, stays: bool) -> Result<(), String> {
        for partition in 0..PARTITIONS.messages {
            let last = self.conversations.iter().rposition(|run| run.partition() == partition && !run.dead);
            let kept = last.filter(|_| stays).map(|i| self.conversations.remove(i));
            self.conversations.retain(|run| run.partition() != partition);
            match kept {
                Some(run) => self.conversations.push(run),
                None => self.conversations.push(ConversationRun::start(&self.shared, partition)?),
            }
        }
        for partition in 0..PARTITIONS.timelines {
            let last = self.timelines.iter().rposition(|run| run.partition == partition && run.is_active());
            let newest = self.timelines.iter().rposition(|run| run.partition == partition);
            let kept = last.filter(|_| stays && last == newest).map(|i| self.timelines.remove(i));
            let gone = self.timelines.iter_mut().filter(|run| run.partition == partition);
            gone.for_each(TimelineRun::break_streams);
            self.lost_syncs();
            self.timelines.retain(|run| run.partition != partition);
            match kept {
                Some(run) => self.timelines.push(run),
                None => {
                    let me = self.count();
                    self.timelines.push(TimelineRun::start(&self.shared, partition, me)?);
                }
            }
        }
        Ok(())
    }

    fn heal_turn(&mut self, turn: usize) -> Result<(), String> {
        if turn == 40 && self.shared.mutation != Some(Mutation::NoDeadline) {
            for node in &mut self.nodes {
                node.sign_in_deadline(&self.shared, &mut self.rng);
            }
        }
        self.turn_devices()?;
        for _ in 0..20 {
            self.nodes_read();
            self.route()?;
        }
        for _ in 0..200 {
            self.nodes_produce(0.0);
        }
        self.work_off()?;
        for i in 0..self.timelines.len() {
            for j in 0..self.nodes.len() {
                let name = self.nodes.get(j).map(|node| node.name.clone()).unwrap_or_default();
                if !self
                    .timelines
                    .get(i)
                    .is_some_and(|run| run.streams.iter().any(|s| s.alive && s.node == name))
                {
                    self.connect(i, j);
                }
            }
        }
        for _ in 0..60 {
            self.streams()?;
            self.route()?;
        }
        for _ in 0..20 {
            self.devices_read();
        }
        Ok(())
    }

    /// The runs take everything that is in the logs.
    fn work_off(&mut self) -> Result<(), String> {
        for i in 0..self.conversations.len() {
            let Some(run) = self.conversations.get_mut(i) else { continue };
            while run.step(&self.shared)? {}
            while run.emit(&mut self.shared)? {}
            while !run.is_idle() {
                run.produce(&mut self.shared, &mut self.rng, 0.0);
            }
            run.flush(&mut self.shared, &mut self.rng);
            if run.dead {
                let partition = run.partition();
                *run = ConversationRun::start(&self.shared, partition)?;
            }
        }
        for run in &mut self.timelines {
            while run.step(&self.shared)? {}
            while run.emit(&mut self.shared, &mut self.rng)? {}
            run.flush(&mut self.shared, &mut self.rng);
        }
        Ok(())
    }

    fn is_settled(&self) -> bool {
        self.nodes.iter().all(Node::is_idle)
            && self.devices.iter().all(Device::is_settled)
            && self.conversations.iter().all(|run| run.is_read(&self.shared))
            && self.timelines.iter().all(|run| run.is_read(&self.shared))
    }

    fn last_flush(&mut self) -> Result<(), String> {
        for _ in 0..200 {
            self.work_off()?;
        }
        Ok(())
    }

    /// Live links and sessions are the same.
    fn sessions_are_links(&self) -> Result<(), String> {
        for run in &self.timelines {
            let mut links = 0;
            for node in &self.nodes {
                for link in node
                    .links
                    .values()
                    .filter(|l| l.session.partition() == Some(run.partition) && !l.session.is_closing())
                {
                    links += 1;
                    let fence = Fence {
                        node: node.name.clone(),
                        incarnation: node.rules.incarnation,
                        reactor: 0,
                        link: link.session.link(),
                    };
                    if !run.has_session(&fence) {
                        return Err(format!("a live link has no session: {fence:?}"));
                    }
                }
            }
            if run.sessions() != links {
                return Err(format!("{} sessions, {links} links", run.sessions()));
            }
        }
        Ok(())
    }
}
