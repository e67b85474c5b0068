//! Faults of the network, as rules of nftables on loopback for one port. Gone when dropped.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// What happens to the packets of a port.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// Those to it are dropped.
    In,
    /// Those from it are dropped.
    Out,
    /// All are dropped.
    Both,
    /// Those to it are answered by a reset.
    Reset,
}

/// Rules in force. Gone when dropped.
pub struct Rules(String);

impl Rules {
    /// Cuts a port off.
    fn cut(address: std::net::SocketAddr, cut: Cut) -> Self {
        let (ip, port) = (address.ip(), address.port());
        let into = format!("ip daddr {ip} tcp dport {port}");
        let out = format!("ip saddr {ip} tcp sport {port}");
        let rules = match cut {
            Cut::In => format!("{into} drop;"),
            Cut::Out => format!("{out} drop;"),
            Cut::Both => format!("{into} drop; {out} drop;"),
            Cut::Reset => format!("{into} reject with tcp reset;"),
        };
        Self::of(&rules)
    }

    /// Drops what comes to a server from ports of clients, and what goes from it to some.
    ///
    /// # Panics
    /// Rules are not allowed here; see [`may_drop_packets`].
    #[must_use]
    pub fn drop_ports(server: std::net::SocketAddr, from: &[u16], to: &[u16]) -> Self {
        let set = |ports: &[u16]| ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        let (from, to, port) = (set(from), set(to), server.port());
        let (into, out) = (format!("tcp dport {port} tcp sport"), format!("tcp sport {port} tcp dport"));
        Self::of(&format!("{into} {{ {from} }} drop; {out} {{ {to} }} drop;"))
    }

    fn of(rules: &str) -> Self {
        let table = format!("godwit_campaign_{}", std::process::id());
        let chain = "type filter hook input priority 0; policy accept;";
        nft(&format!("table ip {table} {{\nchain input {{\n{chain} {rules}\n}}\n}}\n"));
        Self(table)
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        nft(&format!("delete table ip {}\n", self.0));
    }
}

/// Cuts a port off for a time.
pub(crate) fn cut(address: std::net::SocketAddr, how: Cut, lasts: Duration) {
    let _rules = Rules::cut(address, how);
    sleep(lasts);
}

fn nft(script: &str) {
    let mut command = Command::new("nft");
    let mut child = command.args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft is needed");
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "nft refuses {script}");
}

/// Whether packets may be dropped here; where not, it says what is left out.
///
/// # Panics
/// The program for it is missing where nothing may be left out.
#[must_use]
pub fn may_drop_packets(what: &str) -> bool {
    let mut list = Command::new("nft");
    let status = list.args(["list", "tables"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.is_ok() || std::env::var("CI").is_err(), "nft is missing: {what} cannot run");
    let may = status.is_ok_and(|status| status.success());
    if !may {
        println!("left out: {what}, because firewall rules are not allowed here");
    }
    may
}
