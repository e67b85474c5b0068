//! What piles up where nothing is stored any more. It takes longer than all the others, which run beside it.

use std::time::Duration;

use tests::{Device, Injection, Load, Run, may_inject};

use crate::slow::{create, cry, reader};
use crate::{MIB, World};

/// The least of everything that memory is spent on.
const SMALL: [&str; 21] = [
    "conn.reactors=1",
    "conn.links_max=1000",
    "conn.outbox_bytes_max=1200000",
    "conn.buffered_bytes_max=2097152",
    "conn.mailbox_bytes_max=1048576",
    "conn.verify_queue_max=512",
    "api.queries_max=2",
    "storage.messages_partitions=2",
    "storage.timelines_partitions=2",
    "logic.cache_bytes_max=1048576",
    "logic.staged_bytes_max=1048576",
    "logic.batch_bytes_max=1048576",
    "logic.stream_bytes_max=1048576",
    "logic.sync_pages_max=2",
    "logic.staged_records_max=4096",
    "logic.batch_records_max=1024",
    "embedded.cache_bytes=1048576",
    "embedded.memtable_bytes=2097152",
    "embedded.tail_bytes=1048576",
    "embedded.mailbox_bytes=1048576",
    "embedded.producer_bytes=1048576",
];

#[test]
fn a_store_that_stands_still_and_readers_that_never_read_take_no_more_than_the_formula_says() {
    const STANDS: Duration = Duration::from_secs(120);
    const CRIES: u64 = 60;
    if !may_inject("a store that stands still") {
        return;
    }
    let mut world = World::start(&SMALL);
    let dir = tempfile::tempdir().unwrap();
    // While the store stands, 225 MiB are to be sent.
    let load = Load { links: 500, rate: 60, duration: Duration::from_secs(130) };
    let more = ["--bytes", "32768", "--drain", "600s"];
    let run = Run::start_with(dir.path(), &world.server.data(), &[&world.server], load, &more);
    run.begins();
    // One in a hundred.
    let (mut crier, epoch) = world.signed_in("crier", "phone");
    let group = create(&mut crier, epoch, 5);
    let readers: Vec<Device> = (0..5).map(|i| reader(&world, i)).collect();
    (0..CRIES).for_each(|i| cry(&mut crier, &group, epoch, 2 + i, 16 * 1024));
    assert!(
        world.metric("godwit_conn_pushes_total{outcome=\"marked\"}") > 0.0,
        "nothing waits for who does not read"
    );
    let injection = Injection::slow_syncs(world.server.process().id(), STANDS);
    let landed = |world: &World| world.metric("godwit_conn_appends_total{outcome=\"landed\"}");
    std::thread::sleep(STANDS / 4);
    let before = landed(&world);
    std::thread::sleep(STANDS / 2);
    assert_eq!(landed(&world), before, "the store does not stand still");
    std::thread::sleep(STANDS / 4);
    drop(injection);
    let (harness, verdict) = run.judged();
    drop(readers);
    assert_eq!(verdict["exit"], 0, "{verdict}");
    assert_eq!((&harness["drained"], &harness["overflowed"]), (&true.into(), &0.into()), "{harness}");
    assert_eq!(verdict["acked"], verdict["sent"], "{verdict}");
    let (peak, most) = (world.server.peak_bytes(), world.server.memory_bytes_max());
    println!("memory: {} MiB at the most, {} MiB by the formula", peak / MIB, most / MIB);
    assert!(peak <= most + most / 10, "{peak} bytes of memory; the formula says {most}");
}
