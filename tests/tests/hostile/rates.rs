//! One device that says more than a hundred times as much as people do, who say less than one thing a second.

use std::time::{Duration, Instant};

use proto::Code;
use proto::v1::{self, client_frame::Frame as C, server_frame::Frame as S};
use tests::{Device, frame_bytes, text, within};

use crate::{MIB, World};

/// Sends that go out together: no more may be open.
const WINDOW: u64 = 64;
const RUSH: Duration = Duration::from_secs(4);
/// What a link may send, as it is set by default.
const FRAMES_PER_S: u64 = 1_000;
const FRAMES_BURST: u64 = 2_000;

/// Sends bursts to "sink" for a while, and again from the first that was not taken, as the protocol asks; how many
/// were acknowledged, and how often it was held back.
fn rush(link: &mut Device, epoch: u64) -> (u64, u64) {
    let (begun, mut next, mut held_back) = (Instant::now(), 1, 0);
    while begun.elapsed() < RUSH {
        let burst: Vec<u8> =
            (next..next + WINDOW).flat_map(|n| frame_bytes(n, text("sink", epoch, n))).collect();
        link.write(&burst);
        let (mut taken, mut answers, mut after_ms) = (0, 0, 0);
        while answers < WINDOW {
            match link.next().expect("who keeps to the rules is not closed") {
                (_, S::SendAck(_)) => (taken, answers) = (taken + 1, answers + 1),
                (_, S::Error(error)) => {
                    let code = Code::from_number(error.code);
                    let waits = matches!(code, Some(Code::Busy | Code::RateLimited | Code::RefusedEarlier));
                    assert!(waits, "{error:?}");
                    (answers, after_ms) = (answers + 1, after_ms.max(error.after_ms));
                }
                (_, S::Push(_) | S::SyncHint(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        held_back += WINDOW - taken;
        next += taken;
        std::thread::sleep(Duration::from_millis(u64::from(after_ms)));
    }
    (next - 1, held_back)
}

fn is_told_everything(world: &World, user: &str, count: u64) {
    let (mut link, _) = world.signed_in(user, "late");
    let mut after = 0;
    within(Duration::from_secs(20), "all of it is there", || {
        link.send(2, C::Sync(v1::Sync { after, limit: 200 }));
        let page = loop {
            match link.expect() {
                S::SyncPage(page) => break page,
                S::Push(_) | S::SyncHint(_) => {}
                other => panic!("{other:?}"),
            }
        };
        for entry in page.entries {
            assert_eq!((entry.seq, entry.n), (after + 1, after + 1), "in order, each once");
            after = entry.seq;
        }
        (after == count).then_some(())
    });
}

#[test]
fn one_sender_at_a_hundred_times_the_rate_loses_nothing_and_its_neighbours_hardly_notice() {
    let world = World::start(&[]);
    // Both logs, three tables and the caches of the stages, as they are set by default.
    let bound = 96 * MIB;
    let (mut link, epoch) = world.signed_in("rusher", "phone");
    let what = "one sender at a hundred times the rate";
    let ((taken, held_back), elapsed) = world.under_attack(what, bound, || {
        let begun = Instant::now();
        (rush(&mut link, epoch), begun.elapsed())
    });
    println!("{taken} messages in {RUSH:?}, held back {held_back} times");
    let allowed = FRAMES_BURST + FRAMES_PER_S * (1 + elapsed.as_secs());
    assert!(taken <= allowed, "{taken} messages in {elapsed:?}, where {allowed} are allowed");
    assert!(taken > 100 * RUSH.as_secs(), "{taken} messages are no rush");
    is_told_everything(&world, "sink", taken);
}

#[test]
fn a_log_that_is_full_holds_back_whoever_fills_it_and_loses_nothing() {
    let world = World::start(&[
        "conn.reactors=1",
        "conn.appends_max=4",
        "conn.frames_per_s=100000",
        "conn.frames_burst=100000",
    ]);
    let (mut link, epoch) = world.signed_in("rusher", "phone");
    let (taken, held_back) = world.under_attack("a full log", 96 * MIB, || rush(&mut link, epoch));
    println!("{taken} messages in {RUSH:?}, held back {held_back} times");
    assert!(held_back > 0, "the log was never full");
    is_told_everything(&world, "sink", taken);
}
