//! The device's side of the protocol, sans-I/O: what comes in by `handle_*`, what goes out by `poll_*`.
//! Time is an argument, randomness a seed; it touches no socket, file or clock, and has no timer of its own.
//!
//! The driver's turn:
//! 1. `handle_*` with whatever happened, then
//! 2. `poll_write` to the end, make it durable, `handle_written`,
//! 3. `poll_link`, 4. `poll_frame` as long as the link takes more, 5. `poll_called` to the end, and `poll_event` as long as
//!    the app takes more,
//! 6. wait for the next happening, at most until `poll_deadline`, and then `handle_deadline`.

pub(crate) mod check;
mod event;
mod link;
mod session;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;
use proto::{ConversationId, DeviceId, UserId, limits, v1};
use v1::client_frame::Frame;

use crate::backoff::Dice;
use crate::calls::{CallError, CallId, Calls};
use crate::cursor::Cursor;
use crate::outbox::{LocalId, Outbox, Target};
use crate::store::{Change, Saved};
use link::{Due, Link, Wire};

pub use event::{Cause, Event, LinkAction};

/// Events that wait for the app; beyond that nothing new is begun.
const EVENTS_MAX: usize = 512;
/// Sends that may go before the sign-in is answered.
const EARLY_SENDS_MAX: usize = 16;
/// What a send has around its body, at the most.
const SEND_OVERHEAD_BYTES: usize = 256;
/// What a frame has room for beside that.
const FRAME_BODY_BYTES_MAX: usize = limits::CLIENT_FRAME_BYTES_MAX - SEND_OVERHEAD_BYTES;

/// Milliseconds on a clock that never goes back; where it begins does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// So much later.
    #[must_use]
    pub fn after(self, ms: u64) -> Millis {
        Millis(self.0.saturating_add(ms))
    }
}

/// Where a device begins that has no cursor yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the latest so many entries.
    Latest(u64),
    /// After what another device of the user has read.
    Best,
    /// With everything that is kept.
    All,
}

/// What a core is told at its beginning.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The user, as the token names it.
    pub user: UserId,
    /// The device, as the token names it.
    pub device: DeviceId,
    /// "phone", "desktop", …: the "one per class" policy goes by it. At most 32 bytes.
    pub device_class: String,
    /// Where to begin without a cursor.
    pub start: Start,
    /// Sends that are not acknowledged; one more is refused. 1024 by default.
    pub outbox_items_max: usize,
    /// Bytes of their bodies. 8 MiB by default.
    pub outbox_bytes_max: usize,
}

impl Settings {
    /// With the defaults, starting with the latest 20 entries.
    #[must_use]
    pub fn new(user: UserId, device: DeviceId) -> Self {
        Self {
            user,
            device,
            device_class: String::from("desktop"),
            start: Start::Latest(20),
            outbox_items_max: 1024,
            outbox_bytes_max: 8 * 1024 * 1024,
        }
    }
}

/// Why a send was not accepted. Nothing of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The outbox is full; wait for acks.
    #[error("the outbox is full")]
    Full,
    /// Over the limit that the server told, or that every server has.
    #[error("{bytes} bytes are over the limit of {max}")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What it may have.
        max: usize,
    },
    /// Not something that an app sends.
    #[error("{0}")]
    Invalid(&'static str),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

/// One device of one user: its outbox, its cursor and its link.
#[derive(Debug)]
pub struct Device {
    settings: Settings,
    dice: Dice,
    link: Link,
    disconnect: bool,
    /// Links in a row that did not last.
    failures: u32,
    /// Until then a sign-in that was never answered may still be carried out, and this device's next link end for it, as
    /// if another device had come in its place.
    echo_until: Millis,
    addresses: Vec<String>,
    requests: u64,
    body_bytes_max: usize,
    outbox: Outbox,
    cursor: Cursor,
    calls: Calls,
    events: VecDeque<Event>,
    called: VecDeque<(CallId, Result<Bytes, CallError>)>,
    writes: VecDeque<Change>,
    /// Changes made, given to the driver, and durable; each a count since the beginning.
    changed: u64,
    polled: u64,
    durable: u64,
    /// Changes that are a cursor, and which; not durable yet.
    cursor_writes: VecDeque<(u64, u64)>,
    closed: bool,
}

impl Device {
    /// A device as its store left it. It wants a link at once. The same seed makes the same choices.
    #[must_use]
    pub fn new(settings: Settings, saved: Saved, seed: u64) -> Self {
        let Saved { cursor, next_local, outbox } = saved;
        let outbox = Outbox::new(outbox, next_local, settings.outbox_items_max, settings.outbox_bytes_max);
        Self {
            settings,
            dice: Dice::new(seed),
            link: Link::Due,
            disconnect: false,
            failures: 0,
            echo_until: Millis::default(),
            addresses: Vec::new(),
            requests: 0,
            body_bytes_max: limits::BODY_BYTES_MAX,
            outbox,
            cursor: Cursor::new(cursor),
            calls: Calls::default(),
            events: VecDeque::new(),
            called: VecDeque::new(),
            writes: VecDeque::new(),
            changed: 0,
            polled: 0,
            durable: 0,
            cursor_writes: VecDeque::new(),
            closed: false,
        }
    }

    /// Accepts a message or command once [`Device::handle_written`] has been told that it is durable. It
    /// goes out in its turn, in this run or a later one; the app hears of it by [`Event::Acked`],
    /// [`Event::Refused`] or, later, [`Event::Rejected`].
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn send(&mut self, to: Target, body: v1::send::Body) -> Result<LocalId, SendError> {
        if self.closed {
            return Err(SendError::Closed);
        }
        self.check(&body)?;
        let conversation = match &to {
            Target::User(user) => ConversationId::direct(&self.settings.user, user),
            Target::Group(group) => *group,
        };
        let local = self.outbox.push(conversation, to, body, self.changed + 1)?;
        if let Some(send) = self.outbox.last() {
            self.change(Change::Queued(send));
        }
        self.number();
        Ok(local)
    }

    /// Creates a group with this user as its owner. `request_key` makes its id: 1 to 64 bytes, new for
    /// every group of this device.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn create_group(
        &mut self,
        request_key: &str,
        name: &str,
        members: &[UserId],
    ) -> Result<(ConversationId, LocalId), SendError> {
        let Settings { user, device, .. } = &self.settings;
        let group = ConversationId::group(user, device, request_key)
            .map_err(|_| SendError::Invalid("a request key has 1 to 64 bytes"))?;
        let body = v1::CreateGroup {
            request_key: request_key.to_owned(),
            name: name.to_owned(),
            members: members.iter().map(|member| member.as_str().to_owned()).collect(),
        };
        let local = self.send(Target::Group(group), v1::send::Body::CreateGroup(body))?;
        Ok((group, local))
    }

    /// Asks the server something; the answer comes by [`Device::poll_called`], within `timeout_ms` in any
    /// case.
    ///
    /// # Errors
    /// Too many are under way.
    pub fn call(
        &mut self,
        now: Millis,
        method: &str,
        request: Bytes,
        timeout_ms: u64,
    ) -> Result<CallId, CallError> {
        let call = v1::Call { method: method.to_owned(), request };
        self.calls.add(call, now.after(timeout_ms))
    }

    /// The app has everything up to this seq (of an entry; or `first - 1` of [`Event::Truncated`]). Only
    /// then is it acknowledged, and not given again after a restart.
    pub fn taken(&mut self, now: Millis, seq: u64) {
        self.cursor.taken(seq, now);
        self.write_cursor();
    }

    /// Tries again at once after an end that only the app can cure.
    pub fn reconnect(&mut self) {
        if matches!(self.link, Link::Down { .. }) && !self.closed {
            self.link = Link::Due;
        }
    }

    /// Stores the cursor now rather than soon.
    pub fn flush(&mut self) {
        self.cursor.flush();
        self.write_cursor();
    }

    /// Ends the link for good. What is not acknowledged stays in the store.
    pub fn close(&mut self, now: Millis) {
        if !self.closed {
            self.closed = true;
            self.flush();
            self.end(now, Cause::App, session::Again::Never);
        }
    }

    /// The driver has made a link; the token signs it in.
    pub fn handle_connected(&mut self, now: Millis, token: String) {
        if matches!(self.link, Link::Dialing) {
            self.outbox.relink(EARLY_SENDS_MAX);
            self.link = Link::Up(Box::new(Wire::new(now, token)));
        }
    }

    /// The driver could not make a link, and why.
    pub fn handle_connect_failed(&mut self, now: Millis, why: String) {
        if matches!(self.link, Link::Dialing) {
            self.end(now, Cause::Unreachable(why), session::Again::Pause { least_ms: 0 });
        }
    }

    /// A message without its length prefix has come over the link. Whatever the bytes are, this is safe.
    pub fn handle_message(&mut self, now: Millis, message: &[u8]) {
        // From a slice, what is kept of it is copied: an entry that waits for the app holds its own bytes, and not those of
        // the frame that it came in.
        match v1::ServerFrame::decode(message) {
            Ok(frame) => self.handle_frame(now, frame),
            Err(_) => self.handle_malformed(now, "a frame does not decode"),
        }
    }

    /// What came over the link cannot be cut into frames.
    pub fn handle_malformed(&mut self, now: Millis, what: &'static str) {
        if matches!(self.link, Link::Up(_)) {
            self.end(now, Cause::Protocol(what), session::Again::Pause { least_ms: 0 });
        }
    }

    /// The link is gone.
    pub fn handle_closed(&mut self, now: Millis) {
        if matches!(self.link, Link::Up(_)) {
            self.end(now, Cause::Lost, session::Again::Pause { least_ms: 0 });
            self.disconnect = false;
        }
    }

    /// Everything that `poll_write` has given is durable.
    pub fn handle_written(&mut self) {
        self.durable = self.polled;
        while let Some((_, seq)) = self.cursor_writes.pop_front_if(|(change, _)| *change <= self.polled) {
            self.cursor.stored(seq);
        }
    }

    /// It is `now`, and what was due by then is done.
    pub fn handle_deadline(&mut self, now: Millis) {
        for call in self.calls.handle_deadline(now) {
            self.called.push_back((call, Err(CallError::TimedOut)));
        }
        self.outbox.resume(now);
        self.cursor.handle_deadline(now);
        self.write_cursor();
        let unanswered = self.outbox.unanswered();
        match &mut self.link {
            Link::Down { retry_at: Some(at) } if *at <= now => self.link = Link::Due,
            Link::Up(wire) => {
                let due = wire.handle_deadline(now, unanswered);
                self.link_due(now, &due);
            }
            _ => {}
        }
    }

    /// The next change to make durable, in order.
    pub fn poll_write(&mut self) -> Option<Change> {
        let change = self.writes.pop_front()?;
        self.polled += 1;
        Some(change)
    }

    /// Whether something waits for a change to become durable. What is not urgent only saves work after a
    /// restart, and may be written together with what comes later.
    #[must_use]
    pub fn is_write_urgent(&self) -> bool {
        self.writes.iter().any(|change| !matches!(change, Change::Done(_)))
    }

    /// Whether `poll_write` has anything.
    #[must_use]
    pub fn has_writes(&self) -> bool {
        !self.writes.is_empty()
    }

    /// What to do with the link.
    pub fn poll_link(&mut self) -> Option<LinkAction> {
        if std::mem::take(&mut self.disconnect) {
            return Some(LinkAction::Disconnect);
        }
        if matches!(self.link, Link::Due) && !self.is_app_behind() {
            self.link = Link::Dialing;
            return Some(LinkAction::Connect { addresses: std::mem::take(&mut self.addresses) });
        }
        None
    }

    /// The next frame to write to the link. To be called only while the link takes more.
    pub fn poll_frame(&mut self, now: Millis) -> Option<v1::ClientFrame> {
        let request = self.requests + 1;
        let frame = self.next_frame(now, request)?;
        let request_id = if matches!(frame, Frame::Ping(_) | Frame::Ack(_)) { 0 } else { request };
        self.requests = self.requests.max(request_id);
        if let Link::Up(wire) = &mut self.link {
            wire.sent(now);
        }
        Some(v1::ClientFrame { request_id, frame: Some(frame) })
    }

    /// The next thing for the app.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        let event = self.cursor.poll()?;
        if let Event::Entry(entry) = &event
            && let Some(rejected) = self.rejected(entry)
        {
            self.events.push_front(rejected);
        }
        Some(event)
    }

    /// The next call that is done, and its encoded response. Not an event: who waits for it may be who has to take the
    /// events that come before.
    pub fn poll_called(&mut self) -> Option<(CallId, Result<Bytes, CallError>)> {
        self.called.pop_front()
    }

    /// When [`Device::handle_deadline`] is due; none while only the outside can change anything.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Millis> {
        let link = match &self.link {
            Link::Down { retry_at } => *retry_at,
            Link::Up(wire) => Some(wire.deadline()),
            Link::Due | Link::Dialing => None,
        };
        let outbox = self.outbox.resume_at();
        [link, outbox, self.cursor.deadline(), self.calls.deadline()].into_iter().flatten().min()
    }

    /// Whether the device is signed in.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(&self.link, Link::Up(wire) if wire.session.is_some())
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many sends are not acknowledged.
    #[must_use]
    pub fn unacked(&self) -> usize {
        self.outbox.len()
    }

    /// Up to which seq the app has everything.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor.at()
    }

    /// The highest seq heard of.
    #[must_use]
    pub fn known(&self) -> u64 {
        self.cursor.known()
    }

    fn check(&self, body: &v1::send::Body) -> Result<(), SendError> {
        // What the server cannot read is never answered, and nothing behind it.
        let whole = (body.encoded_len(), FRAME_BODY_BYTES_MAX);
        let part = match body {
            v1::send::Body::Void(_) => return Err(SendError::Invalid("an app sends no Void")),
            v1::send::Body::Message(message) => (message.data.len(), self.body_bytes_max),
            v1::send::Body::CreateGroup(create) if create.members.len() > limits::GROUP_MEMBERS_MAX => {
                return Err(SendError::Invalid("a group has 500 members at most"));
            }
            v1::send::Body::CreateGroup(create) => (create.name.len(), limits::GROUP_NAME_BYTES_MAX),
            v1::send::Body::RenameGroup(rename) => (rename.name.len(), limits::GROUP_NAME_BYTES_MAX),
            _ => whole,
        };
        let too_large = [part, whole].into_iter().find(|(bytes, max)| bytes > max);
        too_large.map_or(Ok(()), |(bytes, max)| Err(SendError::TooLarge { bytes, max }))
    }

    fn next_frame(&mut self, now: Millis, request: u64) -> Option<Frame> {
        let behind = self.is_app_behind();
        let Link::Up(wire) = &mut self.link else { return None };
        if let Some(token) = wire.token.take() {
            wire.sign_in = request;
            return Some(Frame::SignIn(session::sign_in(&self.settings, token)));
        }
        let Some(session) = &wire.session else {
            let bytes = self.outbox.next_bytes(self.durable)? + SEND_OVERHEAD_BYTES;
            wire.budget_bytes = wire.budget_bytes.checked_sub(bytes)?;
            return self.outbox.transmit(request, self.durable).map(Frame::Send);
        };
        if wire.ping {
            wire.pinged(now);
            return Some(Frame::Ping(v1::Ping::default()));
        }
        if let Some(ack) = self.cursor.ack() {
            return Some(Frame::Ack(ack));
        }
        if let Some(sync) = self.cursor.ask(request, now, session.sync_entries_max) {
            return Some(Frame::Sync(sync));
        }
        if !wire.takes_sends() {
            return None;
        }
        // It makes no event: its answer is taken by whoever asked.
        if let Some(call) = self.calls.transmit(request) {
            return Some(Frame::Call(call));
        }
        if behind {
            return None;
        }
        self.outbox.transmit(request, self.durable).map(Frame::Send)
    }

    fn link_due(&mut self, now: Millis, due: &Due) {
        match due {
            Due::Nothing => {}
            Due::Silent => self.end(now, Cause::Silent, session::Again::Pause { least_ms: 0 }),
            Due::Move => self.end(now, Cause::GoAway, session::Again::Now),
        }
    }

    /// The app leaves so many events that nothing is to be begun that would make more.
    fn is_app_behind(&self) -> bool {
        self.events.len() >= EVENTS_MAX
    }

    fn change(&mut self, change: Change) {
        self.writes.push_back(change);
        self.changed += 1;
    }

    fn write_cursor(&mut self) {
        if let Some(seq) = self.cursor.write() {
            self.change(Change::Cursor(seq));
            self.cursor_writes.push_back((self.changed, seq));
        }
    }
}
