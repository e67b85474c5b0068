//! Where a Kafka log is: `kafka://host:port[,host:port]/PREFIX`. Pure; resolves and connects nothing.

use crate::log::{LogError, Topic};

const SCHEME: &str = "kafka://";
const PREFIX_DEFAULT: &str = "godwit";
const PORT_DEFAULT: u16 = 9092;
/// Kafka allows topic names of 249 bytes; this leaves room for what follows the prefix.
const PREFIX_BYTES_MAX: usize = 200;

/// Servers and prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// `host:port,host:port`, as the client library wants them.
    pub(super) servers: String,
    prefix: String,
}

impl Place {
    /// Takes a URL apart.
    pub(super) fn parse(url: &str) -> Result<Self, LogError> {
        let refused = |what: &str| {
            LogError::Refused(format!("{url}: {what}; write kafka://host:port[,host:port]/prefix"))
        };
        let rest = url.strip_prefix(SCHEME).ok_or_else(|| refused("does not begin with kafka://"))?;
        let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = if prefix.is_empty() { PREFIX_DEFAULT } else { prefix };
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if prefix.len() > PREFIX_BYTES_MAX || !prefix.chars().all(legal) {
            return Err(refused("the prefix is at most 200 letters, digits, '.', '_' and '-'"));
        }
        let servers: Option<Vec<String>> = hosts.split(',').map(server).collect();
        let servers = servers.ok_or_else(|| refused("a server is not host:port"))?.join(",");
        Ok(Self { servers, prefix: prefix.to_owned() })
    }

    /// What the topic is called in Kafka.
    pub(super) fn topic(&self, topic: Topic) -> String {
        format!("{}.{topic}", self.prefix)
    }

    /// The topic that Kafka calls so.
    pub(super) fn find(&self, name: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| self.topic(*topic) == name)
    }

    /// The consumer group in which processes share the partitions out.
    pub(super) fn members(&self) -> String {
        format!("{}.logic", self.prefix)
    }

    /// The group name that readers show; nobody joins it.
    pub(super) fn readers(&self) -> String {
        format!("{}.readers", self.prefix)
    }

    /// The URL again.
    pub(super) fn url(&self) -> String {
        format!("{SCHEME}{}/{}", self.servers, self.prefix)
    }
}

/// A server with its port; none where it cannot be one.
fn server(text: &str) -> Option<String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, _)) if host.starts_with('[') && !host.ends_with(']') => (text, None),
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let port = port.map_or(Ok(PORT_DEFAULT), str::parse).ok().filter(|port| *port != 0)?;
    let bracketed = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
    let legal = |c: char| c.is_ascii_graphic() && !matches!(c, '[' | ']' | '@' | '?' | '#' | ':');
    let plain = !host.is_empty() && host.chars().all(legal);
    (bracketed || plain).then(|| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_servers_and_a_prefix() {
        let place = Place::parse("kafka://a:1,b.example:2/chat.eu").unwrap();
        assert_eq!(place.servers, "a:1,b.example:2");
        assert_eq!(place.topic(Topic::Timelines), "chat.eu.timelines");
        assert_eq!(place.find("chat.eu.nodes"), Some(Topic::Nodes));
        assert_eq!(place.find("chat.eu.other"), None);
        assert_eq!(
            (place.members(), place.url()),
            ("chat.eu.logic".into(), "kafka://a:1,b.example:2/chat.eu".into())
        );
        for (url, whole) in [
            ("kafka://h", "kafka://h:9092/godwit"),
            ("kafka://h:1/", "kafka://h:1/godwit"),
            ("kafka://[::1]:5,[::2]/x", "kafka://[::1]:5,[::2]:9092/x"),
        ] {
            assert_eq!(Place::parse(url).unwrap().url(), whole);
        }
    }

    #[test]
    fn other_urls_are_refused() {
        let long = format!("kafka://h/{}", "x".repeat(201));
        for url in [
            "",
            "kafka:/h",
            "scylla://h",
            "kafka://",
            "kafka:///x",
            "kafka://h:0",
            "kafka://h:x",
            "kafka://h:70000",
            "kafka://h,/x",
            "kafka://a b",
            "kafka://user@h",
            "kafka://h/a/b",
            "kafka://h/ü",
            "kafka://[]:1",
            &long,
        ] {
            let refused = Place::parse(url).unwrap_err();
            assert!(matches!(&refused, LogError::Refused(text) if text.contains("host:port")), "{url}");
        }
    }
}
