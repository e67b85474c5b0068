//! Where a CQL store is: `scylla://host[:port][,host[:port]…]/KEYSPACE`. Pure.

use crate::tables::StoreError;

const SCHEME: &str = "scylla://";
const PORT: u16 = 9042;
/// What CQL allows for the name of a keyspace.
const KEYSPACE_BYTES_MAX: usize = 48;

/// A cluster and a keyspace in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// `host:port` of the nodes to ask first.
    pub(super) nodes: Vec<String>,
    /// Small letters, digits and `_`, so that it reads the same quoted and bare.
    pub(super) keyspace: String,
}

/// Takes a place apart.
pub(super) fn parse(place: &str) -> Result<Place, StoreError> {
    let wrong = |why: &str| {
        StoreError::Refused(format!(
            "{place:?} is no place for a store: {why}; say {SCHEME}host[:port][,…]/keyspace"
        ))
    };
    if place.contains('@') {
        // Not repeated: what stands before it may be a password.
        let why = "users and passwords are not understood yet";
        return Err(StoreError::Refused(format!(
            "a place for a store with an @ in it is refused: {why}; say {SCHEME}host[:port][,…]/keyspace"
        )));
    }
    let rest = place.strip_prefix(SCHEME).ok_or_else(|| wrong("another scheme"))?;
    let (nodes, keyspace) = rest.split_once('/').ok_or_else(|| wrong("no keyspace"))?;
    if !is_keyspace(keyspace) {
        return Err(wrong("a keyspace is a small letter, then up to 47 small letters, digits and _"));
    }
    let nodes: Option<Vec<String>> = nodes.split(',').map(node).collect();
    let nodes = nodes.ok_or_else(|| wrong("a node is host or host:port"))?;
    Ok(Place { nodes, keyspace: keyspace.to_owned() })
}

fn is_keyspace(name: &str) -> bool {
    name.len() <= KEYSPACE_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// `host:port`; an IPv6 address stands in brackets.
fn node(text: &str) -> Option<String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, port.parse().ok().filter(|&port| port != 0)?),
        _ => (text, PORT),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    };
    is_host.then(|| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_nodes_and_a_keyspace() {
        let cases: [(&str, &[&str], &str); 4] = [
            ("scylla://db/godwit", &["db:9042"], "godwit"),
            ("scylla://10.0.0.1:9043,b.example/g_2", &["10.0.0.1:9043", "b.example:9042"], "g_2"),
            ("scylla://[::1]/g", &["[::1]:9042"], "g"),
            ("scylla://[::1]:1/g", &["[::1]:1"], "g"),
        ];
        for (text, nodes, keyspace) in cases {
            let nodes = nodes.iter().map(ToString::to_string).collect();
            assert_eq!(parse(text).unwrap(), Place { nodes, keyspace: keyspace.into() }, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        let long = format!("scylla://h/{}", "k".repeat(49));
        let wrong = [
            "",
            "kafka://h/g",
            "scylla://",
            "scylla://h",
            "scylla://h/",
            "scylla:///g",
            "scylla://h/G",
            "scylla://h/1g",
            "scylla://h/a/b",
            "scylla://h:x/g",
            "scylla://h:0/g",
            "scylla://h:70000/g",
            "scylla://h,/g",
            "scylla://::1/g",
            "scylla://u@h/g",
            "scylla://h/g?x=1",
            "scylla://h/g'",
            &long,
        ];
        for text in wrong {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, StoreError::Refused(_)), "{text}");
            assert!(error.to_string().contains("scylla://host[:port]"), "{error}");
        }
        let error = parse("scylla://ann:secret@h/g").unwrap_err().to_string();
        assert!(!error.contains("secret") && !error.contains("ann"), "{error}");
    }
}
