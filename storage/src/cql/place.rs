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

/// What is wrong with a place. Nothing of a part that may hold a password is repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlaceError {
    #[error("the store's scheme is not {SCHEME}")]
    Scheme,
    #[error("the store's place holds @: users and passwords are not taken there")]
    User,
    #[error("the store's place holds ? or #: it takes no options")]
    Options,
    #[error("the store's place has no keyspace")]
    NoKeyspace,
    #[error("the store's keyspace {0:?} is not a small letter, then up to 47 small letters, digits and _")]
    Keyspace(String),
    #[error("the store's host {0:?} is no name, IPv4 address or IPv6 address in brackets")]
    Host(String),
    #[error("the store's port {0:?} is no number from 1 to 65535")]
    Port(String),
}

impl From<PlaceError> for StoreError {
    fn from(error: PlaceError) -> Self {
        Self::Refused(format!("{error}; say {SCHEME}host[:port][,…]/keyspace"))
    }
}

/// What is wrong with the place of a store, whether or not anybody is there.
///
/// # Errors
/// `url` is no `scylla://host[:port][,…]/KEYSPACE`: what of it is not.
pub fn check_url(url: &str) -> Result<(), String> {
    parse(url).map(drop).map_err(|error| StoreError::from(error).to_string())
}

/// Takes a place apart.
pub(super) fn parse(place: &str) -> Result<Place, PlaceError> {
    let rest = place.strip_prefix(SCHEME).ok_or(PlaceError::Scheme)?;
    // First of all, so that no other error repeats a part of a password.
    if rest.contains('@') {
        return Err(PlaceError::User);
    }
    if rest.contains(['?', '#']) {
        return Err(PlaceError::Options);
    }
    let (nodes, keyspace) = rest.split_once('/').ok_or(PlaceError::NoKeyspace)?;
    if !is_keyspace(keyspace) {
        return Err(PlaceError::Keyspace(keyspace.to_owned()));
    }
    let nodes = nodes.split(',').map(node).collect::<Result<_, _>>()?;
    Ok(Place { nodes, keyspace: keyspace.to_owned() })
}

fn is_keyspace(name: &str) -> bool {
    name.len() <= KEYSPACE_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// `host:port`; an IPv6 address stands in brackets.
fn node(text: &str) -> Result<String, PlaceError> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, self::port(port)?),
        _ => (text, PORT),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    };
    if !is_host {
        return Err(PlaceError::Host(host.to_owned()));
    }
    Ok(format!("{host}:{port}"))
}

/// Digits alone: `parse` would take a sign.
fn port(text: &str) -> Result<u16, PlaceError> {
    let number = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    number.filter(|&port| port != 0).ok_or_else(|| PlaceError::Port(text.to_owned()))
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
    fn anything_else_is_refused_and_the_part_named() {
        use PlaceError as E;
        let long = "k".repeat(49);
        let wrong = [
            ("", E::Scheme),
            ("kafka://h/g", E::Scheme),
            ("scylla://", E::NoKeyspace),
            ("scylla://h", E::NoKeyspace),
            ("scylla://h/", E::Keyspace(String::new())),
            ("scylla://h/G", E::Keyspace("G".into())),
            ("scylla://h/1g", E::Keyspace("1g".into())),
            ("scylla://h/a/b", E::Keyspace("a/b".into())),
            ("scylla://h/g'", E::Keyspace("g'".into())),
            (&format!("scylla://h/{long}"), E::Keyspace(long.clone())),
            ("scylla:///g", E::Host(String::new())),
            ("scylla://h,/g", E::Host(String::new())),
            ("scylla://::1/g", E::Host(":".into())),
            ("scylla://[::x]/g", E::Host("[::x]".into())),
            ("scylla://h:/g", E::Port(String::new())),
            ("scylla://h:x/g", E::Port("x".into())),
            ("scylla://h:+1/g", E::Port("+1".into())),
            ("scylla://h:0/g", E::Port("0".into())),
            ("scylla://h:70000/g", E::Port("70000".into())),
            ("scylla://h/g?x=1", E::Options),
        ];
        for (text, why) in wrong {
            assert_eq!(parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_password_is_never_repeated() {
        for place in [
            "scylla://u:hush@h/g",
            "scylla://u:hu/sh@h/g",
            "scylla://hush@",
            "u:hush@h",
            "scylla://h/g?p=hush",
        ] {
            let text = StoreError::from(parse(place).unwrap_err()).to_string();
            assert!(text.contains("scylla://host[:port]"), "{text}");
            assert!(!text.contains("hush") && !text.contains("hu/sh") && !text.contains("sh@"), "{text}");
        }
    }
}
