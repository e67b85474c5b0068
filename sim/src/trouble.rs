//! Faults that befall something whole: a device, a link, a node, a run, the clock, the tables.

use proto::partition::Partition;
use proto::v1;
use rand::RngExt;
use storage::log::Topic;

use crate::Mutation;
use crate::fault::Fault;
use crate::node::Node;
use crate::oracle::Violation;
use crate::timeline_run::TimelineRun;
use crate::world::World;

/// The log's clock jumps by no more than this.
const JUMP_MAX_US: i64 = 3_600_000_000;
/// The tables are silent for no longer than this.
const SLOW_MAX_US: u64 = 2_000_000;

/// The partitions of the messages log, and of the timelines log, whose newest run is on a logic node.
type Owned = (Vec<Partition>, Vec<Partition>);

impl World {
    pub(crate) fn trouble_a_device(&mut self) {
        let (i, kind) = (self.rng.random_range(0..self.devices.len()), self.rng.random_range(0..14));
        let (rng, faults) = (&mut self.rng, self.shared.faults.clone());
        let Some(device) = self.devices.get_mut(i) else { return };
        let link = device.link;
        let node = link.and_then(|(node, key)| Some((self.nodes.get_mut(node)?, key)));
        match (kind, node) {
            (0..3, _) => device.back_up(),
            (3, _) if device.has_backup() && faults.happens(Fault::DeviceRestored, rng, 1.0) => {
                device.restart(true, &self.shared, rng);
            }
            (4 | 5, _) if faults.happens(Fault::DeviceCrash, rng, 1.0) => {
                device.restart(false, &self.shared, rng);
            }
            (6 | 7, Some((node, key))) if faults.happens(Fault::OneWayLink, rng, 1.0) => {
                node.freeze(key, rng);
            }
            (8.., Some((node, key))) if faults.happens(Fault::LostLink, rng, 1.0) => {
                node.lose(&self.shared, key, rng);
            }
            _ => {}
        }
    }

    pub(crate) fn trouble_a_run(&mut self) -> Result<(), Violation> {
        let faults = self.shared.faults.clone();
        match self.rng.random_range(0..9) {
            0..5 if faults.happens(Fault::Takeover, &mut self.rng, 1.0) => self.take_over(),
            5 | 6 if faults.happens(Fault::RunKilled, &mut self.rng, 1.0) => self.kill_a_run(),
            7 if faults.happens(Fault::Rebalance, &mut self.rng, 1.0) => self.rebalance(),
            8 if faults.happens(Fault::LogicKilled, &mut self.rng, 1.0) => self.kill_a_logic(),
            _ => Ok(()),
        }
    }

    /// A new run takes over, whether the old one knows or not.
    fn take_over(&mut self) -> Result<(), Violation> {
        let home = self.any_logic();
        if self.rng.random_bool(0.5) {
            let partition = self.rng.random_range(0..self.shared.partitions.messages);
            self.start_conversations(partition, home)
        } else {
            let partition = self.rng.random_range(0..self.shared.partitions.timelines);
            self.start_timelines(partition, home)
        }
    }

    /// A run is gone between two effects, with all that it had queued.
    fn kill_a_run(&mut self) -> Result<(), Violation> {
        let home = self.any_logic();
        if self.rng.random_bool(0.5) {
            let i = self.rng.random_range(0..self.conversations.len());
            let partition = self.conversations.remove(i).partition();
            return self.start_conversations(partition, home);
        }
        let i = self.rng.random_range(0..self.timelines.len());
        self.timelines.get_mut(i).into_iter().for_each(TimelineRun::break_streams);
        self.lost_syncs();
        let partition = self.timelines.remove(i).partition;
        self.start_timelines(partition, home)
    }

    /// All partitions of one logic node get successors elsewhere; the node goes on for a while.
    fn rebalance(&mut self) -> Result<(), Violation> {
        let (home, owned) = self.an_owner();
        self.succeed(home, owned)
    }

    /// A logic node is gone with every run on it, also those that others had taken over from.
    fn kill_a_logic(&mut self) -> Result<(), Violation> {
        let (home, owned) = self.an_owner();
        self.conversations.retain(|run| run.home != home);
        self.timelines.iter_mut().filter(|run| run.home == home).for_each(TimelineRun::break_streams);
        self.lost_syncs();
        self.timelines.retain(|run| run.home != home);
        self.succeed(home, owned)
    }

    /// A logic node that owns a partition, and all that it owns.
    fn an_owner(&mut self) -> (usize, Owned) {
        let owned = (0..self.logics).map(|home| (home, self.owned_by(home)));
        let mut owners: Vec<_> = owned.filter(|(_, owned)| *owned != Owned::default()).collect();
        owners.swap_remove(self.rng.random_range(0..owners.len()))
    }

    fn owned_by(&self, home: usize) -> Owned {
        let counts = self.shared.partitions;
        let messages = (0..counts.messages).filter(|partition| {
            let newest = self.conversations.iter().rfind(|run| run.partition() == *partition);
            newest.is_some_and(|run| run.home == home)
        });
        let timelines = (0..counts.timelines).filter(|partition| {
            let newest = self.timelines.iter().rfind(|run| run.partition == *partition);
            newest.is_some_and(|run| run.home == home)
        });
        (messages.collect(), timelines.collect())
    }

    /// These partitions get runs, each on another logic node than this one.
    fn succeed(&mut self, home: usize, (messages, timelines): Owned) -> Result<(), Violation> {
        for partition in messages {
            let elsewhere = self.another_logic(home);
            self.start_conversations(partition, elsewhere)?;
        }
        for partition in timelines {
            let elsewhere = self.another_logic(home);
            self.start_timelines(partition, elsewhere)?;
        }
        Ok(())
    }

    fn another_logic(&mut self, than: usize) -> usize {
        (than + self.rng.random_range(1..self.logics)) % self.logics
    }

    pub(crate) fn trouble_a_node(&mut self) {
        let i = self.rng.random_range(0..self.nodes.len());
        let (fresh, faults) = (self.count(), self.shared.faults.clone());
        match self.rng.random_range(0..12) {
            0 if faults.happens(Fault::LeaseLost, &mut self.rng, 1.0) => self.renew_node(i, fresh),
            1 if faults.happens(Fault::NodeKilled, &mut self.rng, 1.0) => self.kill_node(i, fresh),
            2..4 => self.declare_down(),
            4..8 => self.cut_a_stream(),
            _ => {}
        }
    }

    fn cut_a_stream(&mut self) {
        let streams = self.timelines.iter_mut().flat_map(|run| &mut run.streams);
        let mut alive: Vec<_> = streams.filter(|stream| stream.alive).collect();
        if alive.is_empty() || !self.shared.faults.happens(Fault::CutStream, &mut self.rng, 1.0) {
            return;
        }
        let i = self.rng.random_range(0..alive.len());
        alive.swap_remove(i).alive = false;
    }

    /// The clock of the log jumps, or the tables go silent.
    pub(crate) fn trouble_the_ground(&mut self) {
        let faults = self.shared.faults.clone();
        match self.rng.random_range(0..4) {
            0 if faults.happens(Fault::ClockJump, &mut self.rng, 1.0) => {
                self.shared.skew_us = self.rng.random_range(-JUMP_MAX_US..=JUMP_MAX_US);
            }
            1 => self.shared.skew_us = 0,
            2 if faults.happens(Fault::SlowStore, &mut self.rng, 1.0) => {
                self.shared.slow_until_us = self.shared.now_us + self.rng.random_range(0..SLOW_MAX_US);
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
        *node = Node::new(&node.name.clone(), incarnation, self.shared.partitions);
    }

    pub(crate) fn declare_down(&mut self) {
        if self.shared.breaks(Mutation::DownWhileAlive)
            && let Some(node) = self.nodes.first()
        {
            self.dead.push((node.name.clone(), node.rules.incarnation));
        }
        if self.dead.is_empty() {
            return;
        }
        let (node, incarnation) = self.dead.remove(0);
        let down = v1::timeline_record::Record::NodeDown(v1::NodeDown { node, incarnation });
        let record = v1::TimelineRecord { record: Some(down) };
        for partition in 0..self.shared.partitions.timelines {
            self.shared.append(Topic::Timelines, partition, &record);
        }
    }
}
