//! One run of the conversation stage on one partition: the shell's rules, step by step, so that the schedule
//! may put anything between any two of them.

use std::collections::{BTreeMap, VecDeque};

use logic::conversation::{ConversationStage, Effect};
use prost::Message;
use proto::partition::Partition;
use proto::{Tick, v1};
use rand::RngExt;
use rand::rngs::SmallRng;
use storage::log::Topic;
use storage::tables::{Checkpoint, ConversationWrite};

use crate::Mutation;
use crate::fault::Fault;
use crate::log::Producer;
use crate::oracle::{Oracle, Violation};
use crate::shared::Shared;
use crate::tamper::{self, Numbers};

/// The dirty rows at a position, waiting until everything before it is durable.
struct Flush {
    done_at: u64,
    rows: Vec<ConversationWrite>,
    written: Vec<(proto::ConversationId, Tick)>,
    checkpoint: Checkpoint,
}

/// A run: alive until one of its appends fails.
pub struct ConversationRun {
    partition: Partition,
    /// The logic node that it runs on.
    pub home: usize,
    stage: ConversationStage,
    offset: usize,
    /// Records stepped, counted in this run.
    stepped: u64,
    /// Effects in the order of their records: (count of the record, effect).
    effects: VecDeque<(u64, Effect)>,
    producers: Vec<Producer<u64>>,
    prev: Vec<u64>,
    /// By record: effects that are not durable yet.
    pending: BTreeMap<u64, usize>,
    /// Every record up to this count has all of its effects durable.
    done: u64,
    flush: Option<Flush>,
    /// For mutations alone.
    numbers: Numbers,
    /// Set when an append failed or another owner was read: nothing more is done.
    pub dead: bool,
}

impl ConversationRun {
    /// Starts from the partition's checkpoint.
    ///
    /// # Errors
    /// The checkpoint cannot be read.
    pub fn start(shared: &Shared, partition: Partition, home: usize) -> Result<Self, Violation> {
        let checkpoint = shared.store.checkpoints.get(&(Topic::Messages, partition));
        let timelines = shared.partitions.timelines;
        let stage = ConversationStage::new(partition, timelines, checkpoint).map_err(|e| e.to_string())?;
        let offset = checkpoint.map_or(0, |c| usize::try_from(c.offset).unwrap_or(usize::MAX));
        Ok(Self {
            numbers: Numbers::after(shared, partition, offset),
            partition,
            home,
            stage,
            offset,
            stepped: 0,
            effects: VecDeque::new(),
            producers: (0..timelines).map(|_| Producer::default()).collect(),
            prev: vec![0; timelines as usize],
            pending: BTreeMap::new(),
            done: 0,
            flush: None,
            dead: false,
        })
    }

    /// Takes the next record. False: there is none.
    ///
    /// # Errors
    /// A stored row cannot be read.
    pub fn step(&mut self, shared: &Shared) -> Result<bool, Violation> {
        if self.dead || shared.is_slow() {
            return Ok(false);
        }
        let Some((append_us, bytes)) = shared.log(Topic::Messages, self.partition).read(self.offset) else {
            return Ok(false);
        };
        self.offset += 1;
        self.stepped += 1;
        let mut record = v1::MessageRecord::decode(bytes).map_err(|e| e.to_string())?;
        self.numbers.renumber(shared, &mut record);
        if let Some(id) = ConversationStage::key(&record)
            && !self.stage.is_loaded(&id)
        {
            self.stage.load(id, tamper::read(shared, &id)).map_err(|e| e.to_string())?;
        }
        let mut effects = Vec::new();
        self.stage.step(append_us, &record, false, &mut effects);
        effects.retain(|effect| !matches!(effect, Effect::Owner(_)));
        self.pending.insert(self.stepped, effects.len());
        self.effects.extend(effects.into_iter().map(|effect| (self.stepped, effect)));
        self.advance();
        Ok(true)
    }

    /// The oldest effect; or, where its row fails for now, a later row.
    fn next_effect(&mut self, shared: &Shared, rng: &mut SmallRng) -> Option<(u64, Effect)> {
        let is_row = |effect: &(u64, Effect)| matches!(effect.1, Effect::History(_));
        let late = shared.breaks(Mutation::HistoryLate) && shared.faults.is_on();
        if late && let Some(i) = self.effects.iter().take(4).position(|effect| !is_row(effect)) {
            return self.effects.remove(i);
        }
        if self.effects.front().is_some_and(is_row) && shared.faults.happens(Fault::FailedRow, rng, 0.1) {
            let i = (1..self.effects.len().min(6)).find(|i| self.effects.get(*i).is_some_and(is_row))?;
            return self.effects.remove(i);
        }
        self.effects.pop_front()
    }

    /// Carries the oldest effect out.
    ///
    /// # Errors
    /// History was rewritten with other bytes.
    pub fn emit(&mut self, shared: &mut Shared, rng: &mut SmallRng) -> Result<bool, Violation> {
        if self.dead || shared.is_slow() {
            return Ok(false);
        }
        let Some((count, effect)) = self.next_effect(shared, rng) else { return Ok(false) };
        match effect {
            Effect::History(row) => {
                shared.store.put_history(&row).map_err(|words| Oracle::Rewritten.says(words))?;
                self.settle(count);
            }
            Effect::Output { partition, mut output } => {
                tamper::leave_out(shared, &mut output);
                let prev = self.prev.get_mut(partition as usize).ok_or("an output for no partition")?;
                if !shared.breaks(Mutation::NoPrev) {
                    output.prev = *prev;
                }
                *prev = output.source;
                let record = v1::timeline_record::Record::Output(output);
                let bytes = v1::TimelineRecord { record: Some(record) }.encode_to_vec();
                let producer = self.producers.get_mut(partition as usize).ok_or("no producer")?;
                producer.append(bytes.into(), count);
            }
            Effect::Owner(_) => {}
        }
        Ok(true)
    }

    /// Lets one of the producers go on.
    pub fn produce(&mut self, shared: &mut Shared, rng: &mut SmallRng) {
        let i = rng.random_range(0..self.producers.len());
        let (now_us, faults) = (shared.log_us(), shared.faults.clone());
        let ignores = shared.breaks(Mutation::FailedReportIgnored);
        let Some(producer) = self.producers.get_mut(i) else { return };
        let log = shared.log_mut(Topic::Timelines, u32::try_from(i).unwrap_or(0));
        match producer.advance(log, now_us, rng, &faults) {
            Some((count, ok)) if ok || ignores => self.settle(count),
            Some(_) => self.dead = true,
            None => {}
        }
    }

    /// Takes the flush one step further: clone, then (once durable) write row by row, then the checkpoint.
    pub fn flush(&mut self, shared: &mut Shared, rng: &mut SmallRng) {
        if shared.is_slow() {
            return;
        }
        if self.flush.is_none() && !self.dead {
            self.flush = Some(self.cut(shared));
        }
        let Some(flush) = &mut self.flush else { return };
        if shared.breaks(Mutation::CheckpointAhead) {
            shared.store.save_checkpoint(Topic::Messages, self.partition, &flush.checkpoint);
        }
        if self.done < flush.done_at && !shared.breaks(Mutation::RowsNoPrefix) {
            return;
        }
        let guarded = !shared.breaks(Mutation::NoTickGuard);
        flush.rows.retain(|row| {
            let lands = !shared.faults.happens(Fault::FailedRow, rng, 0.3);
            if lands {
                shared.store.save_conversation(row, guarded);
            }
            !lands
        });
        if flush.rows.is_empty() {
            shared.store.save_checkpoint(Topic::Messages, self.partition, &flush.checkpoint);
            self.stage.written(&flush.written);
            self.flush = None;
        }
    }

    fn cut(&mut self, shared: &Shared) -> Flush {
        let rows = self.stage.clone_dirty();
        let written = rows.iter().map(|row| (row.id, row.at)).collect();
        let tick = if shared.breaks(Mutation::TickForgotten) { Tick::ZERO } else { self.stage.tick() };
        let checkpoint = Checkpoint { offset: self.offset as u64, tick, state: self.stage.state() };
        Flush { done_at: self.stepped, rows, written, checkpoint }
    }

    /// Forgets what may be forgotten.
    pub fn evict(&mut self, bytes_max: usize) {
        self.stage.evict(bytes_max);
    }

    /// Its partition.
    #[must_use]
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// Whether the whole partition was read.
    #[must_use]
    pub fn is_read(&self, shared: &Shared) -> bool {
        self.offset >= shared.log(Topic::Messages, self.partition).records.len()
    }

    /// Whether every effect is durable.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.dead || (self.effects.is_empty() && self.producers.iter().all(Producer::is_idle))
    }

    fn settle(&mut self, count: u64) {
        if let Some(left) = self.pending.get_mut(&count) {
            *left -= 1;
        }
        self.advance();
    }

    fn advance(&mut self) {
        while self.pending.get(&(self.done + 1)) == Some(&0) {
            self.done += 1;
            self.pending.remove(&self.done);
        }
    }
}
