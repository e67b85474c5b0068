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

/// What is wrong with the place of a log, whether or not anybody is there.
///
/// # Errors
/// `url` is no `kafka://host:port[,…][/PREFIX]`: what of it is not.
pub fn check_url(url: &str) -> Result<(), String> {
    Place::parse(url).map(drop).map_err(|error| error.to_string())
}

impl Place {
    /// Takes a URL apart. What is not understood is refused by name; what may be a password is not repeated.
    pub(super) fn parse(url: &str) -> Result<Self, LogError> {
        let rest = url.strip_prefix(SCHEME).ok_or_else(|| refused("it does not begin with kafka://"))?;
        let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if hosts.contains('@') || prefix.contains('@') {
            return Err(refused(
                "there is something before '@', but a name and a password are not supported",
            ));
        }
        if let Some(at) = rest.find(['?', '#']) {
            let what = rest[at..].split('=').next().unwrap_or_default();
            return Err(refused(&format!("{what:?} is there, but options are not supported")));
        }
        let prefix = if prefix.is_empty() { PREFIX_DEFAULT } else { prefix };
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if prefix.len() > PREFIX_BYTES_MAX || !prefix.chars().all(legal) {
            let rule = "is not at most 200 letters, digits, '.', '_' and '-'";
            return Err(refused(&format!("the prefix {prefix:?} {rule}")));
        }
        let named = |text: &str| server(text).ok_or_else(|| refused(&format!("{text:?} is not host:port")));
        let servers: Result<Vec<String>, LogError> = hosts.split(',').map(named).collect();
        Ok(Self { servers: servers?.join(","), prefix: prefix.to_owned() })
    }

    /// What the topic is called in Kafka.
    pub(super) fn topic(&self, topic: Topic) -> String {
        format!("{}.{topic}", self.prefix)
    }

    /// The topic that Kafka calls so.
    pub(super) fn find(&self, name: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| self.topic(*topic) == name)
    }

    /// The consumer group in which processes share the partitions of a topic out.
    pub(super) fn members(&self, topic: Topic) -> String {
        format!("{}.logic.{}", self.prefix, topic.name())
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

fn refused(what: &str) -> LogError {
    LogError::Refused(format!("the log's URL: {what}; write kafka://host:port[,host:port]/prefix"))
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
            (place.members(Topic::Messages), place.url()),
            ("chat.eu.logic.messages".into(), "kafka://a:1,b.example:2/chat.eu".into())
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
    fn other_urls_are_refused_by_the_part_that_is_not_understood() {
        let long = format!("kafka://h/{}", "x".repeat(201));
        for (url, part) in [
            ("", "does not begin with"),
            ("kafka:/h", "does not begin with"),
            ("scylla://h", "does not begin with"),
            ("kafka://", "\"\" is not host:port"),
            ("kafka:///x", "\"\" is not host:port"),
            ("kafka://h:0", "\"h:0\""),
            ("kafka://h:x", "\"h:x\""),
            ("kafka://h:70000", "\"h:70000\""),
            ("kafka://a:1,h:1:2/x", "\"h:1:2\""),
            ("kafka://h,/x", "\"\" is not host:port"),
            ("kafka://a b", "\"a b\""),
            ("kafka://user@h", "before '@'"),
            ("kafka://h/x?acks=1", "\"?acks\""),
            ("kafka://h?security.protocol=ssl", "\"?security.protocol\""),
            ("kafka://h/x#y", "\"#y\""),
            ("kafka://h/a/b", "\"a/b\""),
            ("kafka://h/ü", "\"ü\""),
            ("kafka://[]:1", "\"[]:1\""),
            (&long, "at most 200"),
        ] {
            let refused = Place::parse(url).unwrap_err();
            let LogError::Refused(text) = refused else { panic!("{url}: {refused}") };
            assert!(text.contains(part) && text.contains("host:port]/prefix"), "{url}: {text}");
        }
    }

    #[test]
    fn a_password_is_not_repeated() {
        for url in [
            "kafka://user:pa55@h:1/x",
            "kafka://user:pa5/5@h",
            "kafka://user:?pa55@h/x",
            "kafka://h/x?sasl.password=pa55",
        ] {
            let refused = Place::parse(url).unwrap_err().to_string();
            assert!(!refused.contains("pa5") && refused.contains("not supported"), "{refused}");
        }
    }
}
