//! What processes use: this one and others on the machine from /proc, servers anywhere from their
//! operations port.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result};

const TIMEOUT: Duration = Duration::from_secs(5);
/// Clock ticks a second in /proc/PID/stat: a constant of Linux's interface.
const TICK_US: u64 = 10_000;

/// What servers have used, all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// Processor time since their start, in seconds.
    pub(crate) cpu_s: f64,
    /// Memory, files included, in bytes.
    pub(crate) resident_bytes: f64,
    /// Memory, files left out, in bytes.
    pub(crate) anonymous_bytes: f64,
}

/// Processor time of this process in microseconds.
pub(crate) fn cpu_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    cpu_ticks(&stat).unwrap_or(0) * TICK_US
}

/// Asks every operations address, and adds up.
pub(crate) fn servers(addresses: &[String]) -> Result<Usage> {
    let mut sum = Usage::default();
    for address in addresses {
        let text = scrape(address).with_context(|| format!("no figures from {address}"))?;
        let figure = |name: &str| figure(&text, name).with_context(|| format!("{address} has no {name}"));
        sum.cpu_s += figure("process_cpu_seconds_total")?;
        sum.resident_bytes += figure("process_resident_memory_bytes")?;
        sum.anonymous_bytes += figure("godwit_process_rss_anon_bytes")?;
    }
    Ok(sum)
}

/// What a process of this machine uses.
pub(crate) fn process(pid: u32) -> Result<Usage> {
    let read =
        |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).context(format!("process {pid}"));
    let (stat, status) = (read("stat")?, read("status")?);
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kib| kib * 1024.0)
    };
    let ticks = u32::try_from(cpu_ticks(&stat).context("no processor time")?)?;
    Ok(Usage {
        cpu_s: f64::from(ticks) / 100.0,
        resident_bytes: bytes("VmRSS:").context("no VmRSS")?,
        anonymous_bytes: bytes("RssAnon:").context("no RssAnon")?,
    })
}

/// Fields 14 and 15, counted after the name in brackets, which may hold blanks.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(ticks()? + ticks()?)
}

fn scrape(address: &str) -> Result<String> {
    let to = address.to_socket_addrs()?.next().context("no such address")?;
    let mut stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The value of a figure without labels.
fn figure(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_whole_name() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# TYPE a counter\na_total 2.5\na 7\n";
        assert_eq!(
            (figure(text, "a"), figure(text, "a_total"), figure(text, "b")),
            (Some(7.0), Some(2.5), None)
        );
    }

    #[test]
    fn a_process_name_may_hold_brackets_and_blanks() {
        let stat = "7 (a ) b) S 1 1 1 0 -1 4 10 0 0 0 150 50 0 0";
        assert_eq!(cpu_ticks(stat), Some(200));
        assert!(process(std::process::id()).unwrap().anonymous_bytes > 0.0);
    }
}
