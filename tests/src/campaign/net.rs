//! Faults of the network, as rules of nftables on loopback for one port. Gone when dropped.

use std::io::Write;
use std::process::{Command, Stdio};

/// What happens to the packets of a port.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    /// Those to it are dropped.
    In,
    /// Those from it are dropped.
    Out,
    /// All are dropped.
    Both,
    /// Those to it are answered by a reset.
    Reset,
}

/// Rules in force.
pub(super) struct Rules(String);

impl Rules {
    /// Cuts a port off.
    pub(super) fn cut(address: std::net::SocketAddr, cut: Cut) -> Self {
        let table = format!("godwit_campaign_{}", std::process::id());
        let (ip, port) = (address.ip(), address.port());
        let into = format!("ip daddr {ip} tcp dport {port}");
        let out = format!("ip saddr {ip} tcp sport {port}");
        let rules = match cut {
            Cut::In => format!("{into} drop;"),
            Cut::Out => format!("{out} drop;"),
            Cut::Both => format!("{into} drop; {out} drop;"),
            Cut::Reset => format!("{into} reject with tcp reset;"),
        };
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

fn nft(script: &str) {
    let mut command = Command::new("nft");
    let mut child = command.args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft is needed");
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "nft refuses {script}");
}
