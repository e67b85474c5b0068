//! One device over one socket: the client core, its frames on the way in and out, its judge, and what is kept
//! for judging it again. Decides nothing about the protocol, which is the core's.

use std::rc::Rc;

use client::core::{Cause, Device, Event, LinkAction, SendError, Settings, Start};
use client::store::Saved;
use mio::net::TcpStream;
use proto::{IdError, v1};

use crate::churn::Parting;
use crate::circle::Circle;
use crate::clock::Micros;
use crate::journal::Journal;
use crate::judge::{self, Fresh, Judge, Note};
use crate::names::{GROUP_KEY, Names};
use crate::payload;
use crate::wire::{Connection, Malformed, Moved, Wire};

/// What happened on a link, for the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A message that it has for the first time.
    Message(Fresh),
    /// One of its sends is in the log.
    Acked {
        /// Which one.
        index: u64,
    },
    /// Signed in.
    Live,
    /// The link ended, or none came about; another is tried.
    Ended,
    /// For good: nothing more will happen here. [`Link::over`] says why.
    Over,
    /// A Ping went out.
    Pinged,
}

/// A device of the load.
#[derive(Debug)]
pub(crate) struct Link {
    number: u64,
    names: Names,
    circle: Circle,
    device: Device,
    /// Sends of the device that are no messages. They come first.
    commands: u64,
    wire: Wire,
    judge: Judge,
    journal: Option<Rc<Journal>>,
    /// How often a link was tried; the next address follows from it.
    pub(crate) attempts: usize,
    /// Why nothing more will happen here.
    pub(crate) over: Option<String>,
    /// When the fleet looks after it again.
    pub(crate) alarm: Option<Micros>,
    /// Whether it stands among those that wait for a connection.
    pub(crate) waits: bool,
}

impl Link {
    /// The device of this number in a run.
    pub(crate) fn new(
        run: &str,
        circle: Circle,
        number: u64,
        journal: Option<Rc<Journal>>,
    ) -> Result<Self, IdError> {
        let names = Names::new(run, &circle, number)?;
        Ok(Self {
            device: device(&names, number, false),
            number,
            names,
            circle,
            commands: 0,
            wire: Wire::new(),
            judge: Judge::new(number, circle),
            journal,
            attempts: 0,
            over: None,
            alarm: None,
            waits: false,
        })
    }

    /// Makes the device's group, if it is the one to make it.
    pub(crate) fn found(&mut self) -> Result<(), SendError> {
        if let Some(members) = &self.names.founds {
            self.device.create_group(GROUP_KEY, "", members)?;
            self.commands += 1;
        }
        Ok(())
    }

    /// Writes the device's next message. Says how many other devices are to see it.
    pub(crate) fn send(&mut self, bytes: usize) -> Result<u64, SendError> {
        let index = self.judge.sent();
        let (room, _) = self.circle.place(index);
        let message = v1::Message { kind: 1, data: payload::encode(self.number, index, bytes) };
        self.device.send(self.names.target(room), v1::send::Body::Message(message))?;
        self.note(Note::Sent, &mut |_| {});
        let audience = self.circle.audience(self.number, room);
        Ok(audience.end - audience.start - 1)
    }

    /// Judges what happened, and keeps it.
    fn note(&mut self, note: Note<'_>, seen: &mut impl FnMut(Seen)) {
        if let Some(journal) = &self.journal {
            journal.note(self.number, note);
        }
        self.judge.take(note, |fresh| seen(Seen::Message(fresh)));
    }

    /// Forgets the link and the cursor, and reads the whole timeline again.
    pub(crate) fn read_again(&mut self) {
        self.note(Note::Again, &mut |_| {});
        self.wire.close();
        self.device = device(&self.names, self.number, true);
    }

    /// Ends the link as a device does that will be back.
    pub(crate) fn part(&mut self, now: Micros, how: Parting) {
        self.wire.part(how);
        self.device.handle_closed(now.millis());
    }

    /// Ends the link for good.
    pub(crate) fn close(&mut self, now: Micros) {
        self.device.close(now.millis());
        self.wire.close();
    }

    /// Its number in the run.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whom a token has to name.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Whether the device is signed in.
    pub(crate) fn is_live(&self) -> bool {
        self.device.is_live()
    }

    /// What it saw.
    pub(crate) fn judge(&self) -> &Judge {
        &self.judge
    }

    /// When it wants to be looked after.
    pub(crate) fn deadline(&self) -> Option<Micros> {
        let core = self.device.poll_deadline().map(|at| Micros(at.0.saturating_mul(1_000)));
        core.into_iter().chain(self.wire.deadline()).min()
    }

    /// A connection is being made.
    pub(crate) fn connecting(&mut self, now: Micros, stream: TcpStream) {
        self.wire.connecting(now, stream);
    }

    /// No connection can be made.
    pub(crate) fn connect_failed(&mut self, now: Micros, why: String) {
        self.wire.close();
        self.device.handle_connect_failed(now.millis(), why);
    }

    /// The socket is ready; `token` signs in where the connection has just come about.
    pub(crate) fn ready(
        &mut self,
        now: Micros,
        scratch: &mut [u8],
        token: impl FnOnce(&Link) -> String,
        seen: &mut impl FnMut(Seen),
    ) {
        match self.wire.ready() {
            Ok(Connection::AsBefore) => {}
            Ok(Connection::Awaited) => return,
            Ok(Connection::Made) => self.device.handle_connected(now.millis(), token(self)),
            Err(why) => return self.connect_failed(now, why),
        }
        self.read(now, scratch, seen);
    }

    /// Everything that can be done without waiting. True where a connection is wanted.
    pub(crate) fn turn(&mut self, now: Micros, seen: &mut impl FnMut(Seen)) -> bool {
        if self.device.poll_deadline().is_some_and(|at| at <= now.millis()) {
            self.device.handle_deadline(now.millis());
        }
        if self.wire.deadline().is_some_and(|at| at <= now) {
            self.connect_failed(now, "timed out".into());
        }
        let mut wants_link = false;
        loop {
            while self.device.poll_write().is_some() {}
            self.device.handle_written();
            match self.device.poll_link() {
                Some(LinkAction::Connect { .. }) => wants_link = true,
                Some(LinkAction::Disconnect) => self.wire.close(),
                None => {}
            }
            self.events(now, seen);
            if !self.write(now, seen) && !self.device.has_writes() {
                return wants_link;
            }
        }
    }

    fn events(&mut self, now: Micros, seen: &mut impl FnMut(Seen)) {
        while let Some(event) = self.device.poll_event() {
            match event {
                Event::Connected { .. } => {
                    self.wire.forget_left();
                    seen(Seen::Live);
                }
                Event::Entry(entry) => {
                    self.note(Note::Shown(entry.seq, judge::hash(&entry)), seen);
                    self.device.taken(now.millis(), entry.seq);
                }
                Event::Acked(sent) => {
                    let index = sent.local.0.checked_sub(self.commands);
                    if let Some(index) = index.filter(|index| !self.judge.is_acked(*index)) {
                        self.note(Note::Acked(index), seen);
                        seen(Seen::Acked { index });
                    }
                }
                Event::Refused { .. } => self.note(Note::Refused, seen),
                Event::Disconnected { retry_in_ms: Some(_), .. } => seen(Seen::Ended),
                Event::Disconnected { retry_in_ms: None, cause: Cause::App } => {}
                Event::Disconnected { retry_in_ms: None, cause } => {
                    self.over = Some(cause.to_string());
                    self.note(Note::Refused, seen);
                    seen(Seen::Over);
                }
                // A rejection is an entry, which the judge has seen; nothing is ever cut off or called here.
                Event::Rejected { .. } | Event::Truncated { .. } | Event::Kicked { .. } => {}
            }
        }
    }

    /// Writes until the socket or the core has enough; whether anything moved.
    fn write(&mut self, now: Micros, seen: &mut impl FnMut(Seen)) -> bool {
        if !self.wire.is_writable() {
            return false;
        }
        let mut moved = false;
        while self.wire.has_room()
            && let Some(frame) = self.device.poll_frame(now.millis())
        {
            match &frame.frame {
                Some(v1::client_frame::Frame::Ping(_)) => seen(Seen::Pinged),
                Some(v1::client_frame::Frame::SignIn(_) | v1::client_frame::Frame::Sync(_)) => {
                    self.note(Note::Asks, seen);
                }
                _ => {}
            }
            self.wire.push(&frame);
            moved = true;
        }
        match self.wire.flush() {
            Moved::Bytes => moved,
            Moved::Blocked => false,
            Moved::Over => {
                self.lost(now);
                true
            }
        }
    }

    fn read(&mut self, now: Micros, scratch: &mut [u8], seen: &mut impl FnMut(Seen)) {
        loop {
            match self.wire.read(scratch) {
                Moved::Bytes => self.frames(now, seen),
                Moved::Blocked => return,
                Moved::Over => return self.lost(now),
            }
        }
    }

    fn frames(&mut self, now: Micros, seen: &mut impl FnMut(Seen)) {
        loop {
            match self.wire.next_frame() {
                Ok(Some(frame)) => {
                    self.note(Note::Frame(&frame), seen);
                    self.device.handle_frame(now.millis(), frame);
                }
                Ok(None) => return,
                Err(Malformed) => return self.device.handle_malformed(now.millis(), "not frames"),
            }
        }
    }

    fn lost(&mut self, now: Micros) {
        self.wire.close();
        self.device.handle_closed(now.millis());
    }
}

/// Sends that a device keeps until they are acknowledged: far more than an app's would, so that a server that is late is
/// seen to be late. What does not fit is never sent, and then times of sends are not those of the plan.
const OUTBOX_ITEMS_MAX: usize = 16 * 1024;

/// A core that reads its timeline from the beginning.
fn device(names: &Names, number: u64, again: bool) -> Device {
    let mut settings = Settings::new(names.user.clone(), names.device.clone());
    settings.start = Start::All;
    settings.outbox_items_max = OUTBOX_ITEMS_MAX;
    let saved = Saved { cursor: Some(0), ..Saved::default() };
    Device::new(settings, saved, 2 * number + u64::from(again))
}
