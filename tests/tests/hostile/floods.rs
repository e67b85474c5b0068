//! Many links at once: more than are admitted, more than are verified, and lengths that promise the world.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use prost::Message;
use proto::Code;
use proto::close::Close;
use proto::frame::prefix;
use proto::limits::CLIENT_FRAME_BYTES_MAX;
use proto::v1::{self, client_frame::Frame as C, server_frame::Frame as S};
use tests::{DEADLINE, Device, connect_from, forged, frame_bytes, sign_in, within};

use crate::{MIB, World};

/// How long a flood goes on.
const FLOOD: Duration = Duration::from_secs(4);
const FLOODERS: usize = 4;

/// Runs `act` over and over, by several threads with numbers, until the flood is over; how often it was run. Each
/// thread pauses in between.
fn flood(pause: Duration, act: impl Fn(u64) + Sync) -> u64 {
    let (count, over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..FLOODERS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    act(count.fetch_add(1, Ordering::Relaxed));
                    thread::sleep(pause);
                }
            });
        }
        thread::sleep(FLOOD);
        over.store(true, Ordering::Relaxed);
    });
    count.into_inner()
}

#[test]
fn a_flood_of_connections_is_turned_away_by_address_and_by_number() {
    const HELD_MAX: usize = 700;
    // One reactor, so that the neighbours' links are on it too, and its caps are the node's.
    let world =
        World::start(&["conn.reactors=1", "conn.unauthenticated_per_address_max=16", "conn.links_max=600"]);
    let held = std::sync::Mutex::new(std::collections::VecDeque::new());
    let count = world.under_attack("a flood of connections", 600 * 8 * 1024 + 8 * MIB, || {
        flood(Duration::from_millis(1), |number| {
            // From 250 addresses, and never letting go of the last ones.
            let host = u16::try_from(number % 250).unwrap() + 1;
            let Ok(stream) = connect_from(host, world.server.address()) else { return };
            let mut held = held.lock().unwrap();
            held.push_back(stream);
            if held.len() > HELD_MAX {
                held.pop_front();
            }
        })
    });
    let outcome = |name: &str| world.metric(&format!("godwit_conn_accepts_total{{outcome=\"{name}\"}}"));
    let (taken, by_address, full) = (outcome("accepted"), outcome("too_many_of_address"), outcome("full"));
    println!("{count} connections: {taken} taken, {by_address} turned away by address, {full} by number");
    assert!(count >= 1_500, "{count} connections are no flood");
    assert!(full > 0.0, "nobody was turned away");
    assert!(world.metric("godwit_conn_links") <= 600.0);
    // Whoever is turned away is told so, also by one address alone.
    drop(held);
    within(DEADLINE, "the flood is gone", || (world.metric("godwit_conn_links") < 10.0).then_some(()));
    let mut links: Vec<Device> =
        (0..64).map(|_| Device::over(connect_from(9_999, world.server.address()).unwrap())).collect();
    links.iter_mut().skip(16).for_each(|link| link.expect_kick(Close::Overloaded));
    assert_eq!(outcome("too_many_of_address"), by_address + 48.0);
}

#[test]
fn a_flood_of_forged_sign_ins_keeps_nobody_else_out() {
    /// Of each flooder at the same time: many times what may wait.
    const OPEN: usize = 64;
    let world = World::start(&["conn.verify_queue_max=16"]);
    let good = world.token("cat", "phone");
    let frame = frame_bytes(1, C::SignIn(sign_in(&forged(&good))));
    let (count, longest) = world.under_attack("a flood of forged sign-ins", 24 * MIB, || {
        thread::scope(|scope| {
            let honest = scope.spawn(|| {
                let begun = Instant::now();
                let mut longest = Duration::ZERO;
                for number in 0.. {
                    if begun.elapsed() > FLOOD {
                        break;
                    }
                    longest = longest.max(signs_in(&world, &format!("honest-{number}")));
                    thread::sleep(Duration::from_millis(20));
                }
                longest
            });
            let count = flood(Duration::from_millis(2), |_| {
                let connect = |_| TcpStream::connect(world.server.address()).ok();
                let mut open: Vec<TcpStream> = (0..OPEN).filter_map(connect).collect();
                open.iter_mut().for_each(|stream| drop(stream.write_all(&frame)));
                // The answer and the end; a reset is an end as well.
                open.iter_mut().for_each(|stream| drop(stream.read_to_end(&mut Vec::new())));
            });
            (count * OPEN as u64, honest.join().unwrap())
        })
    });
    let busy = world.metric("godwit_conn_sign_ins_total{outcome=\"busy\"}");
    println!("{count} forged sign-ins, {busy} not looked at; the slowest honest one took {longest:?}");
    assert!(count >= 500, "{count} are no flood");
    assert!(busy > 0.0, "nobody was turned away, whatever waits");
    assert!(longest < Duration::from_secs(5), "an honest sign-in took {longest:?}");
}

/// How long an honest device needs, which tries again as the server asks it to.
fn signs_in(world: &World, user: &str) -> Duration {
    let (begun, token) = (Instant::now(), world.token(user, "phone"));
    loop {
        let mut link = world.device();
        link.send(1, C::SignIn(sign_in(&token)));
        match link.next() {
            Some((1, S::SignInResult(_))) => return begun.elapsed(),
            Some((1, S::Error(error))) => {
                assert_eq!(error.code, Code::Busy.number(), "{error:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn queries_that_wait_for_what_never_comes_keep_nobody_elses_out() {
    const LINKS: usize = 40;
    const CALLS_OF_A_LINK: u64 = 8;
    let world = World::start(&[]);
    let history = |min_no| {
        let of = Some(v1::history_request::Of::User("bob".into()));
        let request = v1::HistoryRequest { of, min_no, ..v1::HistoryRequest::default() };
        let request = request.encode_to_vec().into();
        C::Call(v1::Call { method: "godwit.v1.Conversations/History".into(), request })
    };
    let (mut cat, _) = world.signed_in("cat", "phone");
    let mut links: Vec<Device> =
        (0..LINKS).map(|i| world.signed_in(&format!("waiter-{}", i % 8), &format!("d{i}")).0).collect();
    world.under_attack("queries that wait", 8 * MIB, || {
        for link in &mut links {
            (0..CALLS_OF_A_LINK).for_each(|i| link.send(10 + i, history(u64::MAX)));
        }
        for _ in 0..20 {
            within(Duration::from_secs(2), "an honest query is answered", || {
                cat.send(2, history(0));
                // BUSY at first, while all of the others come at once: a device asks again.
                matches!(cat.expect(), S::CallResult(_)).then_some(())
            });
        }
    });
    for link in &mut links {
        for _ in 0..CALLS_OF_A_LINK {
            let S::Error(error) = link.expect() else { panic!("it never comes") };
            assert!([Code::Busy, Code::Unavailable].map(Code::number).contains(&error.code), "{error:?}");
        }
    }
}

#[test]
fn a_declared_length_takes_nothing_until_the_bytes_come() {
    const STRANGERS: u16 = 2_000;
    const FRIENDS: usize = 200;
    let world = World::start(&[]);
    let mut friends: Vec<Device> =
        (0..FRIENDS).map(|i| world.signed_in(&format!("friend-{i}"), "phone").0).collect();
    let promise = [&prefix(CLIENT_FRAME_BYTES_MAX)[..], &[7; 100]].concat();
    let links = FRIENDS as u64 + u64::from(STRANGERS);
    // 150 MiB are declared.
    let bound = links * 2 * 1024 + 8 * MIB;
    let strangers: Vec<TcpStream> = world.under_attack("huge declared lengths", bound, || {
        let connect = |host| {
            let mut stream = connect_from(1 + host % 200, world.server.address()).unwrap();
            stream.write_all(&promise).unwrap();
            stream
        };
        friends.iter_mut().for_each(|link| link.write(&promise));
        (0..STRANGERS).map(connect).collect()
    });
    // Nor is any set aside that the system would only find room for later.
    let sent = (links * promise.len() as u64) as f64;
    let kept = within(Duration::from_secs(5), "what was sent is kept", || {
        Some(world.buffered_bytes()).filter(|kept| *kept >= sent)
    });
    assert!(kept <= 2.0 * sent, "{kept} bytes are kept for {sent}");
    drop(strangers);
    for length in [CLIENT_FRAME_BYTES_MAX + 1, usize::try_from(u32::MAX).unwrap()] {
        let mut link = world.device();
        link.write(&prefix(length));
        link.expect_kick(Close::FrameTooLarge);
    }
    let mut endless = world.device();
    endless.write(&[0xff; 12]);
    endless.expect_kick(Close::Malformed);
}
