//! One step of a schedule: something or other goes on by a little.

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::conversation_run::ConversationRun;
use crate::oracle::Violation;
use crate::shared::Shared;
use crate::timeline_run::TimelineRun;
use crate::world::World;

impl World {
    /// One random thing happens.
    pub(crate) fn step(&mut self) -> Result<(), Violation> {
        self.shared.now_us += self.rng.random_range(0..60_000);
        match self.rng.random_range(0..100) {
            0..10 => (0..self.sends_a_turn).try_for_each(|_| self.say())?,
            10..14 if self.is_troubled() => self.trouble_a_device(),
            10..26 => self.turn_devices()?,
            26..36 => self.nodes_read(),
            36..44 => self.devices_read(),
            44..53 => self.nodes_produce(),
            53..60 => self.one_conversation(|run, shared, _| run.step(shared).map(drop))?,
            60..66 => self.one_conversation(|run, shared, rng| run.emit(shared, rng).map(drop))?,
            66..71 => self.one_conversation(|run, shared, rng| {
                run.produce(shared, rng);
                Ok(())
            })?,
            71..74 => self.one_conversation(|run, shared, rng| {
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
            96 => self.evict(),
            97 if self.is_troubled() => self.trouble_a_run()?,
            98 if self.is_troubled() => self.trouble_a_node(),
            99 if self.is_troubled() => self.trouble_the_ground(),
            _ => self.connect_stream(),
        }
        self.route()
    }

    fn is_troubled(&mut self) -> bool {
        self.rng.random_bool(self.trouble)
    }

    fn one_conversation(
        &mut self,
        act: impl Fn(&mut ConversationRun, &mut Shared, &mut SmallRng) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        // Mostly the newest: older runs lag behind, as one does that was stopped and goes on.
        let partition = self.rng.random_range(0..self.shared.partitions.messages);
        let newest = self.conversations.iter().rposition(|run| run.partition() == partition);
        let i = match newest.filter(|_| self.rng.random_bool(0.8)) {
            Some(i) => i,
            None => self.rng.random_range(0..self.conversations.len()),
        };
        let run = self.conversations.get_mut(i).ok_or("no run")?;
        if run.dead {
            // A supervisor begins again where an append failed.
            *run = ConversationRun::start(&self.shared, run.partition(), run.home)?;
        }
        let times = batch(&mut self.rng);
        (0..times).try_for_each(|_| act(run, &mut self.shared, &mut self.rng))
    }

    fn one_timeline(
        &mut self,
        act: impl Fn(&mut TimelineRun, &mut Shared, &mut SmallRng) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let partition = self.rng.random_range(0..self.shared.partitions.timelines);
        let newest = self.timelines.iter().rposition(|run| run.partition == partition);
        let i = match newest.filter(|_| self.rng.random_bool(0.8)) {
            Some(i) => i,
            None => self.rng.random_range(0..self.timelines.len()),
        };
        let run = self.timelines.get_mut(i).ok_or("no run")?;
        let times = batch(&mut self.rng);
        (0..times).try_for_each(|_| act(run, &mut self.shared, &mut self.rng))
    }

    /// Every device has its turn.
    pub(crate) fn turn_devices(&mut self) -> Result<(), Violation> {
        for device in &mut self.devices {
            device.turn(&self.shared, &mut self.nodes, &mut self.rng)?;
        }
        Ok(())
    }

    /// Nodes read a frame of most links.
    pub(crate) fn nodes_read(&mut self) {
        for (place, node) in self.nodes.iter_mut().enumerate() {
            for key in node.links.keys().copied().collect::<Vec<_>>() {
                for _ in 0..self.rng.random_range(0..4) {
                    node.read(&self.shared, key, &mut self.rng);
                }
            }
            node.gather_cursors(&self.shared, &mut self.rng);
            node.forget_closed(place, &self.devices);
        }
    }

    /// Devices read a few frames of their links; some outboxes have room again.
    pub(crate) fn devices_read(&mut self) {
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

    /// What nodes append goes on its way.
    pub(crate) fn nodes_produce(&mut self) {
        for node in &mut self.nodes {
            for _ in 0..self.rng.random_range(1..12) {
                node.produce(&mut self.shared, &mut self.rng);
            }
        }
    }

    fn evict(&mut self) {
        let bytes_max = self.rng.random_range(0..4_000);
        self.conversations.iter_mut().for_each(|run| run.evict(bytes_max));
        self.timelines.iter_mut().for_each(|run| run.evict(bytes_max));
    }
}

/// How much a run does at once: often one thing, sometimes all it has.
fn batch(rng: &mut SmallRng) -> usize {
    1 << rng.random_range(0..6)
}
