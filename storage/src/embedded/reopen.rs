//! How the writer comes to an engine: at a start, and again after an error of it. Also, whether the disk
//! has room for more.

use std::time::Duration;

use super::engine::{self, Engine, EngineError};
use super::options::Fatal;
use super::sweep::Sweep;
use super::turn::Turn;
use super::value::Beginning;
use super::writer::Writer;
use super::{clock, key, space};
use crate::log::{AppendError, Partition, Topic};

/// Between two attempts to open a database again.
const RETRY: Duration = Duration::from_millis(200);
/// Free bytes without which opening it again is not even tried.
const RETRY_BYTES_MIN: u64 = 1024 * 1024;
/// Between two looks at which journals there are: far less than it takes to fill one.
const JOURNALS_EVERY: Duration = Duration::from_millis(200);
/// For so long after the disk was full, background work may be found to have failed for that.
const FULL_LATELY: Duration = Duration::from_secs(10);

impl Writer {
    /// Whether there is room above the reserve.
    pub(super) fn has_room(&mut self) -> bool {
        let reserve = self.core.options.reserve_bytes;
        let free = match space::available(self.dir.path()) {
            Ok(free) => free,
            Err(error) => {
                tracing::error!(%error, "the free space of the disk is not known");
                return true;
            }
        };
        let is_full = free < reserve;
        if is_full != self.is_full {
            tracing::warn!(
                free,
                reserve,
                "the disk is {}",
                if is_full { "full" } else { "not full any more" }
            );
            self.is_full = is_full;
        }
        if is_full {
            self.full_at = Some(clock::now());
        }
        !is_full
    }

    /// Whether the disk is full, or was a moment ago.
    pub(super) fn was_full(&self) -> bool {
        let lately = |at| clock::now() - at < FULL_LATELY;
        !self.has_room_to_open() || self.full_at.is_some_and(lately)
    }

    /// Whether there is room to open the data again.
    fn has_room_to_open(&self) -> bool {
        let free = space::available(self.dir.path()).unwrap_or(u64::MAX);
        free >= self.core.options.reserve_bytes.max(RETRY_BYTES_MIN)
    }

    /// Holds the journals that there are now, once in a while: an error of the engine's background work may be that one
    /// of them was not written back, and only a handle from before still tells.
    pub(super) fn hold_journals(&mut self) {
        let now = clock::now();
        if self.journals_at.is_some_and(|at| now - at < JOURNALS_EVERY) {
            return;
        }
        self.journals_at = Some(now);
        if let Err(error) = self.journals.look(&self.dir.engine()) {
            tracing::warn!(%error, "the journals cannot be opened");
        }
    }

    /// Closes the database and opens it again, however often that takes; refuses meanwhile.
    pub(super) fn recover(&mut self, cause: &fjall::Error) -> Result<(), Fatal> {
        tracing::error!(%cause, "the data failed; closing and opening it again");
        let path = self.dir.engine();
        while let Err(error) = self.journals.look(&path) {
            tracing::error!(%error, "the journals cannot be opened");
            if !self.pause() {
                return Ok(());
            }
        }
        drop(self.core.slot.replace(None));
        self.journals.sync().map_err(|error| Fatal::Fsync(error.to_string()))?;
        while self.pause() {
            if !self.has_room_to_open() {
                continue;
            }
            match Engine::open(&path, &self.core.options).and_then(|engine| self.adopt(engine)) {
                Ok(()) => {
                    tracing::warn!("the data is open again");
                    return Ok(());
                }
                Err(error @ (EngineError::Lost { .. } | EngineError::Rotten { .. })) => {
                    return Err(Fatal::Background(error.to_string()));
                }
                Err(error) => tracing::error!(%error, "the data cannot be opened"),
            }
        }
        Ok(())
    }

    /// Refuses what came in, after a while. False once the mailbox is closed.
    fn pause(&mut self) -> bool {
        std::thread::sleep(RETRY);
        let mut work = Vec::new();
        let is_open = self.core.mailbox.take(&mut work, false);
        self.refuse(&mut work, Turn::default(), AppendError::Rejected, &EngineError::Closed.to_string());
        is_open
    }

    /// Looks where the partitions begin and end, and takes the engine into use.
    pub(super) fn adopt(&mut self, engine: Engine) -> Result<(), EngineError> {
        let mut beginnings = Vec::new();
        for place in self.core.places.iter() {
            let (beginning, next) = look(&engine, place.topic, place.partition)?;
            let shown = place.view().next;
            if next < shown {
                return Err(EngineError::Lost {
                    topic: place.topic,
                    partition: place.partition,
                    next,
                    shown,
                });
            }
            place.reset(beginning.first, next);
            beginnings.push(beginning);
        }
        self.next = self.core.places.iter().map(|place| place.view().next).collect();
        self.sweep = Sweep::new(beginnings);
        self.core.slot.replace(Some(engine));
        Ok(())
    }
}

/// Where a partition begins, and the offset after its last.
fn look(engine: &Engine, topic: Topic, partition: Partition) -> Result<(Beginning, u64), EngineError> {
    let damaged = || EngineError::Damaged("log");
    let beginning = match engine.get(&engine.state, &key::bounds(topic, partition))? {
        Some(value) => Beginning::decode(&value).ok_or_else(damaged)?,
        None => Beginning::default(),
    };
    // From `first` on: what was deleted below need not be walked over.
    let (from, to) =
        (key::record(topic, partition, beginning.first), key::record(topic, partition, u64::MAX));
    let next = match engine::last_key(&engine.snapshot(), &engine.log, &from, &to)? {
        Some(last) => key::offset(&last).ok_or_else(damaged)? + 1,
        None => beginning.first,
    };
    Ok((beginning, next))
}
