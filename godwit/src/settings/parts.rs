//! The settings of the parts, as the parts take them. Their own rules are theirs: they report mistakes by
//! the names used here.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use proto::v1;
use storage::log::Partitions;

use super::Embedded;
use super::reader::Reader;

/// conn's.
pub(super) fn conn(read: &mut Reader<'_>, policy: &v1::Settings) -> conn::Config {
    let cores = available_parallelism().map_or(1, NonZeroUsize::get);
    let reactors = match read.count("conn.reactors") {
        0 => u32::try_from(cores).unwrap_or(1),
        given => given,
    };
    let verify_threads = match read.size("conn.verify_threads") {
        0 => cores.div_ceil(2),
        given => given,
    };
    let config = conn::Config {
        node: read.text("node.name"),
        listen: read.listen("conn.listen"),
        reactors,
        links_max: read.size("conn.links_max"),
        unauthenticated_per_address_max: read.count("conn.unauthenticated_per_address_max"),
        unauthenticated_timeout_ms: read.number("conn.unauthenticated_timeout_ms"),
        sign_in_timeout_ms: read.number("conn.sign_in_timeout_ms"),
        heartbeat_min_ms: read.count("conn.heartbeat_min_ms"),
        heartbeat_max_ms: read.count("conn.heartbeat_max_ms"),
        idle_timeout_ms: read.number("conn.idle_timeout_ms"),
        write_stall_timeout_ms: read.number("conn.write_stall_timeout_ms"),
        linger_ms: read.number("conn.linger_ms"),
        frames_per_s: read.count("conn.frames_per_s"),
        frames_burst: read.count("conn.frames_burst"),
        calls_max: u8::try_from(read.number("conn.calls_max")).expect("the table's range fits"),
        group_members_max: policy.group_members_max,
        verify_threads,
        verify_queue_max: read.size("conn.verify_queue_max"),
        outbox_high_bytes: read.size("conn.outbox_high_bytes"),
        outbox_bytes_max: read.size("conn.outbox_bytes_max"),
        buffered_bytes_max: read.size("conn.buffered_bytes_max"),
        mailbox_max: read.size("conn.mailbox_max"),
        mailbox_bytes_max: read.size("conn.mailbox_bytes_max"),
        appends_max: read.size("conn.appends_max"),
        cursors_every_ms: read.number("conn.cursors_every_ms"),
        drain_within_ms: read.count("conn.drain_within_ms"),
        drain_timeout_ms: read.number("conn.drain_timeout_ms"),
    };
    // An empty name is reported as node.name already.
    let mistakes = conn::Config { node: "named".into(), ..config.clone() }.mistakes();
    read.mistakes_of("conn", mistakes);
    config
}

/// logic's.
pub(super) fn logic(read: &mut Reader<'_>, policy: &v1::Settings) -> logic::Config {
    let config = logic::Config {
        node: read.text("node.name"),
        batch_records_max: read.size("logic.batch_records_max"),
        batch_bytes_max: read.size("logic.batch_bytes_max"),
        staged_records_max: read.size("logic.staged_records_max"),
        staged_bytes_max: read.size("logic.staged_bytes_max"),
        producer_records_max: read.size("logic.producer_records_max"),
        cache_bytes_max: read.size("logic.cache_bytes_max"),
        flush_every_ms: read.number("logic.flush_every_ms"),
        flush_users_every_ms: read.number("logic.flush_users_every_ms"),
        chores_every_ms: read.number("logic.chores_every_ms"),
        reclaim_after_ms: read.number("logic.reclaim_after_ms"),
        stop_within_ms: read.number("logic.stop_within_ms"),
        stream_frames_max: read.size("logic.stream_frames_max"),
        stream_bytes_max: read.size("logic.stream_bytes_max"),
        stream_marks_max: read.size("logic.stream_marks_max"),
        syncs_waiting_max: read.size("logic.syncs_waiting_max"),
        sync_pages_max: read.size("logic.sync_pages_max"),
        settings: *policy,
    };
    let mistakes = logic::Config { node: "named".into(), ..config.clone() }.mistakes();
    read.mistakes_of("logic", mistakes);
    config
}

/// The policy of the deployment.
pub(super) fn policy(read: &Reader<'_>) -> v1::Settings {
    let device_policy = match read.text("policy.devices").as_str() {
        "one_per_class" => v1::DevicePolicy::OnePerClass,
        "one" => v1::DevicePolicy::One,
        _ => v1::DevicePolicy::All,
    };
    v1::Settings {
        version: read.number("policy.version"),
        group_members_max: read.count("policy.group_members_max"),
        device_policy: device_policy.into(),
        oldest_stays: read.flag("policy.oldest_stays"),
        devices_per_user_max: read.count("policy.devices_per_user_max"),
    }
}

/// Embedded storage's.
pub(super) fn embedded(read: &Reader<'_>) -> Embedded {
    Embedded {
        cache_bytes: read.number("embedded.cache_bytes"),
        memtable_bytes: read.number("embedded.memtable_bytes"),
        tail_bytes: read.size("embedded.tail_bytes"),
        mailbox_items: read.size("embedded.mailbox_items"),
        mailbox_bytes: read.size("embedded.mailbox_bytes"),
        producer_bytes: read.size("embedded.producer_bytes"),
        reserve_bytes: read.number("embedded.reserve_bytes"),
    }
}

/// The partition counts.
pub(super) fn partitions(read: &Reader<'_>) -> Partitions {
    Partitions {
        messages: read.count("storage.messages_partitions"),
        timelines: read.count("storage.timelines_partitions"),
    }
}
