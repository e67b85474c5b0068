//! Every setting there is: key, kind, built-in value, and what it is for. The one place that documents
//! them; `config default`, `config show`, the nearest name of a misspelt key, all read it here.

use super::value::{Kind, Parsed};

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// `section.name`; units last.
    pub(crate) key: &'static str,
    /// What it may hold.
    pub(crate) kind: Kind,
    /// The built-in value, as an environment variable would give it.
    pub(crate) default: &'static str,
    /// What it is, and its unit.
    pub(crate) doc: &'static str,
    /// What breaks where it is set badly: too small, too large, or wrong.
    pub(crate) breaks: &'static str,
}

impl Setting {
    /// The built-in value.
    pub(crate) fn built_in(&self) -> Parsed {
        self.kind.read_text(self.default).expect("a test reads every built-in value")
    }
}

const fn setting(
    key: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
    breaks: &'static str,
) -> Setting {
    Setting { key, kind, default, doc, breaks }
}

const fn number(min: u64, max: u64) -> Kind {
    Kind::Number { min, max }
}

const HOUR_MS: u64 = 3600 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// The roles a process can have.
pub(crate) const ROLES: &[&str] = &["conn", "logic", "api"];

/// All of them, section by section.
pub(crate) const SETTINGS: &[Setting] = &[
    setting(
        "node.name",
        Kind::Text,
        "godwit",
        "The name of this process among its peers, 1 to 64 bytes. It keeps it over restarts.",
        "Two processes of one name close each other's links in turn. A new name at every start leaves the \
         sessions of the old one to be declared down after a minute.",
    ),
    setting(
        "node.roles",
        Kind::Choices(ROLES),
        "conn,logic,api",
        "What this process does: conn holds links, logic owns partitions, api answers queries.",
        "A deployment without one of the roles does not work; on embedded storage one process has all.",
    ),
    setting(
        "node.data",
        Kind::Text,
        "./godwit-data",
        "The data directory: embedded storage, and the key of development mode.",
        "Another directory is another deployment: its messages are not this one's.",
    ),
    setting(
        "node.listen",
        Kind::Listen,
        "127.0.0.1:7120",
        "Where the conn role takes push streams from logic processes. Not opened on embedded storage.",
        "Whoever reaches it can push to every device. It has no authentication.",
    ),
    setting(
        "node.address",
        Kind::Text,
        "",
        "host:port under which other processes reach node.listen; empty for node.listen itself.",
        "Wrong: no pushes and no sync for the links of this process, and its /readyz says so.",
    ),
    setting(
        "node.insecure",
        Kind::Bool,
        "false",
        "Whether node.listen and api.listen may be bound to other than loopback addresses, without \
         authentication or encryption.",
        "true on a network that others reach: anybody there can read and push as any user.",
    ),
    setting(
        "conn.listen",
        Kind::Listen,
        "127.0.0.1:7100",
        "Where devices connect (TCP). Opened by the conn role.",
        "On loopback only devices of this machine connect.",
    ),
    setting(
        "conn.reactors",
        number(0, 256),
        "0",
        "Reactors, each a thread with its own listener. 0: one per core.",
        "More than cores gain nothing; fewer leave cores idle.",
    ),
    setting(
        "conn.links_max",
        number(1, 16_777_216),
        "1000000",
        "Links of the process.",
        "Too small turns devices away; too large lets memory and descriptors decide instead.",
    ),
    setting(
        "conn.unauthenticated_per_address_max",
        number(1, u32::MAX as u64),
        "4096",
        "Links of one address, or IPv6 network (/64), per reactor, that are not signed in.",
        "Too small turns away what is behind one large NAT after a restart; too large lets one address use up the descriptors.",
    ),
    setting(
        "conn.unauthenticated_timeout_ms",
        number(1, HOUR_MS),
        "10000",
        "From accept to a verified token, in milliseconds.",
        "Too small fails slow mobile links; too large lets silent links hold descriptors.",
    ),
    setting(
        "conn.sign_in_timeout_ms",
        number(1, HOUR_MS),
        "30000",
        "From accept to the confirmed session, in milliseconds.",
        "Too small: a takeover of a partition closes links that wait for their result. Too large: devices wait for an owner that is not there.",
    ),
    setting(
        "conn.heartbeat_min_ms",
        number(1000, HOUR_MS),
        "20000",
        "The shortest heartbeat that devices are told, in milliseconds.",
        "Shorter costs battery.",
    ),
    setting(
        "conn.heartbeat_max_ms",
        number(1000, HOUR_MS),
        "25000",
        "The longest heartbeat that devices are told, in milliseconds.",
        "Longer finds half-open links later.",
    ),
    setting(
        "conn.idle_timeout_ms",
        number(1000, DAY_MS),
        "54000",
        "Silence after which a link is closed, in milliseconds: above twice the longest heartbeat.",
        "Too small closes links that live; more than twice the longest heartbeat and 4 s finds half-open ones later than promised (G13).",
    ),
    setting(
        "conn.write_stall_timeout_ms",
        number(1, HOUR_MS),
        "15000",
        "How long a device may not read while something waits for it, in milliseconds.",
        "Too small closes links that change cells; too large keeps what waits for dead ones.",
    ),
    setting(
        "conn.linger_ms",
        number(0, 60_000),
        "1000",
        "How long a closed link may take to read its last frames, in milliseconds.",
        "Too small loses the reason of the close; too large keeps descriptors.",
    ),
    setting(
        "conn.frames_per_s",
        number(1, 1_000_000),
        "1000",
        "Frames per second of one link, over time. A frame over 4 KiB counts once more for each 4 KiB.",
        "Too small slows honest bursts down; too large lets one link use a reactor up.",
    ),
    setting(
        "conn.frames_burst",
        number(1, 1_000_000),
        "2000",
        "Frames that a link may send at once; at twice that it is closed.",
        "Too small closes devices that catch up; too large lets one link use a reactor up.",
    ),
    setting(
        "conn.calls_max",
        number(1, 255),
        "8",
        "Queries of one link under way.",
        "Too small makes an app's start slow; too large lets one link fill the queue of queries.",
    ),
    setting(
        "conn.verify_threads",
        number(0, 256),
        "0",
        "Threads that check tokens. 0: half of the cores.",
        "Too few: sign-ins wait. More delays the reactors under a flood.",
    ),
    setting(
        "conn.verify_queue_max",
        number(1, 1_000_000),
        "4096",
        "Tokens waiting for a check.",
        "Too small turns sign-ins away in a reconnect storm; too large makes them time out that could have been turned away at once.",
    ),
    setting(
        "conn.outbox_high_bytes",
        number(1024, GIB),
        "65536",
        "Bytes waiting for a link above which it is not read and gets no pushes, but a hint later.",
        "Too small: slow links sync all the time. Too large: memory.",
    ),
    setting(
        "conn.outbox_bytes_max",
        number(1024, GIB),
        "2097152",
        "Bytes waiting for a link at which it is closed; a page of sync fits above conn.outbox_high_bytes.",
        "Too small closes links that sync; too large is memory of slow ones.",
    ),
    setting(
        "conn.buffered_bytes_max",
        number(1024, TIB),
        "268435456",
        "Bytes waiting for and from all links of a reactor.",
        "Too small closes slow links under load; too large is memory: it is one of the three caps of a reactor.",
    ),
    setting(
        "conn.mailbox_max",
        number(1, 100_000_000),
        "65536",
        "Pushes on their way to a reactor.",
        "Too small: links are hinted and sync instead. Too large: memory, and old pushes.",
    ),
    setting(
        "conn.mailbox_bytes_max",
        number(1024, TIB),
        "67108864",
        "Bytes of the pushes on their way to a reactor.",
        "As conn.mailbox_max.",
    ),
    setting(
        "conn.appends_max",
        number(1, 100_000_000),
        "65536",
        "Records of the process that are appended and not reported.",
        "Too small limits the rate to this many per round trip of the log; too large makes a slow log a long queue.",
    ),
    setting(
        "conn.cursors_every_ms",
        number(1, HOUR_MS),
        "10000",
        "How often a reactor appends what devices acknowledged, in milliseconds.",
        "More often writes more records; less often syncs more again after a crash.",
    ),
    setting(
        "conn.drain_within_ms",
        number(0, HOUR_MS),
        "5000",
        "How long devices are given to leave a node that drains, in milliseconds.",
        "Too small makes a reconnect storm of it; too large makes a restart slow.",
    ),
    setting(
        "conn.drain_timeout_ms",
        number(1, HOUR_MS),
        "15000",
        "When a drain ends, whatever still waits, in milliseconds from its beginning.",
        "Too small: devices reconnect at once instead of spread out. Too large: the platform kills the process before it is done.",
    ),
    setting(
        "logic.batch_records_max",
        number(1, 1_000_000),
        "1024",
        "Records read at once, per partition.",
        "Small: more turns per record. Large: memory, and a longer wait for those at the front of a batch.",
    ),
    setting(
        "logic.batch_bytes_max",
        number(1, GIB),
        "4194304",
        "Bytes that the records read at once should not exceed, per partition.",
        "As logic.batch_records_max.",
    ),
    setting(
        "logic.staged_records_max",
        number(1, 100_000_000),
        "16384",
        "Records judged whose effects are not stored and reported yet, per partition.",
        "Small: the store's latency bounds the rate. Large: memory, and more to do again after a restart.",
    ),
    setting(
        "logic.staged_bytes_max",
        number(1, TIB),
        "16777216",
        "Bytes of effects that are not stored yet, per partition.",
        "As logic.staged_records_max.",
    ),
    setting(
        "logic.producer_records_max",
        number(1, 100_000_000),
        "65536",
        "Outputs in a producer's queue, per partition.",
        "Small: bursts wait for the log. Large: memory while the log is slow.",
    ),
    setting(
        "logic.cache_bytes_max",
        number(1, TIB),
        "67108864",
        "Bytes of conversations, or of users, kept in memory, per partition.",
        "Small: every batch waits for the store. Large: memory times partitions; see `godwit config memory`.",
    ),
    setting(
        "logic.flush_every_ms",
        number(1, HOUR_MS),
        "1000",
        "Time between flushes of changed conversations, in milliseconds.",
        "Small: more writes. Large: more to do again after a restart, and queries that lag further behind.",
    ),
    setting(
        "logic.flush_users_every_ms",
        number(1, HOUR_MS),
        "5000",
        "Time between flushes of changed users, in milliseconds.",
        "Small: more writes. Large: more to do again after a restart, and memory for those that changed.",
    ),
    setting(
        "logic.chores_every_ms",
        number(1, HOUR_MS),
        "30000",
        "Time between trims of the log and looks at the lag, in milliseconds.",
        "Small: needless work. Large: a longer log on disk, and a lag seen late.",
    ),
    setting(
        "logic.reclaim_after_ms",
        number(1, HOUR_MS),
        "10000",
        "Pause before a partition that was taken over, but is still assigned here, is claimed again, in milliseconds.",
        "Small: two processes that disagree take a partition from each other all the time. Large: a partition without an owner for that long after a false alarm.",
    ),
    setting(
        "logic.stop_within_ms",
        number(1, HOUR_MS),
        "10000",
        "How long a run may take to write what it has when it is stopped, in milliseconds.",
        "Small: more to do again after a restart. Large: the platform kills the process before it is done.",
    ),
    setting(
        "logic.stream_frames_max",
        number(1, 100_000_000),
        "8192",
        "Frames waiting for one stream (a conn process and a partition).",
        "Small: bursts end in hints and syncs. Large: memory while a conn process is slow.",
    ),
    setting(
        "logic.stream_bytes_max",
        number(1, TIB),
        "8388608",
        "Bytes of the pushes waiting for one stream.",
        "As logic.stream_frames_max; at least one frame.",
    ),
    setting(
        "logic.stream_marks_max",
        number(1, 100_000_000),
        "4096",
        "Links of one stream that miss a push, before the stream is begun anew.",
        "Small: streams are begun anew in overload. Large: memory.",
    ),
    setting(
        "logic.syncs_waiting_max",
        number(1, 1_000_000),
        "1024",
        "Syncs that wait for their turn, per partition; one more is answered BUSY.",
        "Small: devices back off after a reconnect storm. Large: they wait for answers they gave up on.",
    ),
    setting(
        "logic.sync_pages_max",
        number(1, 100_000),
        "64",
        "Pages of sync at work in the whole process; each is up to 512 KiB.",
        "Small: syncs wait for the store one by one. Large: memory.",
    ),
    setting(
        "storage.log",
        Kind::Text,
        "embedded",
        "The logs: `embedded` (in node.data), `embedded:DIR`, or `kafka://HOST:PORT[,HOST:PORT…][/PREFIX]`.",
        "Log and store are both embedded, in one directory, or both remote.",
    ),
    setting(
        "storage.store",
        Kind::Text,
        "embedded",
        "The tables: `embedded` (in node.data), `embedded:DIR`, or `scylla://HOST:PORT[,HOST:PORT…]/KEYSPACE`.",
        "Log and store are both embedded, in one directory, or both remote.",
    ),
    setting(
        "storage.messages_partitions",
        number(1, 4096),
        "16",
        "Partitions of the messages log. Used when the data is created, and then frozen.",
        "Too small: a limit on how many processes share the conversations. Too large: idle partitions cost \
         memory and a checkpoint each. Another number than the data's: start-up refuses it.",
    ),
    setting(
        "storage.timelines_partitions",
        number(1, 4096),
        "16",
        "Partitions of the timelines log. Used when the data is created, and then frozen.",
        "As storage.messages_partitions; each also costs a stream to every conn process.",
    ),
    setting(
        "embedded.cache_bytes",
        number(1_048_576, TIB),
        "16777216",
        "Bytes of blocks read from disk that stay in memory.",
        "Too small: cold users and old history cost a read each.",
    ),
    setting(
        "embedded.memtable_bytes",
        number(1_048_576, TIB),
        "16777216",
        "Bytes of recent writes that each of the three keyspaces collects in memory; up to six times that while the disk is slow. Larger tables follow from it where data is created.",
        "Too small: more compaction. Too large: memory, and a longer recovery.",
    ),
    setting(
        "embedded.tail_bytes",
        number(1_048_576, TIB),
        "8388608",
        "Bytes of recent records, over all partitions, that stages find without the disk.",
        "Too small: stages that fall behind a little read from disk.",
    ),
    setting(
        "embedded.mailbox_items",
        number(1024, 100_000_000),
        "65536",
        "Work that waits for the writer.",
        "Too small: refusals in bursts. Too large: memory while the disk is slow.",
    ),
    setting(
        "embedded.mailbox_bytes",
        number(1_048_576, TIB),
        "16777216",
        "The same in bytes; as much again is being written.",
        "As embedded.mailbox_items.",
    ),
    setting(
        "embedded.producer_bytes",
        number(1_048_576, TIB),
        "8388608",
        "Bytes that one producer may have queued and not reported.",
        "Too small: sends are not read in bursts. Too large: memory while the disk is slow.",
    ),
    setting(
        "embedded.reserve_bytes",
        number(16_777_216, TIB),
        "268435456",
        "Free bytes of the file system below which everything that needs room is refused.",
        "Too small: the data is closed, and opened again once there is room, instead of refusing sends alone.",
    ),
    setting(
        "api.listen",
        Kind::Listen,
        "127.0.0.1:7110",
        "Where the api role answers queries that conn processes pass on. Not opened on embedded storage.",
        "Whoever reaches it can ask as any user. It has no authentication.",
    ),
    setting(
        "api.address",
        Kind::Text,
        "",
        "host:port under which conn processes reach api.listen; empty for api.listen itself.",
        "Wrong: queries of devices end in UNAVAILABLE.",
    ),
    setting(
        "api.queries_max",
        number(2, 65_536),
        "64",
        "Queries at work at the same time; one more is answered BUSY. Each may read 2 MiB.",
        "Too small: devices ask again in bursts. Too large: memory, and syncs that wait behind them.",
    ),
    setting(
        "ops.listen",
        Kind::Listen,
        "127.0.0.1:7190",
        "Where /livez, /readyz, /startupz and /metrics are answered.",
        "On a public address: figures about the deployment for everybody, but no user's data.",
    ),
    setting(
        "logs.level",
        Kind::Text,
        crate::logs::LEVEL_AUTO,
        "What is logged: error, warn, info, debug, trace, or directives such as `info,conn=debug`. auto: on a \
         terminal warnings and what serve itself does, otherwise info. RUST_LOG goes before it.",
        "Too low: nothing to go by at night. Too high: logging costs more than the work.",
    ),
    setting(
        "logs.format",
        Kind::Choice(&["auto", "json", "human"]),
        "auto",
        "json: one object a line. human: for reading. auto: human on a terminal, json otherwise.",
        "human where a collector reads: lines that it cannot parse.",
    ),
    setting(
        "auth.jwks_file",
        Kind::Text,
        "",
        "A JWKS file with the keys that tokens are verified with. Empty: development mode.",
        "A wrong key: every device is told BAD_TOKEN.",
    ),
    setting(
        "auth.algorithm",
        Kind::Choice(&[
            "EdDSA", "ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "HS256",
            "HS384", "HS512",
        ]),
        "EdDSA",
        "The one algorithm that tokens may be signed with.",
        "Another one than the issuer's: every device is told BAD_TOKEN. HS*: whoever can verify can sign.",
    ),
    setting(
        "auth.issuer",
        Kind::Text,
        "",
        "What a token's `iss` has to be. Needed with auth.jwks_file.",
        "Wrong: every device is told BAD_TOKEN.",
    ),
    setting(
        "auth.audience",
        Kind::Text,
        "",
        "What a token's `aud` has to name. Needed with auth.jwks_file.",
        "Wrong: every device is told BAD_TOKEN. Shared with another service: its tokens sign in here.",
    ),
    setting(
        "development.allowed",
        Kind::Bool,
        "true",
        "Whether to start in development mode (a generated key under node.data, loopback only) where \
         auth.jwks_file is empty.",
        "true in production: a lost auth.jwks_file setting starts a server that knows none of your users' \
         tokens, though only on loopback.",
    ),
    setting(
        "policy.version",
        number(0, u64::MAX),
        "0",
        "Raise it with every change in this section: the settings in force are records in the log, and \
         only a higher version replaces them. 0 leaves what the log says.",
        "Not raised: the change is ignored. Raised on one process only: that one decides for all.",
    ),
    setting(
        "policy.group_members_max",
        number(2, proto::limits::GROUP_MEMBERS_MAX as u64),
        "500",
        "Members of a group.",
        "Too small: GROUP_FULL for real groups. Too large: one message costs one entry for each of them.",
    ),
    setting(
        "policy.devices",
        Kind::Choice(&["all", "one_per_class", "one"]),
        "all",
        "How many devices of a user may be signed in: all of them, one of each class, one.",
        "one: a phone signs the desktop off.",
    ),
    setting(
        "policy.oldest_stays",
        Kind::Bool,
        "false",
        "Whether the device that is signed in stays where policy.devices allows one more than there may be.",
        "true: a lost phone keeps its successor out until its link is found dead.",
    ),
    setting(
        "policy.devices_per_user_max",
        number(1, proto::limits::DEVICES_PER_USER_MAX as u64),
        "32",
        "Devices of a user whose cursors are remembered.",
        "Too small: devices that take turns begin from the user's best cursor again.",
    ),
];

/// The setting of this key.
pub(crate) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// Whether settings have this section.
pub(crate) fn is_section(name: &str) -> bool {
    SETTINGS.iter().any(|setting| section(setting.key) == name)
}

/// The section of a key.
pub(crate) fn section(key: &str) -> &str {
    key.split_once('.').map_or(key, |(section, _)| section)
}

/// A key without its section.
pub(crate) fn name(key: &str) -> &str {
    key.split_once('.').map_or(key, |(_, name)| name)
}

/// The environment variable of a key.
pub(crate) fn variable(key: &str) -> String {
    format!("{}{}", super::layers::VARIABLE_PREFIX, key.replace('.', "__").to_ascii_uppercase())
}

/// The key that was probably meant: near as a whole, or the right name in the wrong section.
pub(crate) fn nearest(key: &str) -> Option<&'static str> {
    const NEAR: f64 = 0.85;
    let likeness = |known: &str| {
        let whole = strsim::jaro_winkler(known, key);
        let part = strsim::jaro_winkler(name(known), name(key)) - 0.05;
        whole.max(part)
    };
    let best = SETTINGS.iter().map(|s| (likeness(s.key), s.key)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= NEAR).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_value_is_valid_and_every_key_is_said_once() {
        for (i, setting) in SETTINGS.iter().enumerate() {
            setting.built_in();
            assert!(setting.key.split('.').count() == 2, "{}", setting.key);
            assert!(!setting.doc.is_empty() && !setting.breaks.is_empty(), "{}", setting.key);
            assert!(SETTINGS[i + 1..].iter().all(|other| other.key != setting.key), "{}", setting.key);
        }
    }

    #[test]
    fn misspelt_keys_have_a_nearest_name() {
        assert_eq!(nearest("node.nmae"), Some("node.name"));
        assert_eq!(nearest("nodes.name"), Some("node.name"));
        assert_eq!(nearest("auth.group_members_max"), Some("policy.group_members_max"));
        assert_eq!(nearest("zzz.qqq"), None);
    }
}
