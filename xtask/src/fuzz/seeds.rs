//! What a search begins with beside what was learnt before: the golden vectors, as each target takes them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::tools::root;

/// Bytes of one piece in the scripts of `conn::check::link`.
const PIECE_BYTES_MAX: usize = 64;

/// Writes the vectors that a target takes into `dir`.
pub(super) fn write(target: &str, dir: &Path) -> Result<()> {
    let text = fs::read_to_string(root().join("proto/vectors/godwit.v1.json"))?;
    for (i, (kind, bytes)) in vectors(&text).enumerate() {
        if let Some(seed) = seed(target, kind, &bytes) {
            fs::write(dir.join(format!("vector-{i}")), seed).context("writing a seed")?;
        }
    }
    Ok(())
}

/// The type and the bytes of each vector; they stand on lines of their own.
fn vectors(text: &str) -> impl Iterator<Item = (&str, Vec<u8>)> {
    let mut bytes = Vec::new();
    text.lines().filter_map(move |line| {
        if let Some((_, hex)) = line.split_once("\"bytes\": \"") {
            bytes = unhex(hex.split('"').next()?);
        }
        let (_, kind) = line.split_once("\"type\": \"godwit.v1.")?;
        Some((kind.split('"').next()?, std::mem::take(&mut bytes)))
    })
}

fn unhex(hex: &str) -> Vec<u8> {
    let pair = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    (0..hex.len()).step_by(2).filter_map(pair).collect()
}

fn seed(target: &str, kind: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let letter = |letter: u8| delimited(&[&[letter], bytes].concat());
    match (target, kind) {
        ("client_frame", "ClientFrame")
        | ("server_frame", "ServerFrame")
        | ("records", "MessageRecord" | "TimelineRecord" | "NodeRecord") => Some(bytes.to_vec()),
        ("framing", _) => Some(delimited(bytes)),
        ("link", "ClientFrame") => Some(delimited(bytes).chunks(PIECE_BYTES_MAX).flat_map(piece).collect()),
        ("device", "ServerFrame") if bytes.len() <= usize::from(u8::MAX) => Some(piece(bytes)),
        ("stages", "MessageRecord") => Some(letter(0)),
        ("stages", "TimelineRecord") => Some(letter(1)),
        ("stages", "NodeRecord") => Some(letter(2)),
        _ => None,
    }
}

/// The first letter of the scripts: these bytes, their number in front.
fn piece(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    [&[0, length], bytes].concat()
}

/// With the length as a varint of two bytes, which is enough for a vector.
fn delimited(bytes: &[u8]) -> Vec<u8> {
    let [low, high] = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes();
    [&[low | 0x80, high << 1 | low >> 7], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_becomes_what_its_target_takes() {
        let text = "\"bytes\": \"0801\",\n\"delimited\": \"020801\",\n\"type\": \"godwit.v1.ClientFrame\"\n";
        let all: Vec<_> = vectors(text).collect();
        assert_eq!(all, [("ClientFrame", vec![8, 1])]);
        assert_eq!(seed("client_frame", "ClientFrame", &[8, 1]), Some(vec![8, 1]));
        assert_eq!(seed("link", "ClientFrame", &[8, 1]), Some(vec![0, 4, 0x82, 0, 8, 1]));
        assert_eq!(seed("records", "ClientFrame", &[8, 1]), None);
        assert_eq!(delimited(&[7; 300])[..2], [0xac, 0x02]);
    }
}
