//! The conn node: what the rest of the process sees of this crate.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use mio::net::TcpListener;
use mio::{Poll, Waker};
use prometheus_client::registry::Registry;
use proto::v1;
use socket2::{Domain, Protocol, Socket, Type};
use storage::log::{Log, LogError};
use tokio::sync::{mpsc, oneshot};

use crate::call::CallRequest;
use crate::clock::Clock;
use crate::config::Config;
use crate::downlink::Downlink;
use crate::mailbox::{Class, Mail, Mailbox};
use crate::metrics::Metrics;
use crate::reactor::{MAILBOX, Parts, Reactor};
use crate::uplink::Uplink;
use crate::verify::{Keys, Pool};

/// Links that the kernel keeps until they are accepted.
const BACKLOG: i32 = 4096;

/// Why a conn node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings that cannot be.
    #[error("{}", .0.join("; "))]
    Config(Vec<String>),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said; `AddrInUse` if someone else listens there.
        cause: io::Error,
    },
    /// A thread or a poll cannot be made.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// The log cannot be appended to.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Why the node is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unready {
    /// It has no incarnation: it has not joined yet, or lost its lease.
    #[error("the node has no lease")]
    NoLease,
    /// It is shutting down.
    #[error("the node is draining")]
    Draining,
    /// The log takes no records.
    #[error("the log cannot be appended to")]
    NoLog,
    /// So many partitions of the timelines log have no owner attached: after the start any of them counts,
    /// later only all.
    #[error("{0} timelines partitions have no owner attached")]
    NoOwner(usize),
}

/// A running conn node. Dropping it stops it at once; [`Node::drain`] comes first where that matters.
pub struct Node {
    parts: Arc<Parts>,
    mailboxes: Arc<[Arc<Mailbox>]>,
    address: SocketAddr,
    incarnation: AtomicU64,
    draining: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Node {
    /// Listens, and starts the reactors. Links are accepted once the node has an incarnation.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub fn start(
        config: Config,
        log: Arc<dyn Log>,
        keys: Keys,
        calls: mpsc::Sender<CallRequest>,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let mistakes = config.mistakes();
        if !mistakes.is_empty() {
            return Err(StartError::Config(mistakes));
        }
        let partitions = log.partitions();
        let metrics = Arc::new(Metrics::register(registry));
        let (listeners, address) = listen(&config)?;
        let polls = listeners.iter().map(|_| Poll::new()).collect::<Result<Vec<_>, _>>()?;
        let mailboxes = polls
            .iter()
            .map(|poll| {
                let waker = Waker::new(poll.registry(), MAILBOX)?;
                Ok(Arc::new(Mailbox::new(waker, config.mailbox_max, config.mailbox_bytes_max)))
            })
            .collect::<io::Result<Arc<[_]>>>()?;
        let parts = Arc::new(Parts {
            partitions,
            uplink: Uplink::start(log, config.appends_max, mailboxes.clone())?,
            downlink: Downlink::new(partitions.timelines, mailboxes.clone(), metrics.clone()),
            pool: Pool::start(config.verify_threads, config.verify_queue_max, keys)?,
            calls,
            metrics,
            clock: Clock::start(),
            links: mailboxes.iter().map(|_| AtomicU64::new(0)).collect(),
            config,
        });
        let mut threads = Vec::new();
        for (number, ((poll, listener), mailbox)) in
            (0u8..=u8::MAX).zip(polls.into_iter().zip(listeners).zip(mailboxes.iter()))
        {
            let reactor = Reactor::new(number, poll, listener, mailbox.clone(), parts.clone())?;
            let thread = thread::Builder::new().name(format!("conn-{number}"));
            threads.push(thread.spawn(move || reactor.run())?);
        }
        tracing::info!(%address, reactors = threads.len(), "listening for links");
        Ok(Self {
            parts,
            mailboxes,
            address,
            incarnation: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            threads: Mutex::new(threads),
        })
    }

    /// Where links are accepted.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes a stream from the owner of a timelines partition; it is served on the runtime of the caller
    /// until either side ends it. The first frame is Open.
    pub fn attach(&self, down: mpsc::Receiver<v1::Down>, up: mpsc::Sender<v1::Up>) {
        let parts = self.parts.clone();
        tokio::spawn(async move { parts.downlink.serve(down, up).await });
    }

    /// The node's incarnation from now on. Links of an earlier one are closed first.
    pub fn set_incarnation(&self, incarnation: u64) {
        if self.incarnation.swap(incarnation, Ordering::SeqCst) == incarnation {
            return;
        }
        for mailbox in self.mailboxes.iter() {
            let _ = mailbox.post(Mail::Incarnation(incarnation), Class::Answer);
        }
        self.parts.downlink.break_all();
    }

    /// The node's lease is lost: closes every link with a code to connect elsewhere, and accepts none
    /// until there is a new incarnation.
    pub fn lease_lost(&self) {
        self.set_incarnation(0);
    }

    /// Leaves in good order: tells devices to go elsewhere, acknowledges what was taken, ends the sessions,
    /// and returns when nothing is left or the time is over.
    pub async fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        let mut waiting = Vec::new();
        for mailbox in self.mailboxes.iter() {
            let (done, wait) = oneshot::channel();
            let _ = mailbox.post(Mail::Drain(done), Class::Answer);
            waiting.push(wait);
        }
        for wait in waiting {
            let _ = wait.await;
        }
    }

    /// Whether devices should be sent here.
    ///
    /// # Errors
    /// Every reason why not.
    pub fn ready(&self) -> Result<(), Vec<Unready>> {
        let missed = self.parts.downlink.missed();
        let reasons: Vec<_> = [
            (self.incarnation.load(Ordering::SeqCst) == 0, Unready::NoLease),
            (self.draining.load(Ordering::SeqCst), Unready::Draining),
            (!self.parts.uplink.is_up(), Unready::NoLog),
            (missed != 0, Unready::NoOwner(missed)),
        ]
        .into_iter()
        .filter_map(|(unready, why)| unready.then_some(why))
        .collect();
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    /// Links that are open.
    #[must_use]
    pub fn links(&self) -> u64 {
        self.parts.links.iter().map(|links| links.load(Ordering::Relaxed)).sum()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for mailbox in self.mailboxes.iter() {
            let _ = mailbox.post(Mail::Stop, Class::Answer);
        }
        let threads = std::mem::take(self.threads.get_mut().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _ = thread.join();
        }
    }
}

/// One listener for each reactor, on one address; the kernel shares links out among them.
fn listen(config: &Config) -> Result<(Vec<TcpListener>, SocketAddr), StartError> {
    let mut address = config.listen;
    let mut listeners = Vec::new();
    // Another process that shares its ports as well would not be noticed by the sockets that follow.
    drop(socket(address, false).map_err(|cause| StartError::Listen { address, cause })?);
    for _ in 0..config.reactors {
        let listener = socket(address, true).map_err(|cause| StartError::Listen { address, cause })?;
        address = listener.local_addr().map_err(|cause| StartError::Listen { address, cause })?;
        listeners.push(TcpListener::from_std(listener));
    }
    Ok((listeners, address))
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
