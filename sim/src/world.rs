//! The world: devices, conn nodes, logs, runs of both stages, tables; a schedule of random steps and faults,
//! then healing, then the oracles.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use proto::partition::Partition;
use proto::{ConversationId, UserId, v1};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use storage::log::Topic;
use storage::tables::Fence;

use crate::conversation_run::ConversationRun;
use crate::device::Device;
use crate::fault::{Fault, Faults};
use crate::node::Node;
use crate::oracle::{Oracle, Violation};
use crate::population::Population;
use crate::shared::Shared;
use crate::timeline_run::TimelineRun;
use crate::{Plan, check, replay};

/// How much a seed did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Steps before the healing.
    pub steps: usize,
    /// Devices.
    pub devices: usize,
    /// Sends that were acknowledged.
    pub acked: usize,
    /// Entries that were shown, over all devices.
    pub shown: usize,
    /// Of them, before the healing.
    pub lively: usize,
    /// Of all shown, rejections.
    pub rejected: usize,
    /// Heads that devices were told.
    pub heads: usize,
    /// Records in the messages log.
    pub records: usize,
    /// Records before the checkpoints when healing began.
    pub checkpointed: u64,
}

impl std::ops::AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.devices += other.devices;
        self.acked += other.acked;
        self.shown += other.shown;
        self.lively += other.lively;
        self.rejected += other.rejected;
        self.heads += other.heads;
        self.records += other.records;
        self.checkpointed += other.checkpointed;
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How much it did.
    pub summary: Summary,
    /// The faults that happened, and at which step.
    pub journal: Vec<(usize, Fault)>,
    /// The first promise that was seen broken, if any.
    pub violation: Option<Violation>,
}

/// Everything there is in one run.
pub(crate) struct World {
    pub(crate) rng: SmallRng,
    pub(crate) shared: Shared,
    pub(crate) users: Vec<UserId>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) devices: Vec<Device>,
    /// How many logic nodes own the partitions.
    pub(crate) logics: usize,
    pub(crate) conversations: Vec<ConversationRun>,
    pub(crate) timelines: Vec<TimelineRun>,
    pub(crate) groups: Vec<ConversationId>,
    /// Incarnations that ended and were not yet declared down.
    pub(crate) dead: Vec<(String, u64)>,
    /// How often something whole is befallen by a fault where it might be.
    pub(crate) trouble: f64,
    /// How much is said in a step in which apps speak.
    pub(crate) sends_a_turn: usize,
    counter: u64,
}

/// Runs one plan to its end.
#[must_use]
pub fn run(plan: &Plan) -> Outcome {
    let (summary, journal, shared) = end(plan);
    Outcome { summary, journal, violation: shared.err() }
}

/// What everyone reached, as a seed without a violation leaves it.
///
/// # Errors
/// The violation.
pub(crate) fn shared_after(plan: &Plan) -> Result<Shared, Violation> {
    let (_, _, shared) = end(plan);
    shared
}

fn end(plan: &Plan) -> (Summary, Vec<(usize, Fault)>, Result<Shared, Violation>) {
    let mut rng = SmallRng::seed_from_u64(plan.seed);
    let population = Population::draw(&mut rng);
    let timeouts = *pick(&mut rng, &[0.005, 0.02, 0.08, 0.3]);
    let drawn = *pick(&mut rng, population.steps());
    let steps = plan.steps.map_or(drawn, |steps| steps.min(drawn));
    let faults = Rc::new(Faults::new(&plan.off, timeouts));
    let mut summary = Summary { steps, devices: population.devices, ..Summary::default() };
    let shared = catch_unwind(AssertUnwindSafe(|| {
        let shared = Shared::new(population.partitions, plan.mutation, Rc::clone(&faults));
        let mut world = World::new(rng, shared, &population)?;
        world.live(steps, &mut summary)?;
        Ok(world.shared)
    }));
    let shared = shared.unwrap_or_else(|_| Err(Oracle::Panic.says("something panicked")));
    (summary, faults.journal(), shared)
}

pub(crate) fn pick<'a, T>(rng: &mut SmallRng, of: &'a [T]) -> &'a T {
    of.get(rng.random_range(0..of.len())).expect("there is something to pick from")
}

impl World {
    fn new(mut rng: SmallRng, shared: Shared, population: &Population) -> Result<Self, Violation> {
        let trouble = *pick(&mut rng, &[0.02, 0.1, 0.3, 0.8]);
        let users = population.users()?;
        let devices = population.devices(&users, &mut rng)?;
        let nodes = (1..=population.nodes).map(|i| Node::new(&format!("conn-{i}"), i, shared.partitions));
        let mut world = Self {
            nodes: nodes.collect(),
            rng,
            shared,
            users,
            devices,
            logics: population.logics,
            conversations: Vec::new(),
            timelines: Vec::new(),
            groups: Vec::new(),
            dead: Vec::new(),
            sends_a_turn: population.sends_a_turn(),
            trouble,
            counter: 10,
        };
        for partition in 0..world.shared.partitions.messages {
            let home = world.any_logic();
            world.start_conversations(partition, home)?;
        }
        for partition in 0..world.shared.partitions.timelines {
            let home = world.any_logic();
            world.start_timelines(partition, home)?;
        }
        Ok(world)
    }

    /// The schedule, the healing, the verdict.
    fn live(&mut self, steps: usize, summary: &mut Summary) -> Result<(), Violation> {
        // Most clusters are up and running when the first fault comes.
        for _ in 0..self.rng.random_range(0..4) {
            self.calm_turn()?;
        }
        self.shared.faults.set(true);
        // Then the last push of many users has nothing after it that would tell of its loss.
        let silent_from = self.rng.random_range(steps / 4..=steps);
        let snapshot_at = self.rng.random_range(0..steps.max(1));
        for step in 0..steps {
            self.shared.faults.at(step);
            if step == silent_from {
                self.sends_a_turn = 0;
            }
            if step == snapshot_at {
                self.shared.snapshot = Some(self.shared.store.clone());
            }
            self.step()?;
            self.shared.witness.borrow_mut().verdict()?;
        }
        summary.lively = self.devices.iter().map(|device| device.view.shown.len()).sum();
        summary.checkpointed = self.shared.store.checkpoints.values().map(|c| c.offset).sum();
        let healed = self.heal();
        self.count_into(summary);
        self.shared.witness.borrow_mut().verdict()?;
        healed?;
        let views: Vec<_> = self.devices.iter().map(|device| device.view.clone()).collect();
        check::all(&views, &self.shared.store)?;
        self.sessions_are_links()?;
        replay::same_rows(&self.shared)
    }

    fn count_into(&self, summary: &mut Summary) {
        let rejected = |e: &&v1::Entry| matches!(e.event, Some(v1::entry::Event::Rejected(_)));
        let views = || self.devices.iter().map(|device| &device.view);
        summary.heads = self.shared.witness.borrow().heads;
        summary.acked = views().map(|view| view.acked.len()).sum();
        summary.shown = views().map(|view| view.shown.len()).sum();
        summary.rejected = views().flat_map(|view| &view.shown).filter(rejected).count();
        let partitions = 0..self.shared.partitions.messages;
        summary.records = partitions.map(|p| self.shared.log(Topic::Messages, p).records.len()).sum();
    }

    /// A number that was not given before.
    pub(crate) fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// One of the logic nodes.
    pub(crate) fn any_logic(&mut self) -> usize {
        self.rng.random_range(0..self.logics)
    }

    /// A new run on a messages partition; of too many the oldest ends.
    pub(crate) fn start_conversations(&mut self, partition: Partition, home: usize) -> Result<(), Violation> {
        self.conversations.push(ConversationRun::start(&self.shared, partition, home)?);
        if self.conversations.len() > 2 * self.shared.partitions.messages as usize + 1 {
            self.conversations.remove(0);
        }
        Ok(())
    }

    /// A new run on a timelines partition; of too many the oldest ends.
    pub(crate) fn start_timelines(&mut self, partition: Partition, home: usize) -> Result<(), Violation> {
        let me = self.count();
        self.timelines.push(TimelineRun::start(&self.shared, partition, me, home)?);
        if self.timelines.len() > 3 * self.shared.partitions.timelines as usize {
            self.timelines.first_mut().into_iter().for_each(TimelineRun::break_streams);
            self.lost_syncs();
            self.timelines.remove(0);
        }
        Ok(())
    }

    /// Live links and sessions are the same.
    fn sessions_are_links(&self) -> Result<(), Violation> {
        for run in &self.timelines {
            let mut links = 0;
            for node in &self.nodes {
                for link in node.live_links(run.partition) {
                    links += 1;
                    let fence = Fence { link, ..node.fence() };
                    if !run.has_session(&fence) {
                        return Err(Oracle::Sessions.says(format!("a live link has no session: {fence:?}")));
                    }
                }
            }
            if run.sessions() != links {
                let words = format!("{} sessions, {links} links", run.sessions());
                return Err(Oracle::Sessions.says(words));
            }
        }
        Ok(())
    }
}
