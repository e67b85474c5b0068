//! What goes wrong: the kinds of faults, which of them a schedule has, and a journal of those that happened.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::str::FromStr;

use rand::RngExt;
use rand::rngs::SmallRng;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A queue of the log is full: the append is refused at once.
    RefusedAppend,
    /// An append times out and never lands.
    LostAppend,
    /// An append times out although it landed, or lands later all the same.
    LateAppend,
    /// An append lands twice.
    RepeatedAppend,
    /// A batch of cursors is dropped.
    LostCursors,
    /// The queue of a stream takes no push.
    RefusedPush,
    /// The queue of a stream takes no control frame.
    RefusedControl,
    /// The outbox of a link is full.
    FullOutbox,
    /// A stream between logic and conn breaks.
    CutStream,
    /// A link breaks on the server's side first.
    LostLink,
    /// A device leaves a link, and the server never hears of it.
    HalfOpenLink,
    /// A link carries frames in one direction only.
    OneWayLink,
    /// A device's process dies.
    DeviceCrash,
    /// A device is put back from a backup.
    DeviceRestored,
    /// A conn node's process dies, with its queues.
    NodeKilled,
    /// A conn node loses its lease.
    LeaseLost,
    /// A run of a stage dies between two effects, with its queues.
    RunKilled,
    /// A successor takes over while the old run goes on.
    Takeover,
    /// A logic node's partitions all move to other nodes, while its runs go on.
    Rebalance,
    /// A logic node's process dies, with all of its runs.
    LogicKilled,
    /// The log's clock jumps, by up to an hour, either way.
    ClockJump,
    /// The tables answer nobody for a while.
    SlowStore,
    /// A row is not written, while later ones are.
    FailedRow,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 23] = [
        Fault::RefusedAppend,
        Fault::LostAppend,
        Fault::LateAppend,
        Fault::RepeatedAppend,
        Fault::LostCursors,
        Fault::RefusedPush,
        Fault::RefusedControl,
        Fault::FullOutbox,
        Fault::CutStream,
        Fault::LostLink,
        Fault::HalfOpenLink,
        Fault::OneWayLink,
        Fault::DeviceCrash,
        Fault::DeviceRestored,
        Fault::NodeKilled,
        Fault::LeaseLost,
        Fault::RunKilled,
        Fault::Takeover,
        Fault::Rebalance,
        Fault::LogicKilled,
        Fault::ClockJump,
        Fault::SlowStore,
        Fault::FailedRow,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Fault::ALL.into_iter().find(|fault| fault.to_string() == name);
        found.ok_or_else(|| format!("no fault is called {name}; there are {:?}", Fault::ALL))
    }
}

/// The faults of one schedule.
pub struct Faults {
    off: Vec<Fault>,
    /// How often an append times out.
    timeouts: f64,
    step: Cell<usize>,
    on: Cell<bool>,
    /// What happened, and at which step.
    journal: RefCell<Vec<(usize, Fault)>>,
}

impl Faults {
    pub(crate) fn new(off: &[Fault], timeouts: f64) -> Self {
        let (step, on, journal) = (Cell::new(0), Cell::new(false), RefCell::default());
        Self { off: off.to_vec(), timeouts, step, on, journal }
    }

    /// Whether a fault happens now. Draws from the schedule also where the kind is switched off, so that
    /// the rest of the schedule stays as it is.
    pub(crate) fn happens(&self, fault: Fault, rng: &mut SmallRng, probability: f64) -> bool {
        if !self.on.get() {
            return false;
        }
        let happens = rng.random_bool(probability) && !self.off.contains(&fault);
        if happens {
            self.journal.borrow_mut().push((self.step.get(), fault));
        }
        happens
    }

    /// Whether an append times out.
    pub(crate) fn times_out(&self, rng: &mut SmallRng) -> bool {
        self.on.get() && rng.random_bool(self.timeouts)
    }

    /// The schedule has come to this step.
    pub(crate) fn at(&self, step: usize) {
        self.step.set(step);
    }

    /// From now on things go wrong, or nothing does.
    pub(crate) fn set(&self, on: bool) {
        self.on.set(on);
    }

    /// Whether things may go wrong now.
    pub(crate) fn is_on(&self) -> bool {
        self.on.get()
    }

    pub(crate) fn journal(&self) -> Vec<(usize, Fault)> {
        self.journal.borrow().clone()
    }
}
