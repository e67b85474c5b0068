//! The trials.

use std::thread::sleep;
use std::time::Duration;

use super::PEACE;
use super::flood::{connections, sign_ins};
use crate::net::{Cut, cut};
use crate::process::signal;
use crate::stage::{Stage, Storage};
use crate::trace::Injection;

/// Packets are dropped for so long: a server leaves a silent link after 54 s.
const LASTS: Duration = Duration::from_secs(70);
/// A burst of a flood lasts so long, and peace between two: by turns, since what a disk or a virtual machine does by
/// itself comes and goes over minutes.
const BURST: Duration = Duration::from_secs(20);
const BETWEEN_BURSTS: Duration = Duration::from_secs(30);
const BURSTS: u32 = 6;
/// The store does not answer for so long.
const STANDS: Duration = Duration::from_secs(120);
/// Resets for so long end every link.
const RESETS: Duration = Duration::from_secs(1);

/// One thing that happens to the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// A process is killed (-9) and started again at once.
    Kill,
    /// A process with the logic role is killed, and stays away.
    LogicGone,
    /// Every link is reset at once, and all devices come again.
    Storm,
    /// What comes in at the devices' port of one process is dropped: the partition has one direction.
    OneWay,
    /// All processes drain and are started again, one after the other.
    Rolling,
    /// What is stored is not answered for two minutes: no fsync comes back, or every CQL node stands still.
    StoreStands,
    /// Connections that never sign in.
    Connections,
    /// Sign-ins with forged signatures.
    SignIns,
}

impl Trial {
    /// Those that a deployment on this storage can be put to.
    pub(super) fn all(storage: &Storage) -> Vec<Self> {
        let first = if matches!(storage, Storage::Embedded) { Self::Kill } else { Self::LogicGone };
        vec![
            first,
            Self::Storm,
            Self::OneWay,
            Self::Rolling,
            Self::Connections,
            Self::SignIns,
            Self::StoreStands,
        ]
    }

    /// It happens, and is over. In words, and whether it was all of what it should be.
    pub(super) fn happens(self, stage: &mut Stage, flood_per_s: u32) -> (String, bool) {
        let what = match self {
            Self::Kill => {
                stage.servers[0].kill();
                stage.servers[0].restart();
                "killed, and ready again".into()
            }
            // Its peers are to take over: nothing else ends this.
            Self::LogicGone => {
                stage.servers[0].kill();
                "one of two logic processes killed, and not started again".into()
            }
            Self::Storm => {
                let felt = cut(&stage.conn_addresses(), Cut::Reset, RESETS);
                return ("every connection of every process reset".into(), felt > 0);
            }
            Self::OneWay => {
                let felt = cut(&stage.conn_addresses()[..1], Cut::In, LASTS);
                return (format!("nothing came in at one process for {} s", LASTS.as_secs()), felt > 0);
            }
            Self::Rolling => {
                for server in &mut stage.servers {
                    assert_eq!(server.terminate().code(), Some(0), "a drain ends well");
                    server.restart();
                }
                "every process drained and started again in turn".into()
            }
            Self::StoreStands => {
                let stood = store_stands(stage);
                return (format!("nothing stored was answered for {} s", STANDS.as_secs()), stood);
            }
            Self::Connections => {
                let count = connections(stage.conn_addresses()[0], flood_per_s, BURST);
                return came(count, flood_per_s, "connections");
            }
            Self::SignIns => {
                let count = sign_ins(stage.conn_addresses()[0], &stage.data(), flood_per_s, BURST);
                return came(count, flood_per_s, "forged sign-ins");
            }
        };
        (what, true)
    }

    /// Brings back what was to stay away.
    pub(super) fn is_undone(self, stage: &mut Stage) {
        if self == Self::LogicGone {
            stage.servers[0].restart();
        }
    }

    /// How often it happens, each time after peace.
    pub(super) fn times(self) -> u32 {
        if self.is_flood() { BURSTS } else { 1 }
    }

    /// What it takes at the most, each time, until it is over.
    pub(super) fn takes(self) -> Duration {
        match self {
            Self::Kill | Self::LogicGone | Self::Storm => Duration::from_secs(20),
            Self::OneWay => LASTS + Duration::from_secs(5),
            Self::Rolling => Duration::from_secs(90),
            Self::Connections | Self::SignIns => BURST + Duration::from_secs(2),
            Self::StoreStands => STANDS + Duration::from_secs(5),
        }
    }

    /// For how long there is peace before: [`PEACE`], after what is left of the burst before.
    pub(super) fn is_after_peace(self) -> Duration {
        if self.is_flood() { BETWEEN_BURSTS } else { PEACE }
    }

    /// For how long it is looked at afterwards: as long as it may be felt, and it has to stay well.
    pub(super) fn is_watched(self) -> Duration {
        Duration::from_secs(if self == Self::StoreStands { 140 } else { 50 })
    }

    /// Whether it is a load that links are to feel little of, and no fault that they are to recover from.
    pub(super) fn is_flood(self) -> bool {
        matches!(self, Self::Connections | Self::SignIns)
    }
}

/// So many of a flood, and whether they are nearly as many as they should be.
fn came(count: u64, per_s: u32, of_what: &str) -> (String, bool) {
    let came = count / BURST.as_secs();
    let what = format!("{came} {of_what} a second, {BURSTS} times for {} s", BURST.as_secs());
    (what, came * 10 >= u64::from(per_s) * 9)
}

/// Whether it did.
fn store_stands(stage: &mut Stage) -> bool {
    if matches!(stage.storage, Storage::Embedded) {
        let injection = Injection::slow_syncs(stage.servers[0].process().id(), STANDS);
        // The call that it began with has ended by then, and is seen.
        sleep(STANDS + Duration::from_secs(1));
        return injection.end() > 0;
    }
    let nodes = stage.pids("node");
    nodes.iter().for_each(|node| signal(*node, libc::SIGSTOP));
    sleep(STANDS);
    nodes.iter().for_each(|node| signal(*node, libc::SIGCONT));
    true
}
