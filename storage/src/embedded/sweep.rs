//! What the writer deletes in small portions between other work: records below the beginning of their
//! partition, and sessions that are gone for good. Decides what; never commits.

use std::collections::HashMap;

use proto::Tick;
use proto::partition::Partition;

use super::draft::Draft;
use super::engine::EngineError;
use super::place::Places;
use super::value::Beginning;

/// Records deleted in one turn: at least, so that it ends, and at most.
const RECORDS_MIN: u64 = 256;
const RECORDS_MAX: u64 = 4_096;
/// And for each one that is appended, so that deleting keeps up and is spread.
const RECORDS_EACH: u64 = 2;
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

    /// Deletes a portion of records, in a turn that appends so many.
    pub(super) fn records(&mut self, draft: &mut Draft<'_>, places: &Places, appended: usize) {
        let waiting = |(b, _): &(&mut Beginning, _)| b.swept < b.first;
        let Some((beginning, place)) = self.beginnings.iter_mut().zip(places.iter()).find(waiting) else {
            return;
        };
        let appended = u64::try_from(appended).unwrap_or(u64::MAX);
        let portion = appended.saturating_mul(RECORDS_EACH).clamp(RECORDS_MIN, RECORDS_MAX);
        let to = beginning.first.min(beginning.swept.saturating_add(portion));
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::{DeviceId, UserId};

    use super::*;
    use crate::embedded::engine::Engine;
    use crate::embedded::key;
    use crate::embedded::options::Options;
    use crate::embedded::work::Rows;
    use crate::log::{Partitions, Record, Topic};
    use crate::tables::{Fence, SessionRow, SessionWrite};

    fn engine(dir: &tempfile::TempDir) -> Engine {
        Engine::open(dir.path(), &Options::new(Partitions { messages: 1, timelines: 1 })).unwrap()
    }

    #[test]
    fn trimmed_records_go_in_portions_and_a_new_start_goes_on() {
        const COUNT: u64 = 3 * RECORDS_MAX;
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(&dir);
        let places = Places::new(Partitions { messages: 1, timelines: 1 }, 1_000);
        let mut draft = Draft::new(&engine);
        for offset in 0..COUNT {
            let record = Record { offset, append_us: 1, bytes: Bytes::from_static(b"r") };
            draft.record(Topic::Messages, 0, &record);
        }
        let mut sweep = Sweep::new(vec![Beginning::default(); 3]);
        assert!(sweep.is_idle());
        assert_eq!(sweep.trim(&mut draft, &places, 0, COUNT - 10), COUNT - 10);
        assert_eq!(sweep.trim(&mut draft, &places, 0, 5), COUNT - 10, "never falls");
        draft.commit().unwrap();
        assert!(!sweep.is_idle());
        let mut draft = Draft::new(&engine);
        sweep.records(&mut draft, &places, usize::MAX);
        draft.commit().unwrap();
        assert_eq!(engine.log.len().unwrap() as u64, COUNT - RECORDS_MAX);

        let stored = engine.get(&engine.state, &key::bounds(Topic::Messages, 0)).unwrap().unwrap();
        let beginning = Beginning::decode(&stored).unwrap();
        assert_eq!(beginning, Beginning { first: COUNT - 10, swept: RECORDS_MAX });
        let mut sweep = Sweep::new(vec![beginning]);
        while !sweep.is_idle() {
            let mut draft = Draft::new(&engine);
            sweep.records(&mut draft, &places, usize::MAX);
            draft.commit().unwrap();
        }
        assert_eq!(engine.log.len().unwrap(), 10);
    }

    #[test]
    fn a_session_that_is_gone_is_forgotten_one_checkpoint_later() {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(&dir);
        let change = |link: u64, at: u64, live: bool| {
            let fence = Fence { node: "n".into(), incarnation: 1, reactor: 0, link };
            let (user, device) = (UserId::new("ann").unwrap(), DeviceId::new("phone").unwrap());
            SessionWrite { session: SessionRow { fence, user, device }, at: Tick(at), live }
        };
        let links = 2 * SESSIONS_MAX as u64;
        // Every other one is gone, at a tick of its number.
        let sessions = (0..links).map(|link| change(link, link, link % 2 == 0)).collect();
        let mut draft = Draft::new(&engine);
        draft.rows(Rows::Users { partition: 4, sessions, users: vec![] }).unwrap();
        draft.commit().unwrap();
        let rows = || engine.state.len().unwrap() as u64;
        let mut sweep = Sweep::default();
        let mut checkpoint = |at| {
            let mut draft = Draft::new(&engine);
            sweep.sessions(&mut draft, 4, Tick(at)).unwrap();
            draft.commit().unwrap();
        };
        checkpoint(100);
        checkpoint(links);
        assert_eq!(rows(), links, "the first round had no checkpoint before it, the second saw new rows");
        checkpoint(links + 1);
        checkpoint(links + 2);
        checkpoint(links + 3);
        assert_eq!(rows(), links / 2, "only what is live is left");
        assert_eq!(engine.state.range(key::sessions(4)..key::sessions_end(4)).count() as u64, links / 2);
    }
}
