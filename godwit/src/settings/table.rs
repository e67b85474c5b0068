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
        self.kind.from_text(self.default).expect("a test reads every built-in value")
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

const DAY_MS: u64 = 24 * 3600 * 1000;
const GIB: u64 = 1 << 30;

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
        "Wrong: no pushes and no sync for the links of this process, and /readyz of the logic ones says so.",
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
        "node.drain_ms",
        number(0, 600_000),
        "15000",
        "Milliseconds that a drain may take before the process stops all the same.",
        "Too small: devices reconnect at once instead of spread out. Too large: the platform kills the \
         process before it is done.",
    ),
    setting(
        "conn.listen",
        Kind::Listen,
        "127.0.0.1:7100",
        "Where devices connect (TCP). Opened by the conn role.",
        "On loopback only devices of this machine connect.",
    ),
    setting(
        "storage.log",
        Kind::Text,
        "embedded",
        "The logs: `embedded` (in node.data), `embedded:DIR`, or `kafka://HOST:PORT[,HOST:PORT…]`.",
        "Log and store are both embedded, in one directory, or both remote.",
    ),
    setting(
        "storage.store",
        Kind::Text,
        "embedded",
        "The tables: `embedded` (in node.data), `embedded:DIR`, or `scylla://HOST:PORT[,HOST:PORT…]`.",
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
        "ops.listen",
        Kind::Listen,
        "127.0.0.1:7190",
        "Where /livez, /readyz, /startupz and /metrics are answered.",
        "On a public address: figures about the deployment for everybody, but no user's data.",
    ),
    setting(
        "logs.level",
        Kind::Text,
        "info",
        "What is logged: error, warn, info, debug, trace, or directives such as `info,conn=debug`. RUST_LOG \
         goes before it.",
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

/// The environment variable of a key.
pub(crate) fn variable(key: &str) -> String {
    format!("{}{}", super::layers::VARIABLE_PREFIX, key.replace('.', "__").to_ascii_uppercase())
}

/// The key that was probably meant: near as a whole, or the right name in the wrong section.
pub(crate) fn nearest(key: &str) -> Option<&'static str> {
    const NEAR: f64 = 0.85;
    let name = |key: &str| key.rsplit_once('.').map_or_else(|| key.to_owned(), |(_, name)| name.to_owned());
    let likeness = |known: &str| {
        let whole = strsim::jaro_winkler(known, key);
        let part = strsim::jaro_winkler(&name(known), &name(key)) - 0.05;
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
