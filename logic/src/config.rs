//! The settings of the stages' shells. What changes a verdict is not here but in [`v1::Settings`], which
//! becomes a record of the log.

use std::time::Duration;

use proto::limits::{DEVICES_PER_USER_MAX, GROUP_MEMBERS_MAX, SERVER_FRAME_BYTES_MAX};
use proto::v1;

/// How the shells of both stages work. All of it may differ between nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// This node's name, as it is in the node table. No default.
    pub node: String,
    /// Records read at once, per partition. 1024. Small: more turns per record; large: more memory and a
    /// longer wait for those at the front of a batch.
    pub batch_records_max: usize,
    /// Bytes that the records read at once should not exceed, per partition. 4 MiB.
    pub batch_bytes_max: usize,
    /// Records judged whose effects are not stored and reported yet, per partition. 16384. Small: the
    /// store's latency bounds the rate; large: memory, and more to do again after a restart.
    pub staged_records_max: usize,
    /// Bytes of effects that are not stored yet, per partition. 16 MiB.
    pub staged_bytes_max: usize,
    /// Outputs in a producer's queue, per partition. 65536.
    pub producer_records_max: usize,
    /// Bytes of conversations, and of users, kept in memory, per partition. 64 MiB. Small: every batch
    /// waits for the store.
    pub cache_bytes_max: usize,
    /// Time between flushes of changed conversations, in milliseconds. 1000. Small: more writes; large: more
    /// to do again after a restart, and queries that lag further behind.
    pub flush_every_ms: u64,
    /// Time between flushes of changed users, in milliseconds. 5000. No query reads their rows, so it may be
    /// longer: a user of whom much is heard is then written once for all of it.
    pub flush_users_every_ms: u64,
    /// Time between trims of the log and looks at the lag, in milliseconds. 30000.
    pub chores_every_ms: u64,
    /// Pause before a partition that was taken over, but is still assigned here, is claimed again, in
    /// milliseconds. 10000. Must be longer than the time in which processes learn of a new assignment.
    pub reclaim_after_ms: u64,
    /// How long a run may take to write what it has when it is stopped, in milliseconds. 10000.
    pub stop_within_ms: u64,
    /// Frames waiting for one stream (node and partition). 8192.
    pub stream_frames_max: usize,
    /// Bytes of the pushes among them. 8 MiB.
    pub stream_bytes_max: usize,
    /// Links of one stream that miss a push, before the stream is begun anew. 4096.
    pub stream_marks_max: usize,
    /// Syncs that wait for their turn, per partition; one more is answered BUSY. 1024.
    pub syncs_waiting_max: usize,
    /// Pages of sync at work in the whole process. 64. Each is up to 512 KiB.
    pub sync_pages_max: usize,
    /// What decides verdicts; appended to a partition's log where its version is above the one in force.
    pub settings: v1::Settings,
}

impl Config {
    /// The defaults, for a node of this name.
    #[must_use]
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            batch_records_max: 1024,
            batch_bytes_max: 4 << 20,
            staged_records_max: 16 * 1024,
            staged_bytes_max: 16 << 20,
            producer_records_max: 64 * 1024,
            cache_bytes_max: 64 << 20,
            flush_every_ms: 1000,
            flush_users_every_ms: 5000,
            chores_every_ms: 30_000,
            reclaim_after_ms: 10_000,
            stop_within_ms: 10_000,
            stream_frames_max: 8192,
            stream_bytes_max: 8 << 20,
            stream_marks_max: 4096,
            syncs_waiting_max: 1024,
            sync_pages_max: 64,
            settings: v1::Settings::default(),
        }
    }

    /// Everything that is wrong with it.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut check = |holds: bool, what: &str| {
            if !holds {
                mistakes.push(what.to_owned());
            }
        };
        check(!self.node.is_empty(), "node: a name is needed");
        check(self.batch_records_max > 0, "batch_records_max: at least 1");
        check(self.staged_records_max >= self.batch_records_max, "staged_records_max: at least a batch");
        check(self.producer_records_max > 0, "producer_records_max: at least 1");
        check(self.flush_every_ms > 0, "flush_every_ms: at least 1");
        check(self.flush_users_every_ms > 0, "flush_users_every_ms: at least 1");
        check(self.chores_every_ms > 0, "chores_every_ms: at least 1");
        check(self.stream_frames_max > 0, "stream_frames_max: at least 1");
        check(self.stream_bytes_max >= SERVER_FRAME_BYTES_MAX, "stream_bytes_max: at least one frame");
        check(self.syncs_waiting_max > 0, "syncs_waiting_max: at least 1");
        check(self.sync_pages_max > 0, "sync_pages_max: at least 1");
        let group = usize::try_from(self.settings.group_members_max).unwrap_or(usize::MAX);
        check(group <= GROUP_MEMBERS_MAX, "settings.group_members_max: over the limit of small groups");
        let devices = usize::try_from(self.settings.devices_per_user_max).unwrap_or(usize::MAX);
        check(devices <= DEVICES_PER_USER_MAX, "settings.devices_per_user_max: over the limit");
        mistakes
    }

    pub(crate) fn flush_every(&self) -> Duration {
        Duration::from_millis(self.flush_every_ms)
    }

    pub(crate) fn flush_users_every(&self) -> Duration {
        Duration::from_millis(self.flush_users_every_ms)
    }

    pub(crate) fn chores_every(&self) -> Duration {
        Duration::from_millis(self.chores_every_ms)
    }

    pub(crate) fn reclaim_after(&self) -> Duration {
        Duration::from_millis(self.reclaim_after_ms)
    }

    pub(crate) fn stop_within(&self) -> Duration {
        Duration::from_millis(self.stop_within_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_right_and_mistakes_come_together() {
        assert_eq!(Config::new("n1").mistakes(), Vec::<String>::new());
        let wrong = Config { batch_records_max: 0, sync_pages_max: 0, ..Config::new("") };
        assert_eq!(wrong.mistakes().len(), 3);
    }
}
