//! Between runs and nodes: frames on streams, appends of runs, syncs on their way, and what a break loses.

use proto::v1;
use rand::RngExt;
use storage::log::Topic;

use crate::Mutation;
use crate::oracle::Violation;
use crate::timeline_run::TimelineRun;
use crate::world::World;

impl World {
    /// Frames move on some streams, both ways; marks become hints.
    pub(crate) fn streams(&mut self) -> Result<(), Violation> {
        let any_incarnation = self.shared.breaks(Mutation::AnyIncarnation);
        for run in &mut self.timelines {
            for i in 0..run.streams.len() {
                let Some(stream) = run.streams.get_mut(i).filter(|s| s.alive) else { continue };
                let Some(node) = self.nodes.iter_mut().find(|n| n.name == stream.node) else { continue };
                if node.rules.incarnation != stream.incarnation && !any_incarnation {
                    stream.alive = false;
                    continue;
                }
                if self.rng.random_bool(0.7) {
                    for _ in 0..self.rng.random_range(1..4) {
                        let Some(down) = stream.down.pop_front() else { break };
                        node.hear(&self.shared, run.partition, run.term, down, &mut self.rng);
                    }
                }
                if self.rng.random_bool(0.7) {
                    run.hear(&mut self.shared, i, &mut self.rng)?;
                }
            }
            if self.rng.random_bool(0.3) {
                run.hint_marked(&self.shared)?;
            }
        }
        Ok(())
    }

    pub(crate) fn connect_stream(&mut self) {
        let (i, j) =
            (self.rng.random_range(0..self.timelines.len()), self.rng.random_range(0..self.nodes.len()));
        self.connect(i, j);
    }

    /// A new stream from a run to a node, in place of the one before it.
    pub(crate) fn connect(&mut self, i: usize, j: usize) {
        let (Some(run), Some(node)) = (self.timelines.get_mut(i), self.nodes.get_mut(j)) else { return };
        if !run.is_active() {
            return;
        }
        run.break_streams_to(&node.name);
        self.lost_syncs();
        let (Some(run), Some(node)) = (self.timelines.get_mut(i), self.nodes.get_mut(j)) else { return };
        run.streams.extend(node.open(&self.shared, run.partition, run.term));
    }

    /// What was said between steps reaches whom it is for: appends of runs, syncs, broken streams.
    pub(crate) fn route(&mut self) -> Result<(), Violation> {
        for run in &mut self.timelines {
            for record in run.appends.drain(..) {
                self.shared.append(Topic::Timelines, run.partition, &record);
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
        self.break_streams();
        self.timelines.iter_mut().filter(|run| run.stopped).for_each(TimelineRun::break_streams);
        self.lost_syncs();
        Ok(())
    }

    /// Nodes break the streams of partitions whose sign-offs they could not append.
    fn break_streams(&mut self) {
        for node in &mut self.nodes {
            for partition in std::mem::take(&mut node.breaks) {
                let runs = self.timelines.iter_mut().filter(|run| run.partition == partition);
                let streams = runs.flat_map(|run| &mut run.streams).filter(|s| s.node == node.name);
                streams.for_each(|s| s.alive = false);
            }
        }
    }

    /// A node whose stream broke tells the links that wait for an answer on it.
    pub(crate) fn lost_syncs(&mut self) {
        for run in &mut self.timelines {
            for stream in run.streams.extract_if(.., |stream| !stream.alive) {
                let Some(node) = self.nodes.iter_mut().find(|node| node.name == stream.node) else {
                    continue;
                };
                node.syncs_lost(&self.shared, run.partition, &mut self.rng);
            }
        }
    }
}
