//! The kinds of faults.

use std::ops::Range;

use super::step::Step;
use crate::stage::Storage;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// A process is killed (-9) and started again.
    Kill,
    /// And killed again before it is ready.
    KillTwice,
    /// A process stands still (SIGSTOP), and goes on.
    Stop,
    /// A process is killed at a step, and started again.
    KillAt(Step),
    /// A process stands still at a step, and goes on.
    StopAt(Step),
    /// The clock of a process goes wrong by up to an hour, and right again.
    ClockShift,
    /// A process drains (SIGTERM) and is started again.
    Drain,
    /// What comes in at a port of a process is dropped.
    DropIn,
    /// What leaves from it is dropped.
    DropOut,
    /// Both are.
    DropBoth,
    /// What logic processes push to conn processes is dropped, what those answer arrives.
    StreamsIn,
    /// And the other way round.
    StreamsOut,
    /// Every connection to it is reset.
    Reset,
    /// A process has descriptors for half of its links, which all come again.
    Descriptors,
    /// Accepting fails for want of descriptors of the whole system (ENFILE), while connections are reset.
    AcceptFails,
    /// Waiting for events is interrupted (EINTR).
    WaitFails,
    /// Writing to sockets fails (ENOBUFS).
    WriteFails,
    /// An fsync fails (EIO): the process ends, and is started again.
    SyncFails,
    /// Every fsync takes its time.
    SlowSync,
    /// The disk is full.
    DiskFull,
    /// A broker is killed and started again.
    BrokerKill,
    /// A broker stands still.
    BrokerStop,
    /// A CQL node is killed and started again.
    NodeKill,
    /// A CQL node stands still.
    NodeStop,
    /// A broker cannot be reached.
    BrokerCut,
    /// A CQL node cannot be reached.
    NodeCut,
}

impl Fault {
    /// Those that a deployment on this storage can suffer.
    pub(super) fn all(storage: &Storage) -> Vec<Self> {
        use Fault as F;
        let both = [
            F::Kill,
            F::KillTwice,
            F::Stop,
            F::ClockShift,
            F::Drain,
            F::DropIn,
            F::DropOut,
            F::DropBoth,
            F::Reset,
            F::Descriptors,
            F::AcceptFails,
            F::WaitFails,
            F::WriteFails,
        ];
        let more: &[Self] = match storage {
            Storage::Embedded => &[F::SyncFails, F::SlowSync, F::DiskFull],
            Storage::Cluster { .. } => &[
                F::BrokerKill,
                F::BrokerStop,
                F::NodeKill,
                F::NodeStop,
                F::BrokerCut,
                F::NodeCut,
                F::StreamsIn,
                F::StreamsOut,
            ],
        };
        let steps = Step::all(storage).iter().flat_map(|step| [F::KillAt(*step), F::StopAt(*step)]);
        both.into_iter().chain(more.iter().copied()).chain(steps).collect()
    }

    /// How long it lasts, in milliseconds. Some of each are longer than those wait who would notice.
    pub(super) fn lasts_ms(self) -> Range<u64> {
        match self {
            Self::Kill | Self::KillTwice | Self::KillAt(_) | Self::Drain | Self::SyncFails => 0..1_000,
            Self::Stop | Self::StopAt(_) | Self::NodeStop => 100..10_000,
            // After nine seconds others lead.
            Self::BrokerStop => 100..16_000,
            Self::BrokerKill | Self::NodeKill | Self::BrokerCut | Self::NodeCut => 1_000..10_000,
            Self::StreamsIn | Self::StreamsOut => 500..10_000,
            Self::DiskFull => 1_000..4_000,
            Self::ClockShift => 2_000..8_000,
            // A server leaves a silent link after nine seconds, a device after eight at the most.
            Self::DropIn | Self::DropOut | Self::DropBoth => 200..14_000,
            Self::Descriptors => 5_000..15_000,
            _ => 200..3_000,
        }
    }
}
