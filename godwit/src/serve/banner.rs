//! What `serve` prints once it is ready: where it listens, and what to type next.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;
use storage::log::Partitions;

use crate::settings::{Auth, Settings, Storage};
use crate::version;

/// Where chat looks when it is told nothing.
const DATA_DEFAULT: &str = "./godwit-data";
const LINKS_PORT_DEFAULT: u16 = 7100;

/// The addresses that are listened on, with the ports that the system chose. Also what `--ports-file`
/// holds.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Listening {
    /// Where devices connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) conn: Option<SocketAddr>,
    /// Where queries are passed on to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) api: Option<SocketAddr>,
    /// Where push streams are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<SocketAddr>,
    /// Health and metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ops: Option<SocketAddr>,
}

/// The whole text.
pub(super) fn text(settings: &Settings, partitions: Partitions, listening: &Listening) -> String {
    let mut out = format!("godwit {} is ready\n", version::SHORT);
    let lines = [
        (listening.conn, "devices (TCP)"),
        (listening.api, "queries between processes (gRPC)"),
        (listening.node, "push streams between processes (gRPC)"),
        (listening.ops, "operations (HTTP: /livez /readyz /startupz /metrics)"),
    ];
    for (address, what) in lines {
        if let Some(address) = address {
            let _ = writeln!(out, "  {address:<22} {what}");
        }
    }
    if let Storage::Embedded(dir) = &settings.storage {
        let _ = writeln!(out, "  data in {}", dir.display());
    }
    if settings.auth == Auth::Development {
        development(&mut out, settings, partitions, listening.conn);
    }
    out
}

fn development(out: &mut String, settings: &Settings, partitions: Partitions, conn: Option<SocketAddr>) {
    let Partitions { messages, timelines } = partitions;
    let _ = writeln!(
        out,
        "\n*** DEVELOPMENT MODE: anybody on this machine who reads {} can be any user. ***",
        client::development::find_key(&settings.node.data).display()
    );
    let _ =
        writeln!(out, "*** For others, set auth.jwks_file, auth.issuer and auth.audience.              ***");
    let _ = writeln!(out, "The data has {messages} messages and {timelines} timelines partitions, for good.");
    if let Some(address) = conn {
        let program = Started::detect(std::env::var_os("CARGO").is_some(), std::env::args().next());
        let chat = chat(&program, &settings.node.data, address);
        let _ = writeln!(out, "\nTwo people can talk now, each in a terminal of their own:");
        let _ = writeln!(out, "  {chat} --as ann --to bob");
        let _ = writeln!(out, "  {chat} --as bob --to ann");
    }
}

/// How this process was started, and so how another one of the same program is.
#[derive(Debug, PartialEq, Eq)]
enum Started {
    Cargo { release: bool },
    Path,
    File,
}

impl Started {
    fn detect(cargo: bool, typed: Option<String>) -> Self {
        match typed {
            _ if cargo => Self::Cargo { release: version::PROFILE == "release" },
            Some(typed) if !typed.contains('/') => Self::Path,
            _ => Self::File,
        }
    }
}

/// The command line of a chat that finds this server: it names what is not where chat looks by itself.
fn chat(started: &Started, data: &Path, address: SocketAddr) -> String {
    let absolute = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let by_default = std::path::absolute(DATA_DEFAULT).is_ok_and(|default| default == absolute);
    let mut line = match started {
        Started::Cargo { release: true } => "cargo run --release -- chat".to_owned(),
        Started::Cargo { release: false } => "cargo run -- chat".to_owned(),
        Started::Path => "godwit chat".to_owned(),
        Started::File => match std::env::current_exe() {
            Ok(file) => format!("{} chat", quoted(&file.display().to_string())),
            Err(_) => "godwit chat".to_owned(),
        },
    };
    // A terminal in the same checkout is in the same directory; any other may be anywhere.
    if !by_default || !matches!(started, Started::Cargo { .. }) {
        let _ = write!(line, " --data {}", quoted(&absolute.display().to_string()));
    }
    if address.port() != LINKS_PORT_DEFAULT || !address.ip().is_loopback() {
        let _ = write!(line, " --server {address}");
    }
    line
}

/// For a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_works_where_the_user_is() {
        let address = "127.0.0.1:7100".parse().unwrap();
        let cargo = Started::detect(true, Some("target/release/godwit".into()));
        assert!(matches!(cargo, Started::Cargo { .. }));
        assert_eq!(
            chat(&Started::Cargo { release: true }, Path::new("./godwit-data"), address),
            "cargo run --release -- chat"
        );
        assert_eq!(Started::detect(false, Some("godwit".into())), Started::Path);
        assert_eq!(
            chat(&Started::Path, Path::new("/d e"), "127.0.0.1:9".parse().unwrap()),
            "godwit chat --data '/d e' --server 127.0.0.1:9"
        );
        assert_eq!(Started::detect(false, Some("./godwit".into())), Started::File);
        assert!(chat(&Started::File, Path::new("/d"), address).starts_with('/'));
    }
}
