//! The writer: the one thread that writes. A turn, top to bottom: take, draft, commit, answer the
//! tables, wait for the disk, show, report, store checkpoints. Never waits for anyone who asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::limits::RECORD_BYTES_MAX;

use super::dir::{Dir, OpenError};
use super::draft::Draft;
use super::engine::{Engine, EngineError};
use super::journal::Journals;
use super::options::Fatal;
use super::place::Place;
use super::sweep::Sweep;
use super::turn::{Appended, Saving, Turn};
use super::work::{Appending, Work};
use super::{Core, clock, space};
use crate::log::{AppendError, Record, Topic};

/// Between two looks at whether background work has caught up.
const CATCH_UP: Duration = Duration::from_millis(2);
/// The mailbox keeps no more room than this between turns.
const KEPT_ITEMS: usize = 4_096;

pub(super) struct Writer {
    pub(super) core: Arc<Core>,
    pub(super) dir: Dir,
    /// The next offset of every partition, by its number.
    pub(super) next: Vec<u64>,
    pub(super) sweep: Sweep,
    /// Whether the disk was too full at the last turn.
    pub(super) is_full: bool,
    /// When it was found too full last.
    pub(super) full_at: Option<Instant>,
    pub(super) journals: Journals,
    /// When the journals were looked for last.
    pub(super) journals_at: Option<Instant>,
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

impl Writer {
    /// Opens the database of a directory.
    pub(super) fn open(dir: Dir, core: Arc<Core>) -> Result<Self, OpenError> {
        let path = dir.engine();
        let mut writer = Self {
            core,
            dir,
            next: Vec::new(),
            sweep: Sweep::default(),
            is_full: false,
            full_at: None,
            journals: Journals::default(),
            journals_at: None,
        };
        let engine = Engine::open(&path, &writer.core.options).and_then(|engine| writer.adopt(engine));
        engine.map_err(|error| match error {
            EngineError::Engine(fjall::Error::Io(cause)) | EngineError::Journal(cause) => {
                OpenError::Io { path, cause }
            }
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
                        return self.fatal(&fatal);
                    }
                }
                Err(Trouble::Fatal(_)) => return,
            }
            work.shrink_to(KEPT_ITEMS);
        }
    }

    fn turn(&mut self, work: &mut Vec<Work>) -> Result<(), Trouble> {
        let has_room = self.has_room();
        self.hold_journals();
        let mut turn = Turn::default();
        let core = self.core.clone();
        let done = core.slot.with(|engine| Ok(self.write(engine, work, has_room, &mut turn)));
        let done = done.unwrap_or_else(|closed| Err(closed.into()));
        if let Err(trouble) = &done {
            let (append, text) = match trouble {
                Trouble::Read(error) => (AppendError::Rejected, error.to_string()),
                Trouble::Engine(error) => (AppendError::Rejected, error.to_string()),
                Trouble::Fatal(fatal) => {
                    // First of all: mostly this ends the process, and nobody is told anything.
                    self.fatal(fatal);
                    (AppendError::Fatal, fatal.to_string())
                }
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
        self.sweep.records(&mut draft, &self.core.places, turn.appended.len());
        for (index, below, _) in &mut turn.trimmed {
            *below = self.sweep.trim(&mut draft, &self.core.places, *index, *below);
        }
        self.let_catch_up(engine)?;
        draft.commit().map_err(|error| self.trouble(error))?;
        turn.answer(&self.core.places);
        if turn.appended.is_empty() && turn.saving.is_empty() {
            return Ok(());
        }
        engine.persist().map_err(|error| match error {
            fjall::Error::Poisoned => self.trouble(error),
            other => Trouble::Fatal(Fatal::Fsync(other.to_string())),
        })?;
        turn.show(&self.core.places);
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

    /// Stores checkpoints; everything before them is on disk.
    fn save(&mut self, engine: &Engine, saving: &mut Vec<Saving>) -> Result<(), Trouble> {
        let mut draft = Draft::new(engine);
        for Saving { topic, partition, checkpoint, .. } in &*saving {
            draft.checkpoint(*topic, *partition, checkpoint)?;
            if *topic == Topic::Timelines {
                self.sweep.sessions(&mut draft, *partition, checkpoint.tick)?;
            }
        }
        draft.commit().map_err(|error| self.trouble(error))?;
        saving.drain(..).for_each(|saving| saving.stored());
        Ok(())
    }

    /// What a failed commit means. The first failure of ours is told by what failed; where the engine
    /// refuses without one, its background work has failed, and how is not known: for want of room if the disk is full,
    /// or was a moment ago, or of descriptors if there are none. What a merge or a flush could not finish counts for
    /// nothing then, and what it was made of is still there.
    fn trouble(&self, error: fjall::Error) -> Trouble {
        match error {
            fjall::Error::Poisoned if !self.was_full() && !space::is_out_of_descriptors() => {
                Trouble::Fatal(Fatal::Background(EngineError::Poisoned.to_string()))
            }
            other => Trouble::Engine(other),
        }
    }

    /// Answers everything that a turn took or owes, with an error. Offsets that were given are free again.
    pub(super) fn refuse(&mut self, work: &mut Vec<Work>, mut turn: Turn, append: AppendError, text: &str) {
        work.drain(..).for_each(|work| turn.owe(work));
        turn.refuse(append, text);
        self.next = self.core.places.iter().map(|place| place.view().next).collect();
    }

    /// Waits while the engine's background work is far behind. The engine would wait by itself, but for
    /// ever where that work has failed.
    fn let_catch_up(&self, engine: &Engine) -> Result<(), Trouble> {
        engine.seal_full().map_err(|error| self.trouble(error))?;
        while engine.is_behind() {
            engine.flush().map_err(|error| self.trouble(error))?;
            std::thread::sleep(CATCH_UP);
        }
        Ok(())
    }

    fn fatal(&self, fatal: &Fatal) {
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
        self.core.places.iter().for_each(Place::close);
        drop(self.core.slot.replace(None));
        if std::thread::panicking() {
            self.fatal(&Fatal::Background("the writer panicked".into()));
        }
    }
}
