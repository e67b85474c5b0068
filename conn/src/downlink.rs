//! Streams of owners: one for each partition of the timelines log, of the highest term that was seen.
//! Frames go to the reactors' mailboxes, syncs the other way. Knows no link.
//!
//! A control frame that finds no room breaks the stream: the owner opens another, and the roster tells it
//! what was missed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use proto::partition::Partition;
use proto::v1::{self, down, up};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::mailbox::{Class, Mail, Mailbox};
use crate::metrics::Metrics;
use crate::roster::Part;

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Broken {
    #[error("the owner left")]
    Left,
    #[error("a frame that it may not send")]
    Protocol,
    #[error("no room for a control frame")]
    Full,
    #[error("the node has no incarnation, or another one by now")]
    Incarnation,
}

/// The streams of all partitions.
pub(crate) struct Downlink {
    mailboxes: Arc<[Arc<Mailbox>]>,
    partitions: RwLock<Box<[Owner]>>,
    /// Every partition had a stream at the same time once.
    was_complete: AtomicBool,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Owner {
    /// The highest that was seen.
    term: u64,
    stream: Option<Arc<Stream>>,
}

struct Stream {
    partition: Partition,
    term: u64,
    up: mpsc::Sender<v1::Up>,
    /// The roster is through: the owner answers from now on. An ask is passed on within the lock, so none is
    /// before the roster's end, where it would be lost, and none behind it is refused.
    open: Mutex<bool>,
    broken: Notify,
}

impl Stream {
    fn open(&self) -> MutexGuard<'_, bool> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Downlink {
    pub(crate) fn new(count: u32, mailboxes: Arc<[Arc<Mailbox>]>, metrics: Arc<Metrics>) -> Self {
        let partitions = RwLock::new((0..count).map(|_| Owner::default()).collect());
        Self { mailboxes, partitions, was_complete: AtomicBool::new(false), metrics }
    }

    /// Serves one stream until it ends.
    pub(crate) async fn serve(&self, mut down: mpsc::Receiver<v1::Down>, up: mpsc::Sender<v1::Up>) {
        let Some(v1::Down { down: Some(down::Down::Open(open)) }) = down.recv().await else { return };
        let stream = match self.open(&open, &up) {
            Ok(stream) => stream,
            Err(term) => {
                tracing::info!(open.partition, open.term, term, "refused a stream of a lower term");
                let refused = v1::Up { up: Some(up::Up::Refused(v1::Refused { term })) };
                let _ = up.send(refused).await;
                return;
            }
        };
        tracing::debug!(open.partition, open.term, owner = open.owner, "a stream is open");
        let ended = tokio::select! {
            () = stream.broken.notified() => None,
            both = async { tokio::try_join!(self.roster(&stream), self.route(&stream, &mut down)) } => both.err(),
        };
        let why = ended.map_or("broken from here".into(), |broken| broken.to_string());
        tracing::debug!(open.partition, open.term, why, "a stream is closed");
        self.close(&stream);
    }

    /// Passes a sync on; false where nobody can take it.
    pub(crate) fn ask(&self, partition: Partition, ask: v1::SyncAsk) -> bool {
        let Some(stream) = self.stream(partition) else { return false };
        let ask = v1::Up { up: Some(up::Up::Sync(ask)) };
        let open = stream.open();
        *open && stream.up.try_send(ask).is_ok()
    }

    /// Breaks the stream of a partition: something that its owner must know could not be said.
    pub(crate) fn break_stream(&self, partition: Partition) {
        if let Some(stream) = self.stream(partition) {
            stream.broken.notify_one();
        }
    }

    /// Breaks every stream.
    pub(crate) fn break_all(&self) {
        self.read().iter().filter_map(|owner| owner.stream.as_ref()).for_each(|s| s.broken.notify_one());
    }

    /// Partitions whose owners are missed: every one that was not there yet when the node started; later
    /// only where none is there at all, because owners come and go.
    pub(crate) fn missed(&self) -> usize {
        let partitions = self.read();
        let open = |stream: &Arc<Stream>| *stream.open();
        let there = partitions.iter().filter(|owner| owner.stream.as_ref().is_some_and(open)).count();
        let missing = partitions.len() - there;
        let complete = self.was_complete.fetch_or(missing == 0, Ordering::Relaxed);
        if complete && there > 0 { 0 } else { missing }
    }

    /// Takes the place of the partition's stream; an error is the higher term that holds it.
    fn open(&self, open: &v1::Open, up: &mpsc::Sender<v1::Up>) -> Result<Arc<Stream>, u64> {
        let mut partitions = self.write();
        let index = usize::try_from(open.partition).unwrap_or(usize::MAX);
        let Some(owner) = partitions.get_mut(index) else { return Err(u64::MAX) };
        if open.term < owner.term {
            return Err(owner.term);
        }
        let stream = Arc::new(Stream {
            partition: open.partition,
            term: open.term,
            up: up.clone(),
            open: Mutex::new(false),
            broken: Notify::new(),
        });
        owner.term = open.term;
        if let Some(replaced) = owner.stream.replace(stream.clone()) {
            replaced.broken.notify_one();
        }
        self.metrics.streams.inc();
        Ok(stream)
    }

    fn close(&self, stream: &Arc<Stream>) {
        if let Some(owner) = self.write().get_mut(usize::try_from(stream.partition).unwrap_or(usize::MAX)) {
            owner.stream.take_if(|current| Arc::ptr_eq(current, stream));
        }
        for mailbox in self.mailboxes.iter() {
            let _ = mailbox.post(Mail::StreamLost(stream.partition), Class::Answer);
        }
        self.metrics.streams.dec();
    }

    /// Tells the owner which links of its partition this node has.
    async fn roster(&self, stream: &Stream) -> Result<(), Broken> {
        // All bounds first, then the links: so whoever has a lower number is in a part or gone.
        let mut firsts = Vec::with_capacity(self.mailboxes.len());
        for mailbox in self.mailboxes.iter() {
            firsts.push(part(mailbox, stream, 0).await?);
        }
        let incarnation = firsts.first().map_or(0, |first| first.incarnation);
        let bounds: Vec<u64> = firsts.iter().map(|first| first.bound).collect();
        let roster = |links, complete| {
            let part = v1::Roster { incarnation, links, bounds: bounds.clone(), complete };
            v1::Up { up: Some(up::Up::Roster(part)) }
        };
        for (mailbox, mut this) in self.mailboxes.iter().zip(firsts) {
            loop {
                if this.incarnation != incarnation || incarnation == 0 {
                    return Err(Broken::Incarnation);
                }
                if !this.links.is_empty() {
                    stream.up.send(roster(this.links, false)).await.map_err(|_| Broken::Left)?;
                }
                let Some(next) = this.next else { break };
                this = part(mailbox, stream, next).await?;
            }
        }
        let room = stream.up.reserve().await.map_err(|_| Broken::Left)?;
        let mut open = stream.open();
        room.send(roster(Vec::new(), true));
        *open = true;
        Ok(())
    }

    async fn route(&self, stream: &Stream, down: &mut mpsc::Receiver<v1::Down>) -> Result<(), Broken> {
        loop {
            let frame = down.recv().await.ok_or(Broken::Left)?;
            match frame.down {
                Some(down::Down::Push(push)) => self.push(stream, &push)?,
                Some(frame) => self.control(stream, frame)?,
                None => {}
            }
        }
    }

    fn control(&self, stream: &Stream, frame: down::Down) -> Result<(), Broken> {
        let link = link_of(&frame).ok_or(Broken::Protocol)?;
        let mailbox = self.mailbox(link.reactor).ok_or(Broken::Protocol)?;
        let (partition, term) = (stream.partition, stream.term);
        let mail = Mail::Down { partition, term, link: link.link, down: Box::new(frame) };
        mailbox.post(mail, Class::Control).map_err(|_| Broken::Full)
    }

    fn push(&self, stream: &Stream, push: &v1::PushFrame) -> Result<(), Broken> {
        for (number, mailbox) in (0u32..).zip(self.mailboxes.iter()) {
            let links: Vec<u64> =
                push.links.iter().filter(|link| link.reactor == number).map(|link| link.link).collect();
            if !links.is_empty() {
                let from = (stream.partition, stream.term);
                mailbox.push(from, links, push.last, push.frame.clone()).map_err(|_| Broken::Full)?;
            }
        }
        Ok(())
    }

    fn mailbox(&self, reactor: u32) -> Option<&Arc<Mailbox>> {
        self.mailboxes.get(usize::try_from(reactor).ok()?)
    }

    fn stream(&self, partition: Partition) -> Option<Arc<Stream>> {
        self.read().get(usize::try_from(partition).ok()?)?.stream.clone()
    }

    fn read(&self) -> RwLockReadGuard<'_, Box<[Owner]>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Box<[Owner]>> {
        self.partitions.write().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn part(mailbox: &Mailbox, stream: &Stream, from: u32) -> Result<Part, Broken> {
    let (reply, part) = oneshot::channel();
    let mail = Mail::Roster { partition: stream.partition, term: stream.term, from, reply };
    mailbox.post(mail, Class::Control).map_err(|_| Broken::Full)?;
    part.await.map_err(|_| Broken::Incarnation)
}

fn link_of(frame: &down::Down) -> Option<v1::LinkRef> {
    match frame {
        down::Down::Result(result) => result.link,
        down::Down::Hint(hint) => hint.link,
        down::Down::Kick(kick) => kick.link,
        down::Down::SyncAnswer(answer) => answer.link,
        down::Down::Error(error) => error.link,
        down::Down::Open(_) | down::Down::Push(_) => None,
    }
}
