//! What the writer deletes in small portions between other work: records below the beginning of their
//! partition, and sessions that are gone for good. Decides what; never commits.

use std::collections::HashMap;

use proto::Tick;
use proto::partition::Partition;

use super::draft::Draft;
use super::engine::EngineError;
use super::place::Places;
use super::value::Beginning;

/// Records deleted in one turn.
const RECORDS_MAX: u64 = 4_096;
/// Rows of sessions looked at after one checkpoint.
const SESSIONS_MAX: usize = 256;

/// Where a partition's sweep of sessions stands.
#[derive(Default)]
struct Round {
    /// The tick of the checkpoint before the last.
    before: Tick,
    last: Tick,
    from: Option<Vec<u8>>,
}

/// What is left to delete.
#[derive(Default)]
pub(super) struct Sweep {
    /// By number of the partition.
    beginnings: Vec<Beginning>,
    rounds: HashMap<Partition, Round>,
}

impl Sweep {
    pub(super) fn new(beginnings: Vec<Beginning>) -> Self {
        Self { beginnings, rounds: HashMap::new() }
    }

    /// Whether records wait to be deleted.
    pub(super) fn is_idle(&self) -> bool {
        self.beginnings.iter().all(|b| b.swept >= b.first)
    }

    /// Gives up the records of a partition below `first`, as far as they are not yet. Gives the new
    /// beginning.
    pub(super) fn trim(&mut self, draft: &mut Draft<'_>, places: &Places, index: usize, first: u64) -> u64 {
        let (Some(beginning), Some(place)) = (self.beginnings.get_mut(index), places.get(index)) else {
            return first;
        };
        if first > beginning.first {
            beginning.first = first;
            draft.beginning(place.topic, place.partition, *beginning);
        }
        beginning.first
    }

    /// Deletes a portion of records.
    pub(super) fn records(&mut self, draft: &mut Draft<'_>, places: &Places) {
        let waiting = |(b, _): &(&mut Beginning, _)| b.swept < b.first;
        let Some((beginning, place)) = self.beginnings.iter_mut().zip(places.iter()).find(waiting) else {
            return;
        };
        let to = beginning.first.min(beginning.swept.saturating_add(RECORDS_MAX));
        for offset in beginning.swept..to {
            draft.drop_record(place.topic, place.partition, offset);
        }
        beginning.swept = to;
        draft.beginning(place.topic, place.partition, *beginning);
    }

    /// Looks at a portion of a partition's sessions, at a checkpoint of it. Forgets those that were gone
    /// at the checkpoint before: nothing that old is caused again.
    pub(super) fn sessions(
        &mut self,
        draft: &mut Draft<'_>,
        partition: Partition,
        at: Tick,
    ) -> Result<(), EngineError> {
        let round = self.rounds.entry(partition).or_default();
        if at > round.last {
            round.before = std::mem::replace(&mut round.last, at);
        }
        round.from = draft.forget_sessions(partition, round.from.take(), round.before, SESSIONS_MAX)?;
        Ok(())
    }
}
