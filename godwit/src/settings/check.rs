//! From effective values to [`Settings`]: what each means, and what they mean together. Finds every
//! mistake, never stops at the first; the values it builds on top of a mistake are not used.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use proto::limits::ID_BYTES_MAX;

use crate::logs::LEVEL_AUTO;

use super::layers::{Effective, Mistake};
use super::reader::Reader;
use super::{Auth, Between, LogFormat, Logs, Node, Roles, Settings, Storage, parts};

const KAFKA: &str = "kafka://";
const CQL: &str = "scylla://";

/// Builds the settings and adds to `mistakes` what is wrong with them.
pub(crate) fn check(values: &BTreeMap<&'static str, Effective>, mistakes: &mut Vec<Mistake>) -> Settings {
    let mut read = Reader { values, mistakes };
    let policy = parts::policy(&read);
    let settings = Settings {
        node: read.node(),
        storage: read.storage(),
        partitions: parts::partitions(&read),
        embedded: parts::embedded(&read),
        conn: parts::conn(&mut read, &policy),
        logic: parts::logic(&mut read, &policy),
        api: read.between("api.listen", "api.address"),
        queries_max: read.size("api.queries_max"),
        ops_listen: read.listen("ops.listen"),
        logs: read.logs(),
        auth: read.auth(),
    };
    read.roles_fit_storage(&settings);
    read.name_is_own(&settings);
    read.peers_find(&settings);
    read.ports_differ(&settings);
    read.exposure(&settings);
    settings
}

impl Settings {
    /// Whether other processes can share log and store.
    pub(crate) fn is_remote(&self) -> bool {
        matches!(self.storage, Storage::Remote { .. })
    }

    /// The addresses that these settings open, with their keys: peers' ports only where there can be
    /// peers.
    pub(crate) fn listens(&self) -> Vec<(&'static str, SocketAddr)> {
        let remote = self.is_remote();
        let roles = self.node.roles;
        let all = [
            (roles.conn, "conn.listen", self.conn.listen),
            (roles.conn && remote, "node.listen", self.node.push.listen),
            (roles.api && remote, "api.listen", self.api.listen),
            (true, "ops.listen", self.ops_listen),
        ];
        all.into_iter().filter(|(open, ..)| *open).map(|(_, key, address)| (key, address)).collect()
    }
}

impl Reader<'_> {
    fn node(&mut self) -> Node {
        let name = self.text("node.name");
        if name.is_empty() || name.len() > ID_BYTES_MAX || name.chars().any(char::is_control) {
            self.mistake(
                "node.name",
                format!("is not valid; valid are 1 to {ID_BYTES_MAX} bytes without control characters"),
            );
        }
        Node {
            name,
            roles: self.roles(),
            data: PathBuf::from(self.text("node.data")),
            push: self.between("node.listen", "node.address"),
        }
    }

    fn roles(&self) -> Roles {
        let given = self.list("node.roles");
        let has = |role: &str| given.iter().any(|word| word == role);
        Roles { conn: has("conn"), logic: has("logic"), api: has("api") }
    }

    fn between(&mut self, listen_key: &'static str, address_key: &'static str) -> Between {
        let listen = self.listen(listen_key);
        let address = Some(self.text(address_key)).filter(|text| !text.is_empty());
        let valid = |text: &String| {
            text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if let Some(text) = address.as_ref().filter(|text| !valid(text)) {
            self.mistake(address_key, format!("{text:?} is not valid; valid is host:port"));
        }
        Between { listen, address }
    }

    fn storage(&mut self) -> Storage {
        let (log, store) = (self.text("storage.log"), self.text("storage.store"));
        let data = PathBuf::from(self.text("node.data"));
        let log_dir = self.embedded_dir("storage.log", &log, KAFKA, &data);
        let store_dir = self.embedded_dir("storage.store", &store, CQL, &data);
        match (log_dir, store_dir) {
            (Some(a), Some(b)) if a != b => self.mistake(
                "storage.store",
                format!("is embedded in {}, but the log in {}: give one directory", b.display(), a.display()),
            ),
            (Some(dir), Some(_)) => return Storage::Embedded(dir),
            (Some(_), None) => self.one_of_each("storage.log", "storage.store"),
            (None, Some(_)) => self.one_of_each("storage.store", "storage.log"),
            (None, None) => {
                self.place_is_valid("storage.log", &log, KAFKA, storage::kafka::check_url);
                self.place_is_valid("storage.store", &store, CQL, storage::cql::check_url);
            }
        }
        Storage::Remote { log, store }
    }

    /// What is wrong with a place that has the right scheme; where it has not, that is said already.
    fn place_is_valid(
        &mut self,
        key: &'static str,
        url: &str,
        scheme: &str,
        check: fn(&str) -> Result<(), String>,
    ) {
        if url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty())
            && let Err(error) = check(url)
        {
            self.mistake(key, format!("{:?} is not valid: {error}", super::show::masked(url)));
        }
    }

    fn one_of_each(&mut self, embedded: &'static str, remote: &'static str) {
        let place = self.place(remote);
        self.mistake(
            embedded,
            format!(
                "is embedded and {place} is remote; both are embedded in one directory, or both are remote"
            ),
        );
    }

    /// The directory, if it is embedded.
    fn embedded_dir(&mut self, key: &'static str, url: &str, scheme: &str, data: &Path) -> Option<PathBuf> {
        if url == "embedded" {
            return Some(data.to_owned());
        }
        if let Some(dir) = url.strip_prefix("embedded:").filter(|dir| !dir.is_empty()) {
            return Some(PathBuf::from(dir));
        }
        if url.strip_prefix(scheme).is_none_or(str::is_empty) {
            let name = if scheme == KAFKA { "[/PREFIX]" } else { "/KEYSPACE" };
            self.mistake(
                key,
                format!(
                    "{:?} is not valid; valid is embedded, embedded:DIR or {scheme}HOST:PORT[,HOST:PORT…]{name}",
                    super::show::masked(url)
                ),
            );
        }
        None
    }

    fn logs(&mut self) -> Logs {
        let level = self.text("logs.level");
        let read = level.parse::<tracing_subscriber::EnvFilter>();
        if let Some(error) = read.err().filter(|_| level != LEVEL_AUTO) {
            self.mistake(
                "logs.level",
                format!("{level:?} is not valid ({error}); valid is info, or info,conn=debug"),
            );
        }
        let format = match self.text("logs.format").as_str() {
            "json" => LogFormat::Json,
            "human" => LogFormat::Human,
            _ => LogFormat::Auto,
        };
        Logs { level, format }
    }

    fn auth(&mut self) -> Auth {
        let file = self.text("auth.jwks_file");
        let (issuer, audience) = (self.text("auth.issuer"), self.text("auth.audience"));
        for (key, text) in [("auth.issuer", &issuer), ("auth.audience", &audience)] {
            match (file.is_empty(), text.is_empty()) {
                (false, true) => self.mistake(key, "is needed with auth.jwks_file"),
                (true, false) => {
                    self.mistake(key, "does nothing without auth.jwks_file: give that too, or take this out");
                }
                _ => {}
            }
        }
        if !file.is_empty() {
            return Auth::Jwks {
                file: file.into(),
                algorithm: self.text("auth.algorithm"),
                issuer,
                audience,
            };
        }
        if !self.flag("development.allowed") {
            self.mistake("auth.jwks_file", "is needed, because development.allowed is false");
        }
        Auth::Development
    }

    fn roles_fit_storage(&mut self, settings: &Settings) {
        if matches!(settings.storage, Storage::Embedded(_)) && !settings.node.roles.all() {
            self.mistake(
                "node.roles",
                "embedded storage is one process's own, so that process has all roles: leave conn,logic,api, \
                 or give storage.log and storage.store that processes share",
            );
        }
    }

    fn name_is_own(&mut self, settings: &Settings) {
        if settings.is_remote() && !self.is_set("node.name") {
            self.mistake(
                "node.name",
                "is needed with remote storage: a name that no other process has and that stays over restarts",
            );
        }
    }

    /// Whether others know where the ports for them are, as far as they are opened.
    fn peers_find(&mut self, settings: &Settings) {
        for (key, listen) in settings.listens() {
            let (address_key, between) = match key {
                "node.listen" => ("node.address", &settings.node.push),
                "api.listen" => ("api.address", &settings.api),
                _ => continue,
            };
            if between.address.is_none() && listen.ip().is_unspecified() {
                self.mistake(
                    address_key,
                    format!("is needed, because nobody reaches {listen} by that name: give host:port"),
                );
            }
        }
    }

    fn ports_differ(&mut self, settings: &Settings) {
        let listens = settings.listens();
        for (i, (key, address)) in listens.iter().enumerate() {
            let taken = listens.iter().take(i).find(|(_, other)| other == address && address.port() != 0);
            if let Some((other, _)) = taken {
                self.mistake(key, format!("{address} is already {other}"));
            }
        }
    }

    /// What is reachable from other machines without being meant to.
    fn exposure(&mut self, settings: &Settings) {
        let insecure = self.flag("node.insecure");
        for (key, address) in settings.listens() {
            if address.ip().is_loopback() {
                continue;
            }
            if settings.auth == Auth::Development {
                self.mistake(
                    key,
                    format!(
                        "{address} is not a loopback address, and development mode listens on nothing else: set \
                         auth.jwks_file, auth.issuer and auth.audience, or listen on 127.0.0.1"
                    ),
                );
            } else if matches!(key, "node.listen" | "api.listen") && !insecure {
                self.mistake(
                    key,
                    format!(
                        "{address} is not a loopback address, and the ports between processes have neither \
                         authentication nor encryption: keep them on a network of their own and set \
                         node.insecure = true"
                    ),
                );
            }
        }
    }
}
