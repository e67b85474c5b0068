//! What one turn of the writer took, and still owes an answer to. Every piece of work is answered once.

use std::sync::Arc;

use super::engine::EngineError;
use super::place::Places;
use super::work::{Appending, Outlet, Reply, Work};
use crate::log::{AppendError, Partition, Record, Tag, Topic};
use crate::tables::Checkpoint;

/// A record that has its offset, or was turned down.
pub(super) struct Appended {
    pub(super) outlet: Arc<Outlet>,
    pub(super) tag: Tag,
    pub(super) bytes: usize,
    /// With the number of its partition; none where it was turned down.
    pub(super) record: Option<(usize, Record)>,
}

/// A checkpoint that waits for the disk.
pub(super) struct Saving {
    pub(super) topic: Topic,
    pub(super) partition: Partition,
    pub(super) checkpoint: Checkpoint,
    pub(super) reply: Reply,
}

impl Saving {
    pub(super) fn stored(self) {
        let _ = self.reply.send(Ok(()));
    }
}

/// What a turn still owes.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) appended: Vec<Appended>,
    pub(super) written: Vec<Reply>,
    /// Partitions, and the offsets below which they are given up.
    pub(super) trimmed: Vec<(usize, u64, Reply)>,
    pub(super) saving: Vec<Saving>,
    /// The first error of drafting. What is taken after it is only there to be answered.
    pub(super) failed: Option<EngineError>,
}

impl Turn {
    /// Takes work that will not be done.
    pub(super) fn owe(&mut self, work: Work) {
        match work {
            Work::Append(Appending { bytes, tag, outlet, .. }) => {
                self.appended.push(Appended { outlet, tag, bytes: bytes.len(), record: None });
            }
            Work::Write { reply, .. } | Work::Checkpoint { reply, .. } | Work::Trim { reply, .. } => {
                self.written.push(reply);
            }
        }
    }

    /// Answers what is done once it is in the engine.
    pub(super) fn answer(&mut self, places: &Places) {
        for reply in self.written.drain(..) {
            let _ = reply.send(Ok(()));
        }
        for (index, first, reply) in self.trimmed.drain(..) {
            if let Some(place) = places.get(index) {
                place.trimmed(first);
            }
            let _ = reply.send(Ok(()));
        }
    }

    /// Shows the records, which are on disk, to the readers, then tells their producers.
    pub(super) fn show(&mut self, places: &Places) {
        let mut by_place: Vec<Vec<Record>> = places.iter().map(|_| Vec::new()).collect();
        let mut outlets = Vec::new();
        for Appended { outlet, tag, bytes, record } in self.appended.drain(..) {
            let result = if record.is_some() { Ok(()) } else { Err(AppendError::Rejected) };
            if let Some((index, record)) = record
                && let Some(records) = by_place.get_mut(index)
            {
                records.push(record);
            }
            if outlet.note(tag, bytes, result) {
                outlets.push(outlet);
            }
        }
        for (place, records) in places.iter().zip(by_place) {
            place.show(records.into_iter());
        }
        outlets.iter().for_each(|outlet| outlet.tell());
    }

    /// Answers everything with an error.
    pub(super) fn refuse(self, append: AppendError, text: &str) {
        let mut outlets = Vec::new();
        for Appended { outlet, tag, bytes, .. } in self.appended {
            if outlet.note(tag, bytes, Err(append)) {
                outlets.push(outlet);
            }
        }
        outlets.iter().for_each(|outlet| outlet.tell());
        let trimmed = self.trimmed.into_iter().map(|(_, _, reply)| reply);
        let saving = self.saving.into_iter().map(|saving| saving.reply);
        for reply in self.written.into_iter().chain(trimmed).chain(saving) {
            let _ = reply.send(Err(text.into()));
        }
    }
}
