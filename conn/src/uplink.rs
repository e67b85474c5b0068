//! The way to the log: one producer for the process, made anew when it dies. Reports go to the mailbox of
//! the reactor that appended. It never waits.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use proto::partition::Partition;
use storage::log::{Append, AppendError, Log, LogError, Producer, Report, Tag, Topic};

use crate::mailbox::{Class, Mail, Mailbox};
use crate::session::Appended;

/// Pauses between attempts to make a producer.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What an append was for, so that its report finds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A record of the session with this number.
    Session(u64, Appended),
    /// The end of some session of this partition.
    End(Partition),
    /// Cursors of this partition.
    Cursors(Partition),
}

/// The name of an append: its purpose, the reactor, and the producer's generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) purpose: Purpose,
    pub(crate) reactor: u8,
    pub(crate) generation: u16,
}

impl Name {
    pub(crate) fn to_tag(self) -> Tag {
        let (kind, id, number) = match self.purpose {
            Purpose::Session(link, Appended::Start) => (0, link, 0),
            Purpose::Session(link, Appended::Send(number)) => (1, link, number),
            Purpose::Session(link, Appended::End) => (2, link, 0),
            Purpose::End(partition) => (3, u64::from(partition), 0),
            Purpose::Cursors(partition) => (4, u64::from(partition), 0),
        };
        let parts = [kind, self.reactor].map(u64::from);
        let generation = u64::from(self.generation) << 32;
        Tag(id, parts[0] << 56 | parts[1] << 48 | generation | u64::from(number))
    }

    pub(crate) fn of_tag(Tag(id, rest): Tag) -> Name {
        let [kind, reactor, g0, g1, n0, n1, n2, n3] = rest.to_be_bytes();
        let partition = || Partition::try_from(id).unwrap_or(Partition::MAX);
        let purpose = match kind {
            0 => Purpose::Session(id, Appended::Start),
            1 => Purpose::Session(id, Appended::Send(u32::from_be_bytes([n0, n1, n2, n3]))),
            2 => Purpose::Session(id, Appended::End),
            3 => Purpose::End(partition()),
            _ => Purpose::Cursors(partition()),
        };
        Name { purpose, reactor, generation: u16::from_be_bytes([g0, g1]) }
    }
}

/// The process's producer.
pub(crate) struct Uplink {
    current: Arc<RwLock<Current>>,
    keeper: SyncSender<Keep>,
}

struct Current {
    /// None while there is none.
    producer: Option<Box<dyn Producer>>,
    generation: u16,
}

enum Keep {
    /// The producer of this generation is dead.
    Replace(u16),
    Stop,
}

impl Uplink {
    pub(crate) fn start(
        log: Arc<dyn Log>,
        appends_max: usize,
        mailboxes: Arc<[Arc<Mailbox>]>,
    ) -> Result<Self, LogError> {
        let (keeper, orders) = sync_channel(16);
        let reporter = Reporter { mailboxes, generation: 0, keeper: keeper.clone() };
        let producer = log.producer(appends_max, Arc::new(reporter.clone()))?;
        let current = Arc::new(RwLock::new(Current { producer: Some(producer), generation: 0 }));
        let keeping = Keeper { log, appends_max, current: current.clone(), reporter, orders };
        thread::Builder::new()
            .name("conn-uplink".into())
            .spawn(move || keeping.run())
            .map_err(|error| LogError::Failed(error.to_string()))?;
        Ok(Self { current, keeper })
    }

    /// Appends a record; the generation says which producer took it.
    pub(crate) fn append(
        &self,
        (topic, partition): (Topic, Partition),
        record: Bytes,
        purpose: Purpose,
        reactor: u8,
    ) -> (Append, u16) {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let generation = current.generation;
        let Some(producer) = &current.producer else { return (Append::Full, generation) };
        let tag = Name { purpose, reactor, generation }.to_tag();
        let verdict = producer.append(topic, partition, record, tag);
        if verdict == Append::Dead {
            let _ = self.keeper.try_send(Keep::Replace(generation));
        }
        (verdict, generation)
    }

    /// Records that were appended and not reported, and the cap on them.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.producer.as_ref().map_or((0, 0), |producer| producer.depth())
    }

    /// Whether there is a producer.
    pub(crate) fn is_up(&self) -> bool {
        self.current.read().unwrap_or_else(PoisonError::into_inner).producer.is_some()
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        let _ = self.keeper.send(Keep::Stop);
    }
}

/// Sorts outcomes by reactor.
#[derive(Clone)]
struct Reporter {
    mailboxes: Arc<[Arc<Mailbox>]>,
    generation: u16,
    keeper: SyncSender<Keep>,
}

impl Report for Reporter {
    fn reported(&self, outcomes: &[(Tag, Result<(), AppendError>)]) {
        if outcomes.iter().any(|(_, outcome)| *outcome == Err(AppendError::Fatal)) {
            let _ = self.keeper.try_send(Keep::Replace(self.generation));
        }
        for (number, mailbox) in self.mailboxes.iter().enumerate() {
            let own: Vec<_> = outcomes
                .iter()
                .filter(|(tag, _)| usize::from(Name::of_tag(*tag).reactor) == number)
                .copied()
                .collect();
            if !own.is_empty() {
                let _ = mailbox.post(Mail::Reports(own), Class::Answer);
            }
        }
    }
}

/// The thread that replaces dead producers.
struct Keeper {
    log: Arc<dyn Log>,
    appends_max: usize,
    current: Arc<RwLock<Current>>,
    reporter: Reporter,
    orders: Receiver<Keep>,
}

impl Keeper {
    fn run(mut self) {
        while let Ok(Keep::Replace(dead)) = self.orders.recv() {
            if dead == self.reporter.generation && !self.replace() {
                return;
            }
        }
    }

    /// False where the node stops meanwhile.
    fn replace(&mut self) -> bool {
        let lost = self.reporter.generation;
        self.reporter.generation = lost.wrapping_add(1);
        tracing::error!(generation = lost, "the producer is dead; making another");
        drop(self.set(None));
        for mailbox in self.reporter.mailboxes.iter() {
            let _ = mailbox.post(Mail::ReportsLost { generation: lost }, Class::Answer);
        }
        let mut pause = BACKOFF.0;
        loop {
            match self.log.producer(self.appends_max, Arc::new(self.reporter.clone())) {
                Ok(producer) => {
                    drop(self.set(Some(producer)));
                    return true;
                }
                Err(error) => tracing::warn!(%error, "no producer yet"),
            }
            match self.orders.recv_timeout(pause) {
                Ok(Keep::Replace(_)) | Err(RecvTimeoutError::Timeout) => pause = (2 * pause).min(BACKOFF.1),
                Ok(Keep::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Exchanges the producer; the old one is dropped outside of the lock.
    fn set(&self, producer: Option<Box<dyn Producer>>) -> Option<Box<dyn Producer>> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.generation = self.reporter.generation;
        std::mem::replace(&mut current.producer, producer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_from_tags() {
        let link = 77 << 24 | 5;
        for purpose in [
            Purpose::Session(link, Appended::Start),
            Purpose::Session(link, Appended::Send(u32::MAX)),
            Purpose::Session(link, Appended::End),
            Purpose::End(63),
            Purpose::Cursors(0),
        ] {
            let name = Name { purpose, reactor: 255, generation: 65_535 };
            assert_eq!(Name::of_tag(name.to_tag()), name);
        }
    }
}
