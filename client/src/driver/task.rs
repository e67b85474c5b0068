//! The driver's task: tells the core what happens, and does what the core says. It decides nothing itself,
//! but for when a refused token is worth another try.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, OptionFuture};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::client::{Ask, Error, Reply};
use super::stream::Taken;
use super::{Config, TokenSource};
use crate::calls::CallId;
use crate::clock::Clock;
use crate::core::{Cause, Device, Event, LinkAction, Millis};
use crate::store::{Change, Store};
use crate::transport::{self, Read, Reader, Writer};

/// Changes that nothing waits for are stored within this time.
const LAZY_MS: u64 = 200;
/// Asks and messages that are handled between two looks at everything else.
const BATCH: usize = 64;

/// Runs a client to its end.
pub(super) async fn run(
    config: Config,
    asks: mpsc::Receiver<Ask>,
    events: mpsc::Sender<Event>,
    taken: Arc<Taken>,
) {
    let mut task = Task::new(config, asks, events, taken);
    loop {
        task.turn();
        if task.is_over() {
            return task.finish();
        }
        task.wait().await;
    }
}

type Dialed = Result<(Reader, Writer, String), String>;
type Committed = (Box<dyn Store>, std::io::Result<()>);

/// A reply that waits until what it speaks of is durable.
type Promise = Box<dyn FnOnce(Result<(), Error>) + Send>;

struct Closing {
    until: Millis,
    replies: Vec<Reply<usize>>,
}

struct Task {
    device: Device,
    clock: Clock,
    addresses: Vec<String>,
    next_address: usize,
    token: TokenSource,
    /// The token of the present or last link, and how many in a row were refused.
    last_token: String,
    refusals: u32,
    fresh: Option<BoxFuture<'static, Option<String>>>,
    store: Option<Box<dyn Store>>,
    committing: Option<JoinHandle<Committed>>,
    lazy_until: Option<Millis>,
    /// Promises of changes that are not yet being stored, and of those that are.
    promises: Vec<Promise>,
    committing_promises: Vec<Promise>,
    failed: bool,
    asks: mpsc::Receiver<Ask>,
    asks_open: bool,
    events: mpsc::Sender<Event>,
    event: Option<Event>,
    taken: Arc<Taken>,
    calls: HashMap<CallId, Reply<Bytes>>,
    dialing: Option<BoxFuture<'static, Dialed>>,
    reader: Option<Reader>,
    writer: Option<Writer>,
    closing: Option<Closing>,
}

/// What was waited for.
enum Happening {
    Ask(Option<Ask>),
    Dialed(Dialed),
    Fresh(Option<String>),
    Committed(Result<Committed, tokio::task::JoinError>),
    Read(Read),
    Written(std::io::Result<()>),
    Room(bool),
    Taken,
    Deadline,
}

impl Task {
    fn new(
        config: Config,
        asks: mpsc::Receiver<Ask>,
        events: mpsc::Sender<Event>,
        taken: Arc<Taken>,
    ) -> Self {
        let Config { addresses, settings, token, store } = config;
        Self {
            device: Device::new(settings, store.saved(), rand::random()),
            clock: Clock::new(),
            addresses,
            next_address: 0,
            token,
            last_token: String::new(),
            refusals: 0,
            fresh: None,
            store: Some(store),
            committing: None,
            lazy_until: None,
            promises: Vec::new(),
            committing_promises: Vec::new(),
            failed: false,
            asks,
            asks_open: true,
            events,
            event: None,
            taken,
            calls: HashMap::new(),
            dialing: None,
            reader: None,
            writer: None,
            closing: None,
        }
    }

    /// Everything that can be done without waiting.
    fn turn(&mut self) {
        self.commit();
        self.close_if_done();
        self.commit();
        self.answer_calls();
        self.tell();
        self.links();
        self.frames();
    }

    async fn wait(&mut self) {
        let at = self.clock.instant(self.deadline());
        let is_full = self.event.is_some();
        let (reader, writer) = (self.reader.as_mut(), self.writer.as_mut().filter(|w| !w.is_empty()));
        let happening = tokio::select! {
            ask = self.asks.recv(), if self.asks_open => Happening::Ask(ask),
            Some(dialed) = OptionFuture::from(self.dialing.as_mut()) => Happening::Dialed(dialed),
            Some(token) = OptionFuture::from(self.fresh.as_mut()) => Happening::Fresh(token),
            Some(done) = OptionFuture::from(self.committing.as_mut()) => Happening::Committed(done),
            Some(read) = OptionFuture::from(reader.map(Reader::read)) => Happening::Read(read),
            Some(done) = OptionFuture::from(writer.map(Writer::write)) => Happening::Written(done),
            room = self.events.reserve(), if is_full => Happening::Room(room.is_ok()),
            () = self.events.closed(), if !is_full => Happening::Room(false),
            () = self.taken.changed() => Happening::Taken,
            () = tokio::time::sleep_until(at.into()) => Happening::Deadline,
        };
        self.handle(happening);
    }

    fn handle(&mut self, happening: Happening) {
        let now = self.clock.now();
        match happening {
            Happening::Ask(ask) => self.handle_asks(now, ask),
            Happening::Dialed(dialed) => self.handle_dialed(now, dialed),
            Happening::Fresh(token) => self.handle_fresh(token),
            Happening::Committed(done) => {
                self.committing = None;
                let (store, result) = done.map_or_else(
                    |broken| (None, Err(std::io::Error::other(broken))),
                    |(store, result)| (Some(store), result),
                );
                self.store = store;
                self.handle_committed(result);
            }
            Happening::Read(Read::Some) => self.handle_messages(now),
            Happening::Read(Read::Closed) | Happening::Written(Err(_)) => self.handle_lost(now),
            Happening::Room(false) => self.begin_closing(now, Duration::ZERO, None),
            Happening::Taken => self.device.taken(now, self.taken.seq()),
            Happening::Room(true) | Happening::Written(Ok(())) | Happening::Deadline => {}
        }
        if self.device.poll_deadline().is_some_and(|at| at <= now) {
            self.device.handle_deadline(now);
        }
    }

    fn handle_asks(&mut self, now: Millis, first: Option<Ask>) {
        let Some(first) = first else {
            self.asks_open = false;
            return self.begin_closing(now, Duration::ZERO, None);
        };
        self.handle_ask(now, first);
        for _ in 1..BATCH {
            let Ok(ask) = self.asks.try_recv() else { return };
            self.handle_ask(now, ask);
        }
    }

    fn handle_ask(&mut self, now: Millis, ask: Ask) {
        match ask {
            Ask::Send { to, body, reply } => {
                let result = self.device.send(to, body).map_err(Error::from);
                self.promise(reply, result);
            }
            Ask::CreateGroup { name, members, reply } => {
                let key = format!("{:032x}", rand::random::<u128>());
                let created = self.device.create_group(&key, &name, &members);
                self.promise(reply, created.map_err(Error::from));
            }
            Ask::Call { method, request, timeout, reply } => {
                let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                match self.device.call(now, method, request, timeout_ms) {
                    Ok(call) => drop(self.calls.insert(call, reply)),
                    Err(error) => drop(reply.send(Err(error.into()))),
                }
            }
            Ask::Close { flush, reply } => self.begin_closing(now, flush, Some(reply)),
        }
    }

    /// Answers when everything up to now is durable; at once if there is nothing to wait for.
    fn promise<T: Send + 'static>(&mut self, reply: Reply<T>, result: Result<T, Error>) {
        // A caller that no longer listens has nothing to be told, here and below.
        match result {
            Err(error) => drop(reply.send(Err(error))),
            Ok(value) => self.promises.push(Box::new(move |stored| {
                drop(reply.send(stored.map(|()| value)));
            })),
        }
    }

    fn handle_dialed(&mut self, now: Millis, dialed: Dialed) {
        self.dialing = None;
        match dialed {
            Ok((reader, writer, token)) => {
                (self.reader, self.writer) = (Some(reader), Some(writer));
                self.last_token.clone_from(&token);
                self.device.handle_connected(now, token);
            }
            Err(why) => self.device.handle_connect_failed(now, why),
        }
    }

    fn handle_messages(&mut self, now: Millis) {
        let Some(reader) = &mut self.reader else { return };
        loop {
            match reader.message() {
                Ok(Some(message)) => self.device.handle_message(now, &message),
                Ok(None) => return,
                Err(_) => return self.device.handle_malformed(now, "a length is none"),
            }
        }
    }

    fn handle_lost(&mut self, now: Millis) {
        // What came before the end counts: its reason is often there.
        self.handle_messages(now);
        (self.reader, self.writer) = (None, None);
        self.device.handle_closed(now);
    }

    fn commit(&mut self) {
        if self.committing.is_some() || !self.device.has_writes() {
            return;
        }
        let now = self.clock.now();
        let lazy_until = *self.lazy_until.get_or_insert(now.after(LAZY_MS));
        let waits = self.device.is_write_urgent() || self.closing.is_some() || now >= lazy_until;
        let Some(mut store) = self.store.take_if(|_| waits) else { return };
        self.lazy_until = None;
        self.committing_promises = std::mem::take(&mut self.promises);
        let changes: Vec<Change> = std::iter::from_fn(|| self.device.poll_write()).collect();
        if store.blocks() {
            self.committing = Some(tokio::task::spawn_blocking(move || {
                let result = store.commit(&changes);
                (store, result)
            }));
        } else {
            let result = store.commit(&changes);
            self.store = Some(store);
            self.handle_committed(result);
        }
    }

    fn handle_committed(&mut self, result: std::io::Result<()>) {
        let promises = std::mem::take(&mut self.committing_promises);
        match result {
            Ok(()) => {
                self.device.handle_written();
                promises.into_iter().for_each(|promise| promise(Ok(())));
            }
            Err(error) => {
                self.failed = true;
                let why = error.to_string();
                promises.into_iter().for_each(|promise| promise(Err(Error::Store(why.clone()))));
                let cause = Cause::Store(why);
                drop(self.events.try_send(Event::Disconnected { cause, retry_in_ms: None }));
            }
        }
    }

    fn links(&mut self) {
        while let Some(action) = self.device.poll_link() {
            match action {
                LinkAction::Disconnect => (self.reader, self.writer) = (None, None),
                LinkAction::Connect { addresses } => {
                    let address = self.address(&addresses);
                    let token = (self.token)();
                    self.dialing = Some(Box::pin(async move {
                        let token = token.await.map_err(|error| format!("no token: {error}"))?;
                        let dialed = transport::dial(&address).await;
                        let (reader, writer) = dialed.map_err(|error| format!("{address}: {error}"))?;
                        Ok((reader, writer, token))
                    }));
                }
            }
        }
    }

    fn address(&mut self, wanted: &[String]) -> String {
        if let Some(address) = wanted.first() {
            return address.clone();
        }
        let index = self.next_address % self.addresses.len().max(1);
        self.next_address = index + 1;
        self.addresses.get(index).cloned().unwrap_or_default()
    }

    fn frames(&mut self) {
        let now = self.clock.now();
        let Some(writer) = &mut self.writer else { return };
        while writer.has_room() {
            let Some(frame) = self.device.poll_frame(now) else { return };
            writer.push(&frame);
        }
    }

    /// Gives events to the app as long as it has room.
    fn tell(&mut self) {
        loop {
            let Some(event) = self.event.take().or_else(|| self.next_event()) else { return };
            match self.events.try_reserve() {
                Ok(permit) => permit.send(event),
                Err(_) => {
                    self.event = Some(event);
                    return;
                }
            }
        }
    }

    fn next_event(&mut self) -> Option<Event> {
        let event = self.device.poll_event()?;
        self.notice(&event);
        Some(event)
    }

    /// Whether or not the app takes events.
    fn answer_calls(&mut self) {
        while let Some((call, result)) = self.device.poll_called() {
            if let Some(reply) = self.calls.remove(&call) {
                drop(reply.send(result.map_err(Error::from)));
            }
        }
    }

    /// A token that was refused is worth one more try, if there is another.
    fn notice(&mut self, event: &Event) {
        const UNAUTHORIZED: u32 = proto::close::Close::Unauthorized as u32;
        match event {
            Event::Connected { .. } => self.refusals = 0,
            Event::Disconnected {
                cause: Cause::SignIn { .. } | Cause::Closed { code: UNAUTHORIZED, .. },
                retry_in_ms: None,
            } if self.refusals == 0 && self.closing.is_none() => {
                self.refusals += 1;
                let token = (self.token)();
                self.fresh = Some(Box::pin(async move { token.await.ok() }));
            }
            _ => {}
        }
    }

    fn handle_fresh(&mut self, token: Option<String>) {
        self.fresh = None;
        if token.is_some_and(|token| token != self.last_token) {
            self.device.reconnect();
        }
    }

    fn begin_closing(&mut self, now: Millis, flush: Duration, reply: Option<Reply<usize>>) {
        let flush_ms = u64::try_from(flush.as_millis()).unwrap_or(u64::MAX);
        let until = now.after(flush_ms);
        let mut replies = self.closing.take().map(|closing| closing.replies).unwrap_or_default();
        replies.extend(reply);
        self.closing = Some(Closing { until, replies });
        self.device.taken(now, self.taken.seq());
        self.device.flush();
    }

    fn close_if_done(&mut self) {
        let Some(closing) = &self.closing else { return };
        let now = self.clock.now();
        let is_idle = self.device.unacked() == 0
            && !self.device.has_writes()
            && self.committing.is_none()
            && self.writer.as_ref().is_none_or(Writer::is_empty);
        if is_idle || now >= closing.until {
            self.device.close(now);
        }
    }

    fn is_over(&self) -> bool {
        self.failed || self.device.is_closed() && !self.device.has_writes() && self.committing.is_none()
    }

    fn finish(mut self) {
        while let Some(event) = self.event.take().or_else(|| self.next_event()) {
            if self.events.try_send(event).is_err() {
                break;
            }
        }
        self.answer_calls();
        for reply in self.closing.into_iter().flat_map(|closing| closing.replies) {
            let left = if self.failed { Err(Error::Closed) } else { Ok(self.device.unacked()) };
            drop(reply.send(left));
        }
    }

    fn deadline(&self) -> Millis {
        let closing = self.closing.as_ref().map(|closing| closing.until);
        let idle = self.clock.now().after(3_600_000);
        [self.device.poll_deadline(), self.lazy_until, closing].into_iter().flatten().min().unwrap_or(idle)
    }
}
