//! The client library's settings, by what a client is for. Its defaults would lose or stall messages.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::Options;
use super::place::Place;
use super::settings::BATCH_BYTES_MAX;
use crate::log::Topic;

/// Without a heartbeat for so long, a member's partitions go to others.
const SESSION_MS: u32 = 6_000;
const HEARTBEAT_MS: u32 = 2_000;
/// How often a member looks which partitions there are: those of a topic that it did not see when it
/// joined would be nobody's until the next look, by default five minutes later.
const MEMBER_LOOK_MS: u32 = 2_000;
/// How long a broker holds a fetch for which it has nothing. A partition that a reader adds waits for
/// the fetch under way, so this is also how long opening a reader may take.
const FETCH_WAIT_MS: u32 = 50;
/// What is fetched ahead, per partition.
pub(super) const PREFETCH_KBYTES: u32 = 1_024;
const PREFETCH_RECORDS: u32 = 2_000;

/// Long enough to take a batch of a lane in, record by record, so that it leaves in one request.
const LINGER_MS: &str = "1";

fn common(place: &Place) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &place.servers)
        .set("client.id", "godwit")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.nagle.disable", "true")
        .set("socket.timeout.ms", "10000");
    config
}

/// For questions and for what changes topics. Nobody serves this client's own queue, so it must log
/// nothing.
pub(super) fn admin(place: &Place) -> ClientConfig {
    let mut config = common(place);
    config.set_log_level(RDKafkaLogLevel::Emerg);
    config
}

/// For appending: in order, once, to every replica that the topic asks for.
pub(super) fn producer(place: &Place, options: &Options) -> ClientConfig {
    let mut config = common(place);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        .set("linger.ms", LINGER_MS)
        .set("message.timeout.ms", options.append_timeout.as_millis().to_string())
        .set("message.max.bytes", BATCH_BYTES_MAX.to_string())
        // The engine's own caps refuse before these do.
        .set("queue.buffering.max.messages", (2 * options.queued_max).to_string())
        .set("queue.buffering.max.kbytes", (2 * options.queued_bytes_max / 1024).max(1).to_string());
    config
}

/// For reading from a given offset; a missing offset is an error, and nothing is ever committed.
pub(super) fn reader(place: &Place) -> ClientConfig {
    let mut config = common(place);
    config
        .set("group.id", place.readers())
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        // What was damaged on the way is fetched again.
        .set("check.crcs", "true")
        .set("allow.auto.create.topics", "false")
        .set("fetch.min.bytes", "1")
        .set("fetch.wait.max.ms", FETCH_WAIT_MS.to_string())
        .set("fetch.error.backoff.ms", "100")
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.min.messages", PREFETCH_RECORDS.to_string())
        .set("queued.max.messages.kbytes", PREFETCH_KBYTES.to_string());
    config
}

/// For taking part in the group that shares the partitions of a topic out.
pub(super) fn member(place: &Place, topic: Topic) -> ClientConfig {
    let mut config = common(place);
    config
        .set("group.id", place.members(topic))
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", SESSION_MS.to_string())
        .set("heartbeat.interval.ms", HEARTBEAT_MS.to_string())
        .set("topic.metadata.refresh.interval.ms", MEMBER_LOOK_MS.to_string())
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("allow.auto.create.topics", "false");
    config
}
