//! Two honest devices that talk to each other while others attack: how long each message takes, and that all of them
//! arrive, once and in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use proto::v1::{self, client_frame::Frame as C, server_frame::Frame as S};
use tests::{DEADLINE, Device, text, within};

use crate::{World, say};

/// Messages that make a figure.
const SAMPLES: usize = 100;
const SAMPLES_MIN: usize = 30;
/// Between two messages.
const PAUSE: Duration = Duration::from_millis(3);

/// What the two felt over some time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Felt {
    pub(crate) messages: usize,
    pub(crate) p99: Duration,
}

/// When a message was said, and how long it took.
#[derive(Clone, Copy, Debug)]
struct Taken {
    said: Instant,
    time: Duration,
}

pub(crate) struct Neighbours {
    taken: Arc<Mutex<Vec<Taken>>>,
    stop: Arc<AtomicBool>,
    talk: JoinHandle<()>,
}

impl Neighbours {
    pub(crate) fn start(world: &World) -> Self {
        let (ann, epoch) = world.signed_in("ann", "phone");
        let (bob, _) = world.signed_in("bob", "phone");
        let (taken, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (shared, stopped) = (taken.clone(), stop.clone());
        let talk = thread::spawn(move || talk(ann, bob, epoch, &shared, &stopped));
        Self { taken, stop, talk }
    }

    /// What they feel while nothing happens; forgotten afterwards.
    pub(crate) fn felt_in_peace(&self) -> Felt {
        within(DEADLINE, "the neighbours talk", || (self.taken().len() >= SAMPLES).then_some(()));
        let peace = std::mem::take(&mut *self.taken());
        felt(peace.iter())
    }

    /// What they felt of everything that they have said since, the message that is under way included.
    /// An attack that is begun in no time is felt for as many messages as make a figure.
    pub(crate) fn end(self) -> Felt {
        within(DEADLINE, "the neighbours still talk", || {
            (self.taken().len() >= SAMPLES_MIN || self.talk.is_finished()).then_some(())
        });
        let over = Instant::now();
        within(DEADLINE, "the neighbours still talk", || {
            let is_later = self.taken().last().is_some_and(|last| last.said > over);
            (is_later || self.talk.is_finished()).then_some(())
        });
        self.stop.store(true, Ordering::Relaxed);
        self.talk.join().expect("both links live, and nothing is lost");
        let taken = self.taken.lock().unwrap();
        felt(taken.iter().filter(|taken| taken.said <= over))
    }

    fn taken(&self) -> MutexGuard<'_, Vec<Taken>> {
        self.taken.lock().unwrap()
    }
}

fn felt<'a>(taken: impl Iterator<Item = &'a Taken>) -> Felt {
    let mut times: Vec<Duration> = taken.map(|taken| taken.time).collect();
    times.sort();
    Felt { messages: times.len(), p99: times[times.len() * 99 / 100] }
}

fn talk(mut ann: Device, mut bob: Device, epoch: u64, taken: &Mutex<Vec<Taken>>, stop: &AtomicBool) {
    let mut last = None;
    for n in 1.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let said = Instant::now();
        say(&mut ann, 1 + n, &text("bob", epoch, n));
        let seq = delivered(&mut bob, epoch, n);
        taken.lock().unwrap().push(Taken { said, time: said.elapsed() });
        assert!(last.is_none_or(|last| last + 1 == seq), "a hole behind {last:?}");
        last = Some(seq);
        bob.send(0, C::Ack(v1::Ack { seq }));
        thread::sleep(PAUSE);
    }
}

/// Waits until the message is pushed, and nothing else; its seq.
fn delivered(bob: &mut Device, epoch: u64, n: u64) -> u64 {
    match bob.expect() {
        S::Push(v1::Push { entries }) => {
            assert_eq!(entries.len(), 1);
            assert_eq!((entries[0].sender.as_str(), entries[0].epoch, entries[0].n), ("ann", epoch, n));
            entries[0].seq
        }
        other => panic!("bob is told {other:?}"),
    }
}
