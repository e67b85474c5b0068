//! What other threads have for a reactor: one bounded queue, one wake-up for many letters.
//!
//! Pushes are droppable: where they find no room their links are remembered, to be hinted later. Control
//! frames are not: where they find none, whoever sent them has to start over. Answers to what the reactor
//! itself asked for always find room, because it asks for a bounded number.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mio::Waker;
use proto::partition::Partition;
use proto::v1;
use storage::log::{AppendError, Tag};
use tokio::sync::oneshot;

use crate::roster::Part;
use crate::session::{Denied, Verified};

/// Links that are remembered because a push for them found no room.
const MISSED_MAX: usize = 16_384;

/// A letter to a reactor.
#[derive(Debug)]
pub(crate) enum Mail {
    /// The outcome of a token check.
    Verified { link: u64, outcome: Result<Verified, Denied> },
    /// Outcomes of appends.
    Reports(Vec<(Tag, Result<(), AppendError>)>),
    /// What was appended through this producer, and not reported, will never be.
    ReportsLost { generation: u16 },
    /// The answer to a call.
    CallResult { link: u64, request_id: u64, result: v1::link_call_result::Result },
    /// A frame of an owner for one link.
    Down { partition: Partition, term: u64, link: u64, down: Box<v1::down::Down> },
    /// Entries for some links of one user.
    Push { partition: Partition, term: u64, links: Vec<u64>, last: u64, frame: Bytes },
    /// Asks for links of a partition, from a slot on.
    Roster { partition: Partition, term: u64, from: u32, reply: oneshot::Sender<Part> },
    /// The partition's stream is gone: what was asked over it is not answered.
    StreamLost(Partition),
    /// The node's incarnation from now on; 0 when it has none.
    Incarnation(u64),
    /// Leave in good order, and tell when done.
    Drain(oneshot::Sender<()>),
    /// Stop now.
    Stop,
}

/// What a letter may expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Bounded by what the reactor asked for: always taken.
    Answer,
    /// Taken unless the mailbox is full to the brim.
    Control,
}

/// There was no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The mailbox of one reactor.
#[derive(Debug)]
pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
    woken: AtomicBool,
    waker: Waker,
    max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    mail: VecDeque<Mail>,
    /// Of pushes and pages.
    bytes: usize,
    missed: HashMap<u64, u64>,
}

impl Mailbox {
    pub(crate) fn new(waker: Waker, max: usize, bytes_max: usize) -> Self {
        Self { inner: Mutex::default(), woken: AtomicBool::new(false), waker, max, bytes_max }
    }

    pub(crate) fn post(&self, mail: Mail, class: Class) -> Result<(), Full> {
        let bytes = weight(&mail);
        {
            let mut inner = self.lock();
            // Control frames have as much room again as pushes have.
            let full = inner.mail.len() >= 2 * self.max || inner.bytes + bytes > 2 * self.bytes_max;
            if class == Class::Control && full {
                return Err(Full);
            }
            inner.bytes += bytes;
            inner.mail.push_back(mail);
        }
        self.wake();
        Ok(())
    }

    /// A push that finds no room is remembered by link; too many of those are an error.
    pub(crate) fn push(
        &self,
        (partition, term): (Partition, u64),
        links: Vec<u64>,
        last: u64,
        frame: Bytes,
    ) -> Result<(), Full> {
        {
            let mut inner = self.lock();
            if inner.mail.len() >= self.max || inner.bytes + frame.len() > self.bytes_max {
                if inner.missed.len() + links.len() > MISSED_MAX {
                    return Err(Full);
                }
                for link in links {
                    let missed = inner.missed.entry(link).or_default();
                    *missed = last.max(*missed);
                }
            } else {
                inner.bytes += frame.len();
                inner.mail.push_back(Mail::Push { partition, term, links, last, frame });
            }
        }
        self.wake();
        Ok(())
    }

    /// Takes everything that is there; `missed` must be empty. From now on the next letter wakes.
    pub(crate) fn take(&self, into: &mut VecDeque<Mail>, missed: &mut HashMap<u64, u64>) {
        self.woken.store(false, Ordering::SeqCst);
        let mut inner = self.lock();
        if into.is_empty() {
            std::mem::swap(&mut inner.mail, into);
        } else {
            into.append(&mut inner.mail);
        }
        std::mem::swap(&mut inner.missed, missed);
        inner.bytes = 0;
    }

    /// Letters that wait, and the most that may.
    pub(crate) fn depth(&self) -> (usize, usize) {
        (self.lock().mail.len(), 2 * self.max)
    }

    fn wake(&self) {
        if !self.woken.swap(true, Ordering::SeqCst)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a reactor cannot be woken");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn weight(mail: &Mail) -> usize {
    let Mail::Down { down, .. } = mail else { return 0 };
    match &**down {
        v1::down::Down::SyncAnswer(v1::SyncAnswer {
            result: Some(v1::sync_answer::Result::Page(page)),
            ..
        }) => page.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll, Token};
    use std::time::Duration;

    fn mailbox(max: usize) -> (Poll, Mailbox) {
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(0)).unwrap();
        (poll, Mailbox::new(waker, max, 100))
    }

    fn push(mailbox: &Mailbox, link: u64, last: u64) -> Result<(), Full> {
        mailbox.push((0, 1), vec![link], last, Bytes::from_static(b"frame"))
    }

    #[test]
    fn pushes_without_room_are_remembered_and_control_has_room_longer() {
        let (_poll, mailbox) = mailbox(2);
        (1..=4).for_each(|last| push(&mailbox, 9, last).unwrap());
        mailbox.post(Mail::Stop, Class::Control).unwrap();
        mailbox.post(Mail::Stop, Class::Control).unwrap();
        assert_eq!(mailbox.post(Mail::Stop, Class::Control), Err(Full));
        assert_eq!(mailbox.post(Mail::Stop, Class::Answer), Ok(()));
        let (mut mail, mut missed) = (VecDeque::new(), HashMap::new());
        mailbox.take(&mut mail, &mut missed);
        assert_eq!((mail.len(), missed.get(&9)), (5, Some(&4)));
        assert_eq!(push(&mailbox, 9, 5), Ok(()));
        assert_eq!(mailbox.depth(), (1, 4));
    }

    #[test]
    fn pushes_are_bounded_in_bytes_and_the_links_that_miss_them_too() {
        let (_poll, mailbox) = mailbox(1_000);
        for link in 0..20 + MISSED_MAX as u64 {
            assert_eq!(push(&mailbox, link, 1), Ok(()));
        }
        assert_eq!(push(&mailbox, 99_999, 1), Err(Full));
        assert_eq!(mailbox.depth().0, 20);
    }

    #[test]
    fn many_letters_wake_once_and_the_next_after_taking_again() {
        let (mut poll, mailbox) = mailbox(100);
        let mut events = Events::with_capacity(8);
        let mut wakes = |poll: &mut Poll| {
            poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
            events.iter().count()
        };
        (0..5).for_each(|_| mailbox.post(Mail::Stop, Class::Control).unwrap());
        assert_eq!(wakes(&mut poll), 1);
        let mut mail = VecDeque::new();
        mailbox.take(&mut mail, &mut HashMap::new());
        mailbox.post(Mail::Stop, Class::Control).unwrap();
        assert_eq!(wakes(&mut poll), 1);
        // Behind what is left of the letters before.
        mailbox.take(&mut mail, &mut HashMap::new());
        assert_eq!(mail.len(), 6);
        mailbox.post(Mail::Stop, Class::Control).unwrap();
        assert_eq!(wakes(&mut poll), 1);
    }
}
