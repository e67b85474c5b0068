//! What a soak is judged by. Pure.

use serde_json::Value;

use super::line::Line;
use super::sample::{Descriptors, Sample};
use super::stored;

/// A leak of so many bytes a message has to be told from noise.
const LEAK_BYTES: f64 = 20.0;
/// Growth within an hour, by the mean, that is called flat even where it is certain: caches that are not full yet.
const FLAT: f64 = 0.02;
/// What a message adds to the disk, by what its rows take: tables are packed, and hold for a while what was
/// replaced or moved.
const DISK_FACTORS: (f64, f64) = (0.4, 1.6);
/// Log and journals together, in bytes. The engine begins to flush for the sake of journals at 128 MiB; the log
/// holds what came since the last trim, and what was deleted and not yet compacted.
const LOG_BYTES_MAX: u64 = 448 << 20;
/// Files of the data that the engine keeps open, at the most, with some that it opens for a moment.
const FILES_MAX: u64 = 128 + 64;
/// Bytes of a message's body, as the harness sends it.
pub(super) const BODY_BYTES: usize = 100;

const MIB: f64 = 1_048_576.0;

/// One thing that was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) what: &'static str,
    pub(super) holds: bool,
    pub(super) text: String,
}

/// What the program holds over the samples, without the engine's cache of blocks, at the moments when memtables have just
/// been written out. A leak is seen here, however well the allocator's pages are filled.
pub(super) fn held(samples: &[Sample]) -> Finding {
    let points: Vec<_> =
        samples.iter().map(|sample| (minutes(sample), sample.allocated_kib - sample.cache_kib)).collect();
    let name = "the floor of what is allocated, without the cache of blocks,";
    flat("what the program holds is flat", name, Line::under(&points), samples)
}

/// Memory over the samples, with what the allocator's pages have more than the program holds. Judged is what is there
/// when memtables have just been written out, without the cache.
pub(super) fn memory(samples: &[Sample]) -> Finding {
    let points: Vec<_> =
        samples.iter().map(|sample| (minutes(sample), sample.rss_kib - sample.cache_kib)).collect();
    flat("memory is flat", "the floor of RssAnon without the cache of blocks", Line::under(&points), samples)
}

/// Flat, and a leak would have been seen.
fn flat(what: &'static str, name: &str, line: Option<Line>, samples: &[Sample]) -> Finding {
    let (Some(line), Some(first), Some(last)) = (line, samples.first(), samples.last()) else {
        return Finding { what, holds: false, text: "too few samples".into() };
    };
    let rate = (last.messages - first.messages) / (minutes(last) - minutes(first));
    let leak = LEAK_BYTES * rate / 1024.0;
    let is_flat = line.at_least() <= 0.0 || line.slope * 60.0 < FLAT * line.mean;
    let text = format!(
        "{name} is {:.1} MiB on the average, its slope {:+.1} ± {:.1} KiB a minute (one standard error), which is {:+.2} B \
         a message; a leak of {LEAK_BYTES} B a message would be {leak:.0} KiB a minute",
        line.mean / 1024.0,
        line.slope,
        line.error,
        line.slope * 1024.0 / rate,
    );
    Finding { what, holds: is_flat && line.at_most() < leak, text }
}

fn minutes(sample: &Sample) -> f64 {
    sample.at.as_secs_f64() / 60.0
}

/// The disk's growth over the samples, by what the harness says was stored.
pub(super) fn disk(samples: &[Sample], load: &Value) -> Finding {
    let what = "the disk grows by what is stored";
    let points: Vec<_> = samples.iter().map(|sample| (sample.messages, bytes(sample.disk.total))).collect();
    let count = |name: &str| load[name].as_f64().unwrap_or(0.0);
    let timelines = count("entries") / count("sent");
    let stored = stored::bytes(BODY_BYTES, timelines);
    let Some(line) = Line::through(&points) else {
        return Finding { what, holds: false, text: "too few samples".into() };
    };
    let text = format!(
        "{:.0} ± {:.0} B a message on disk; {stored:.0} B in its rows (one of history, {timelines:.2} of timelines): \
         {:.2} times, allowed {} to {}",
        line.slope,
        line.error,
        line.slope / stored,
        DISK_FACTORS.0,
        DISK_FACTORS.1,
    );
    let (least, most) = (DISK_FACTORS.0 * stored, DISK_FACTORS.1 * stored);
    Finding { what, holds: line.slope >= least && line.slope <= most, text }
}

/// What is on disk for a restart alone.
pub(super) fn log(samples: &[Sample]) -> Finding {
    let most = samples.iter().map(|sample| sample.disk.log + sample.disk.journals).max().unwrap_or(0);
    let (log, journals) = samples
        .iter()
        .fold((0, 0), |most, sample| (sample.disk.log.max(most.0), sample.disk.journals.max(most.1)));
    let text = format!(
        "log and journals at most {:.0} MiB together (log {:.0}, journals {:.0}), allowed {:.0}",
        bytes(most) / MIB,
        bytes(log) / MIB,
        bytes(journals) / MIB,
        bytes(LOG_BYTES_MAX) / MIB,
    );
    Finding { what: "the log is trimmed", holds: most <= LOG_BYTES_MAX, text }
}

/// Descriptors before the first link, and after the last.
pub(super) fn descriptors(before: Descriptors, after: Descriptors) -> Finding {
    let text = format!("{before:?} before, {after:?} after all links");
    Finding {
        what: "no descriptor is left open",
        holds: after.are_back(&before) && after.files <= FILES_MAX,
        text,
    }
}

/// What the devices make of it: everything arrived, and no promise was broken. That the harness was late, or
/// latencies were long, is no matter of a soak.
pub(super) fn promises(load: &Value) -> Finding {
    let violations = load["violations"].as_object();
    let is_kept = violations.is_some_and(|all| !all.is_empty() && all.values().all(|count| *count == 0));
    let is_whole = load["drained"] == true && load["overflowed"] == 0 && load["sent"].as_u64() > Some(0);
    let text =
        format!("{}; drained {}, overflowed {}", load["violations"], load["drained"], load["overflowed"]);
    Finding { what: "every promise was kept", holds: is_kept && is_whole, text }
}

#[allow(clippy::cast_precision_loss, reason = "bytes on a disk are far below 2^52")]
fn bytes(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::sample::Disk;
    use super::*;

    /// An hour at 500 messages a second whose memory leaks so many bytes of each, under a saw tooth of 16 MiB; the
    /// disk takes so many.
    fn hour(leak: f64, disk: f64) -> Vec<Sample> {
        let sample = |i: u32| {
            let messages = f64::from(i) * 5_000.0;
            let tooth = f64::from(i * 10 % 47) / 47.0 * 16_384.0;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few GiB")]
            let total = (messages * disk) as u64;
            let kib = 102_400.0 + 1.3 * tooth + messages * leak / 1024.0 + messages / 100.0;
            Sample {
                at: Duration::from_secs(u64::from(i) * 10),
                rss_kib: kib + 20_480.0,
                allocated_kib: kib,
                cache_kib: messages / 100.0,
                memtables_kib: tooth,
                descriptors: Descriptors::default(),
                disk: Disk { total, ..Disk::default() },
                messages,
            }
        };
        (36..360).map(sample).collect()
    }

    #[test]
    fn a_leak_of_a_few_bytes_a_message_is_found_under_the_noise() {
        for judge in [held, memory] {
            assert!(judge(&hour(0.0, 0.0)).holds, "{:?}", judge(&hour(0.0, 0.0)));
            for leak in [8.0, 20.0, 200.0] {
                assert!(!judge(&hour(leak, 0.0)).holds, "{leak}: {:?}", judge(&hour(leak, 0.0)));
            }
            assert!(!judge(&hour(0.0, 0.0)[..2]).holds, "too little to say");
        }
    }

    #[test]
    fn a_disk_that_grows_by_more_than_what_is_stored_is_found() {
        let load = json!({ "entries": 250, "sent": 100 });
        let stored = stored::bytes(BODY_BYTES, 2.5);
        assert!((400.0..900.0).contains(&stored), "{stored}");
        assert!(disk(&hour(0.0, stored), &load).holds);
        assert!(!disk(&hour(0.0, 2.0 * stored), &load).holds);
        assert!(!disk(&hour(0.0, 0.0), &load).holds, "it is stored somewhere");
    }

    #[test]
    fn a_log_that_is_not_trimmed_is_found() {
        let mut samples = hour(0.0, 0.0);
        assert!(log(&samples).holds);
        samples[7].disk.log = LOG_BYTES_MAX + 1;
        assert!(!log(&samples).holds);
    }

    #[test]
    fn a_socket_that_is_left_open_is_found_and_a_table_is_not() {
        let before = Descriptors { sockets: 4, files: 9, others: 7 };
        assert!(descriptors(before, Descriptors { files: 90, ..before }).holds);
        assert!(!descriptors(before, Descriptors { sockets: 5, ..before }).holds);
        assert!(!descriptors(before, Descriptors { others: 8, ..before }).holds);
        assert!(!descriptors(before, Descriptors { files: FILES_MAX + 1, ..before }).holds);
    }

    #[test]
    fn a_promise_that_was_broken_is_found_and_a_late_harness_is_not() {
        let load = |lost: u32, drained: bool| json!({ "sent": 5, "violations": { "lost": lost }, "drained": drained, "overflowed": 0, "exit": 30 });
        assert!(promises(&load(0, true)).holds);
        assert!(!promises(&load(1, true)).holds && !promises(&load(0, false)).holds);
        assert!(!promises(&Value::Null).holds);
    }
}
