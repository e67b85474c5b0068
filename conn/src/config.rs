//! What a conn node can be told. Plain values, filled by whoever reads the settings.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::available_parallelism;

use proto::limits::{GROUP_MEMBERS_MAX, SERVER_FRAME_BYTES_MAX};

/// The settings of a conn node.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name, unique and lasting. No default that could be right: "conn".
    pub node: String,
    /// Where links are accepted. Default 127.0.0.1:7100. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Reactors, each a thread. Default: one per core. More than cores gain nothing.
    pub reactors: u32,
    /// Links of the process. Default 1,000,000. Too small turns devices away; too large lets memory
    /// decide instead.
    pub links_max: usize,
    /// Links of one address, or IPv6 network of 64 bits (by reactor), that are not signed in. Default 4,096.
    /// Too small turns away what is behind one large NAT after a restart; too large lets one address use up
    /// the descriptors.
    pub unauthenticated_per_address_max: u32,
    /// From accept to a verified token, in ms. Default 10,000. Too small fails slow mobile links; too
    /// large lets silent links hold descriptors.
    pub unauthenticated_timeout_ms: u64,
    /// From accept to the confirmed session, in ms. Default 30,000. Must be longer than the worst
    /// takeover of a partition, or takeovers close links that wait for their result.
    pub sign_in_timeout_ms: u64,
    /// The range of heartbeats that devices are told, in ms. Default 20,000 to 25,000. Shorter costs
    /// battery, longer finds half-open links later.
    pub heartbeat_min_ms: u32,
    /// See `heartbeat_min_ms`.
    pub heartbeat_max_ms: u32,
    /// Silence after which a link is closed, in ms. Default 54,000: twice the longest heartbeat, and 4 s, so that half-open
    /// links are found within twice the heartbeat and 5 s.
    /// Less than twice the heartbeat closes links that live.
    pub idle_timeout_ms: u64,
    /// How long a device may not read while something waits for it, in ms. Default 15,000. Too small
    /// closes links that change cells; too large keeps what waits for dead ones.
    pub write_stall_timeout_ms: u64,
    /// How long a closed link may take to read its last frames, in ms. Default 1,000. Too small loses
    /// the reason of the close; too large keeps descriptors.
    pub linger_ms: u64,
    /// Frames per second of one link, over time. Default 1,000. A frame over 4 KiB counts once more for
    /// each 4 KiB. Too small slows honest bursts down; too large lets one link use a reactor up.
    pub frames_per_s: u32,
    /// Frames that a link may send at once. Default 2,000. At twice that it is closed.
    pub frames_burst: u32,
    /// Calls of one link under way. Default 8.
    pub calls_max: u8,
    /// Members of a group as devices are told. Default 500; the stage judges by its own settings.
    pub group_members_max: u32,
    /// Threads that check tokens. Default: half of the cores. More delays the reactors under a flood.
    pub verify_threads: usize,
    /// Tokens waiting for a check. Default 4,096: a fifth of a second of one thread. Larger makes
    /// sign-ins time out that could have been turned away at once.
    pub verify_queue_max: usize,
    /// Bytes waiting for a link above which it is not read and gets no pushes. Default 64 KiB.
    pub outbox_high_bytes: usize,
    /// Bytes waiting for a link at which it is closed. Default 2 MiB; a page of sync must fit above
    /// `outbox_high_bytes`.
    pub outbox_bytes_max: usize,
    /// Bytes waiting for and from all links of a reactor. Default 256 MiB. From seven eighths of it on, links
    /// are closed that have had the most waiting for the longest; above it, also those with more than
    /// `outbox_high_bytes`, or half a frame.
    pub buffered_bytes_max: usize,
    /// Pushes on their way to a reactor. Default 65,536. Above it, links are marked and hinted later.
    pub mailbox_max: usize,
    /// Their bytes. Default 64 MiB.
    pub mailbox_bytes_max: usize,
    /// Records of the process that are appended and not reported. Default 65,536. Too small limits the
    /// rate to this many per round trip of the log; too large makes a slow log a long queue.
    pub appends_max: usize,
    /// How often a reactor appends what devices acknowledged, in ms. Default 10,000. More often writes
    /// more records; less often syncs more again after a crash.
    pub cursors_every_ms: u64,
    /// How long devices are given to leave a node that drains, in ms. Default 5,000. Too small makes a
    /// reconnect storm of it.
    pub drain_within_ms: u32,
    /// When a drain ends, whatever still waits, in ms from its beginning. Default 15,000.
    pub drain_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self {
            node: "conn".into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7100)),
            reactors: u32::try_from(cores).unwrap_or(1),
            links_max: 1_000_000,
            unauthenticated_per_address_max: 4_096,
            unauthenticated_timeout_ms: 10_000,
            sign_in_timeout_ms: 30_000,
            heartbeat_min_ms: 20_000,
            heartbeat_max_ms: 25_000,
            idle_timeout_ms: 54_000,
            write_stall_timeout_ms: 15_000,
            linger_ms: 1_000,
            frames_per_s: 1_000,
            frames_burst: 2_000,
            calls_max: 8,
            group_members_max: u32::try_from(GROUP_MEMBERS_MAX).unwrap_or(u32::MAX),
            verify_threads: cores.div_ceil(2),
            verify_queue_max: 4_096,
            outbox_high_bytes: 64 * 1024,
            outbox_bytes_max: 2 * 1024 * 1024,
            buffered_bytes_max: 256 * 1024 * 1024,
            mailbox_max: 65_536,
            mailbox_bytes_max: 64 * 1024 * 1024,
            appends_max: 65_536,
            cursors_every_ms: 10_000,
            drain_within_ms: 5_000,
            drain_timeout_ms: 15_000,
        }
    }
}

/// Reactors of a node, at the most: their number has one byte in the name of an append.
pub(crate) const REACTORS_MAX: u32 = 256;
/// Links of a reactor, at the most: their slot has 24 bits in a link's number.
pub(crate) const SLOTS_MAX: usize = 1 << 24;

impl Config {
    /// Every setting that cannot be, named and explained; empty when all is well.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let rules = [
            (self.node.is_empty(), "node is empty"),
            (self.reactors == 0 || self.reactors > REACTORS_MAX, "reactors is not between 1 and 256"),
            (self.links_max == 0 || self.links_max > SLOTS_MAX, "links_max is not between 1 and 16,777,216"),
            (self.unauthenticated_per_address_max == 0, "unauthenticated_per_address_max is 0"),
            (self.unauthenticated_timeout_ms == 0, "unauthenticated_timeout_ms is 0"),
            (
                self.sign_in_timeout_ms <= self.unauthenticated_timeout_ms,
                "sign_in_timeout_ms is not above unauthenticated_timeout_ms",
            ),
            (
                self.heartbeat_min_ms == 0 || self.heartbeat_min_ms > self.heartbeat_max_ms,
                "heartbeat_min_ms is not between 1 and heartbeat_max_ms",
            ),
            (
                self.idle_timeout_ms <= 2 * u64::from(self.heartbeat_max_ms),
                "idle_timeout_ms is not above twice heartbeat_max_ms",
            ),
            (self.write_stall_timeout_ms == 0, "write_stall_timeout_ms is 0"),
            (self.frames_per_s == 0 || self.frames_burst == 0, "frames_per_s or frames_burst is 0"),
            (self.calls_max == 0, "calls_max is 0"),
            (self.verify_threads == 0 || self.verify_queue_max == 0, "verify_threads or its queue is 0"),
            (
                self.outbox_bytes_max < self.outbox_high_bytes + SERVER_FRAME_BYTES_MAX,
                "outbox_bytes_max leaves no room for a page above outbox_high_bytes",
            ),
            (self.buffered_bytes_max < self.outbox_bytes_max, "buffered_bytes_max is below outbox_bytes_max"),
            (
                self.mailbox_max == 0 || self.mailbox_bytes_max < SERVER_FRAME_BYTES_MAX,
                "mailbox_max is 0, or mailbox_bytes_max below a frame",
            ),
            (self.appends_max < usize::try_from(self.reactors).unwrap_or(0), "appends_max is below reactors"),
            (self.cursors_every_ms == 0, "cursors_every_ms is 0"),
            (
                self.drain_timeout_ms <= u64::from(self.drain_within_ms),
                "drain_timeout_ms is not above drain_within_ms",
            ),
        ];
        rules.into_iter().filter(|(wrong, _)| *wrong).map(|(_, text)| text.into()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn the_defaults_are_right_and_mistakes_are_named_together() {
        assert!(Config::default().mistakes().is_empty());
        let wrong = Config { node: String::new(), idle_timeout_ms: 50_000, ..Config::default() };
        assert_eq!(wrong.mistakes().len(), 2);
    }
}
