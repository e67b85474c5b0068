//! What a topic must be like so that it loses nothing: for creating it, and for checking one that is
//! there. Pure.

use std::collections::BTreeMap;

/// The largest batch that a producer sends. A broker counts some overhead on top.
pub(super) const BATCH_BYTES_MAX: usize = 1_000_000;
/// The largest batch that a topic must take.
const TOPIC_BYTES_MIN: usize = 1024 * 1024;

const _: () = assert!(proto::limits::RECORD_BYTES_MAX + 64 * 1024 < BATCH_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX < TOPIC_BYTES_MIN);

/// Replicas from which on a record must be on two before it is confirmed.
const REPLICAS_SAFE: usize = 3;

/// How many replicas a topic has on so many brokers.
pub(super) fn replicas(brokers: usize) -> usize {
    brokers.clamp(1, REPLICAS_SAFE)
}

/// What a topic is created with.
pub(super) fn wanted(replicas: usize) -> [(&'static str, &'static str); 7] {
    [
        ("message.timestamp.type", "LogAppendTime"),
        ("retention.ms", "-1"),
        ("retention.bytes", "-1"),
        ("cleanup.policy", "delete"),
        ("max.message.bytes", "1048588"),
        ("min.insync.replicas", if replicas >= REPLICAS_SAFE { "2" } else { "1" }),
        ("unclean.leader.election.enable", "false"),
    ]
}

/// A topic as it was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) partitions: usize,
    /// Of the partition that has the fewest.
    pub(super) replicas: usize,
    pub(super) settings: BTreeMap<String, String>,
}

/// Refuses a topic with which messages would be lost or misplaced; the text says what to do.
pub(super) fn check(name: &str, found: &Found, partitions: usize, brokers: usize) -> Result<(), String> {
    if found.partitions != partitions {
        return Err(format!(
            "topic {name} has {} partitions, {partitions} are set: the count cannot change, so set it to {}, \
             or use another prefix",
            found.partitions, found.partitions
        ));
    }
    let needed = replicas(brokers);
    if found.replicas < needed {
        return Err(format!(
            "topic {name} has a partition with {} replicas, {needed} are needed on {brokers} brokers: add \
             replicas with kafka-reassign-partitions.sh",
            found.replicas
        ));
    }
    for (key, wanted) in wanted(found.replicas) {
        let value = found.settings.get(key).map_or("", String::as_str);
        let needed = need(key, value, wanted, found.replicas);
        if let Some(needed) = needed {
            return Err(format!(
                "topic {name} has {key} = {value:?}, {needed} is needed: run kafka-configs.sh --alter \
                 --entity-type topics --entity-name {name} --add-config {key}={wanted}"
            ));
        }
    }
    Ok(())
}

/// What is needed instead of this value; nothing where it will do.
fn need(key: &str, value: &str, wanted: &str, replicas: usize) -> Option<String> {
    let number = value.parse::<usize>().ok();
    let (good, needed) = match key {
        "max.message.bytes" => {
            (number.is_some_and(|n| n >= TOPIC_BYTES_MIN), format!("at least {TOPIC_BYTES_MIN}"))
        }
        "min.insync.replicas" => {
            let least = wanted.parse().unwrap_or(1);
            let range = least..=replicas;
            (number.is_some_and(|n| range.contains(&n)), format!("{least} to {replicas}"))
        }
        _ => (value == wanted, wanted.to_owned()),
    };
    (!good).then_some(needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(replicas: usize) -> Found {
        let settings = wanted(replicas).into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Found { partitions: 8, replicas, settings }
    }

    fn refusal(key: &str, value: &str, replicas: usize) -> String {
        let mut found = found(replicas);
        found.settings.insert(key.into(), value.into());
        check("p.messages", &found, 8, replicas).err().unwrap_or_default()
    }

    #[test]
    fn what_is_created_passes() {
        for brokers in 1..6 {
            check("t", &found(replicas(brokers)), 8, brokers).unwrap();
        }
    }

    #[test]
    fn what_loses_messages_is_refused_with_the_remedy() {
        for (key, value) in [
            ("message.timestamp.type", "CreateTime"),
            ("retention.ms", "604800000"),
            ("retention.bytes", "1"),
            ("cleanup.policy", "compact"),
            ("max.message.bytes", "1000000"),
            ("min.insync.replicas", "1"),
            ("min.insync.replicas", "4"),
            ("unclean.leader.election.enable", "true"),
            ("cleanup.policy", ""),
        ] {
            let refusal = refusal(key, value, 3);
            for part in ["p.messages", key, value, "--add-config"] {
                assert!(refusal.contains(part), "{refusal}");
            }
        }
        assert_eq!(refusal("min.insync.replicas", "3", 3), "", "stricter will do");
        assert_eq!(refusal("max.message.bytes", "9999999", 1), "");
        assert!(refusal("min.insync.replicas", "2", 1).contains("1 to 1"), "nothing could be appended");
    }

    #[test]
    fn counts_must_match() {
        assert!(check("t", &found(1), 9, 1).unwrap_err().contains("has 8 partitions, 9 are set"));
        assert!(check("t", &found(1), 8, 3).unwrap_err().contains("1 replicas, 3 are needed"));
        check("t", &found(3), 8, 1).unwrap();
    }
}
