//! The writer: the one thread that writes. A turn, top to bottom: take, draft, commit, answer the
//! tables, wait for the disk, show, report, store checkpoints. Never waits for anyone who asks.

use std::sync::Arc;
use std::time::Duration;

use super::dir::{Dir, OpenError};
use super::draft::Draft;
use super::engine::{self, Engine, EngineError, Journals};
use super::options::Fatal;
use super::sweep::Sweep;
use super::value::Beginning;
use super::work::{Appending, Outlet, Reply, Work};
use super::{Core, clock, key, space};
use crate::log::{AppendError, Partition, Record, Tag, Topic};
use crate::tables::Checkpoint;
use proto::limits::RECORD_BYTES_MAX;

/// Between two attempts to open a database again.
const RETRY: Duration = Duration::from_millis(200);
/// Between two looks at whether background work has caught up.
const CATCH_UP: Duration = Duration::from_millis(2);
/// Free bytes without which opening it again is not even tried.
const RETRY_BYTES_MIN: u64 = 1024 * 1024;
/// The mailbox keeps no more room than this between turns.
const KEPT_ITEMS: usize = 4_096;

pub(super) struct Writer {
    core: Arc<Core>,
    dir: Dir,
    /// The next offset of every partition, by its number.
    next: Vec<u64>,
    sweep: Sweep,
    /// Whether the disk was too full at the last turn.
    is_full: bool,
}

/// Why a turn ended early.
enum Trouble {
    /// Nothing of it was committed; the engine is fine.
    Read(EngineError),
    /// The engine takes no more.
    Engine(fjall::Error),
    Fatal(Fatal),
}

impl From<EngineError> for Trouble {
    fn from(error: EngineError) -> Self {
        Trouble::Read(error)
    }
}

/// A record that has its offset, or was turned down.
struct Appended {
    outlet: Arc<Outlet>,
    tag: Tag,
    bytes: usize,
    record: Option<(usize, Record)>,
}

struct Saving {
    topic: Topic,
    partition: Partition,
    checkpoint: Checkpoint,
    reply: Reply,
}

/// What a turn still owes.
#[derive(Default)]
struct Turn {
    appended: Vec<Appended>,
    written: Vec<Reply>,
    /// Partitions, and the offsets below which they are given up.
    trimmed: Vec<(usize, u64, Reply)>,
    saving: Vec<Saving>,
    /// The first error of drafting. What is taken after it is only there to be answered.
    failed: Option<EngineError>,
}

impl Writer {
    /// Opens the database of a directory.
    pub(super) fn open(dir: Dir, core: Arc<Core>) -> Result<Self, OpenError> {
        let path = dir.engine();
        let mut writer = Self { core, dir, next: Vec::new(), sweep: Sweep::default(), is_full: false };
        let engine = Engine::open(&path, &writer.core.options).and_then(|engine| writer.adopt(engine));
        engine.map_err(|error| match error {
            EngineError::Engine(fjall::Error::Io(cause)) => OpenError::Io { path, cause },
            other => OpenError::Damaged { path, cause: other.to_string() },
        })?;
        writer.dir.sync()?;
        Ok(writer)
    }

    /// Works until the mailbox is closed, or the data cannot be trusted any more.
    pub(super) fn run(mut self) {
        let mut work = Vec::new();
        while self.core.mailbox.take(&mut work, self.sweep.is_idle()) {
            match self.turn(&mut work) {
                Ok(()) => {}
                Err(Trouble::Read(error)) => tracing::error!(%error, "a write was refused"),
                Err(Trouble::Engine(error)) => {
                    if let Err(fatal) = self.recover(&error) {
                        return self.die(&fatal);
                    }
                }
                Err(Trouble::Fatal(fatal)) => return self.die(&fatal),
            }
            work.shrink_to(KEPT_ITEMS);
        }
    }

    fn turn(&mut self, work: &mut Vec<Work>) -> Result<(), Trouble> {
        let has_room = self.has_room();
        let mut turn = Turn::default();
        let core = self.core.clone();
        let done = core.slot.with(|engine| Ok(self.write(engine, work, has_room, &mut turn)));
        let done = done.unwrap_or_else(|closed| Err(closed.into()));
        if let Err(trouble) = &done {
            let (append, text) = match trouble {
                Trouble::Read(error) => (AppendError::Rejected, error.to_string()),
                Trouble::Engine(error) => (AppendError::Rejected, error.to_string()),
                Trouble::Fatal(fatal) => (AppendError::Fatal, fatal.to_string()),
            };
            self.refuse(work, turn, append, &text);
        }
        done
    }

    fn write(
        &mut self,
        engine: &Engine,
        work: &mut Vec<Work>,
        has_room: bool,
        turn: &mut Turn,
    ) -> Result<(), Trouble> {
        let mut draft = Draft::new(engine);
        let now_us = clock::now_us();
        for work in work.drain(..) {
            self.take(work, &mut draft, turn, has_room, now_us);
        }
        if let Some(error) = turn.failed.take() {
            return Err(Trouble::Read(error));
        }
        // Before the trims of this turn: what is deleted was hidden from the readers in an earlier one.
        self.sweep.records(&mut draft, &self.core.places);
        for (index, below, _) in &mut turn.trimmed {
            *below = self.sweep.trim(&mut draft, &self.core.places, *index, *below);
        }
        self.let_catch_up(engine)?;
        draft.commit().map_err(Self::trouble)?;
        for reply in turn.written.drain(..) {
            let _ = reply.send(Ok(()));
        }
        for (index, first, reply) in turn.trimmed.drain(..) {
            if let Some(place) = self.core.places.get(index) {
                place.trimmed(first);
            }
            let _ = reply.send(Ok(()));
        }
        if turn.appended.is_empty() && turn.saving.is_empty() {
            return Ok(());
        }
        engine.persist().map_err(|error| match error {
            fjall::Error::Poisoned => Self::trouble(error),
            other => Trouble::Fatal(Fatal::Fsync(other.to_string())),
        })?;
        self.show(&mut turn.appended);
        self.save(engine, &mut turn.saving)
    }

    fn take(&mut self, work: Work, draft: &mut Draft<'_>, turn: &mut Turn, has_room: bool, now_us: u64) {
        match work {
            Work::Append(appending) => {
                let appended = self.append(appending, draft, has_room, now_us);
                turn.appended.push(appended);
            }
            Work::Trim { place, below, reply } => {
                let next = self.core.places.get(place).map_or(0, |place| place.view().next);
                turn.trimmed.push((place, below.min(next), reply));
            }
            Work::Write { reply, .. } | Work::Checkpoint { reply, .. } if !has_room => {
                let _ = reply.send(Err("the disk is full".into()));
            }
            Work::Write { rows, reply } => {
                turn.written.push(reply);
                if let Err(error) = draft.rows(rows) {
                    turn.failed.get_or_insert(error);
                }
            }
            Work::Checkpoint { topic, partition, checkpoint, reply } => {
                turn.saving.push(Saving { topic, partition, checkpoint, reply });
            }
        }
    }

    fn append(
        &mut self,
        Appending { place, bytes, tag, outlet }: Appending,
        draft: &mut Draft<'_>,
        has_room: bool,
        append_us: u64,
    ) -> Appended {
        let length = bytes.len();
        let turned_down = Appended { outlet: outlet.clone(), tag, bytes: length, record: None };
        let place = place.filter(|_| has_room && length <= RECORD_BYTES_MAX);
        let Some(index) = place else { return turned_down };
        let (Some(next), Some(place)) = (self.next.get_mut(index), self.core.places.get(index)) else {
            return turned_down;
        };
        let record = Record { offset: *next, append_us, bytes };
        *next += 1;
        draft.record(place.topic, place.partition, &record);
        Appended { outlet, tag, bytes: length, record: Some((index, record)) }
    }

    /// Shows records that are on disk to the readers, then tells their producers.
    fn show(&self, appended: &mut Vec<Appended>) {
        let mut by_place: Vec<Vec<Record>> = Vec::new();
        by_place.resize_with(self.next.len(), Vec::new);
        let mut outlets = Vec::new();
        for Appended { outlet, tag, bytes, record } in appended.drain(..) {
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
        for (place, records) in self.core.places.iter().zip(by_place) {
            place.show(records.into_iter());
        }
        outlets.iter().for_each(|outlet| outlet.tell());
    }

    /// Stores checkpoints; everything before them is on disk.
    fn save(&mut self, engine: &Engine, saving: &mut Vec<Saving>) -> Result<(), Trouble> {
        let mut draft = Draft::new(engine);
        for Saving { topic, partition, checkpoint, .. } in &*saving {
            draft.checkpoint(*topic, *partition, checkpoint)?;
            if *topic == Topic::Timelines {
                self.sweep.sessions(&mut draft, *partition, checkpoint.tick)?;
            }
        }
        draft.commit().map_err(Self::trouble)?;
        for Saving { reply, .. } in saving.drain(..) {
            let _ = reply.send(Ok(()));
        }
        Ok(())
    }

    /// What a failed commit means. The first failure of ours is told by what failed; where the engine
    /// refuses without one, its background work has failed, and how is not known.
    fn trouble(error: fjall::Error) -> Trouble {
        match error {
            fjall::Error::Poisoned => Trouble::Fatal(Fatal::Background(EngineError::Poisoned.to_string())),
            other => Trouble::Engine(other),
        }
    }

    /// Answers everything that a turn took or owes, with an error.
    fn refuse(&mut self, work: &mut Vec<Work>, turn: Turn, append: AppendError, text: &str) {
        let mut outlets = Vec::new();
        let mut appended = turn.appended;
        let mut replies = turn.written;
        replies.extend(turn.trimmed.into_iter().map(|(_, _, reply)| reply));
        replies.extend(turn.saving.into_iter().map(|saving| saving.reply));
        for work in work.drain(..) {
            match work {
                Work::Append(Appending { bytes, tag, outlet, .. }) => {
                    appended.push(Appended { outlet, tag, bytes: bytes.len(), record: None });
                }
                Work::Write { reply, .. } | Work::Checkpoint { reply, .. } | Work::Trim { reply, .. } => {
                    replies.push(reply);
                }
            }
        }
        for Appended { outlet, tag, bytes, .. } in appended {
            if outlet.note(tag, bytes, Err(append)) {
                outlets.push(outlet);
            }
        }
        outlets.iter().for_each(|outlet| outlet.tell());
        for reply in replies {
            let _ = reply.send(Err(text.into()));
        }
        self.next = self.core.places.iter().map(|place| place.view().next).collect();
    }

    /// Waits while the engine's background work is far behind. The engine would wait by itself, but for
    /// ever where that work has failed.
    fn let_catch_up(&self, engine: &Engine) -> Result<(), Trouble> {
        while engine.is_behind() {
            engine.flush().map_err(Self::trouble)?;
            std::thread::sleep(CATCH_UP);
        }
        Ok(())
    }

    fn has_room(&mut self) -> bool {
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
        !is_full
    }

    /// Closes the database and opens it again, however often that takes; refuses meanwhile.
    fn recover(&mut self, cause: &fjall::Error) -> Result<(), Fatal> {
        tracing::error!(%cause, "the data failed; closing and opening it again");
        let path = self.dir.engine();
        let journals = loop {
            match Journals::hold(&path) {
                Ok(journals) => break journals,
                Err(error) => tracing::error!(%error, "the journals cannot be opened"),
            }
            if !self.pause() {
                return Ok(());
            }
        };
        drop(self.core.slot.replace(None));
        journals.sync().map_err(|error| Fatal::Fsync(error.to_string()))?;
        while self.pause() {
            let free = space::available(self.dir.path()).unwrap_or(u64::MAX);
            if free < self.core.options.reserve_bytes.max(RETRY_BYTES_MIN) {
                continue;
            }
            match Engine::open(&path, &self.core.options).and_then(|engine| self.adopt(engine)) {
                Ok(()) => {
                    tracing::warn!("the data is open again");
                    return Ok(());
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
    fn adopt(&mut self, engine: Engine) -> Result<(), EngineError> {
        let mut beginnings = Vec::new();
        for place in self.core.places.iter() {
            let (beginning, next) = look(&engine, place.topic, place.partition)?;
            place.reset(beginning.first, next);
            beginnings.push(beginning);
        }
        self.next = self.core.places.iter().map(|place| place.view().next).collect();
        self.sweep = Sweep::new(beginnings);
        self.core.slot.replace(Some(engine));
        Ok(())
    }

    fn die(self, fatal: &Fatal) {
        tracing::error!(%fatal, "the data cannot be trusted any more");
        (self.core.options.on_fatal)(fatal);
    }
}

impl Drop for Writer {
    /// Whatever ended the writer, nobody waits for it in vain.
    fn drop(&mut self) {
        self.core.mailbox.close();
        let mut work = Vec::new();
        self.core.mailbox.take(&mut work, false);
        self.refuse(&mut work, Turn::default(), AppendError::Fatal, &EngineError::Closed.to_string());
        self.core.places.iter().for_each(super::place::Place::close);
        drop(self.core.slot.replace(None));
        if std::thread::panicking() {
            (self.core.options.on_fatal)(&Fatal::Background("the writer panicked".into()));
        }
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
