//! What every session of a reactor goes by, and the names and records that follow from it.

use bytes::Bytes;
use prost::Message;
use proto::v1;
use storage::log::Partitions;

/// What is the same for every session of a reactor.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The node's name, as it stands in fences.
    pub node: String,
    /// The node's incarnation.
    pub incarnation: u64,
    /// The reactor's number within the node.
    pub reactor: u32,
    /// The partition counts of the logs.
    pub partitions: Partitions,
    /// From accept to a verified token, in ms.
    pub unauthenticated_ms: u64,
    /// From accept to the confirmed session, in ms.
    pub sign_in_ms: u64,
    /// Silence of a live link, in ms.
    pub idle_ms: u64,
    /// From a Sync to the owner's answer, in ms. Shorter than a device waits, or its next Sync is refused.
    pub sync_ms: u64,
    /// The range in which a device picks its heartbeat, in ms.
    pub heartbeat_ms: (u32, u32),
    /// The time that one frame of up to 4 KiB costs, in µs; larger ones cost more.
    pub frame_cost_us: u64,
    /// How far ahead of that rate a link may be, in µs.
    pub burst_us: u64,
    /// Calls of a link under way.
    pub calls_max: u8,
    /// Members of a group, as SignInResult tells devices.
    pub group_members_max: u32,
}

impl Rules {
    /// The fence of a link of this reactor.
    #[must_use]
    pub fn fence(&self, link: u64) -> v1::Fence {
        v1::Fence { node: self.node.clone(), incarnation: self.incarnation, reactor: self.reactor, link }
    }

    /// The record that ends a session of this reactor; `user` is empty where it is no longer known.
    #[must_use]
    pub fn session_end(&self, link: u64, user: &str) -> Bytes {
        let end = v1::SessionEnd { fence: Some(self.fence(link)), user: user.into() };
        timeline_record(v1::timeline_record::Record::SessionEnd(end))
    }
}

/// A record of the timelines log.
pub(super) fn timeline_record(record: v1::timeline_record::Record) -> Bytes {
    v1::TimelineRecord { record: Some(record) }.encode_to_vec().into()
}
