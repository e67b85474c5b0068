//! Faults of the network, as rules of nftables on loopback for one port. Gone when dropped.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::left_out::can;

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
    /// Cuts ports off.
    fn cut(addresses: &[SocketAddr], cut: Cut) -> Self {
        let rules = addresses.iter().map(|address| {
            let (ip, port) = (address.ip(), address.port());
            let into = format!("ip daddr {ip} tcp dport {port} counter");
            let out = format!("ip saddr {ip} tcp sport {port} counter");
            match cut {
                Cut::In => format!("{into} drop;"),
                Cut::Out => format!("{out} drop;"),
                Cut::Both => format!("{into} drop; {out} drop;"),
                Cut::Reset => format!("{into} reject with tcp reset;"),
            }
        });
        Self::of(&rules.collect::<String>())
    }

    /// Packets that the rules of [`Rules::cut`] were applied to.
    fn packets(&self) -> u64 {
        let list = Command::new("nft").args(["list", "table", "ip", &self.0]).output().unwrap();
        let text = String::from_utf8(list.stdout).unwrap();
        let counts = text.split("counter packets ").skip(1).filter_map(|rest| rest.split_once(' '));
        counts.map(|(count, _)| count.parse::<u64>().unwrap()).sum()
    }

    /// Drops what comes to a server from ports of clients, and what goes from it to some.
    ///
    /// # Panics
    /// Rules are not allowed here; see [`may_drop_packets`].
    #[must_use]
    pub fn drop_ports(server: SocketAddr, from: &[u16], to: &[u16]) -> Self {
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

/// Cuts ports off for a time: how many packets felt it.
pub(crate) fn cut(addresses: &[SocketAddr], how: Cut, lasts: Duration) -> u64 {
    let rules = Rules::cut(addresses, how);
    sleep(lasts);
    rules.packets()
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
/// They may not, where nothing may be left out.
#[must_use]
pub fn may_drop_packets(what: &str) -> bool {
    let mut list = Command::new("nft");
    let status = list.args(["list", "tables"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    can(what, status.is_ok_and(|s| s.success()), "there is no nft, or firewall rules are not allowed here")
}
