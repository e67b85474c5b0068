//! The tables, and the statements on them. Every write carries its timestamp: the tick. One that did not would
//! outrank every later write of the log.
//!
//! Timelines and histories are cut into buckets of 4,096, so that no CQL partition grows without bound.
//!
//! Sessions are read only at a takeover, all of a log partition at once, and come and go with every reconnect.
//! A million of them over 64 log partitions are 16,000 each; tombstones would outnumber them. They are spread
//! over 16 CQL partitions each, and a tombstone is given up after ten minutes: a row that comes back by that
//! only names a session too many, which the next roster ends.

/// CQL partitions of the sessions of one log partition.
pub(super) const SESSION_SHARDS: i32 = 16;

/// Every table, without the keyspace.
pub(super) const TABLES: [&str; 7] = [
    "layout (id text, version int, messages int, timelines int, PRIMARY KEY (id, version, messages, timelines))",
    "conversations (conversation blob, kind tinyint, user_id text, device_id text, at bigint, value blob, \
     PRIMARY KEY (conversation, kind, user_id, device_id))",
    "histories (conversation blob, bucket bigint, no bigint, at bigint, entry blob, \
     PRIMARY KEY ((conversation, bucket), no))",
    "timelines (user_id text, bucket bigint, seq bigint, at bigint, value blob, \
     PRIMARY KEY ((user_id, bucket), seq))",
    "users (user_id text PRIMARY KEY, at bigint, value blob)",
    "sessions (log_partition int, shard int, node text, incarnation bigint, reactor int, link bigint, \
     user_id text, device_id text, PRIMARY KEY ((log_partition, shard), node, incarnation, reactor, link)) \
     WITH gc_grace_seconds = 600",
    "checkpoints (topic text, log_partition int, next_offset bigint, tick bigint, state blob, \
     PRIMARY KEY ((topic, log_partition)))",
];

/// Their names.
pub(super) fn table_names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().filter_map(|table| table.split(' ').next())
}

/// What stands for the keyspace in the statements. They name it themselves: with `USE`, a connection that is
/// made later would be without it for a moment.
pub(super) const KEYSPACE: &str = "KEYSPACE";

/// The head of a conversation: its user and device are empty.
pub(super) const HEAD: i8 = 0;
/// A member, present or former.
pub(super) const MEMBER: i8 = 1;
/// A sending device.
pub(super) const SENDER: i8 = 2;

pub(super) const READ_LAYOUT: &str =
    "SELECT version, messages, timelines FROM KEYSPACE.layout WHERE id = 'layout'";
pub(super) const WRITE_LAYOUT: &str = "INSERT INTO KEYSPACE.layout (id, version, messages, timelines) VALUES ('layout', ?, ?, ?) USING TIMESTAMP ?";

pub(super) const READ_CONVERSATION: &str =
    "SELECT kind, user_id, device_id, at, value FROM KEYSPACE.conversations WHERE conversation = ?";
pub(super) const READ_HEAD_AND_MEMBER: &str = "SELECT kind, at, value FROM KEYSPACE.conversations \
     WHERE conversation = ? AND (kind, user_id, device_id) IN ((?, ?, ?), (?, ?, ?))";
pub(super) const READ_MEMBERS: &str = "SELECT user_id, value FROM KEYSPACE.conversations \
     WHERE conversation = ? AND kind = ? AND user_id > ? LIMIT ?";
pub(super) const WRITE_PART: &str = "INSERT INTO KEYSPACE.conversations \
     (conversation, kind, user_id, device_id, at, value) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";

pub(super) const PAGE_FORWARD: &str = "SELECT no, at, entry FROM KEYSPACE.histories \
     WHERE conversation = ? AND bucket = ? AND no >= ? AND no <= ? LIMIT ?";
pub(super) const PAGE_BACKWARD: &str = "SELECT no, at, entry FROM KEYSPACE.histories \
     WHERE conversation = ? AND bucket = ? AND no >= ? AND no <= ? ORDER BY no DESC LIMIT ?";
pub(super) const WRITE_HISTORY: &str = "INSERT INTO KEYSPACE.histories (conversation, bucket, no, at, entry) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?";

pub(super) const READ_TIMELINE: &str =
    "SELECT seq, at, value FROM KEYSPACE.timelines WHERE user_id = ? AND bucket = ? AND seq > ? LIMIT ?";
pub(super) const WRITE_ENTRY: &str = "INSERT INTO KEYSPACE.timelines (user_id, bucket, seq, at, value) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?";

pub(super) const READ_USER: &str = "SELECT at, value FROM KEYSPACE.users WHERE user_id = ?";
pub(super) const WRITE_USER: &str =
    "INSERT INTO KEYSPACE.users (user_id, at, value) VALUES (?, ?, ?) USING TIMESTAMP ?";

pub(super) const READ_SESSIONS: &str = "SELECT node, incarnation, reactor, link, user_id, device_id \
     FROM KEYSPACE.sessions WHERE log_partition = ? AND shard = ?";
pub(super) const WRITE_SESSION: &str = "INSERT INTO KEYSPACE.sessions \
     (log_partition, shard, node, incarnation, reactor, link, user_id, device_id) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
pub(super) const DROP_SESSION: &str = "DELETE FROM KEYSPACE.sessions USING TIMESTAMP ? \
     WHERE log_partition = ? AND shard = ? AND node = ? AND incarnation = ? AND reactor = ? AND link = ?";

pub(super) const READ_CHECKPOINT: &str =
    "SELECT next_offset, tick, state FROM KEYSPACE.checkpoints WHERE topic = ? AND log_partition = ?";
pub(super) const WRITE_CHECKPOINT: &str = "INSERT INTO KEYSPACE.checkpoints \
     (topic, log_partition, next_offset, tick, state) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?";

#[cfg(test)]
mod tests {
    #[test]
    fn tables_have_their_names_first() {
        let names: Vec<_> = super::table_names().collect();
        let all = ["layout", "conversations", "histories", "timelines", "users", "sessions", "checkpoints"];
        assert_eq!(names, all);
    }

    #[test]
    fn every_statement_names_the_keyspace_and_every_write_its_timestamp() {
        let source = include_str!("schema.rs");
        let code = source.split("#[cfg(test)]").next().unwrap();
        let statements: Vec<&str> = code.split("pub(super) const ").skip(1).collect();
        let writes = statements.iter().filter(|s| s.contains("INSERT ") || s.contains("DELETE "));
        let writes: Vec<_> = writes.collect();
        assert_eq!(writes.len(), 8);
        for write in writes {
            assert!(write.contains("USING TIMESTAMP ?"), "{write}");
        }
        for statement in statements.iter().filter(|s| s.contains("FROM ") || s.contains("INTO ")) {
            assert_eq!(statement.matches("KEYSPACE.").count(), 1, "{statement}");
        }
        assert!(!code.contains("UPDATE ") && !code.contains(" IF "));
    }
}
