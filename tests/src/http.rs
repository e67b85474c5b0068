//! Just enough HTTP for the operations port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, UNIX_EPOCH};

/// The status and body of a GET; none where nobody answers.
#[must_use]
pub fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let (head, body) = ask(address, path)?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, body))
}

/// The time of day of a server, since the epoch; none where nobody answers.
pub(crate) fn time(address: SocketAddr) -> Option<Duration> {
    let (head, _) = ask(address, "/livez")?;
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let (_, date) = fields.find(|(name, _)| name.eq_ignore_ascii_case("date"))?;
    httpdate::parse_http_date(date).ok()?.duration_since(UNIX_EPOCH).ok()
}

/// The head and the body of an answer.
fn ask(address: SocketAddr, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: godwit\r\nconnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.to_owned(), body.to_owned()))
}
