//! The end of a schedule: every fault is over, and everything gets the time that it needs.

use crate::Mutation;
use crate::conversation_run::ConversationRun;
use crate::device::Device;
use crate::node::Node;
use crate::oracle::{Oracle, Violation};
use crate::timeline_run::TimelineRun;
use crate::world::World;
use rand::RngExt;

/// Turns of a second in which everything has to settle.
const TURNS_MAX: usize = 400;
/// Turns that pass in any case, so that every deadline of a device has come.
const TURNS_MIN: usize = 60;
/// When links that are not confirmed are given up.
const SIGN_IN_DEADLINE_TURN: usize = 40;

impl World {
    /// Every fault ends, and everything gets the time it needs.
    pub(crate) fn heal(&mut self) -> Result<(), Violation> {
        self.shared.faults.set(false);
        self.shared.skew_us = 0;
        self.shared.slow_until_us = 0;
        self.nodes.iter_mut().for_each(Node::thaw);
        while !self.dead.is_empty() {
            self.declare_down();
            if self.shared.breaks(Mutation::DownWhileAlive) {
                self.dead.clear();
            }
        }
        let stays = self.rng.random_bool(0.8);
        self.replace_runs(stays)?;
        for turn in 0..TURNS_MAX {
            self.calm_turn()?;
            if turn == SIGN_IN_DEADLINE_TURN && !self.shared.breaks(Mutation::NoDeadline) {
                self.nodes.iter_mut().for_each(|node| node.sign_in_deadline(&self.shared, &mut self.rng));
            }
            self.shared.witness.borrow_mut().verdict()?;
            if turn > TURNS_MIN && self.is_settled() {
                return self.last_flush();
            }
        }
        let words: Vec<_> =
            self.devices.iter().filter(|device| !device.is_settled()).map(Device::describe).collect();
        Err(Oracle::Liveness.says(format!("never settled: {}", words.join("; "))))
    }

    /// One run a partition is left: the last one if it may stay and works, else a new one.
    fn replace_runs(&mut self, stays: bool) -> Result<(), Violation> {
        for partition in 0..self.shared.partitions.messages {
            let last = self.conversations.iter().rposition(|run| run.partition() == partition && !run.dead);
            let kept = last.filter(|_| stays).map(|i| self.conversations.remove(i));
            self.conversations.retain(|run| run.partition() != partition);
            match kept {
                Some(run) => self.conversations.push(run),
                None => {
                    let home = self.any_logic();
                    self.start_conversations(partition, home)?;
                }
            }
        }
        for partition in 0..self.shared.partitions.timelines {
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
                    let home = self.any_logic();
                    self.start_timelines(partition, home)?;
                }
            }
        }
        Ok(())
    }

    /// A second in which everything goes on: without faults, all that can be done is done.
    pub(crate) fn calm_turn(&mut self) -> Result<(), Violation> {
        self.shared.now_us += 1_000_000;
        self.turn_devices()?;
        for _ in 0..20 {
            self.nodes_read();
            self.route()?;
        }
        self.nodes_drain();
        self.work_off()?;
        self.connect_all();
        for _ in 0..60 {
            self.streams()?;
            self.route()?;
        }
        for _ in 0..20 {
            self.devices_read();
        }
        Ok(())
    }

    /// What nodes append is appended.
    fn nodes_drain(&mut self) {
        for node in &mut self.nodes {
            while !node.is_idle() {
                node.produce(&mut self.shared, &mut self.rng);
            }
        }
    }

    /// Every run has a stream to every node.
    fn connect_all(&mut self) {
        for i in 0..self.timelines.len() {
            for j in 0..self.nodes.len() {
                let (Some(run), Some(node)) = (self.timelines.get(i), self.nodes.get(j)) else { continue };
                if !run.streams.iter().any(|s| s.alive && s.node == node.name) {
                    self.connect(i, j);
                }
            }
        }
    }

    /// The runs take everything that is in the logs.
    fn work_off(&mut self) -> Result<(), Violation> {
        for run in &mut self.conversations {
            while run.step(&self.shared)? {}
            while run.emit(&mut self.shared, &mut self.rng)? {}
            while !run.is_idle() {
                run.produce(&mut self.shared, &mut self.rng);
            }
            run.flush(&mut self.shared, &mut self.rng);
            if run.dead {
                *run = ConversationRun::start(&self.shared, run.partition(), run.home)?;
            }
        }
        for run in &mut self.timelines {
            while run.step(&self.shared)? {}
            while run.emit(&mut self.shared, &mut self.rng)? {}
            run.flush(&mut self.shared, &mut self.rng);
        }
        Ok(())
    }

    /// Whether nothing is left to do, and nothing is on its way.
    fn is_settled(&self) -> bool {
        let streams = || self.timelines.iter().flat_map(|run| &run.streams);
        self.nodes.iter().all(Node::is_idle)
            && self.devices.iter().all(|device| device.is_settled() && device.is_quiet(&self.nodes))
            && streams().all(|stream| stream.down.is_empty() && stream.up.is_empty())
            && self.conversations.iter().all(|run| run.is_read(&self.shared))
            && self.timelines.iter().all(|run| run.is_read(&self.shared))
    }

    fn last_flush(&mut self) -> Result<(), Violation> {
        (0..200).try_for_each(|_| self.work_off())
    }
}
