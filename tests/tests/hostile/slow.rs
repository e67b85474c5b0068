//! Links that take their time: readers that do not read, writers of a byte at a time, sign-ins that never end.

use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::close::Close;
use proto::frame::prefix;
use proto::limits::CLIENT_FRAME_BYTES_MAX;
use proto::v1::{self, client_frame::Frame as C, send::Body, send::To, server_frame::Frame as S};
use proto::{ConversationId, DeviceId, UserId};
use tests::{Device, connect_narrow, frame_bytes, within};

use crate::{MIB, World, say};

const READERS: usize = 60;
/// A queue up to its high water, a frame, and what belongs to a link.
const READER_BYTES_MAX: u64 = 128 * 1024;

#[test]
fn readers_that_never_read_are_hinted_then_closed_and_take_no_more_than_their_share() {
    // What tables and logs keep in memory is another matter, and small here.
    let world = World::start(&[
        "conn.write_stall_timeout_ms=2000",
        "embedded.memtable_bytes=1048576",
        "embedded.tail_bytes=1048576",
        "embedded.cache_bytes=1048576",
        "logic.cache_bytes_max=1048576",
    ]);
    let (mut crier, epoch) = world.signed_in("crier", "phone");
    let group = create(&mut crier, epoch, READERS);
    let readers: Vec<Device> = (0..READERS).map(|i| reader(&world, i)).collect();
    const CRIES: u64 = 60;
    const CRY_BYTES: usize = 16 * 1024;
    // All of it for all of them would be 56 MiB.
    let bound = READERS as u64 * READER_BYTES_MAX + 24 * MIB;
    world.under_attack("slow readers", bound, || {
        (0..CRIES).for_each(|i| cry(&mut crier, &group, epoch, 2 + i, CRY_BYTES));
    });
    assert!(world.metric("godwit_conn_pushes_total{outcome=\"marked\"}") > 0.0, "nobody was too slow");
    let stalled = || (world.closes(Close::WriteStall) >= READERS as f64).then_some(());
    within(Duration::from_secs(20), "every reader is closed", stalled);
    // Nothing is lost to them: the timeline has it all.
    drop(readers);
    let mut back = world.device();
    let result = back.sign_in(&world.token("reader-1", "phone"));
    assert_eq!(result.head, 1 + CRIES);
    back.send(2, C::Sync(v1::Sync { after: 0, limit: 0 }));
    assert!(matches!(back.expect(), S::SyncPage(page) if page.head == 1 + CRIES && !page.entries.is_empty()));
}

/// A link that is never read from again.
pub(crate) fn reader(world: &World, number: usize) -> Device {
    let mut link = Device::over(connect_narrow(world.server.address()));
    link.sign_in(&world.token(&format!("reader-{number}"), "phone"));
    link
}

/// A group of so many readers; its id.
pub(crate) fn create(crier: &mut Device, epoch: u64, readers: usize) -> Bytes {
    let (user, device) = (UserId::new("crier").unwrap(), DeviceId::new("phone").unwrap());
    let id = ConversationId::group(&user, &device, "key").unwrap().to_bytes();
    let members = (0..readers).map(|i| format!("reader-{i}")).collect();
    let create = v1::CreateGroup { request_key: "key".into(), name: "all".into(), members };
    say(crier, 2, &to_group(&id, epoch, 1, Body::CreateGroup(create)));
    id
}

/// Says so many bytes to the group.
pub(crate) fn cry(crier: &mut Device, group: &Bytes, epoch: u64, n: u64, bytes: usize) {
    let message = v1::Message { kind: 1, data: Bytes::from(vec![b'x'; bytes]) };
    say(crier, 1 + n, &to_group(group, epoch, n, Body::Message(message)));
}

fn to_group(group: &Bytes, epoch: u64, n: u64, body: Body) -> C {
    C::Send(v1::Send { to: Some(To::Group(group.clone())), epoch, n, body: Some(body) })
}

#[test]
fn whoever_signs_in_slowly_is_closed_at_the_deadline_whatever_it_sends_and_takes_little() {
    const LINKS: usize = 2_000;
    const DEADLINE_MS: u64 = 6_000;
    const ENDED_WITHIN: Duration = Duration::from_millis(DEADLINE_MS * 3 / 2);
    /// What a stranger may send, and what is kept of the link itself.
    const LINK_BYTES_MAX: u64 = 8 * 1024;
    let world = World::start(&[&format!("conn.unauthenticated_timeout_ms={DEADLINE_MS}")]);
    let bound = LINKS as u64 * LINK_BYTES_MAX + 4 * MIB;
    let (mut links, ended, connected) = world.under_attack("slow sign-ins", bound, || {
        let begun = Instant::now();
        let mut links: Vec<Device> = (0..LINKS).map(|_| world.device()).collect();
        let connected = Instant::now();
        // The beginning of a frame that never ends, nearly as much as ends a link that is not signed in.
        let promise = [&prefix(CLIENT_FRAME_BYTES_MAX)[..], &[b'x'; 3_000]].concat();
        links.iter_mut().for_each(|link| link.write(&promise));
        links.iter_mut().for_each(|link| link.write(&[b'x'; 3_000]));
        // A byte now and then, and for longer than they may live.
        while world.closes(Close::SignInTimeout) < LINKS as f64 && connected.elapsed() < ENDED_WITHIN {
            // Some may be closed by now: that is what is tested.
            links.iter_mut().for_each(|link| drop(link.stream.write_all(b"x")));
            std::thread::sleep(Duration::from_millis(200));
        }
        let ended = connected.elapsed();
        (links, ended, connected - begun)
    });
    let told = links.iter_mut().filter_map(Device::next).count();
    println!(
        "slow sign-ins: connected within {connected:?}, closed after {ended:?}, {told} of them told why"
    );
    assert_eq!(world.closes(Close::SignInTimeout), LINKS as f64);
    assert!(ended + connected >= Duration::from_millis(DEADLINE_MS - 100), "{ended:?}");
    assert!(ended <= ENDED_WITHIN, "{ended:?}");
}

#[test]
fn a_writer_of_a_byte_at_a_time_is_silent_however_much_it_writes() {
    let world = World::start(&[
        "conn.heartbeat_min_ms=1000",
        "conn.heartbeat_max_ms=1000",
        "conn.idle_timeout_ms=2100",
    ]);
    let mut links: Vec<Device> = (0..20).map(|i| world.signed_in(&format!("slow-{i}"), "phone").0).collect();
    let frame = frame_bytes(5, C::Call(v1::Call { method: "x".repeat(2_000), request: Bytes::new() }));
    world.under_attack("slow writers", 8 * MIB, || {
        let mut bytes = frame.iter();
        within(Duration::from_secs(10), "all are closed while they write", || {
            let byte = *bytes.next().unwrap();
            links.iter_mut().for_each(|link| drop(link.stream.write_all(&[byte])));
            std::thread::sleep(Duration::from_millis(20));
            (world.closes(Close::IdleTimeout) >= 20.0).then_some(())
        });
    });
    links.iter_mut().for_each(|link| {
        let told = link.next();
        assert!(
            matches!(&told, Some((0, S::Kick(kick))) if kick.code == Close::IdleTimeout.number())
                || told.is_none(),
            "{told:?}"
        );
    });
    assert_eq!(world.closes(Close::IdleTimeout), 20.0);
}
